//! The suite: workloads of many seeds, and every image that a crash may leave of each.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use inkstone_storage::io::sim::{Policy, SimDisk, Unit, Unsynced};
use inkstone_storage::log::Mutant;

use crate::faults;
use crate::images::{Checking, Place};
use crate::node::Trouble;
use crate::workload;

/// Workloads run side by side.
const THREADS: u64 = 2;

/// Of so many workloads one is run again and again, with a call of the disk that fails, every one in turn.
const FAULTS_EVERY: u64 = 8;

/// What was checked.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) workloads: u64,
    /// Crash points.
    pub(crate) points: u64,
    pub(crate) images: u64,
    /// Images of everything un-synced kept, of nothing kept, of a single change, of random subsets.
    all: u64,
    none: u64,
    single: u64,
    random: u64,
    /// Of those torn, at 512 and at 4096 bytes.
    sectors: u64,
    pages: u64,
    /// Images that were gone on with.
    pub(crate) deep: u64,
    /// Images of a crash of a recovery.
    pub(crate) again: u64,
    /// Workloads of which one call failed.
    pub(crate) faults: u64,
    /// Of those: that stopped the log.
    pub(crate) stopped: u64,
}

impl Counts {
    pub(crate) fn count(&mut self, policy: &Policy) {
        self.images += 1;
        match policy.data {
            Unsynced::All => self.all += 1,
            Unsynced::None => self.none += 1,
            Unsynced::Only(_) | Unsynced::OnlyUnit(..) => self.single += 1,
            Unsynced::Random(_) => self.random += 1,
        }
        let torn = matches!(policy.data, Unsynced::OnlyUnit(..) | Unsynced::Random(_));
        match policy.unit {
            Unit::Sector if torn => self.sectors += 1,
            Unit::Page if torn => self.pages += 1,
            _ => {}
        }
    }

    fn add(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.workloads, other.workloads),
            (&mut self.points, other.points),
            (&mut self.images, other.images),
            (&mut self.all, other.all),
            (&mut self.none, other.none),
            (&mut self.single, other.single),
            (&mut self.random, other.random),
            (&mut self.sectors, other.sectors),
            (&mut self.pages, other.pages),
            (&mut self.deep, other.deep),
            (&mut self.again, other.again),
            (&mut self.faults, other.faults),
            (&mut self.stopped, other.stopped),
        ] {
            *mine += theirs;
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} crash images of {} workloads with {} crash points: everything un-synced kept {}, nothing {}, a single \
             change {}, random subsets {}; torn at 512 bytes {}, at 4096 {}; gone on with {}; of crashes of a recovery {}; {} \
             workloads with a call that failed, of which {} stopped the log",
            self.images,
            self.workloads,
            self.points,
            self.all,
            self.none,
            self.single,
            self.random,
            self.sectors,
            self.pages,
            self.deep,
            self.again,
            self.faults,
            self.stopped
        )
    }
}

/// A promise that was broken, and how to see it again.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) seed: u64,
    /// `None`: in the workload itself.
    pub(crate) place: Option<Place>,
    pub(crate) what: String,
}

impl Violation {
    /// `seed[:point:image[:point:image]]`
    fn place(&self) -> String {
        let Some(place) = self.place else {
            return self.seed.to_string();
        };
        let again = place
            .again
            .map_or_else(String::new, |(point, number)| format!(":{point}:{number}"));
        format!("{}:{}:{}{again}", self.seed, place.point, place.number)
    }

    /// The command that checks that image alone.
    pub(crate) fn command(&self) -> String {
        let place = self.place();
        format!(
            "INKSTONE_CRASH_IMAGE={place} cargo test -p inkstone-storage --test crash again -- --nocapture"
        )
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "seed:crash point:image {}: {}",
            self.place(),
            self.what
        )
    }
}

/// A part of the suite that runs by itself.
#[derive(Debug, Clone, Copy)]
enum Part {
    Images(u64),
    Faults(u64),
}

/// What the threads that run parts have in common.
struct Run {
    parts: Vec<Part>,
    next: AtomicUsize,
    mutant: Option<Mutant>,
    is_broken: AtomicBool,
}

impl Run {
    fn work(&self) -> Result<Counts, Violation> {
        let mut counts = Counts::default();
        while let Some(part) = self.parts.get(self.next.fetch_add(1, Ordering::SeqCst)) {
            let checked = match *part {
                Part::Images(seed) => one(seed, self.mutant, None, &self.is_broken),
                Part::Faults(seed) => faults::check(seed, self.mutant, &self.is_broken),
            };
            match checked {
                Ok(more) => counts.add(&more),
                Err(violation) => {
                    self.is_broken.store(true, Ordering::SeqCst);
                    return Err(violation);
                }
            }
        }
        Ok(counts)
    }
}

/// Runs the workloads of these seeds and checks every image of them: what was checked, or a promise that was found
/// broken, and then the rest is left.
pub(crate) fn suite(seeds: Range<u64>, mutant: Option<Mutant>) -> Result<Counts, Violation> {
    let parts = seeds.flat_map(|seed| {
        let faults = seed
            .is_multiple_of(FAULTS_EVERY)
            .then_some(Part::Faults(seed));
        [Part::Images(seed)].into_iter().chain(faults)
    });
    let run = Run {
        parts: parts.collect(),
        next: AtomicUsize::new(0),
        mutant,
        is_broken: AtomicBool::new(false),
    };
    let outcomes: Vec<Result<Counts, Violation>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| run.work())).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect()
    });
    let mut counts = Counts::default();
    for outcome in outcomes {
        counts.add(&outcome?);
    }
    Ok(counts)
}

/// One workload, and every image of it, or the one that is asked for.
pub(crate) fn one(
    seed: u64,
    mutant: Option<Mutant>,
    only: Option<Place>,
    is_broken: &AtomicBool,
) -> Result<Counts, Violation> {
    let disk = SimDisk::new();
    let broken = |what| Violation {
        seed,
        place: None,
        what,
    };
    let stopped = || broken("the log stopped on a disk without faults".to_owned());
    let ran = workload::run(seed, &disk, mutant, None).map_err(|trouble| match trouble {
        Trouble::Stopped => stopped(),
        Trouble::Broken(what) => broken(what),
    })?;
    match &ran.trouble {
        Some(Trouble::Stopped) => return Err(stopped()),
        Some(Trouble::Broken(what)) => return Err(broken(what.clone())),
        None => {}
    }
    let mut checking = Checking {
        seed,
        mutant,
        only,
        counts: Counts {
            workloads: 1,
            ..Counts::default()
        },
    };
    checking.check(&ran, is_broken)?;
    Ok(checking.counts)
}
