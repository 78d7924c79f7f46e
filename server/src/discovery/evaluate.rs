//! What follows from one round of answers: nothing yet, a new cluster, a place in one that exists, or an end.
//!
//! Pure: the answers are arguments.

use std::collections::{BTreeMap, BTreeSet};

use inkstone_proto::peer_v1::HelloResponse;
use inkstone_proto::v1::NodeInfo;
use inkstone_storage::types::NO_CLUSTER;
use uuid::Uuid;

use crate::discovery::{Answer, Misplaced, PROTOCOL, Removed, cluster_from_wire};

/// What a round of questions came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Not enough is known; how many nodes were met of how many that are expected.
    Wait {
        /// Met, this one included.
        met: usize,
        /// Expected.
        expected: usize,
        /// A node that expects another number, and how many.
        differing: Option<(String, u32)>,
    },
    /// A node that expects nobody else waits until all have answered whom it asked: one of them may know of a cluster.
    WaitForAnswers {
        /// How many have not.
        silent: usize,
    },
    /// All expected nodes agree: these are the first members of this cluster.
    Form {
        /// The cluster's id.
        cluster_id: [u8; 16],
        /// Its members.
        members: Vec<NodeInfo>,
    },
    /// A cluster exists that has this node as a member.
    Join {
        /// The cluster's id.
        cluster_id: [u8; 16],
        /// How the members reach it, when that is not how it wants to be reached.
        moved_from: Option<NodeInfo>,
    },
    /// A cluster exists, and this node is not in it yet: an operator adds it.
    AskToBeAdded {
        /// The cluster's id.
        cluster_id: [u8; 16],
    },
}

/// The node that evaluates.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own<'a> {
    pub(super) node: &'a NodeInfo,
    pub(super) expected: usize,
    pub(super) cluster_id: [u8; 16],
    /// The entry in its own log by which it is a member.
    pub(super) member_since: Option<u64>,
    /// Nodes that were asked and did not answer.
    pub(super) silent: usize,
}

/// The id of the cluster that these nodes form: the same on every one of them.
fn derive_cluster_id(nodes: &BTreeSet<u64>) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"inkstone cluster 1");
    for id in nodes {
        hasher.update(&id.to_le_bytes());
    }
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    *uuid::Builder::from_custom_bytes(bytes).as_uuid().as_bytes()
}

/// What follows from one round of answers.
pub(super) fn evaluate(
    own: &Own<'_>,
    met: &BTreeMap<u64, NodeInfo>,
    answers: &[Answer],
) -> Result<Step, Misplaced> {
    let me = own.node.id;
    let mut found = None;
    for answer in answers {
        if let Some(node) = answer.response.node.as_ref().filter(|node| node.id == me) {
            // This very process, under another of its names; or a second one with the same identity, and so with the
            // same vote to give.
            if node.peer_address != own.node.peer_address {
                let address = node.peer_address.clone();
                return Err(Misplaced::Copied { node: me, address });
            }
            continue;
        }
        check(own, answer)?;
        if let Some(step) = place(own, &answer.response) {
            // One that knows this node as a member has the newer membership, or the older one: `check` has told.
            if found.is_none() || matches!(step, Step::Join { .. }) {
                found = Some(step);
            }
        }
    }
    Ok(found.unwrap_or_else(|| agreed(own, met, answers)))
}

/// Refuses a protocol that this release does not speak.
pub(super) fn check_protocol(Answer { address, response }: &Answer) -> Result<(), Misplaced> {
    if response.protocol == 0 || response.protocol > PROTOCOL {
        let (address, found) = (address.clone(), response.protocol);
        return Err(Misplaced::Protocol { address, found });
    }
    Ok(())
}

/// Refuses another cluster.
pub(super) fn check_cluster(own: [u8; 16], answer: &Answer) -> Result<(), Misplaced> {
    let cluster = cluster_from_wire(&answer.response.cluster_id);
    if cluster != NO_CLUSTER && own != NO_CLUSTER && cluster != own {
        return Err(Misplaced::OtherCluster {
            own: Uuid::from_bytes(own),
            address: answer.address.clone(),
            other: Uuid::from_bytes(cluster),
        });
    }
    Ok(())
}

/// Refuses what this node can't be part of.
fn check(own: &Own<'_>, answer: &Answer) -> Result<(), Misplaced> {
    check_protocol(answer)?;
    check_cluster(own.cluster_id, answer)?;
    let response = &answer.response;
    let cluster = cluster_from_wire(&response.cluster_id);
    // Only a membership that is committed and newer than the one that has this node says that it was removed: others may
    // lag, and a node whose own log does not have it yet was just not added.
    let removed = own.member_since.is_some_and(|since| {
        response.committed_index > since && !response.committed_members.contains(&own.node.id)
    });
    if removed && cluster == own.cluster_id {
        return Err(Misplaced::Removed(Removed {
            node: own.node.id,
            cluster: Uuid::from_bytes(cluster),
        }));
    }
    Ok(())
}

/// This node's place in the cluster of the one who answers, if that is in one that runs.
fn place(own: &Own<'_>, response: &HelloResponse) -> Option<Step> {
    let cluster_id = cluster_from_wire(&response.cluster_id);
    if response.members.is_empty() || cluster_id == NO_CLUSTER {
        return None;
    }
    let me = own.node;
    let member = response.members.iter().find(|member| member.id == me.id);
    Some(match member {
        Some(member) => Step::Join {
            cluster_id,
            moved_from: (member != me).then(|| member.clone()),
        },
        // A node that is a member by its own log waits for the others to know it as well.
        None if own.member_since.is_some() => return None,
        None => Step::AskToBeAdded { cluster_id },
    })
}

/// Whether all expected nodes have met exactly each other.
fn agreed(own: &Own<'_>, met: &BTreeMap<u64, NodeInfo>, answers: &[Answer]) -> Step {
    let expected = own.expected;
    if expected == 1 && own.silent > 0 {
        return Step::WaitForAnswers { silent: own.silent };
    }
    let ids: BTreeSet<u64> = met.keys().copied().collect();
    let cluster_id = derive_cluster_id(&ids);
    let decided = own.cluster_id != NO_CLUSTER && own.cluster_id != cluster_id;
    let agrees = |id: &u64| {
        *id == own.node.id
            || answers.iter().any(|Answer { response, .. }| {
                let seen: BTreeSet<u64> = response.seen.iter().map(|node| node.id).collect();
                response.node.as_ref().is_some_and(|node| node.id == *id)
                    && usize::try_from(response.bootstrap_expect) == Ok(expected)
                    && match cluster_from_wire(&response.cluster_id) {
                        NO_CLUSTER => seen == ids,
                        decided => decided == cluster_id,
                    }
            })
    };
    if met.len() == expected && !decided && ids.iter().all(agrees) {
        return Step::Form {
            cluster_id,
            members: met.values().cloned().collect(),
        };
    }
    Step::Wait {
        met: met.len(),
        expected,
        differing: differing(expected, answers),
    }
}

/// A node without a cluster that waits for another number of nodes: these two never agree.
fn differing(expected: usize, answers: &[Answer]) -> Option<(String, u32)> {
    let differs = |answer: &&Answer| {
        answer.response.members.is_empty()
            && usize::try_from(answer.response.bootstrap_expect) != Ok(expected)
    };
    let answer = answers.iter().find(differs)?;
    Some((answer.address.clone(), answer.response.bootstrap_expect))
}
