//! `ink cluster`: who is in it, and what an operator changes about that. One file for what is printed, one for what is
//! done in several steps.

mod join;
mod status;

use clap::{Args, Subcommand};
use inkstone_client::{Able, Client, NodeInfo};
use serde_json::json;

use crate::output::{Format, Output};

/// What to do with the cluster.
#[derive(Debug, Args)]
pub(crate) struct Cluster {
    #[command(subcommand)]
    command: Command,
}

const NODE_HELP: &str = "A node's id, or its HOST:PORT for clients or for other nodes";

#[derive(Debug, Subcommand)]
enum Command {
    /// Who is in the cluster, who leads, and how far each node is
    Status,
    /// Add a node that waits to be added; it has no vote yet
    Add {
        #[arg(help = NODE_HELP)]
        node: String,
        /// Wait until it has caught up, and give it a vote; safe to run again
        #[arg(long)]
        promote: bool,
    },
    /// Give a vote to a node that has caught up
    Promote {
        #[arg(help = NODE_HELP)]
        node: String,
    },
    /// Take a node's vote; it stays and follows
    Demote {
        #[arg(help = NODE_HELP)]
        node: String,
        /// Count voters that are reachable but behind; appends then wait for them
        #[arg(long)]
        force: bool,
    },
    /// Remove a node for good, dead or alive
    Remove {
        #[arg(help = NODE_HELP)]
        node: String,
        /// Count voters that are reachable but behind; appends then wait for them
        #[arg(long)]
        force: bool,
    },
    /// Put a new node in a dead one's place: add, catch up, promote, remove; safe to run again
    Replace {
        /// The node that goes: its id, or its HOST:PORT
        dead: String,
        /// The node that comes: its id, or its HOST:PORT
        new: String,
    },
    /// Make another node the leader
    Transfer {
        /// The new leader: its id, or its HOST:PORT [default: the one that is least behind]
        node: Option<String>,
    },
}

impl Cluster {
    pub(crate) async fn run(self, client: &Client, output: &mut Output) -> anyhow::Result<()> {
        match self.command {
            Command::Status => status::print(&client.cluster_status().await?, output),
            Command::Add {
                node,
                promote: false,
            } => {
                let node = client.add_member(&node).await?;
                done("added", &node, output)?;
                output.note(&format!(
                    "it has no vote yet: `ink cluster promote {}` gives it one when it has caught up",
                    node.id
                ));
                Ok(())
            }
            Command::Add {
                node,
                promote: true,
            } => join::join(client, &node, output).await.map(drop),
            Command::Promote { node } => {
                done("promoted", &client.promote_member(&node).await?, output)
            }
            Command::Demote { node, force } => {
                let node = client.demote_member(&node, able(force)).await?;
                done("demoted", &node, output)
            }
            Command::Remove { node, force } => {
                let node = client.remove_member(&node, able(force)).await?;
                done("removed", &node, output)
            }
            Command::Replace { dead, new } => join::replace(client, &dead, &new, output).await,
            Command::Transfer { node } => {
                let transfer = client.transfer_leader(node.as_deref()).await?;
                let action = if transfer.transferred {
                    "transferred"
                } else {
                    "unchanged"
                };
                done(action, &transfer.leader, output)
            }
        }
    }
}

fn able(force: bool) -> Able {
    if force {
        Able::Reachable
    } else {
        Able::CaughtUp
    }
}

/// Prints what was done to a node.
fn done(action: &str, node: &NodeInfo, output: &mut Output) -> anyhow::Result<()> {
    if output.format(Format::Text) == Format::Json {
        output.json(&json!({ "action": action, "node": status::info_json(node) }))?;
        return Ok(());
    }
    let NodeInfo {
        id,
        peer_address: address,
        ..
    } = node;
    output.line(&match action {
        "added" => format!("added node {id} at {address} as a learner"),
        "promoted" => format!("promoted node {id} at {address}: it has a vote"),
        "demoted" => format!("demoted node {id} at {address}: it is a learner"),
        "removed" => format!("removed node {id} at {address}"),
        "transferred" => format!("node {id} at {address} leads now"),
        _ => format!("node {id} at {address} leads already"),
    })?;
    Ok(())
}
