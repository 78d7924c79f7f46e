//! Every call of a workload's disk fails once: the log stops and answers everybody, and nothing that was acknowledged is
//! lost, whether the process starts again over the same page cache or the power fails.

use std::sync::atomic::{AtomicBool, Ordering};

use inkstone_storage::io::sim::{Call, Fault, Names, Policy, SimDisk, Unit, Unsynced};
use inkstone_storage::log::{Log, Mutant, Spare};
use inkstone_storage::types::Vote;

use crate::images::{May, examine, go_on};
use crate::node::{How, Node, Trouble};
use crate::seeded::Seeded;
use crate::suite::{Counts, Violation};
use crate::verdicts::Opening;
use crate::workload::{self, Ran};

/// A call that is made to fail.
#[derive(Debug, Clone, Copy)]
struct Case {
    call: Call,
    /// So many succeed before it.
    after: u64,
    way: Way,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// `EIO`, and every call of that kind behind it.
    Dead,
    /// `EIO`, once; a sync leaves marked clean what it did not write.
    Once,
    /// `EIO`, once; a sync leaves it to be written.
    Dirty,
    /// `EIO` after so many bytes, once.
    Torn(usize),
    /// `ENOSPC` after so many bytes, once.
    Full(usize),
}

impl Case {
    fn fault(self) -> Fault {
        let fault = Fault::after(self.after, &[self.call]);
        match self.way {
            Way::Dead => fault,
            Way::Once => fault.once(),
            Way::Dirty => fault.once().keeps_dirty(),
            Way::Torn(size) => fault.once().partly(size),
            Way::Full(size) => fault.once().no_space().partly(size),
        }
    }
}

/// The ways in which a call can fail.
fn ways(call: Call, seeded: &mut Seeded) -> Vec<Way> {
    let size = usize::try_from(seeded.below(1500)).expect("a few");
    match call {
        Call::Write => vec![Way::Dead, Way::Torn(size), Way::Full(size)],
        Call::Sync => vec![Way::Dead, Way::Once, Way::Dirty],
        Call::Create | Call::Allocate => vec![Way::Once, Way::Full(0)],
        Call::Read | Call::SetSize | Call::Rename | Call::Remove | Call::SyncDir => {
            vec![Way::Once]
        }
    }
}

/// Runs the workload of a seed with every call of its disk failing in turn, and on disks that get full, until another
/// thread has found something broken.
pub(crate) fn check(
    seed: u64,
    mutant: Option<Mutant>,
    is_broken: &AtomicBool,
) -> Result<Counts, Violation> {
    let mut counts = Counts::default();
    let violation = |case: String, trouble: Trouble| Violation {
        seed,
        place: None,
        what: format!("{case}: {trouble:?}"),
    };
    let disk = SimDisk::new();
    let opened = workload::run(seed, &disk, mutant, None);
    opened.map_err(|trouble| violation("no fault".to_owned(), trouble))?;
    let mut seeded = Seeded(seed);
    for call in Call::ALL {
        for after in 0..disk.calls(call) {
            for way in ways(call, &mut seeded) {
                if is_broken.load(Ordering::Relaxed) {
                    return Ok(counts);
                }
                let case = Case { call, after, way };
                fail(seed, mutant, case, &mut counts)
                    .map_err(|trouble| violation(format!("{case:?}"), trouble))?;
            }
        }
    }
    for blocks in 0..24 {
        let capacity = 4096 * (8 + 3 * blocks);
        fill(seed, mutant, capacity, &mut counts)
            .map_err(|trouble| violation(format!("a disk of {capacity} bytes"), trouble))?;
    }
    Ok(counts)
}

fn fail(seed: u64, mutant: Option<Mutant>, case: Case, counts: &mut Counts) -> Result<(), Trouble> {
    let disk = SimDisk::new();
    let ran = workload::run(seed, &disk, mutant, Some(case.fault()))?;
    counts.faults += 1;
    recover(seed, mutant, ran, counts)
}

