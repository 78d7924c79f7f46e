//! What a check says of a directory is what opening it comes to: over crash images, which lost nothing, and over rot.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::*;
use inkstone_storage::io::sim::{Image, Names, Policy, Rot, SimDisk, Unit, Unsynced};
use inkstone_storage::log::check::{FileReport, check};
use inkstone_storage::log::{DirLock, Log, LogOptions, Spare};
use inkstone_storage::types::{BatchOutcome, Identity, LogId, NO_CLUSTER, Vote};

const LOG: LogId = LogId(4);
const DATA: &str = "/data";

fn sim_options() -> LogOptions {
    LogOptions {
        spare: Spare::InTurn,
        ..options(Path::new(DATA))
    }
}

/// A disk with an identity, and a group's directory that is still to be made. The identity names the cluster only once
/// there is a hard state: here it never does.
fn disk() -> SimDisk {
    let dir = tempfile::tempdir().expect("a directory");
    let lock = DirLock::acquire(dir.path()).expect("new");
    let identity = Identity {
        cluster_id: NO_CLUSTER,
        ..sim_options().identity
    };
    lock.set_identity(identity).expect("writable");
    let identity = std::fs::read(dir.path().join("identity")).expect("written");
    let mut image = Image::default();
    image.put(&Path::new(DATA).join("identity"), &identity);
    SimDisk::from_image(&image)
}

fn open_sim(disk: &SimDisk) -> Log {
    Log::open_on(Arc::new(disk.clone()), sim_options()).expect("the log opens")
}

/// What a seed makes of a log: groups of several sizes, votes, segments that are sealed, purges and truncations.
fn work(disk: &SimDisk, seed: u64) {
    let log = open_sim(disk);
    let dice = noise(seed, 4096);
    let mut dice = dice.into_iter().map(u64::from);
    let mut roll = |sides: u64| dice.next().expect("enough of them") % sides;
    let mut next = 0;
    for turn in 0..24 {
        let vote = Vote {
            term: turn,
            node: 9,
            committed: false,
        };
        match roll(8) {
            0 => wait(|done| log.save_vote(vote, done)).expect("saved"),
            1 if next > 20 => {
                let boundaries = log.boundaries();
                if let Some(boundary) = boundaries.last() {
                    purge(&log, id(boundary - 1));
                }
            }
            2 if next > 0 && log.state().first_index < next => {
                // Raft truncates nothing that was applied: nothing here was, behind the last of those.
                append(&log, vec![command(next, noise(next, 200))]);
                truncate(&log, Some(next - 1));
            }
            _ => {
                for _ in 0..=roll(3) {
                    let bodies = vec![noise(next, 300 + 400 * usize::from(next % 3 == 0))];
                    append(&log, vec![batches(next, &[(LOG, bodies)])]);
                    if log.is_boundary(next) {
                        log.seal(next, checkpoint(next - 1));
                    }
                    let base_offset = next;
                    log.note_applied(next, &[BatchOutcome::Taken { base_offset }])
                        .expect("readable");
                    next += 1;
                }
                barrier(&log);
            }
        }
    }
}

fn checked(disk: &SimDisk) -> Vec<FileReport> {
    let before = disk.journal().operations().len();
    let reports = check(disk, Path::new(DATA), &mut |_| ()).expect("a data directory");
    assert_eq!(
        disk.journal().operations().len(),
        before,
        "a check changes nothing"
    );
    reports
}

fn bad(reports: &[FileReport]) -> Vec<&FileReport> {
    reports
        .iter()
        .filter(|report| !report.state.is_good())
        .collect()
}

#[test]
fn what_a_crash_leaves_is_good_wherever_it_comes() {
    let mut images = 0;
    for seed in 1..=4 {
        let disk = disk();
        work(&disk, seed);
        let journal = disk.journal();
        let mut crash = journal.start();
        for (count, operation) in journal.operations().iter().enumerate() {
            crash.advance(operation);
            let random = seed * 1000 + count as u64;
            for (data, names) in [
                (Unsynced::None, Names::Lost),
                (Unsynced::All, Names::Kept),
                (Unsynced::None, Names::Kept),
                (Unsynced::Random(random), Names::Random(random)),
                (Unsynced::Random(random + 7), Names::Kept),
            ] {
                let policy = Policy {
                    data,
                    unit: Unit::Sector,
                    names,
                };
                let image = crash.image(&policy);
                let is_group = |path: &Path| path.starts_with("/data/group-1");
                if !image.paths().any(is_group) {
                    continue;
                }
                let at = format!("seed {seed}, operation {count} ({operation}), {policy:?}");
                let disk = SimDisk::from_image(&image);
                let reports = checked(&disk);
                let opened = read_all(&open_sim(&disk));
                assert!(opened.is_ok(), "{at}: {opened:?}");
                assert!(bad(&reports).is_empty(), "{at}: {:#?}", bad(&reports));
                images += 1;
            }
        }
    }
    println!("{images} crash images checked");
    assert!(images > 2_000, "{images}");
}

