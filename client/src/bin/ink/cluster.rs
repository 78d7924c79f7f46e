//! `ink cluster status`.

use clap::{Args, Subcommand};
use inkstone_client::{Client, ClusterStatus, NodeRole, NodeStatus};
use serde_json::json;

use crate::output::{Format, Output};

/// What to do with the cluster.
#[derive(Debug, Args)]
pub(crate) struct Cluster {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Who is in the cluster, who leads, and how far each node is
    Status,
}

impl Cluster {
    pub(crate) async fn run(self, client: &Client, output: &mut Output) -> anyhow::Result<()> {
        match self.command {
            Command::Status => print(&client.cluster_status().await?, output),
        }
    }
}

fn print(status: &ClusterStatus, output: &mut Output) -> anyhow::Result<()> {
    match output.format(Format::Table) {
        Format::Json => {
            output.json(&json!({
                "cluster_id": status.cluster_id,
                "leader": status.leader,
                "term": status.term,
                "answered_by": status.answered_by,
                "nodes": status.nodes.iter().map(node_json).collect::<Vec<_>>(),
            }))?;
        }
        Format::Text => {
            for node in &status.nodes {
                output.line(&row(node).join(" "))?;
            }
        }
        Format::Table => {
            let leader = status
                .leader
                .map_or_else(|| "none".to_owned(), |id| id.to_string());
            output.line(&format!(
                "cluster {}  term {}  leader {leader}  answered by {}",
                status.cluster_id, status.term, status.answered_by
            ))?;
            let heading = [
                "node",
                "address",
                "role",
                "reachable",
                "durable",
                "committed",
                "applied",
                "indexed",
                "bytes",
                "version",
            ];
            output.table(&heading, status.nodes.iter().map(row).collect())?;
        }
    }
    Ok(())
}

fn row(status: &NodeStatus) -> Vec<String> {
    let figure = |value: u64| {
        if status.reachable {
            value.to_string()
        } else {
            "-".to_owned()
        }
    };
    vec![
        status.node.id.to_string(),
        status.node.client_address.clone(),
        role(status.role).to_owned(),
        if status.reachable { "yes" } else { "no" }.to_owned(),
        figure(status.durable_index),
        figure(status.committed_index),
        figure(status.applied_index),
        figure(status.indexed_index),
        figure(status.log_bytes),
        if status.version.is_empty() {
            "-".to_owned()
        } else {
            status.version.clone()
        },
    ]
}

fn role(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Leader => "leader",
        NodeRole::Follower => "follower",
        NodeRole::Candidate => "candidate",
        NodeRole::Learner => "learner",
        NodeRole::Unknown => "unknown",
    }
}

fn node_json(status: &NodeStatus) -> serde_json::Value {
    json!({
        "id": status.node.id,
        "client_address": status.node.client_address,
        "peer_address": status.node.peer_address,
        "role": role(status.role),
        "reachable": status.reachable,
        "durable_index": status.durable_index,
        "committed_index": status.committed_index,
        "applied_index": status.applied_index,
        "indexed_index": status.indexed_index,
        "log_bytes": status.log_bytes,
        "chain_crc": status.chain_crc,
        "version": status.version,
    })
}
