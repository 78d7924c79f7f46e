//! Who counts: the memberships that nodes were seen to go by.
//!
//! Promises: a membership is known from the first moment at which a node had it. Must not know: what is counted.

use std::collections::{BTreeMap, BTreeSet};

use inkstone_server::raft::Group;

/// The sets of voters, two while the membership changes.
type Sets = Vec<BTreeSet<u64>>;

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Quorums {
    /// By the index of the entry that says so; of one index several, as long as none of them is committed.
    seen: BTreeMap<u64, BTreeSet<Sets>>,
    /// Of those that are committed, by index: all members.
    committed: BTreeMap<u64, BTreeSet<u64>>,
}

impl Quorums {
    /// What this node goes by.
    pub(crate) fn note(&mut self, group: &Group) {
        let (index, sets) = group.voter_sets();
        if sets.is_empty() {
            return;
        }
        self.seen.entry(index).or_default().insert(sets);
        let (index, members) = group.committed_membership();
        self.committed.insert(index, members);
    }

    /// Whether these nodes could commit the entry at `index`: by the last membership that is committed there, or by a later one.
    pub(crate) fn commit(&self, index: u64, nodes: &BTreeSet<u64>) -> bool {
        let last = self.committed.range(..=index).next_back();
        let from = last.map_or(0, |(index, _)| *index);
        let mut memberships = self.seen.range(from..).flat_map(|(_, seen)| seen);
        memberships.any(|sets| is_majority(sets, nodes))
    }

    /// Whether a membership without it was agreed on after one that had it.
    pub(crate) fn was_removed(&self, node: u64) -> bool {
        let mut memberships = self
            .committed
            .values()
            .map(|members| members.contains(&node));
        memberships.any(|has| has) && memberships.any(|has| !has)
    }
}

/// Whether they are more than half of every set.
pub(crate) fn is_majority(sets: &[BTreeSet<u64>], nodes: &BTreeSet<u64>) -> bool {
    sets.iter()
        .all(|set| 2 * set.intersection(nodes).count() > set.len())
}
