//! Corruption images: every region of every file, damaged in every way, one at a time and some two by two. No wrong byte
//! is ever returned, nothing that was acknowledged is cut, and what is damaged is named.
//!
//! The ordinary run leaves out two of three flipped bits and overwritten bytes, and looks at some pairs.
//! `INKSTONE_CORRUPTION_PAIRS=N` looks at all single ones and N pairs in each directory. A failure prints the image's
//! name; `INKSTONE_CORRUPTION_IMAGE=NAME` looks at that one alone.

mod check;
mod corpus;
mod disk;
mod found;
mod image;
mod memory;
mod region;
#[path = "../tell/mod.rs"]
mod tell;
mod workload;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use inkstone_storage::log::{Log, Mutant};

use self::check::{Check, Open, Outcome};
use self::image::{Image, apply, pair, singles};
use self::region::{Class, Frame, regions};
use self::tell::tell;
use self::workload::Workload;

/// Images that an ordinary run looks at, at least.
const IMAGES_MIN: usize = 50_000;
/// Pairs of damages in each workload, in the ordinary run.
const PAIRS: usize = 1_000;
/// Of flipped bits and overwritten bytes, every so many is looked at in the ordinary run.
const PART: usize = 3;
/// Of all images, every so many is surveyed before it is opened.
const SURVEY_PART: usize = 4;
/// Of all images, every so many is looked at with a deliberate bug.
const MUTANT_PART: usize = 25;
/// Characters of an image that are shown; its name says all.
const IMAGE_SHOWN_MAX: usize = 400;
/// Kinds of failures that are told.
const FAILURES_MAX: usize = 30;

/// A directory, the same of another cluster, and all that can be wrong with it.
struct Suite {
    work: Workload,
    foreign: Workload,
    frames: Vec<Frame>,
    images: Vec<Image>,
}

fn suites(pairs: usize) -> Vec<Suite> {
    let both = workload::all(5).into_iter().zip(workload::all(6));
    let suite = |(work, foreign)| {
        let (regions, frames) = regions(&work);
        let mut images = singles(&work, &regions, &frames);
        let pairs: Vec<Image> = (0..pairs).map(|seed| pair(&images, seed as u64)).collect();
        images.extend(pairs);
        Suite {
            work,
            foreign,
            frames,
            images,
        }
    };
    both.map(suite).collect()
}

/// Whether an image, of that number, is looked at.
type IsWanted<'a> = &'a (dyn Fn(usize, &Image) -> bool + Sync);

#[derive(Default)]
struct Counts {
    images: usize,
    classes: BTreeMap<Class, usize>,
    kinds: BTreeMap<&'static str, usize>,
    outcomes: BTreeMap<Outcome, usize>,
    failures: Vec<String>,
}

impl Counts {
    fn add(&mut self, name: &str, image: &Image, outcome: Result<Outcome, String>) {
        self.images += 1;
        *self.classes.entry(image.class()).or_default() += 1;
        *self.kinds.entry(image.kind()).or_default() += 1;
        match outcome {
            Ok(outcome) => *self.outcomes.entry(outcome).or_default() += 1,
            Err(what) => {
                let image: String = format!("{image:?}").chars().take(IMAGE_SHOWN_MAX).collect();
                self.failures.push(format!("{name}: {what}\n    {image}"));
            }
        }
    }
}

/// Looks at one image: `None` when it is no different.
fn look(suite: &Suite, number: usize, open: Open<'_>) -> Option<Result<Outcome, String>> {
    let image = &suite.images[number];
    let with_survey = number.is_multiple_of(SURVEY_PART);
    let applied = apply(image, &suite.work, &suite.foreign)?;
    let check = Check {
        work: &suite.work,
        frames: &suite.frames,
        applied: &applied,
    };
    let looked = catch_unwind(AssertUnwindSafe(|| {
        if with_survey {
            check.run_after_survey(open)
        } else {
            check.run(open)
        }
    }));
    Some(looked.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panic: {}", text.unwrap_or_default()))
    }))
}

