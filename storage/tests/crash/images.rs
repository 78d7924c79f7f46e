//! Every image that a crash of a workload may leave, opened and checked; and of some of them those that a crash of the
//! recovery leaves.

use std::sync::atomic::{AtomicBool, Ordering};

use inkstone_storage::io::sim::{Crash, Image, Names, Operation, Policy, SimDisk, Unit, Unsynced};
use inkstone_storage::log::{Mutant, Spare};

use crate::model::Allowed;
use crate::node::{Applied, How, Node, Trouble};
use crate::seeded::Seeded;
use crate::suite::{Counts, Violation};
use crate::verdicts::Opening;
use crate::workload::Ran;

/// Of so many images one is gone on with: applied, read, appended to, opened again.
const DEEP: u64 = 4;
/// Of so many of those one has its recovery crash, everywhere.
const AGAIN: u64 = 8;

/// Which image: a crash point of the journal, and the number of the image there; of the recovery of that, again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) point: usize,
    pub(crate) number: usize,
    pub(crate) again: Option<(usize, usize)>,
}

/// What the images of one workload are checked with.
#[derive(Debug)]
pub(crate) struct Checking {
    pub(crate) seed: u64,
    pub(crate) mutant: Option<Mutant>,
    /// This image alone.
    pub(crate) only: Option<Place>,
    pub(crate) counts: Counts,
}

/// What may be found in an image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct May<'a> {
    pub(crate) allowed: Allowed<'a>,
    pub(crate) opening: Opening,
    pub(crate) applied: &'a Applied,
}

/// An image of a crash point, and how it came about.
struct Left {
    number: usize,
    policy: Policy,
    image: Image,
}

/// Hands every crash point of a journal to `check`, with the images that are not those of the point before, until another
/// thread has found something broken.
fn each_point<E>(
    disk: &SimDisk,
    seed: u64,
    few: bool,
    is_broken: &AtomicBool,
    mut check: impl FnMut(usize, Vec<Left>) -> Result<(), E>,
) -> Result<(), E> {
    let journal = disk.journal();
    let operations = journal.operations();
    let mut crash = journal.start();
    let mut seen: Vec<Image> = Vec::new();
    for point in 0..=operations.len() {
        if is_broken.load(Ordering::Relaxed) {
            return Ok(());
        }
        let next = operations.get(point);
        if let Some(Operation::Note(_)) = next {
            // What may be found is another set from here on.
            seen.clear();
            continue;
        }
        let mut left = Vec::new();
        for (number, policy) in policies(&crash, seed ^ point as u64, few)
            .into_iter()
            .enumerate()
        {
            let image = crash.image(&policy);
            if seen.contains(&image) {
                continue;
            }
            seen.push(image.clone());
            left.push(Left {
                number,
                policy,
                image,
            });
        }
        check(point, left)?;
        if let Some(operation) = next {
            crash.advance(operation);
        }
    }
    Ok(())
}

/// What a crash here may keep.
fn policies(crash: &Crash, seed: u64, few: bool) -> Vec<Policy> {
    let mut seeded = Seeded(seed);
    let policy = |data, unit, names| Policy { data, unit, names };
    let mut policies = Vec::new();
    for names in [Names::Kept, Names::Lost] {
        for data in [Unsynced::All, Unsynced::None] {
            policies.push(policy(data, Unit::Sector, names.clone()));
        }
    }
    let count = crash.unsynced();
    let subsets = if few { 1 } else { 3 };
    for unit in [Unit::Sector, Unit::Page] {
        for _ in 0..subsets {
            let names = Names::Random(seeded.next());
            policies.push(policy(Unsynced::Random(seeded.next()), unit, names));
        }
    }
    if few {
        return policies;
    }
    for only in 0..crash.unsynced_names() {
        policies.push(policy(Unsynced::All, Unit::Sector, Names::Only(only)));
    }
    for only in 0..count {
        let names = if only % 2 == 0 {
            Names::Kept
        } else {
            Names::Lost
        };
        policies.push(policy(Unsynced::Only(only), Unit::Sector, names.clone()));
        for unit in [Unit::Sector, Unit::Page] {
            let number = usize::try_from(seeded.below(6)).expect("a few");
            policies.push(policy(
                Unsynced::OnlyUnit(only, number),
                unit,
                names.clone(),
            ));
        }
    }
    policies
}

