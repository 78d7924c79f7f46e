//! Random damage, several places at once, of logs that were stopped cleanly: nothing that was acknowledged is cut or comes
//! back wrong, a refusal changes no segment, and what is named as damaged is mended by the entries that were there.
//! `INKSTONE_ROT_IMAGES` sets how many; seed n is image n.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::repair::{apply, batch};
use crate::support::*;
use inkstone_storage::error::{Faults, Known, OpenError, ReadError, RepairError};
use inkstone_storage::io::sim::{Image, Rot, SimDisk};
use inkstone_storage::log::{Log, Repair};
use inkstone_storage::types::{Entry, LogId};

const LOG: LogId = LogId(1);
const ENTRIES: u64 = 60;

struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

fn dir() -> PathBuf {
    PathBuf::from("/data")
}

fn open_on(disk: &SimDisk) -> Result<Log, OpenError> {
    Log::open_on(Arc::new(disk.clone()), options(&dir()))
}

/// A log of sixty entries: unsealed, sealed, or sealed and purged up to the second boundary.
fn scene(kind: u64) -> Image {
    let disk = SimDisk::new();
    let log = open_on(&disk).expect("a new log");
    for first in (0..ENTRIES).step_by(4) {
        append(&log, (first..first + 4).map(batch).collect());
    }
    if kind > 0 {
        apply(&log, 0);
    }
    if kind > 1 {
        purge(&log, id(log.boundaries()[1] - 1));
    }
    drop(log);
    disk.image()
}

fn segments_of(image: &Image) -> Vec<PathBuf> {
    let is_segment = |path: &&Path| path.extension().is_some_and(|found| found == "seg");
    image
        .paths()
        .filter(is_segment)
        .map(Path::to_owned)
        .collect()
}

/// One kind of damage in one place: what it was.
fn harm(image: &mut Image, numbers: &mut Numbers) -> String {
    let paths: Vec<PathBuf> = image.paths().map(Path::to_owned).collect();
    let segments = segments_of(image);
    // Segments more often than the rest.
    let path = if numbers.below(4) > 0 && !segments.is_empty() {
        let number = numbers.below(segments.len() as u64);
        segments[place(number)].clone()
    } else {
        let number = numbers.below(paths.len() as u64);
        paths[place(number)].clone()
    };
    let size = image.size(&path).expect("it is there");
    let position = numbers.below(size);
    let sector = [512, 4096][place(numbers.below(2))];
    let start = position / sector * sector;
    let count = place(sector * (1 + numbers.below(3)));
    let rot = match numbers.below(10) {
        0..4 => Rot::Flip {
            position,
            mask: 1 << numbers.below(8),
        },
        4..7 => Rot::Zero {
            position: start,
            size: count.min(place(size - start)),
        },
        7 => Rot::Cut { size: position },
        8 => Rot::Misdirected {
            position: start,
            size: place(sector).min(place(size - start)),
            from: path.clone(),
            from_position: numbers.below(size) / sector * sector,
        },
        _ => {
            image.remove(&path);
            return format!("{} removed", path.display());
        }
    };
    image.rot(&path, &rot);
    format!("{} {rot:?}", path.display())
}

#[derive(Debug, Default)]
struct Counts {
    images: u64,
    opened: u64,
    mended: u64,
    sealed_mended: u64,
    refused: u64,
}

/// Mends what can be: whether the log opens then.
fn mend(disk: &SimDisk, what: &str) -> Option<Log> {
    for _ in 0..4 {
        let repair = Repair::open(Arc::new(disk.clone()), options(&dir()));
        let Ok(mut repair) = repair else {
            return None;
        };
        if repair.faulty().is_empty() {
            return match open_on(disk) {
                Ok(log) => Some(log),
                Err(OpenError::Damaged(_)) => None,
                Err(error) => panic!("{what}: {error}"),
            };
        }
        if let Err(error) = repair.write_back(verifiable(repair.faulty())) {
            // Not by right entries: the damage on both sides of these is too near, or one is in the other's place.
            let expected = matches!(
                error,
                RepairError::Refused { .. }
                    | RepairError::Open(_)
                    | RepairError::Unverifiable { .. }
            );
            assert!(expected, "{what}: {error}");
            return None;
        }
        if repair
            .faulty()
            .list
            .iter()
            .any(|fault| !fault.is_verifiable())
        {
            return None;
        }
    }
    panic!("{what}: it is never mended");
}

