//! The leader's time stops, long enough that the others depose it, and goes on while it still believes that it leads.

use std::time::Duration;

use anyhow::Result;

use crate::cluster::Cluster;
use crate::workload::{Progress, Questions, Run};

/// Clients that ask the sleeping leader where the log ends.
const QUESTIONS: usize = 30;
/// How long they wait for the answer.
const QUESTION_PATIENCE: Duration = Duration::from_secs(10);
/// Appends that prove that time has passed.
const A_FEW: u64 = 10;

/// Pauses the leader (SIGSTOP), waits until another node leads and has acknowledged so many appends, puts questions
/// into the old one's sockets, resumes it (SIGCONT), waits for its answers, and returns both. The old leader meets
/// those questions before, or while, it learns that it was deposed.
pub async fn pause_leader_until_deposed(
    cluster: &mut Cluster,
    run: &Run,
    log: &str,
    appends: u64,
) -> Result<(usize, usize)> {
    let progress: &Progress = &run.progress;
    let old = cluster.leader().await?;
    let questions =
        Questions::prepare(cluster, run, log, old, QUESTIONS, QUESTION_PATIENCE).await?;
    cluster.pause(old)?;
    let new = cluster.leader_other_than(Some(old)).await?;
    progress.wait_for_more(appends).await?;
    let asked = questions.ask();
    // They are on their way now; each append takes longer than a loopback connection.
    progress.wait_for_more(A_FEW).await?;
    cluster.resume(old)?;
    asked.answered().await?;
    Ok((old, new))
}