impl Checking {
    /// Checks every image of a workload, until another thread has found something broken.
    pub(crate) fn check(&mut self, ran: &Ran, is_broken: &AtomicBool) -> Result<(), Violation> {
        let seed = self.seed;
        each_point(&ran.node.disk, seed, false, is_broken, |point, left| {
            self.counts.points += 1;
            let may = May {
                allowed: ran.node.history.allowed(point),
                opening: Opening {
                    is_first: point <= ran.node.opened,
                    ..Opening::default()
                },
                applied: &ran.node.applied,
            };
            for left in left {
                let place = Place {
                    point,
                    number: left.number,
                    again: None,
                };
                let wanted = self
                    .only
                    .is_none_or(|only| (only.point, only.number) == (place.point, place.number));
                if wanted {
                    self.check_image(&left, place, may)?;
                }
            }
            Ok(())
        })
    }

    fn check_image(&mut self, left: &Left, place: Place, may: May<'_>) -> Result<(), Violation> {
        self.counts.count(&left.policy);
        let chosen = Seeded(self.seed ^ (place.point << 20 | place.number) as u64).next();
        let deep = chosen.is_multiple_of(DEEP) || self.only.is_some();
        let again = chosen.is_multiple_of(DEEP * AGAIN) || self.only.is_some();
        let checked = examine(&left.image, self.mutant, may, deep);
        let node = checked.map_err(|trouble| self.violation(place, &left.policy, trouble))?;
        if deep {
            self.counts.deep += 1;
        }
        if again {
            self.check_again(&node, place, may)?;
        }
        Ok(())
    }

    /// The images of a crash of the recovery, and of what followed it.
    fn check_again(&mut self, node: &Node, place: Place, may: May<'_>) -> Result<(), Violation> {
        let seed = self.seed ^ place.point as u64;
        let is_broken = AtomicBool::new(false);
        each_point(&node.disk, seed, true, &is_broken, |point, left| {
            for left in left {
                let place = Place {
                    again: Some((point, left.number)),
                    ..place
                };
                if self
                    .only
                    .is_some_and(|only| only.again.is_none() || only != place)
                {
                    continue;
                }
                self.counts.again += 1;
                self.counts.count(&left.policy);
                let may = if point <= node.opened {
                    may
                } else {
                    May {
                        allowed: node.history.allowed(point),
                        opening: node.opening,
                        applied: &node.applied,
                    }
                };
                let checked = examine(&left.image, self.mutant, may, false);
                checked.map_err(|trouble| self.violation(place, &left.policy, trouble))?;
            }
            Ok(())
        })
    }

    fn violation(&self, place: Place, policy: &Policy, trouble: Trouble) -> Violation {
        let what = match trouble {
            Trouble::Stopped => "the log stopped on a disk without faults".to_owned(),
            Trouble::Broken(what) => what,
        };
        Violation {
            seed: self.seed,
            place: Some(place),
            what: format!("{policy:?}: {what}"),
        }
    }
}

/// Opens an image, which must hold one of the allowed states; deep: and goes on from there.
pub(crate) fn examine(
    image: &Image,
    mutant: Option<Mutant>,
    may: May<'_>,
    deep: bool,
) -> Result<Node, Trouble> {
    let disk = SimDisk::from_image(image);
    let how = How {
        tail_size: 0,
        spare: Spare::InTurn,
        mutant,
    };
    let mut node = Node::open(&disk, how, (Some(may.allowed), may.opening), may.applied)?;
    if deep {
        go_on(&mut node)?;
    }
    Ok(node)
}

/// Applies, reads, appends, and opens again.
pub(crate) fn go_on(node: &mut Node) -> Result<(), Trouble> {
    node.catch_up()?;
    node.check_records()?;
    let next = node.state().next();
    let entries = (next..next + 2).map(|index| node.entry(index)).collect();
    node.append(entries)?;
    node.reopen()?;
    node.log()
        .verify()
        .map_err(|error| format!("a sealed segment is damaged: {error}"))?;
    node.apply_to(u64::MAX)?;
    node.check_records()
}