/// Looks at those images that are wanted, on both cores.
fn look_at_all(suites: &[Suite], is_wanted: IsWanted<'_>, open: Open<'_>) -> Counts {
    let wanted = std::env::var("INKSTONE_CORRUPTION_IMAGE").ok();
    let all: Vec<(&Suite, usize)> = suites
        .iter()
        .flat_map(|suite| (0..suite.images.len()).map(move |number| (suite, number)))
        .collect();
    let (next, counts) = (AtomicUsize::new(0), Mutex::new(Counts::default()));
    let work = || {
        while let Some((suite, number)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            let name = format!("{}/{number}", suite.work.name);
            if wanted.as_ref().is_some_and(|wanted| *wanted != name) {
                continue;
            }
            let image = &suite.images[*number];
            if wanted.is_none() && !is_wanted(*number, image) {
                continue;
            }
            if let Some(outcome) = look(suite, *number, open) {
                let mut counts = counts.lock().expect("nobody panics with it");
                counts.add(&name, image, outcome);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(work);
        }
    });
    counts.into_inner().expect("nobody panics with it")
}

/// The failures by what they say, numbers aside, with one image of each.
fn report(counts: &Counts) -> String {
    let mut alike: BTreeMap<String, (usize, &String)> = BTreeMap::new();
    for failure in &counts.failures {
        let what = failure.split_once(": ").map_or("", |(_, what)| what);
        let what = what.lines().next().unwrap_or_default();
        let key: String = what.chars().filter(|char| !char.is_numeric()).collect();
        alike.entry(key).or_insert((0, failure)).0 += 1;
    }
    let told = alike.values().take(FAILURES_MAX);
    let told: Vec<String> = told
        .map(|(count, failure)| format!("{count} times: {failure}"))
        .collect();
    format!(
        "{} of {} images failed; INKSTONE_CORRUPTION_IMAGE=NAME repeats one:\n{}",
        counts.failures.len(),
        counts.images,
        told.join("\n")
    )
}

#[test]
fn whatever_is_damaged_no_wrong_byte_is_returned_and_nothing_acknowledged_is_cut() {
    let pairs = std::env::var("INKSTONE_CORRUPTION_PAIRS").ok();
    let (pairs, part) = pairs.map_or((PAIRS, PART), |pairs| (pairs.parse().expect("a number"), 1));
    let is_wanted = |number: usize, image: &Image| !image.is_small() || number.is_multiple_of(part);
    let counts = look_at_all(&suites(pairs), &is_wanted, &|disk, options| {
        Log::open_on(disk, options)
    });
    tell(&format!("{} corruption images", counts.images));
    let is_one = std::env::var_os("INKSTONE_CORRUPTION_IMAGE").is_some();
    assert!(
        is_one || counts.images >= IMAGES_MIN,
        "too few to prove anything"
    );
    for (class, count) in &counts.classes {
        println!("  {count:>7} {class:?}");
    }
    println!("{:?}\n{:?}", counts.kinds, counts.outcomes);
    assert!(counts.failures.is_empty(), "{}", report(&counts));
}

#[test]
fn an_undamaged_directory_is_whole() {
    for suite in suites(0) {
        let applied = image::Applied {
            files: suite.work.files.clone(),
            faults: Vec::new(),
            different: BTreeMap::new(),
            is_displaced: false,
            is_pair: false,
        };
        let check = Check {
            work: &suite.work,
            frames: &suite.frames,
            applied: &applied,
        };
        let outcome = check.run_after_survey(&|disk, options| Log::open_on(disk, options));
        assert_eq!(outcome, Ok(Outcome::Whole), "{}", suite.work.name);
    }
}

/// A careless change that this suite is there for is found by it.
#[test]
fn deliberate_bugs_are_caught() {
    let bugs = [
        (Mutant::CutOnAnyBadCrc, "acknowledged was"),
        (Mutant::SealedReadUnchecked, "not what was written"),
    ];
    for (mutant, complaint) in bugs {
        let suites = suites(0);
        let is_wanted = |number: usize, _: &Image| number.is_multiple_of(MUTANT_PART);
        let counts = look_at_all(&suites, &is_wanted, &|disk, options| {
            Log::open_mutant(disk, options, Some(mutant))
        });
        let (failed, images) = (counts.failures.len(), counts.images);
        println!("{mutant:?}: {failed} of {images} corruption images catch it");
        let mut failures = counts.failures.iter();
        let caught = failures.any(|failure| failure.contains(complaint));
        assert!(caught, "{mutant:?} is not caught; {}", report(&counts));
    }
}