/// The rots of one file: each kind, at a place that the seed chooses.
fn rots(image: &Image, path: &Path, seed: u64) -> Vec<Rot> {
    let size = image.size(path).expect("there");
    let random = noise(seed, 16);
    let number = |at: usize| {
        u64::from_le_bytes(random[at..at + 8].try_into().expect("8 bytes")) % size.max(1)
    };
    let (position, sector) = (number(0), number(8) / 512 * 512);
    vec![
        Rot::Flip {
            position,
            mask: 1 << (seed % 8),
        },
        Rot::Zero {
            position: sector,
            size: 512,
        },
        Rot::Cut { size: position },
        Rot::Misdirected {
            position: sector,
            size: 512,
            from: path.to_owned(),
            from_position: (sector + 512) % size.max(1),
        },
    ]
}

/// Every entry of a log, or the first that cannot be read.
fn read_all(log: &Log) -> Result<usize, String> {
    log.verify().map_err(|error| error.to_string())?;
    let mut next = log.state().first_index;
    let mut read = 0;
    loop {
        let more = log.entries(next, u64::MAX, 1 << 20);
        let more = more.map_err(|error| error.to_string())?;
        if more.is_empty() {
            return Ok(read);
        }
        next += more.len() as u64;
        read += more.len();
    }
}

/// What a damaged disk comes to, which held so many entries: nothing that is lost is said to be good.
fn judge(image: &Image, entries: usize, what: &str) -> &'static str {
    let disk = SimDisk::from_image(image);
    let reports = checked(&disk);
    let is_good = bad(&reports).is_empty();
    let outcome = match Log::open_on(Arc::new(disk), sim_options()) {
        Ok(log) => read_all(&log),
        Err(error) => Err(error.to_string()),
    };
    let is_whole = outcome == Ok(entries);
    // A torn tail is cut, whether a crash or rot tore it: only the watermark tells, and it may be behind.
    let is_cut = outcome == Ok(entries - 1);
    assert!(
        !is_good || is_whole || is_cut,
        "{what}: {outcome:?} of {entries}, and every file is said to be good: {reports:#?}"
    );
    match (is_good, is_whole) {
        (true, true) => "without effect",
        (true, false) => "cut as torn",
        (false, true) => "damaged, and made good or not read",
        (false, false) => "damaged, and refused",
    }
}

#[test]
fn what_no_log_opens_over_and_what_cannot_be_read_is_never_called_good() {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 1..=6 {
        let disk = disk();
        work(&disk, seed);
        let whole = disk.image();
        assert!(bad(&checked(&disk)).is_empty());
        let entries = read_all(&open_sim(&SimDisk::from_image(&whole))).expect("whole");
        let paths: Vec<PathBuf> = whole.paths().map(Path::to_owned).collect();
        for (number, path) in paths.iter().enumerate() {
            if path.ends_with("identity") {
                continue;
            }
            let mut images = Vec::new();
            for turn in 0..12 {
                for rot in rots(&whole, path, seed * 10_000 + number as u64 * 100 + turn) {
                    let mut image = whole.clone();
                    image.rot(path, &rot);
                    images.push((format!("{rot:?}"), image));
                }
            }
            let mut image = whole.clone();
            image.remove(path);
            images.push(("gone".to_owned(), image));
            for (rot, image) in images {
                let count = judge(&image, entries, &format!("{}, {rot}", path.display()));
                *counts.entry(count).or_default() += 1;
            }
        }
    }
    let images: usize = counts.values().sum();
    println!("{images} corruption images checked: {counts:?}");
    assert!(images > 1_000 && counts["damaged, and refused"] > 100);
}
