//! The suite: workloads of many seeds, and every image that a crash may leave of each.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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

/// Runs the workloads of these seeds and checks every image of them: what was checked, or the first promise that was
/// found broken, of the lowest seed.
pub(crate) fn suite(
    seeds: std::ops::Range<u64>,
    mutant: Option<Mutant>,
) -> Result<Counts, Violation> {
    let next = AtomicU64::new(seeds.start);
    let is_broken = AtomicBool::new(false);
    let work = || {
        let mut counts = Counts::default();
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= seeds.end || is_broken.load(Ordering::SeqCst) {
                return Ok(counts);
            }
            let checked = one(seed, mutant, None).and_then(|mut counts| {
                if seed.is_multiple_of(FAULTS_EVERY) {
                    faults::check(seed, mutant, &mut counts)?;
                }
                Ok(counts)
            });
            match checked {
                Ok(more) => counts.add(&more),
                Err(violation) => {
                    is_broken.store(true, Ordering::SeqCst);
                    return Err(violation);
                }
            }
        }
    };
    let outcomes: Vec<Result<Counts, Violation>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect()
    });
    let mut counts = Counts::default();
    let mut first: Option<Violation> = None;
    for outcome in outcomes {
        match outcome {
            Ok(more) => counts.add(&more),
            Err(violation) => {
                if first
                    .as_ref()
                    .is_none_or(|first| violation.seed < first.seed)
                {
                    first = Some(violation);
                }
            }
        }
    }
    first.map_or(Ok(counts), Err)
}

/// One workload, and every image of it, or the one that is asked for.
pub(crate) fn one(
    seed: u64,
    mutant: Option<Mutant>,
    only: Option<Place>,
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
    checking.check(&ran)?;
    Ok(checking.counts)
}
