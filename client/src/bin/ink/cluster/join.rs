//! What takes several steps: `ink cluster add --promote` and `ink cluster replace`.
//!
//! Promises: each looks first at what is done already, so that it goes on where an earlier run was ended; a node is known
//! by its id from the first step on, because a wiped one comes back at its old address.

use std::time::Duration;

use anyhow::Context as _;
use inkstone_client::{Able, Client, ClusterStatus, Error, NodeInfo, NodeStatus, Reason};
use tokio::time::sleep;

use super::done;
use crate::output::Output;

/// Between looks at how far a node is.
const LOOK: Duration = Duration::from_millis(250);
/// After so many looks it is said again how far it is.
const LOOKS_TO_SAY: u32 = 8;

/// Adds a node if it is none of the members, waits until it has caught up, and gives it a vote: its id.
pub(super) async fn join(client: &Client, name: &str, output: &mut Output) -> anyhow::Result<u64> {
    let status = client.cluster_status().await?;
    let id = match newcomer(&status, name)? {
        Some(member) if member.voter => {
            output.note(&format!("node {} has a vote already", member.node.id));
            return Ok(member.node.id);
        }
        Some(member) => {
            output.note(&format!("node {} is a learner already", member.node.id));
            member.node.id
        }
        None => {
            let node = client.add_member(name).await?;
            done("added", &node, output)?;
            output.flush()?;
            node.id
        }
    };
    let node = promote_when_caught_up(client, id, output).await?;
    done("promoted", &node, output)?;
    output.flush()?;
    Ok(id)
}

/// Puts `new` in the place of `dead`.
pub(super) async fn replace(
    client: &Client,
    dead: &str,
    new: &str,
    output: &mut Output,
) -> anyhow::Result<()> {
    let status = client.cluster_status().await?;
    let coming = match status.waiting_node(new) {
        Some(node) => Some(node.id),
        None => newcomer(&status, new)?.map(|member| member.node.id),
    };
    let going = leaver(&status, dead, coming)?;
    let id = match coming {
        Some(id) => join(client, &id.to_string(), output).await?,
        None => join(client, new, output).await?,
    };
    let Some(going) = going.filter(|going| *going != id) else {
        output.note(&format!("{dead} is not a member any more"));
        return Ok(());
    };
    let node = client
        .remove_member(&going.to_string(), Able::CaughtUp)
        .await
        .with_context(|| format!("node {id} has joined, and node {going} is still a member"))?;
    done("removed", &node, output)
}

/// The member that is meant by a new node's name; `None`: it is to be added. A node that waits comes before a member at
/// the same address, which is its former self.
fn newcomer<'s>(status: &'s ClusterStatus, name: &str) -> anyhow::Result<Option<&'s NodeStatus>> {
    if status.waiting_node(name).is_some() {
        return Ok(None);
    }
    the_only(status, name, None)
}

/// The member that is to go; `None`: it is none any more.
fn leaver(status: &ClusterStatus, name: &str, coming: Option<u64>) -> anyhow::Result<Option<u64>> {
    let member = the_only(status, name, coming)?;
    Ok(member.map(|member| member.node.id))
}

fn the_only<'s>(
    status: &'s ClusterStatus,
    name: &str,
    but: Option<u64>,
) -> anyhow::Result<Option<&'s NodeStatus>> {
    let named = status.nodes.iter().filter(|member| member.node.is(name));
    let mut named: Vec<&NodeStatus> = named.filter(|member| Some(member.node.id) != but).collect();
    let only = named.pop();
    if let (Some(one), Some(other)) = (only, named.pop()) {
        anyhow::bail!(
            "nodes {} and {} both have the address {name}: name the one you mean by its id",
            other.node.id,
            one.node.id
        );
    }
    Ok(only)
}

/// Waits with a word on how far the node is, and promotes it as soon as that is allowed.
async fn promote_when_caught_up(
    client: &Client,
    id: u64,
    output: &mut Output,
) -> anyhow::Result<NodeInfo> {
    let name = id.to_string();
    let mut looks = 0;
    loop {
        let status = client.cluster_status().await?;
        let member = status.member(&name);
        let member = member.with_context(|| format!("node {id} is not a member any more"))?;
        if member.voter {
            return Ok(member.node.clone());
        }
        if member.progress.is_some_and(|progress| progress.caught_up) {
            match client.promote_member(&name).await {
                Err(error) if is_to_be_waited_for(&error) => {}
                promoted => return Ok(promoted?),
            }
        }
        if looks % LOOKS_TO_SAY == 0 {
            output.note(&so_far(id, member));
        }
        looks += 1;
        sleep(LOOK).await;
    }
}

fn is_to_be_waited_for(error: &Error) -> bool {
    matches!(
        error.reason(),
        Some(Reason::NotCaughtUp | Reason::ChangeUnderWay)
    )
}

fn so_far(id: u64, member: &NodeStatus) -> String {
    match &member.progress {
        None => format!("node {id}: no leader says how far it is"),
        Some(progress) if !progress.heard => {
            format!("node {id}: the leader has not heard from it yet; does it run?")
        }
        Some(progress) => format!(
            "node {id}: has {} entries, {} behind the leader",
            progress.matched_index, progress.behind
        ),
    }
}