fn verifiable(faults: &Faults) -> Vec<Entry> {
    faults
        .list
        .iter()
        .filter(|fault| fault.is_verifiable())
        .flat_map(|fault| fault.first..=fault.last)
        .map(batch)
        .collect()
}

/// Every entry is right or said to be damaged, and those of sealed segments are mended.
fn check(log: &Log, kind: u64, what: &str, counts: &mut Counts) {
    // Without the newer mark, an end that is gone leaves no trace: that takes two faults.
    if !what.contains("/watermark") {
        assert_eq!(
            log.state().last,
            Some(id(ENTRIES - 1)),
            "{what}: it was cut"
        );
    }
    let first = log.state().first_index;
    assert!(kind > 1 || first == 0, "{what}: {first}");
    let last = log.state().last.map_or(0, |last| last.index + 1);
    for index in first..last {
        match log.entries(index, index + 1, 1) {
            Ok(found) => assert_eq!(found, [batch(index)], "{what}"),
            Err(ReadError::Damaged(_)) => {
                let faults = log.faulty_sealed(index).expect("readable");
                let faults = faults.unwrap_or_else(|| panic!("{what}: {index} is not sealed"));
                if faults.is_empty() {
                    // The rows that say where it is.
                    let (done, answered) = callback();
                    log.repair_sealed(index, Vec::new(), done).expect(what);
                    answered.recv().expect("answered").expect("durable");
                } else {
                    let known = |known: &Known| *known != Known::Nothing;
                    assert!(
                        faults.list.iter().all(|fault| known(&fault.known)),
                        "{what}"
                    );
                    let (done, answered) = callback();
                    let mended = log.repair_sealed(index, verifiable(&faults), done);
                    mended.unwrap_or_else(|error| panic!("{what}: {error}"));
                    answered.recv().expect("answered").expect("durable");
                }
                counts.sealed_mended += 1;
            }
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

/// Every record below the first that is not applied is right.
fn check_records(log: &Log, what: &str) {
    let from = log.checkpoint().map_or(0, |found| found.applied.index + 1);
    let last = log.state().last.map_or(0, |last| last.index + 1);
    if last < ENTRIES {
        return;
    }
    apply(log, from);
    for offset in log.state().first_index..ENTRIES {
        match log.read(LOG, offset, offset + 1, 1) {
            Ok(chunk) => assert_eq!(chunk.records[0].body, noise(offset, 900), "{what}"),
            Err(ReadError::Damaged(_)) => {}
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

#[test]
fn whatever_rots_is_refused_or_mended_and_never_cut() {
    let scenes: Vec<Image> = (0..3).map(scene).collect();
    let mut counts = Counts::default();
    let images = std::env::var("INKSTONE_ROT_IMAGES").map_or(600, |count| count.parse().unwrap());
    for seed in 0..images {
        let mut numbers = Numbers(seed);
        let kind = numbers.below(3);
        let mut image = scenes[place(kind)].clone();
        let harms: Vec<String> = (0..=numbers.below(3))
            .map(|_| harm(&mut image, &mut numbers))
            .collect();
        let what = format!("seed {seed}, scene {kind}: {harms:?}");
        let disk = SimDisk::from_image(&image);
        counts.images += 1;
        let log = match open_on(&disk) {
            Ok(log) => {
                counts.opened += 1;
                log
            }
            Err(error) => {
                let after = disk.image();
                for path in segments_of(&image) {
                    let same = after.read(&path) == image.read(&path);
                    assert!(same, "{what}: {error}: {} changed", path.display());
                }
                let faulty = matches!(error, OpenError::Faulty(_));
                let Some(log) = mend(&disk, &what).filter(|_| faulty) else {
                    counts.refused += 1;
                    continue;
                };
                counts.mended += 1;
                log
            }
        };
        check(&log, kind, &what, &mut counts);
        check_records(&log, &what);
    }
    println!("{} corruption images: {counts:?}", counts.images);
    let least = [counts.opened, counts.mended, counts.sealed_mended];
    assert!(least.iter().all(|count| *count > images / 10), "{counts:?}");
}
