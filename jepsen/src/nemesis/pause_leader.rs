//! The leader's time stops, long enough that the others depose it, and goes on while it still believes that it leads.

use anyhow::Result;

use crate::cluster::Cluster;
use crate::workload::Progress;

/// Pauses the leader (SIGSTOP), waits until another node leads and has acknowledged so many appends, resumes the old
/// one (SIGCONT), and returns both.
pub async fn pause_leader_until_deposed(
    cluster: &mut Cluster,
    progress: &Progress,
    appends: u64,
) -> Result<(usize, usize)> {
    let old = cluster.leader().await?;
    cluster.pause(old)?;
    let new = cluster.leader_other_than(Some(old)).await?;
    progress.wait_for_more(appends).await?;
    cluster.resume(old)?;
    Ok((old, new))
}
