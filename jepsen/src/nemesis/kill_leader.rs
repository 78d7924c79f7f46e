//! The leader's process is killed, and started again while the others elect and serve.

use anyhow::Result;

use crate::cluster::Cluster;

/// Kills the leader (SIGKILL), starts it again at once, and returns its number when it is ready.
pub async fn kill_leader_and_restart(cluster: &mut Cluster) -> Result<usize> {
    let leader = cluster.leader().await?;
    cluster.kill(leader)?;
    cluster.restart(leader).await?;
    Ok(leader)
}
