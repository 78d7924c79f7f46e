//! Crashes: for random workloads, every place at which the power may fail, and everything that FORMAT.md allows a disk
//! to leave then. The log that is opened on it holds what was acknowledged, nothing that was not attempted, and goes on.
//!
//! `INKSTONE_CRASH_SEEDS=N` runs the workloads of N seeds instead of [`SEEDS`]; `INKSTONE_CRASH_FROM=N` begins with
//! another seed than 0. A failure prints the command that checks the image that broke a promise again, alone.

mod faults;
mod images;
mod model;
mod node;
mod seeded;
mod suite;
#[path = "../tell/mod.rs"]
mod tell;
mod verdicts;
mod workload;

use std::sync::atomic::AtomicBool;

use inkstone_storage::io::sim::SimDisk;
use inkstone_storage::log::Mutant;

use crate::images::Place;
use crate::suite::{one, suite};
use crate::tell::tell;

/// Images that an ordinary run looks at, at least.
const IMAGES_MIN: u64 = 50_000;
/// Workloads of an ordinary run.
const SEEDS: u64 = 20;

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().expect("a number"))
}

#[test]
fn whatever_a_crash_leaves_the_log_holds_what_was_acknowledged() {
    let from = number("INKSTONE_CRASH_FROM").unwrap_or(0);
    let count = number("INKSTONE_CRASH_SEEDS").unwrap_or(SEEDS);
    match suite(from..from + count, None) {
        Ok(counts) => {
            tell(&counts.to_string());
            assert!(
                count < SEEDS || counts.images >= IMAGES_MIN,
                "too few to prove anything"
            );
        }
        Err(violation) => panic!("{violation}\nagain: {}", violation.command()),
    }
}

/// What no crash alone brings to light: the corruption images do.
const OF_ROT: [Mutant; 2] = [Mutant::CutOnAnyBadCrc, Mutant::SealedReadUnchecked];

#[test]
fn every_deliberate_bug_is_caught() {
    let mut missed = Vec::new();
    for mutant in Mutant::ALL {
        if OF_ROT.contains(&mutant) {
            continue;
        }
        match suite(0..SEEDS, Some(mutant)) {
            Ok(counts) => missed.push((mutant, counts)),
            Err(violation) => println!("{mutant:?} is caught by {violation}"),
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

/// Without it no failure could be looked at again.
#[test]
fn one_seed_twice_is_one_journal() {
    let journal = |seed| {
        let disk = SimDisk::new();
        let ran = workload::run(seed, &disk, None, None).expect("no fault is planned");
        drop(ran);
        let operations = disk.journal().operations().to_vec();
        let shown = operations.iter().map(ToString::to_string);
        (shown.collect::<Vec<_>>().join("\n"), operations)
    };
    for seed in 0..20 {
        let (one, two) = (journal(seed), journal(seed));
        let count = one.1.len();
        assert!(count > 100, "seed {seed}: {count} operations");
        assert!(one == two, "seed {seed}: {}\n\nand {}", one.0, two.0);
    }
}

#[test]
fn again_the_image_that_is_asked_for_is_checked() {
    let Ok(wanted) = std::env::var("INKSTONE_CRASH_IMAGE") else {
        return;
    };
    let numbers: Vec<u64> = wanted
        .split(':')
        .map(|number| number.parse().expect("seed[:point:image[:point:image]]"))
        .collect();
    let small = |number: u64| usize::try_from(number).expect("a place in a journal");
    let (seed, place) = match numbers[..] {
        [seed] => (seed, None),
        [seed, point, number] => (seed, Some((point, number, None))),
        [seed, point, number, again, of_it] => (seed, Some((point, number, Some((again, of_it))))),
        _ => panic!("seed[:point:image[:point:image]]"),
    };
    let place = place.map(|(point, number, again)| Place {
        point: small(point),
        number: small(number),
        again: again.map(|(point, number)| (small(point), small(number))),
    });
    let is_broken = AtomicBool::new(false);
    let mut checked = vec![one(seed, None, place, &is_broken)];
    if place.is_none() {
        checked.push(faults::check(seed, None, &is_broken));
    }
    for checked in checked {
        match checked {
            Ok(counts) => println!("{counts}"),
            Err(violation) => panic!("{violation}"),
        }
    }
}
