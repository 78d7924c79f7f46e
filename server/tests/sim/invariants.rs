//! What must hold at every moment, seen from above: nobody in the system can look at all nodes at once.
//!
//! - *Votes rise*: a node's vote, term and candidate, never goes back, whatever it forgets in a crash.
//! - *Election safety*: who leads with a vote leads with it once. openraft lets a later candidate of the same term win
//!   when its id is higher, so a leader is a term and a node; one that has crashed must be elected again.
//! - *Votes are durable*: when a leader begins to lead, a majority of the disks of its voters holds its vote, or a later
//!   one.
//! - *Committed is for ever*: what a node has applied at an index, every node applies there, also after it restarts.
//! - *Committed is durable*: what a node applies is durable on a majority of the voters' disks, by a membership that could
//!   commit it.
//! - *Removed is agreed*: a node takes itself for removed only when a membership without it was agreed on.
//! - *Durable stays*: what a disk has is there after a crash, unless a leader had it truncated.
//! - *Purged at a snapshot*: nothing is purged that a snapshot of this node does not contain.
//!
//! What is in the nodes' states is looked at in `states`.
//!
//! Promises: says which one is broken, on which node, with both sides of the contradiction. Must not know: faults,
//! clients.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use anyhow::{Result, ensure};
use inkstone_server::raft::{Group, Leader};
use inkstone_storage::types::EntryId;

use crate::machine::{Machine, id, name};
use crate::quorums::{Quorums, is_majority};
use crate::states::States;

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Invariants {
    /// By term and node: how often its machine had been started.
    leaders: BTreeMap<(u64, u64), u64>,
    applied: BTreeMap<u64, EntryId>,
    nodes: BTreeMap<usize, Node>,
    states: States,
    pub(crate) quorums: Quorums,
}

/// One node as it was seen last.
#[derive(Debug, Default, Clone, Copy)]
struct Node {
    /// What it has on its disk; what it had, while it is down.
    durable: u64,
    /// Up to where its applied entries were compared, since it runs.
    compared: u64,
    /// Its last durable vote: term and candidate.
    vote: (u64, u64),
}

/// One node at one moment, for the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Glance {
    pub(crate) term: u64,
    pub(crate) leads: bool,
    pub(crate) last: u64,
    pub(crate) durable: u64,
    pub(crate) applied: u64,
    pub(crate) purged: u64,
    pub(crate) chain_crc: u32,
    pub(crate) paused: bool,
    pub(crate) clock_ahead: i64,
}

impl Invariants {
    /// Looks at every node: what each looks like, `None` for those that do not run.
    pub(crate) fn look(&mut self, machines: &[Rc<Machine>]) -> Result<Vec<Option<Glance>>> {
        let groups: Vec<_> = machines.iter().map(|machine| machine.group()).collect();
        // First what is on the disks, of all: an entry may be applied as soon as a majority has it.
        for (number, group) in groups.iter().enumerate() {
            let node = self.nodes.entry(number).or_default();
            match group {
                Some(group) => {
                    self.quorums.note(group);
                    node.durable = index(group.log().state().durable);
                    self.votes_rise(&machines[number], group)?;
                }
                None => node.compared = 0,
            }
        }
        self.states.look(&groups)?;
        for machine in machines.iter().filter(|machine| machine.is_removed()) {
            ensure!(
                self.quorums.was_removed(id(machine.number)),
                "removed is agreed: {} takes itself for removed; {:?}",
                name(machine.number),
                self.quorums
            );
        }
        let glances = groups.iter().enumerate().map(|(number, group)| {
            let Some(group) = group else { return Ok(None) };
            self.leads(&machines[number], group)?;
            self.committed(number, group)?;
            purged_at_a_snapshot(number, group)?;
            Ok(Some(glance(&machines[number], group)))
        });
        glances.collect()
    }

