//! Whether a change of the members may be made, and what is proposed for it.
//!
//! Pure: the membership and how far each member is are arguments.

use std::collections::{BTreeMap, BTreeSet};

use inkstone_proto::v1;
use openraft::ChangeMembers;

use crate::raft::members::{Able, MemberError, Members, find_named};
use crate::raft::progress::Progress;
use crate::raft::types::Member;
use crate::raft::wire;

/// What is to be done to one node.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Add(v1::NodeInfo),
    Promote(u64),
    Demote(u64, Able),
    Remove(u64, Able),
    Address(v1::NodeInfo),
}

/// openraft's form of a change, and whether removed voters stay as learners.
pub(super) type Proposal = (ChangeMembers<u64, Member>, bool);

/// That no member has that name.
pub(crate) fn not_found(name: &str) -> MemberError {
    MemberError::NotFound(format!(
        "no member has the id or address `{name}`; `ink cluster status` shows those that there are"
    ))
}

/// What to propose, if it may be.
pub(super) fn plan(
    me: u64,
    members: &Members,
    progress: &BTreeMap<u64, Progress>,
    change: Change,
) -> Result<(v1::NodeInfo, Proposal), MemberError> {
    let member = |id: u64| {
        let found = members.nodes.get(&id);
        found.cloned().ok_or_else(|| not_found(&id.to_string()))
    };
    match change {
        Change::Add(node) => plan_add(members, node),
        Change::Promote(id) => {
            let node = member(id)?;
            if members.is_voter(id) {
                return Err(MemberError::NotLearner { node: id });
            }
            let progress = progress.get(&id).copied().unwrap_or_default();
            if !progress.is_caught_up() {
                return Err(MemberError::NotCaughtUp { node: id, progress });
            }
            let change = ChangeMembers::AddVoterIds(BTreeSet::from([id]));
            Ok((node, (change, true)))
        }
        Change::Demote(id, able) => {
            let node = member(id)?;
            if !members.is_voter(id) {
                return Err(MemberError::NotVoter { node: id });
            }
            require_quorum_without(me, members, progress, id, able)?;
            let change = ChangeMembers::RemoveVoters(BTreeSet::from([id]));
            Ok((node, (change, true)))
        }
        Change::Remove(id, able) => {
            let node = member(id)?;
            if !members.is_voter(id) {
                let change = ChangeMembers::RemoveNodes(BTreeSet::from([id]));
                return Ok((node, (change, false)));
            }
            require_quorum_without(me, members, progress, id, able)?;
            let change = ChangeMembers::RemoveVoters(BTreeSet::from([id]));
            Ok((node, (change, false)))
        }
        Change::Address(node) => {
            member(node.id)?;
            let nodes = BTreeMap::from([(node.id, wire::node_from_wire(&node).1)]);
            Ok((node, (ChangeMembers::SetNodes(nodes), true)))
        }
    }
}

fn plan_add(
    members: &Members,
    node: v1::NodeInfo,
) -> Result<(v1::NodeInfo, Proposal), MemberError> {
    let known = members.nodes.get(&node.id);
    // One address is one node: what runs there now can't be the one that has the address.
    let there = find_named(members.nodes.values(), &node.peer_address);
    if let Some(known) = known {
        return Err(MemberError::AlreadyMember {
            node: known.clone(),
            voter: members.is_voter(node.id),
        });
    }
    if let Some(old) = there {
        tracing::info!(
            new = node.id,
            old = old.id,
            address = %node.peer_address,
            "the new node has the address of an old one, which does not come back: it was wiped, or moved"
        );
    }
    let nodes = BTreeMap::from([(node.id, wire::node_from_wire(&node).1)]);
    Ok((node, (ChangeMembers::AddNodes(nodes), true)))
}

/// Refuses to take a vote when too few of the remaining voters could commit without it.
fn require_quorum_without(
    me: u64,
    members: &Members,
    progress: &BTreeMap<u64, Progress>,
    node: u64,
    able: Able,
) -> Result<(), MemberError> {
    let mut remaining = members.voters.clone();
    remaining.remove(&node);
    if remaining.is_empty() {
        return Err(MemberError::LastVoter { node });
    }
    let is_able = |id: &u64| {
        *id == me
            || progress.get(id).is_some_and(|progress| match able {
                Able::CaughtUp => progress.is_caught_up(),
                Able::Reachable => progress.heard,
            })
    };
    let able: BTreeSet<u64> = remaining.iter().copied().filter(is_able).collect();
    if 2 * able.len() > remaining.len() {
        return Ok(());
    }
    Err(MemberError::WouldLoseQuorum {
        node,
        able,
        remaining,
    })
}
