//! What the disks say: after every append has ended, how far each node is and what its chain crc is there.

use std::time::Duration;

use anyhow::{Context as _, Result};
use inkstone_client::{Client, ClusterStatus};
use tokio::time::{sleep, timeout};

use super::Run;
use crate::cluster::PATIENCE;
use crate::history::{Call, Outcome};
use crate::reach::Reach;

/// Waits until every node has all that any of them has, and all of it is committed; notes each one's chain crc.
pub async fn final_chains(nodes: impl Into<Reach>, run: &Run, log: &str) -> Result<()> {
    let nodes = nodes.into();
    let client = nodes.client()?;
    let status = timeout(PATIENCE, equally_far(&client))
        .await
        .context("the nodes never came to be equally far")??;
    for number in nodes.active {
        let address = &nodes.addresses[number];
        let node = status
            .nodes
            .iter()
            .find(|status| status.node.client_address == *address)
            .with_context(|| format!("{address} is no member"))?;
        let operation = run
            .history
            .invoke(run.new_client(), Some(number), log, Call::Chain);
        let outcome = Outcome::Chain {
            index: node.durable_index,
            crc: node.chain_crc,
        };
        run.history.complete(operation, outcome);
    }
    Ok(())
}

async fn equally_far(client: &Client) -> Result<ClusterStatus> {
    loop {
        let status = client.cluster_status().await?;
        let last = status.nodes.iter().map(|node| node.durable_index).max();
        let done = status.nodes.iter().all(|node| {
            node.reachable
                && Some(node.durable_index) == last
                && node.committed_index >= node.durable_index
        });
        if done {
            return Ok(status);
        }
        sleep(Duration::from_millis(100)).await;
    }
}
