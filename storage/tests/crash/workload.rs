//! Random changes of a log, as a node makes them: appends alone and merged, truncations, purges, votes, snapshots,
//! reopening.

use inkstone_storage::io::sim::{Fault, HeldSync, SimDisk};
use inkstone_storage::log::{Mutant, Spare};
use inkstone_storage::types::{Entry, EntryId, Vote};

use crate::model::Step;
use crate::node::{Applied, How, Node, Outcome, Trouble};
use crate::seeded::Seeded;
use crate::verdicts::Opening;

/// Changes of one workload.
const STEPS: u64 = 22;

/// A workload that ran.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) node: Node,
    /// What went wrong, if something did.
    pub(crate) trouble: Option<Trouble>,
}

/// Runs the workload of a seed on an empty disk, with a fault that is counted from where the log is open. An error: it
/// did not even open.
pub(crate) fn run(
    seed: u64,
    disk: &SimDisk,
    mutant: Option<Mutant>,
    fault: Option<Fault>,
) -> Outcome<Ran> {
    let mut seeded = Seeded(seed);
    let how = How {
        tail_size: if seeded.below(2) == 0 { 0 } else { 1 << 20 },
        // A thread of its own would give another journal each time.
        spare: if seeded.below(2) == 0 {
            Spare::InTurn
        } else {
            Spare::Never
        },
        mutant,
    };
    let opening = Opening {
        is_first: true,
        ..Opening::default()
    };
    let mut node = Node::open(disk, how, (None, opening), &Applied::default())?;
    if let Some(fault) = fault {
        disk.plan(fault);
    }
    let outcome = drive(&mut node, &mut seeded);
    Ok(Ran {
        node,
        trouble: outcome.err(),
    })
}

fn drive(node: &mut Node, seeded: &mut Seeded) -> Outcome<()> {
    let start = if seeded.below(3) == 0 { 7 } else { 0 };
    let count = 1 + seeded.below(4);
    let entries = entries(node, start, count);
    node.append(entries)?;
    node.applied.start(start);
    for _ in 0..STEPS {
        match seeded.below(100) {
            0..30 => append(node, seeded)?,
            30..50 => merged(node, seeded)?,
            50..66 => {
                let unapplied = node.state().next() - node.applied.next();
                node.apply_to(node.applied.next() + 1 + seeded.below(unapplied))?;
            }
            66..74 => truncate(node, seeded)?,
            74..82 => purge(node, seeded)?,
            82..84 => {
                let index = node.state().next() + seeded.below(4);
                let id = id(node, index);
                node.jump(id, seeded.below(5))?;
            }
            84..86 => conflict(node, seeded)?,
            86..93 => vote(node, seeded)?,
            _ => node.reopen()?,
        }
    }
    Ok(())
}

fn id(node: &Node, index: u64) -> EntryId {
    EntryId {
        term: node.term,
        node: 9,
        index,
    }
}

fn entries(node: &Node, first: u64, count: u64) -> Vec<Entry> {
    (first..first + count)
        .map(|index| node.entry(index))
        .collect()
}

fn append(node: &mut Node, seeded: &mut Seeded) -> Outcome<()> {
    let count = 1 + seeded.below(4);
    let entries = entries(node, node.state().next(), count);
    node.append(entries)
}

/// Several changes behind a sync that is held: what can be is written and synced as one group.
fn merged(node: &mut Node, seeded: &mut Seeded) -> Outcome<()> {
    let held = node.disk.hold_next_sync();
    node.is_held = true;
    let asked = ask_merged(node, seeded, &held);
    node.is_held = false;
    held.release();
    asked.and_then(|()| node.wait())
}

fn ask_merged(node: &mut Node, seeded: &mut Seeded, held: &HeldSync) -> Outcome<()> {
    append(node, seeded)?;
    held.wait();
    for _ in 0..=seeded.below(3) {
        match seeded.below(8) {
            0 => vote(node, seeded)?,
            1 => truncate(node, seeded)?,
            _ => append(node, seeded)?,
        }
    }
    Ok(())
}

/// Drops a part of what is not applied.
fn truncate(node: &mut Node, seeded: &mut Seeded) -> Outcome<()> {
    let (low, high) = (
        node.applied.next().max(node.state().first),
        node.state().next(),
    );
    let kept = low + seeded.below(high + 1 - low);
    node.truncate(kept.checked_sub(1))
}

/// Purges a part of what is applied: to a boundary, or to where a snapshot is kept first.
fn purge(node: &mut Node, seeded: &mut Seeded) -> Outcome<()> {
    if seeded.below(2) == 0 {
        let boundaries = node.log().boundaries();
        let chosen = seeded.below(boundaries.len() as u64);
        let boundary = usize::try_from(chosen)
            .ok()
            .and_then(|at| boundaries.get(at));
        let before = boundary.and_then(|boundary| boundary.checked_sub(1));
        if let Some(entry) = before.and_then(|before| node.state().entry(before)) {
            return node.purge(entry.id);
        }
    }
    let applied = node.applied.next().checked_sub(1);
    let applied = applied.and_then(|applied| node.state().entry(applied));
    let Some(id) = applied.map(|entry| entry.id) else {
        return Ok(());
    };
    node.snapshot(id)?;
    node.purge(id)
}

/// A snapshot of another history than what is not applied here.
fn conflict(node: &mut Node, seeded: &mut Seeded) -> Outcome<()> {
    let (low, high) = (node.applied.next(), node.state().next());
    if low >= high {
        return Ok(());
    }
    node.term += 1;
    let id = id(node, low + seeded.below(high - low));
    node.jump(id, seeded.below(5))
}

fn vote(node: &mut Node, seeded: &mut Seeded) -> Outcome<()> {
    let vote = Vote {
        term: node.state().vote.map_or(0, |vote| vote.term) + seeded.below(2),
        node: 1 + seeded.below(3),
        committed: seeded.below(2) == 0,
    };
    node.ask(Step::Vote(vote), |log, done| log.save_vote(vote, done))
}
