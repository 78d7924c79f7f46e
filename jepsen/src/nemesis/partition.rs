//! The network between the nodes fails: one node alone, a minority with the leader in it, or one direction only. Needs a
//! cluster of [`Network::Relayed`](crate::cluster::Network::Relayed).

use std::time::Duration;

use anyhow::{Result, bail};

use crate::cluster::Cluster;
use crate::workload::{Questions, Run};

/// Clients that ask the deposed leader where the log ends, while nobody hears it.
const QUESTIONS: usize = 30;
/// How long they wait: an answer can only be wrong.
const QUESTION_PATIENCE: Duration = Duration::from_secs(2);

/// What a leader can't do any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deafness {
    /// What it says does not arrive.
    Mute,
    /// What is said to it does not arrive.
    Deaf,
}

/// Cuts the leader and so many others off from the rest, which must be a majority; waits until that has a leader and has
/// acknowledged so many appends; asks the old one where the log ends; heals, and waits for appends once more. The old
/// leader and the new one.
pub async fn split_off_leader(
    cluster: &Cluster,
    run: &Run,
    log: &str,
    others: usize,
    appends: u64,
) -> Result<(usize, usize)> {
    let old = cluster.leader().await?;
    let rest = (0..cluster.len()).filter(|node| *node != old);
    let side: Vec<usize> = rest.take(others).chain([old]).collect();
    if 2 * side.len() >= cluster.len() {
        bail!("{side:?} is no minority of {} nodes", cluster.len());
    }
    let links = cluster.links()?;
    until_deposed(cluster, run, log, old, appends, || links.split(&side)).await
}

/// The same with a leader that only can't be heard, or only can't hear.
pub async fn lose_one_way(
    cluster: &Cluster,
    run: &Run,
    log: &str,
    deafness: Deafness,
    appends: u64,
) -> Result<(usize, usize)> {
    let old = cluster.leader().await?;
    let links = cluster.links()?;
    let lose = || {
        for other in (0..cluster.len()).filter(|node| *node != old) {
            match deafness {
                Deafness::Mute => links.hold(old, other),
                Deafness::Deaf => links.hold(other, old),
            }
        }
    };
    until_deposed(cluster, run, log, old, appends, lose).await
}

async fn until_deposed(
    cluster: &Cluster,
    run: &Run,
    log: &str,
    old: usize,
    appends: u64,
    lose: impl FnOnce(),
) -> Result<(usize, usize)> {
    let questions =
        Questions::prepare(cluster, run, log, old, QUESTIONS, QUESTION_PATIENCE).await?;
    lose();
    let new = cluster.leader_other_than(Some(old)).await?;
    run.progress.wait_for_more(appends).await?;
    questions.ask().answered().await?;
    cluster.links()?.heal();
    run.progress.wait_for_more(appends).await?;
    Ok((old, new))
}
