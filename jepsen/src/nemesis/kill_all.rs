//! Every process is killed at once, as when the building loses power but the disks keep what was written.

use anyhow::Result;

use crate::cluster::Cluster;

/// Kills every running node (SIGKILL), starts all of them together, and returns when all are ready.
pub async fn kill_all_and_restart(cluster: &mut Cluster) -> Result<()> {
    cluster.kill_all()?;
    cluster.start_all().await
}