/// A disk that gets full during the workload; then there is room again.
fn fill(
    seed: u64,
    mutant: Option<Mutant>,
    capacity: u64,
    counts: &mut Counts,
) -> Result<(), Trouble> {
    let disk = SimDisk::new();
    disk.set_capacity(Some(capacity));
    // Too small to be opened at all: no promise was made.
    let Ok(ran) = workload::run(seed, &disk, mutant, None) else {
        return Ok(());
    };
    counts.faults += 1;
    disk.set_capacity(None);
    recover(seed, mutant, ran, counts)
}

/// What must hold after a workload that a fault may have stopped.
fn recover(
    seed: u64,
    mutant: Option<Mutant>,
    ran: Ran,
    counts: &mut Counts,
) -> Result<(), Trouble> {
    let Ran { mut node, trouble } = ran;
    let disk = node.disk.clone();
    match trouble {
        Some(Trouble::Broken(what)) => return Err(Trouble::Broken(what)),
        Some(Trouble::Stopped) => {
            counts.stopped += 1;
            check_latched(node.opened_log())?;
        }
        None => {}
    }
    node.close();
    disk.clear_faults();
    let end = disk.journal().operations().len();
    // The power fails there.
    let may = May {
        allowed: node.history.allowed_at_end(),
        opening: node.opening,
        applied: &node.applied,
    };
    let crash = disk.journal().crash(end);
    for policy in few(seed ^ end as u64) {
        counts.count(&policy);
        examine(&crash.image(&policy), mutant, may, true)
            .map_err(|trouble| after(trouble, "after a crash where it stopped", &policy))?;
    }
    restart(seed, mutant, &node, may, counts)
}

/// The process starts again: what it finds in the page cache, and goes on from, must be durable then.
fn restart(
    seed: u64,
    mutant: Option<Mutant>,
    node: &Node,
    may: May<'_>,
    counts: &mut Counts,
) -> Result<(), Trouble> {
    let how = How {
        tail_size: 0,
        spare: Spare::Never,
        mutant,
    };
    let found = (Some(may.allowed), may.opening);
    let mut again = Node::open(&node.disk, how, found, may.applied)
        .map_err(|trouble| named(trouble, "after a restart"))?;
    go_on(&mut again).map_err(|trouble| named(trouble, "after a restart"))?;
    let journal = node.disk.journal();
    for point in [again.opened + 1, journal.operations().len()] {
        let crash = journal.crash(point);
        let may = May {
            allowed: again.history.allowed(point),
            opening: Opening {
                is_over_cache: true,
                ..again.opening
            },
            applied: &again.applied,
        };
        for policy in few(seed ^ point as u64) {
            counts.count(&policy);
            examine(&crash.image(&policy), mutant, may, false)
                .map_err(|trouble| after(trouble, "after a restart and then a crash", &policy))?;
        }
    }
    Ok(())
}

/// Nothing that is un-synced is kept, all of it, some of it.
fn few(seed: u64) -> [Policy; 3] {
    [
        (Unsynced::None, Names::Lost),
        (Unsynced::All, Names::Kept),
        (Unsynced::Random(seed), Names::Random(seed)),
    ]
    .map(|(data, names)| Policy {
        data,
        unit: Unit::Sector,
        names,
    })
}

fn named(trouble: Trouble, when: &str) -> Trouble {
    match trouble {
        Trouble::Broken(what) => Trouble::Broken(format!("{when}: {what}")),
        Trouble::Stopped => Trouble::Broken(format!("{when}: the log stopped")),
    }
}

fn after(trouble: Trouble, when: &str, policy: &Policy) -> Trouble {
    named(trouble, &format!("{when}, {policy:?}"))
}

/// A log that stopped takes nothing any more. A read that failed stops nothing.
fn check_latched(log: Option<&Log>) -> Result<(), String> {
    let Some(log) = log.filter(|log| log.failure().is_some()) else {
        return Ok(());
    };
    let vote = Vote {
        term: 1000,
        node: 1,
        committed: false,
    };
    let last = log.state().last.map(|last| last.index);
    let refused = [
        log.append(Vec::new(), Box::new(|_| ())).is_err(),
        log.save_vote(vote, Box::new(|_| ())).is_err(),
        log.truncate_after(last, Box::new(|_| ())).is_err(),
    ];
    if refused != [true; 3] {
        return Err(format!("a log that stopped takes more: {refused:?}"));
    }
    log.wait_for_room();
    Ok(())
}
