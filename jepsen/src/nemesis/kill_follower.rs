//! A follower's process is killed, and started again while the others serve.

use anyhow::Result;

use crate::cluster::Cluster;
use crate::workload::Progress;

/// Kills a node that does not lead (SIGKILL), waits for so many appends without it, starts it again, and returns when it
/// is ready.
pub async fn kill_follower_and_restart(
    cluster: &mut Cluster,
    progress: &Progress,
    follower: usize,
    appends: u64,
) -> Result<()> {
    cluster.kill(follower)?;
    progress.wait_for_more(appends).await?;
    cluster.restart(follower).await
}
