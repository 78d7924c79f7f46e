//! A follower's time stops for longer than it would wait for a leader, so that it campaigns when it goes on.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::workload::Progress;

/// Longer than the longest election timeout of the server's defaults. The length is the fault itself: nothing is waited
/// for by it.
const PAUSE: Duration = Duration::from_millis(3_500);

/// Pauses a node that does not lead (SIGSTOP) for longer than an election timeout and until so many appends were
/// acknowledged without it, and resumes it (SIGCONT).
pub async fn pause_follower(
    cluster: &mut Cluster,
    progress: &Progress,
    follower: usize,
    appends: u64,
) -> Result<()> {
    cluster.pause(follower)?;
    sleep(PAUSE).await;
    progress.wait_for_more(appends).await?;
    cluster.resume(follower)
}
