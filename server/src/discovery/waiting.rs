//! Nodes that ask to be in this cluster and are no members: what an operator may add.
//!
//! Promises: bounded; one address is one node; a node that asks no more is forgotten.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use inkstone_proto::v1::NodeInfo;

/// A node that has not asked for so long is not waiting any more.
const FORGET_AFTER: Duration = Duration::from_secs(10);
/// Nodes that are remembered at most.
const WAITING_MAX: usize = 64;

/// Who waits, and since when it was last heard of.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    nodes: BTreeMap<u64, (NodeInfo, Instant)>,
}

impl Waiting {
    /// That node has asked.
    pub(super) fn heard(&mut self, node: &NodeInfo, now: Instant) {
        self.forget(now);
        self.nodes
            .retain(|id, (known, _)| *id == node.id || known.peer_address != node.peer_address);
        if self.nodes.len() < WAITING_MAX || self.nodes.contains_key(&node.id) {
            self.nodes.insert(node.id, (node.clone(), now));
        }
    }

    /// Those who wait now, by id; members are none of them.
    pub(super) fn now(&mut self, now: Instant, is_member: impl Fn(u64) -> bool) -> Vec<NodeInfo> {
        self.forget(now);
        self.nodes.retain(|id, _| !is_member(*id));
        self.nodes.values().map(|(node, _)| node.clone()).collect()
    }

    fn forget(&mut self, now: Instant) {
        self.nodes
            .retain(|_, (_, heard)| now.saturating_duration_since(*heard) < FORGET_AFTER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn node(id: u64, address: &str) -> NodeInfo {
        NodeInfo {
            id,
            client_address: String::new(),
            peer_address: address.to_owned(),
        }
    }

    fn ids(waiting: &mut Waiting, now: Instant, members: &[u64]) -> Vec<u64> {
        let nodes = waiting.now(now, |id| members.contains(&id));
        nodes.iter().map(|node| node.id).collect()
    }

    #[test]
    fn who_asks_waits_until_it_asks_no_more_or_is_a_member() {
        let start = Clock::system().instant();
        let mut waiting = Waiting::default();
        waiting.heard(&node(1, "a"), start);
        waiting.heard(&node(2, "b"), start + FORGET_AFTER / 2);
        assert_eq!(ids(&mut waiting, start, &[]), [1, 2]);
        assert_eq!(ids(&mut waiting, start + FORGET_AFTER, &[]), [2]);
        assert_eq!(ids(&mut waiting, start + FORGET_AFTER, &[2]), [0; 0]);
    }

    #[test]
    fn one_address_is_one_node_and_their_number_is_bounded() {
        let now = Clock::system().instant();
        let mut waiting = Waiting::default();
        waiting.heard(&node(1, "a"), now);
        waiting.heard(&node(2, "a"), now);
        assert_eq!(ids(&mut waiting, now, &[]), [2]);
        for id in 10..200 {
            waiting.heard(&node(id, &id.to_string()), now);
        }
        assert_eq!(ids(&mut waiting, now, &[]).len(), WAITING_MAX);
    }
}