    fn votes_rise(&mut self, machine: &Machine, group: &Group) -> Result<()> {
        let Some(vote) = group.log().vote() else {
            return Ok(());
        };
        let now = (vote.term, vote.node);
        let node = self.nodes.entry(machine.number).or_default();
        let before = std::mem::replace(&mut node.vote, now);
        ensure!(
            before <= now,
            "votes rise: {} voted {before:?}, and says {now:?}",
            name(machine.number)
        );
        Ok(())
    }

    fn leads(&mut self, machine: &Machine, group: &Group) -> Result<()> {
        let Some(vote) = group.log().vote() else {
            return Ok(());
        };
        let (now, name) = ((vote.term, vote.node), name(machine.number));
        let is_own = vote.committed && vote.node == id(machine.number);
        if !is_own || group.leader() != Leader::Here {
            return Ok(());
        }
        if !self.leaders.contains_key(&now) {
            let (_, sets) = group.voter_sets();
            ensure!(
                is_majority(&sets, &self.those(|node| node.vote >= now)),
                "votes are durable: {name} leads with {now:?}, by {sets:?}, and the disks hold {:?}",
                self.nodes
            );
        }
        let starts = machine.starts();
        let first = *self.leaders.entry(now).or_insert(starts);
        ensure!(
            first == starts,
            "election safety: {name} leads with the vote {now:?} after start {starts}, and did so after start {first}"
        );
        Ok(())
    }

    fn committed(&mut self, number: usize, group: &Group) -> Result<()> {
        let applied = group.applied().index();
        let node = self.nodes.entry(number).or_default();
        let from = (node.compared + 1).max(group.log().state().first_index.max(1));
        node.compared = applied;
        for index in from..=applied {
            let Some(entry) = group.log().entry_id(index)? else {
                // Purged, or what a snapshot has replaced.
                continue;
            };
            let first = *self.applied.entry(index).or_insert(entry);
            ensure!(
                first == entry,
                "committed is for ever: {} has applied {entry:?}, and {first:?} was applied there",
                name(number)
            );
        }
        let durable = self.those(|node| node.durable >= applied);
        ensure!(
            applied == 0 || self.quorums.commit(applied, &durable),
            "committed is durable: {} has applied entry {applied}, and the disks hold {:?}; {:?}",
            name(number),
            self.nodes,
            self.quorums
        );
        Ok(())
    }

    /// The ids of these nodes.
    fn those(&self, are: impl Fn(&Node) -> bool) -> BTreeSet<u64> {
        let nodes = self.nodes.iter().filter(|(_, node)| are(node));
        nodes.map(|(number, _)| id(*number)).collect()
    }
}

fn purged_at_a_snapshot(number: usize, group: &Group) -> Result<()> {
    let purged = group.log().state().purged.map(|id| id.index);
    let snapshot = group.log().snapshot().map(|kept| kept.applied.index);
    ensure!(
        purged <= snapshot,
        "purged at a snapshot: {} has purged {purged:?}, and its snapshot is of {snapshot:?}",
        name(number)
    );
    Ok(())
}

fn index(id: Option<EntryId>) -> u64 {
    id.map_or(0, |id| id.index)
}

fn glance(machine: &Machine, group: &Group) -> Glance {
    let state = group.log().state();
    Glance {
        term: group.term(),
        leads: group.leader() == Leader::Here,
        last: index(state.last),
        durable: index(state.durable),
        applied: group.applied().index(),
        purged: index(state.purged),
        chain_crc: state.chain_crc,
        paused: machine.is_paused(),
        clock_ahead: machine.clock_ahead(),
    }
}

/// The number of the node that says that it leads the newest term.
pub(crate) fn leader(machines: &[Rc<Machine>]) -> Option<usize> {
    let leading = machines.iter().filter_map(|machine| {
        let group = machine.group()?;
        (group.leader() == Leader::Here).then(|| (group.term(), machine.number))
    });
    leading.max().map(|(_, number)| number)
}
