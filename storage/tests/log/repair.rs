//! Damage is named entry by entry, and mended with what peers have, or with nothing at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::*;
use inkstone_storage::error::{Faults, Known, OpenError, RepairError, Verdict};
use inkstone_storage::io::sim::{Call, Crash, Fault, Names, Policy, SimDisk, Unit, Unsynced};
use inkstone_storage::io::{Disk, RealDisk};
use inkstone_storage::log::{Log, Repair};
use inkstone_storage::types::{BatchOutcome, Entry, LogId};

const LOG: LogId = LogId(1);
pub(crate) const ENTRIES: u64 = 45;
/// Frames of a segment.
const SEGMENT: u64 = 12;
const PAYLOAD: usize = 900;
const FRAME: usize = 968;

pub(crate) fn entry(index: u64) -> Entry {
    command(index, noise(index, PAYLOAD))
}

/// Four unsealed segments, in sync groups of three entries; the watermark is the last entry.
pub(crate) fn scene(dir: &Path) -> Vec<PathBuf> {
    assert_eq!(frame_size(PAYLOAD), FRAME);
    let log = open(dir);
    for first in (0..ENTRIES).step_by(3) {
        append(&log, (first..first + 3).map(entry).collect());
    }
    drop(log);
    let files = segments(dir);
    assert_eq!(files.len(), 4);
    files
}

/// Where an entry's frame stands.
fn frame(index: u64) -> usize {
    HEADER + place(index % SEGMENT) * FRAME
}

fn of(files: &[PathBuf], index: u64) -> &PathBuf {
    &files[place(index / SEGMENT)]
}

fn change(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).expect("readable and writable");
    change(&mut bytes);
    fs::write(file, bytes).expect("readable and writable");
}

/// Also while the file is mapped.
pub(crate) fn flip_in_place(path: &Path, position: usize) {
    let byte = fs::read(path).expect("readable and writable")[position] ^ 1;
    let file = RealDisk.open(path).expect("readable and writable");
    file.write_at(&[std::io::IoSlice::new(&[byte])], position as u64)
        .expect("readable and writable");
}

pub(crate) fn spoil(files: &[PathBuf], index: u64, at: usize) {
    flip(of(files, index), frame(index) + at);
}

fn zero(files: &[PathBuf], indexes: std::ops::Range<u64>) {
    for index in indexes {
        change(of(files, index), |bytes| {
            bytes[frame(index)..frame(index) + FRAME].fill(0);
        });
    }
}

pub(crate) const HEADER_BYTE: usize = 20;
const STAMP_BYTE: usize = 50;
pub(crate) const PAYLOAD_BYTE: usize = 300;
const PADDING_BYTE: usize = 966;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    Identity,
    Chain,
    Nothing,
}

type Found = (Verdict, u64, u64, Is);

fn found(faults: &Faults) -> Vec<Found> {
    assert_eq!(faults.unlisted, 0);
    faults
        .list
        .iter()
        .map(|fault| {
            let known = match &fault.known {
                Known::Identity(known) => {
                    assert_eq!(known.len() as u64, fault.entries());
                    Is::Identity
                }
                Known::Chain { .. } => Is::Chain,
                Known::Nothing => Is::Nothing,
            };
            (fault.verdict, fault.first, fault.last, known)
        })
        .collect()
}

fn faults(dir: &Path) -> Faults {
    match open_error(dir) {
        OpenError::Faulty(faults) => faults,
        other => panic!("faults expected, not {other}"),
    }
}

/// What is in the log's directory.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found: Vec<_> = fs::read_dir(dir.join("group-1/log"))
        .expect("readable and writable")
        .map(|item| item.expect("readable and writable").path())
        .map(|path| (path.clone(), fs::read(path).expect("readable and writable")))
        .collect();
    found.sort();
    found
}

pub(crate) fn repair(dir: &Path) -> Repair {
    Repair::open(Arc::new(RealDisk), options(dir)).expect("it can be repaired")
}

fn damaged_entries(faults: &Faults) -> Vec<Entry> {
    let ranges = faults.list.iter();
    ranges
        .flat_map(|fault| fault.first..=fault.last)
        .map(entry)
        .collect()
}

type Harm = fn(&[PathBuf]);

const DAMAGE: &[(&str, Harm, &[Found])] = &[
    (
        "a payload",
        |files| spoil(files, 5, PAYLOAD_BYTE),
        &[(Verdict::RottenFrame, 5, 5, Is::Identity)],
    ),
    (
        "a stamp",
        |files| spoil(files, 5, STAMP_BYTE),
        &[(Verdict::RottenFrame, 5, 5, Is::Identity)],
    ),
    (
        "padding",
        |files| spoil(files, 5, PADDING_BYTE),
        &[(Verdict::RottenFrame, 5, 5, Is::Identity)],
    ),
    (
        "neighbours' payloads",
        |files| {
            spoil(files, 5, PAYLOAD_BYTE);
            spoil(files, 6, PAYLOAD_BYTE);
            spoil(files, 8, PAYLOAD_BYTE);
        },
        &[
            (Verdict::RottenFrame, 5, 6, Is::Identity),
            (Verdict::RottenFrame, 8, 8, Is::Identity),
        ],
    ),
    (
        "a header",
        |files| spoil(files, 5, HEADER_BYTE),
        &[(Verdict::LostFrames, 5, 5, Is::Chain)],
    ),
    (
        "a header, and payloads on both sides",
        |files| {
            spoil(files, 4, PAYLOAD_BYTE);
            spoil(files, 5, HEADER_BYTE);
            spoil(files, 6, PAYLOAD_BYTE);
        },
        &[
            (Verdict::RottenFrame, 4, 4, Is::Identity),
            (Verdict::LostFrames, 5, 5, Is::Chain),
            (Verdict::RottenFrame, 6, 6, Is::Identity),
        ],
    ),
    (
        "neighbouring frames, nothing left of them",
        |files| zero(files, 4..9),
        &[(Verdict::LostFrames, 4, 8, Is::Chain)],
    ),
    (
        "the first frame of a segment",
        |files| spoil(files, 12, HEADER_BYTE),
        &[(Verdict::LostFrames, 12, 12, Is::Chain)],
    ),
    (
        "the last frame of a segment",
        |files| spoil(files, 11, HEADER_BYTE),
        &[(Verdict::LostFrames, 11, 11, Is::Chain)],
    ),
    (
        "frames on both sides of a segment's end",
        |files| zero(files, 10..14),
        &[
            (Verdict::MissingSegment, 10, 11, Is::Chain),
            (Verdict::LostFrames, 12, 13, Is::Chain),
        ],
    ),
    (
        "a frame in the place of another",
        |files| {
            change(of(files, 5), |bytes| {
                bytes.copy_within(frame(7)..frame(8), frame(5));
            });
        },
        &[(Verdict::LostFrames, 5, 5, Is::Chain)],
    ),
    (
        "the last payload",
        |files| spoil(files, 44, PAYLOAD_BYTE),
        &[(Verdict::RottenFrame, 44, 44, Is::Identity)],
    ),
    (
        "the last header",
        |files| spoil(files, 44, HEADER_BYTE),
        &[(Verdict::LostTail, 44, 44, Is::Chain)],
    ),
    (
        "zeros at the end",
        |files| zero(files, 41..45),
        &[(Verdict::LostTail, 41, 44, Is::Chain)],
    ),
    (
        "a last file that ends in a frame",
        |files| change(of(files, 42), |bytes| bytes.truncate(frame(42) + 100)),
        &[
            (Verdict::RottenFrame, 42, 42, Is::Identity),
            (Verdict::LostTail, 43, 44, Is::Chain),
        ],
    ),
    (
        "a file of zeros",
        |files| change(of(files, 12), |bytes| bytes.fill(0)),
        &[(Verdict::LostFrames, 12, 23, Is::Chain)],
    ),
    (
        "an empty last file",
        |files| change(of(files, 36), Vec::clear),
        &[(Verdict::LostTail, 36, 44, Is::Chain)],
    ),
    (
        "the first segment missing",
        |files| remove(&files[0]),
        &[(Verdict::MissingSegment, 0, 11, Is::Chain)],
    ),
    (
        "two segments missing",
        |files| {
            remove(&files[1]);
            remove(&files[2]);
        },
        &[(Verdict::MissingSegment, 12, 35, Is::Chain)],
    ),
    (
        "the last segment missing",
        |files| remove(&files[3]),
        &[(Verdict::LostTail, 36, 44, Is::Chain)],
    ),
    (
        "all segments missing",
        |files| files.iter().for_each(|file| remove(file)),
        &[(Verdict::LostTail, 0, 44, Is::Chain)],
    ),
    (
        "a bad header and the frame behind it",
        |files| {
            flip(of(files, 12), 9);
            spoil(files, 12, HEADER_BYTE);
        },
        &[(Verdict::LostFrames, 12, 12, Is::Chain)],
    ),
];

/// Frames without what is local to the node.
fn frames(files: &[(PathBuf, Vec<u8>)]) -> Vec<Vec<u8>> {
    let count = |number: usize| place((ENTRIES - number as u64 * SEGMENT).min(SEGMENT));
    files
        .iter()
        .enumerate()
        .flat_map(|(number, (_, bytes))| {
            bytes[HEADER..HEADER + count(number) * FRAME]
                .chunks(FRAME)
                .map(|frame| [&frame[..48], &frame[64..]].concat())
        })
        .collect()
}

#[test]
fn every_damaged_entry_is_named_and_peers_entries_mend_it() {
    for (what, harm, expected) in DAMAGE {
        let dir = tempfile::tempdir().unwrap();
        let files = scene(dir.path());
        let whole = contents(dir.path());
        harm(&files);
        let harmed = contents(dir.path());
        let faults = faults(dir.path());
        assert_eq!(found(&faults), *expected, "{what}");
        assert!(contents(dir.path()) == harmed, "{what}: nothing is changed");

        let mut repair = repair(dir.path());
        assert_eq!(*repair.faulty(), faults, "{what}");
        repair.write_back(damaged_entries(&faults)).expect(what);
        assert!(repair.faulty().is_empty(), "{what}: {}", repair.faulty());
        drop(repair);
        let log = open(dir.path());
        assert_eq!(
            all(&log),
            (0..ENTRIES).map(entry).collect::<Vec<_>>(),
            "{what}"
        );
        append(&log, vec![entry(ENTRIES)]);
        drop(log);
        let mended = contents(dir.path());
        if mended.len() == whole.len() {
            assert!(frames(&mended) == frames(&whole), "{what}: byte for byte");
        }
        assert_eq!(open(dir.path()).state().last, Some(id(ENTRIES)), "{what}");
    }
}

#[test]
fn a_frame_whose_header_is_whole_is_the_same_byte_for_byte_when_it_is_mended() {
    for at in [PAYLOAD_BYTE, PADDING_BYTE] {
        let dir = tempfile::tempdir().unwrap();
        let files = scene(dir.path());
        let whole = contents(dir.path());
        spoil(&files, 7, at);
        repair(dir.path()).write_back(vec![entry(7)]).unwrap();
        assert!(contents(dir.path()) == whole);
    }
}

#[test]
fn what_is_not_given_stays_damaged_and_what_is_given_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let files = scene(dir.path());
    spoil(&files, 3, PAYLOAD_BYTE);
    zero(&files, 5..7);
    spoil(&files, 9, PAYLOAD_BYTE);
    spoil(&files, 30, PAYLOAD_BYTE);
    let mut repair = repair(dir.path());
    repair.write_back(vec![entry(5), entry(6)]).unwrap();
    let left = [
        (Verdict::RottenFrame, 3, 3, Is::Identity),
        (Verdict::RottenFrame, 9, 9, Is::Identity),
        (Verdict::RottenFrame, 30, 30, Is::Identity),
    ];
    assert_eq!(found(repair.faulty()), left);
    repair.write_back(vec![entry(9), entry(30)]).unwrap();
    assert_eq!(found(repair.faulty()), left[..1]);
    repair.write_back(vec![entry(3)]).unwrap();
    assert!(repair.faulty().is_empty());
    assert_eq!(all(&open(dir.path())).len() as u64, ENTRIES);
}

#[test]
fn entries_that_are_not_the_damaged_ones_are_refused_and_nothing_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let files = scene(dir.path());
    spoil(&files, 3, PAYLOAD_BYTE);
    zero(&files, 5..7);
    let harmed = contents(dir.path());
    let mut repair = repair(dir.path());
    let other_term = |index| {
        let mut entry = entry(index);
        entry.id.term += 1;
        entry
    };
    let other_kind = |index| Entry {
        kind: inkstone_storage::types::EntryKind::Membership,
        ..entry(index)
    };
    let shorter = |index| command(index, noise(index, PAYLOAD - 1));
    let other = |index| command(index, noise(index + 1, PAYLOAD));
    let refused: Vec<Vec<Entry>> = vec![
        vec![other(3)],
        vec![other_term(3)],
        vec![other_kind(3)],
        vec![shorter(3)],
        vec![entry(5), other(6)],
        vec![other(5), entry(6)],
        vec![entry(5), other_term(6)],
        vec![entry(5), shorter(6)],
        vec![entry(3), entry(5), other_kind(6)],
    ];
    for entries in refused {
        let given = entries.clone();
        let error = repair.write_back(entries).expect_err("refused");
        assert!(
            matches!(
                error,
                RepairError::Refused { .. } | RepairError::Diverged { .. }
            ),
            "{given:?}: {error}"
        );
        assert!(contents(dir.path()) == harmed, "{given:?}");
    }
    for entries in [vec![entry(5)], vec![entry(6)]] {
        let error = repair.write_back(entries).expect_err("refused");
        let expected = RepairError::Incomplete {
            first: 5,
            last: 6,
            index: 6,
        };
        assert!(
            matches!(error, RepairError::Incomplete { .. }),
            "{error}, not {expected}"
        );
    }
    for entries in [
        vec![entry(4)],
        vec![entry(44)],
        vec![entry(5), entry(6), entry(3)],
    ] {
        let error = repair.write_back(entries).expect_err("refused");
        assert!(matches!(error, RepairError::NotFaulty { .. }), "{error}");
    }
}

#[test]
fn of_a_tail_without_a_watermark_only_what_its_header_says_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let files = scene(dir.path());
    let lose_watermark = || fs::write(dir.path().join("group-1/watermark"), [7; 8192]).unwrap();
    let rows = [(PAYLOAD_BYTE, Is::Identity), (HEADER_BYTE, Is::Nothing)];
    for (at, known) in rows {
        lose_watermark();
        spoil(&files, 44, at);
        let faults = faults(dir.path());
        assert_eq!(found(&faults), [(Verdict::UnknownTail, 44, 44, known)]);
        let written = repair(dir.path()).write_back(vec![entry(44)]);
        if known == Is::Identity {
            written.unwrap();
        } else {
            let error = written.expect_err("nothing tells the right one");
            assert!(matches!(error, RepairError::Unverifiable { index: 44 }));
            spoil(&files, 44, at);
        }
        assert_eq!(all(&open(dir.path())).len() as u64, ENTRIES);
    }
}

/// A disk in memory with the files of a group.
pub(crate) fn in_memory(dir: &Path) -> SimDisk {
    let mut image = SimDisk::new().image();
    for dir in [dir.join("group-1"), dir.join("group-1/log")] {
        for item in fs::read_dir(dir).expect("a directory") {
            let path = item.expect("an item").path();
            if path.is_file() {
                image.put(&path, &fs::read(&path).expect("a file"));
            }
        }
    }
    SimDisk::from_image(&image)
}

/// What of a crash's writes that were not synced is kept: all, none, each one alone, and some by chance.
pub(crate) fn kept_of(crash: &Crash) -> Vec<Unsynced> {
    let mut kept = vec![Unsynced::All, Unsynced::None];
    kept.extend((0..crash.unsynced()).map(Unsynced::Only));
    kept.extend((0..4).map(Unsynced::Random));
    kept
}

/// The log is whole, or still says that what was damaged is; whether it is whole.
fn is_mended(disk: &SimDisk, dir: &Path, expected: &[Found], what: &str) -> bool {
    match Log::open_on(Arc::new(disk.clone()), options(dir)) {
        Ok(log) => {
            let whole: Vec<Entry> = (0..ENTRIES).map(entry).collect();
            assert_eq!(all(&log), whole, "{what}");
            true
        }
        Err(OpenError::Faulty(faults)) => {
            let left = found(&faults);
            let listed = left.iter().all(|fault| expected.contains(fault));
            assert!(listed, "{what}: {left:?}");
            false
        }
        Err(error) => panic!("{what}: {error}"),
    }
}

#[test]
fn a_crash_at_any_step_of_a_repair_leaves_an_entry_damaged_or_mended() {
    let mut images = 0;
    for (what, harm, expected) in DAMAGE {
        let dir = tempfile::tempdir().unwrap();
        harm(&scene(dir.path()));
        let disk = in_memory(dir.path());
        let mut repair = Repair::open(Arc::new(disk.clone()), options(dir.path())).unwrap();
        let before = disk.journal().operations().len();
        let entries = damaged_entries(repair.faulty());
        repair.write_back(entries).unwrap();
        let journal = disk.journal();
        let steps = journal.operations().len();
        assert!(steps > before + 3, "{what}");
        for step in before..=steps {
            let crash = journal.crash(step);
            for data in kept_of(&crash) {
                for (unit, names) in [
                    (Unit::Sector, Names::Kept),
                    (Unit::Page, Names::Kept),
                    (Unit::Sector, Names::Lost),
                ] {
                    let policy = Policy { data, unit, names };
                    let disk = SimDisk::from_image(&crash.image(&policy));
                    let what = format!("{what}, step {step} of {steps}, {policy:?}");
                    let mended = is_mended(&disk, dir.path(), expected, &what);
                    assert!(mended || step < steps, "{what}: it was durable");
                    images += 1;
                }
            }
        }
    }
    println!("{images} crash images");
    assert!(images > 1_000);
}

const CHANGES: [Call; 6] = [
    Call::Write,
    Call::Sync,
    Call::Allocate,
    Call::Create,
    Call::Rename,
    Call::SyncDir,
];

#[test]
fn a_repair_that_fails_at_any_step_says_so_and_can_be_done_again() {
    for (what, harm, expected) in DAMAGE {
        let dir = tempfile::tempdir().unwrap();
        harm(&scene(dir.path()));
        let harmed = in_memory(dir.path()).image();
        for step in 0.. {
            let disk = SimDisk::from_image(&harmed);
            let mut repair = Repair::open(Arc::new(disk.clone()), options(dir.path())).unwrap();
            let entries = damaged_entries(repair.faulty());
            disk.plan(Fault::after(step, &CHANGES));
            let outcome = repair.write_back(entries);
            disk.clear_faults();
            let mended = is_mended(&disk, dir.path(), expected, what);
            if outcome.is_ok() {
                assert!(mended && step > 3, "{what}: {step}");
                break;
            }
            let mut again = Repair::open(Arc::new(disk.clone()), options(dir.path())).unwrap();
            let entries = damaged_entries(again.faulty());
            again.write_back(entries).unwrap();
            assert!(is_mended(&disk, dir.path(), &[], what), "{what}: {step}");
        }
    }
}

#[test]
fn what_the_disk_cannot_read_is_damage_of_those_entries_alone() {
    let dir = tempfile::tempdir().unwrap();
    let files = scene(dir.path());
    let (disk, _) = FailingDisk::new();
    // A block of 4096 bytes: the end of entry 3's frame to the beginning of entry 8's.
    let name = files[0].file_name().unwrap().to_string_lossy().into_owned();
    disk.cannot_read(&name, 8192..12_288);
    let error = Log::open_on(disk.clone(), options(dir.path())).expect_err("damage");
    let OpenError::Faulty(faults) = error else {
        panic!("faults expected, not {error}");
    };
    let first = (8192 - HEADER as u64) / FRAME as u64;
    let last = (12_287 - HEADER as u64) / FRAME as u64;
    assert_eq!(faults.list[0].first, first);
    assert_eq!(faults.list.last().unwrap().last, last);
    assert!(faults.to_string().contains("cannot be read"), "{faults}");
    let mut repair = Repair::open(disk.clone(), options(dir.path())).unwrap();
    let entries = damaged_entries(repair.faulty());
    let some = repair.write_back(entries[..1].to_vec());
    assert!(matches!(some, Err(RepairError::Disk { .. })), "{some:?}");
    // The new file has sectors of its own.
    disk.heal_when_replaced();
    repair.write_back(entries).unwrap();
    assert_eq!(all(&open(dir.path())).len() as u64, ENTRIES);
}

/// Sealed segments: entry n has one record, at offset n.
pub(crate) fn sealed(dir: &Path) -> Log {
    let log = open(dir);
    for index in 0..60 {
        append(&log, vec![batch(index)]);
    }
    apply(&log, 0);
    log
}

pub(crate) fn batch(index: u64) -> Entry {
    batches(index, &[(LOG, vec![noise(index, 900)])])
}

pub(crate) fn apply(log: &Log, first: u64) {
    for index in first..60 {
        if log.is_boundary(index) {
            log.seal(index, checkpoint(index - 1));
        }
        log.note_applied(index, &[BatchOutcome::Taken { base_offset: index }])
            .expect("readable");
    }
    barrier(log);
}

pub(crate) fn read_all(log: &Log) {
    for offset in 0..60 {
        let chunk = log.read(LOG, offset, offset + 1, 1).expect("readable");
        assert_eq!(chunk.records[0].body, noise(offset, 900));
    }
}

#[test]
fn a_sealed_segment_is_repaired_while_the_log_runs() {
    let size = frame_size(batch(0).payload.len());
    for at in [HEADER_BYTE, STAMP_BYTE, PAYLOAD_BYTE] {
        let dir = tempfile::tempdir().unwrap();
        drop(sealed(dir.path()));
        let file = segments(dir.path()).remove(1);
        let whole = fs::read(&file).unwrap();
        let log = open(dir.path());
        apply(&log, log.checkpoint().unwrap().applied.index + 1);
        let base = log.boundaries()[0];
        let first = base + 2;
        flip_in_place(&file, HEADER + 2 * size + at);
        flip_in_place(&file, HEADER + 3 * size + at);
        let faults = log.faulty_sealed(first).unwrap().expect("sealed");
        let expected = if at == HEADER_BYTE {
            Verdict::LostFrames
        } else {
            Verdict::RottenFrame
        };
        assert_eq!(
            found(&faults),
            [(expected, first, first + 1, Is::Identity)],
            "the footer knows what the header said"
        );
        for wrong in [batch(first + 1), command(first, noise(1, 992))] {
            let wrong = Entry {
                id: id(first),
                ..wrong
            };
            let refused = log.repair_sealed(first, vec![wrong], Box::new(|_| ()));
            assert!(matches!(refused, Err(RepairError::Refused { .. })));
        }
        let mended = vec![batch(first), batch(first + 1)];
        let (done, answered) = callback();
        log.repair_sealed(first, mended, done).unwrap();
        answered.recv().unwrap().unwrap();
        assert!(log.faulty_sealed(first).unwrap().unwrap().is_empty());
        log.verify().unwrap();
        read_all(&log);
        drop(log);
        let found = fs::read(&file).unwrap();
        assert_eq!(found.len(), whole.len());
        let differs = |range: std::ops::Range<usize>| found[range.clone()] != whole[range];
        let stamps = [2, 3].map(|number| HEADER + number * size + 48);
        for from in (0..found.len()).step_by(8) {
            let is_stamp = stamps
                .iter()
                .any(|stamp| (*stamp..stamp + 16).contains(&from));
            let to = (from + 8).min(found.len());
            assert!(!differs(from..to) || is_stamp, "byte {from}");
        }
        if at == PAYLOAD_BYTE {
            assert!(found == whole, "also the stamps, when they were not lost");
        }
        let log = open(dir.path());
        apply(&log, log.checkpoint().unwrap().applied.index + 1);
        read_all(&log);
    }
}

#[test]
fn bad_rows_of_a_footer_are_built_again_from_the_frames() {
    let dir = tempfile::tempdir().unwrap();
    let log = sealed(dir.path());
    let file = segments(dir.path()).remove(1);
    let whole = fs::read(&file).unwrap();
    let base = log.boundaries()[0];
    let frames = place(log.boundaries()[1] - base);
    let rows = HEADER + frames * frame_size(batch(0).payload.len());
    let repair = |entries: Vec<Entry>| {
        let (done, answered) = callback();
        log.repair_sealed(base, entries, done)?;
        answered.recv().unwrap().unwrap();
        Ok::<_, RepairError>(())
    };
    // A frame row, and a log row.
    for at in [rows + 16 + 5, rows + frames * 16 + 32 + 3] {
        flip_in_place(&file, at);
        log.verify().expect_err("the rows are bad");
        let none = repair(vec![batch(base)]);
        assert!(matches!(none, Err(RepairError::NotFaulty { .. })));
        repair(Vec::new()).unwrap();
        log.verify().unwrap();
        assert!(fs::read(&file).unwrap() == whole);
    }
    // While a frame is damaged too, it comes first; its header is known only from its frame and its neighbours.
    flip_in_place(&file, rows + 16 + 5);
    flip_in_place(&file, HEADER + HEADER_BYTE);
    let first = repair(Vec::new());
    assert!(matches!(first, Err(RepairError::Incomplete { .. })));
    let faults = log.faulty_sealed(base).unwrap().expect("sealed");
    assert_eq!(
        found(&faults),
        [(Verdict::LostFrames, base, base, Is::Chain)]
    );
    repair(vec![batch(base)]).unwrap();
    repair(Vec::new()).unwrap();
    log.verify().unwrap();
    read_all(&log);
}

#[test]
fn a_reader_of_a_segment_that_is_repaired_is_not_disturbed() {
    let dir = tempfile::tempdir().unwrap();
    let log = sealed(dir.path());
    let file = segments(dir.path()).remove(0);
    let size = frame_size(batch(0).payload.len());
    flip_in_place(&file, HEADER + 4 * size + PAYLOAD_BYTE);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            for _ in 0..200 {
                for offset in (0..60).filter(|offset| *offset != 4) {
                    let chunk = log.read(LOG, offset, offset + 1, 1).expect("readable");
                    assert_eq!(chunk.records[0].body, noise(offset, 900));
                }
            }
        });
        for _ in 0..20 {
            let (done, answered) = callback();
            log.repair_sealed(4, vec![batch(4)], done).unwrap();
            answered.recv().unwrap().unwrap();
            flip_in_place(&file, HEADER + 4 * size + PAYLOAD_BYTE);
        }
        reader.join().unwrap();
    });
    let (done, answered) = callback();
    log.repair_sealed(4, vec![batch(4)], done).unwrap();
    answered.recv().unwrap().unwrap();
    read_all(&log);
}

#[test]
fn a_missing_sealed_segment_is_made_again_from_peers_entries_and_sealed_again() {
    for missing in [0, 1, 2] {
        let dir = tempfile::tempdir().unwrap();
        drop(sealed(dir.path()));
        let files = segments(dir.path());
        let whole = fs::read(&files[missing]).unwrap();
        remove(&files[missing]);
        let mut repair = repair(dir.path());
        let [fault] = &repair.faulty().list[..] else {
            panic!("{}", repair.faulty());
        };
        assert_eq!(fault.verdict, Verdict::MissingSegment);
        let entries: Vec<Entry> = (fault.first..=fault.last).map(batch).collect();
        let first = fault.first;
        repair.write_back(entries).unwrap();
        drop(repair);
        let log = open(dir.path());
        let lost = log.recovery().find(Verdict::LostFooter).expect("found");
        assert_eq!(lost.file, files[missing]);
        let from = log.checkpoint().map_or(0, |found| found.applied.index + 1);
        assert!(from <= first);
        apply(&log, from);
        read_all(&log);
        log.verify().unwrap();
        drop(log);
        assert_eq!(fs::read(&files[missing]).unwrap().len(), whole.len());
        let log = open(dir.path());
        assert!(log.recovery().is_clean(), "{:?}", log.recovery());
        assert!(log.checkpoint().unwrap().applied.index > 40);
    }
}

#[test]
fn a_lost_footer_without_a_checkpoint_to_start_from_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let log = sealed(dir.path());
    let boundary = log.boundaries()[0];
    purge(&log, id(boundary - 1));
    drop(log);
    let first = segments(dir.path()).remove(0);
    let before = fs::read(&first).unwrap();
    flip(&first, before.len() - 3);
    let log = open(dir.path());
    assert_eq!(
        log.checkpoint().unwrap().applied,
        id(boundary - 1),
        "the one at its base is early enough"
    );
    drop(log);
    fs::write(&first, &before).unwrap();
    flip(&first, before.len() - 3);
    remove(&dir.path().join(format!("group-1/log/{boundary:020}.ckpt")));
    let harmed = contents(dir.path());
    assert!(matches!(open_error(dir.path()), OpenError::Damaged(_)));
    assert!(contents(dir.path()) == harmed);
}

#[test]
fn the_list_of_damaged_entries_is_bounded_and_repair_goes_on_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let count = 5_000;
    let log = open(dir.path());
    append(
        &log,
        (0..count).map(|index| command(index, vec![7; 8])).collect(),
    );
    drop(log);
    for file in segments(dir.path()) {
        change(&file, |bytes| {
            let at = (HEADER..bytes.len()).step_by(72);
            at.filter(|at| bytes[*at] != 0)
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(|at| bytes[at + 64] ^= 1);
        });
    }
    let mut repair = repair(dir.path());
    assert_eq!(repair.faulty().entries(), count);
    assert!(repair.faulty().unlisted > 0);
    let mut rounds = 0;
    while !repair.faulty().is_empty() {
        let entries: Vec<Entry> = repair
            .faulty()
            .list
            .iter()
            .flat_map(|fault| fault.first..=fault.last)
            .map(|index| command(index, vec![7; 8]))
            .collect();
        repair.write_back(entries).unwrap();
        rounds += 1;
        assert!(rounds < 5);
    }
    assert!(rounds > 1);
    assert_eq!(all(&open(dir.path())).len() as u64, count);
}

#[test]
fn what_is_whole_of_a_damaged_log_is_read_from_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = scene(dir.path());
    let chain: Vec<u32> = {
        let log = open(dir.path());
        let chain = (0..ENTRIES).map(|index| log.chain_crc(index).unwrap().unwrap());
        let chain = chain.collect();
        assert_eq!(log.chain_crc(ENTRIES).unwrap(), None);
        drop(log);
        chain
    };
    // A payload, headers in the middle, and the last ones with all behind them.
    spoil(&files, 3, PAYLOAD_BYTE);
    zero(&files, 14..17);
    zero(&files, 43..ENTRIES);
    let repair = repair(dir.path());
    let is_damaged = |index: u64| matches!(index, 3 | 14..17 | 43..);
    for index in 0..ENTRIES + 5 {
        let found = repair.entry(index).expect("the disk can be read");
        let expected = (!is_damaged(index)).then(|| entry(index));
        assert_eq!(found, expected, "entry {index}");
        // The header of a rotten payload is whole.
        let has_header = !is_damaged(index) || index == 3;
        let expected = has_header.then(|| chain[place(index)]);
        assert_eq!(repair.chain_crc(index).unwrap(), expected, "entry {index}");
    }
    assert_eq!(repair.last_index(), Some(ENTRIES - 1));
    assert_eq!(repair.committed_index(), None);
    // What is written does not disturb this view of the log; another one has it.
    let given: Vec<Entry> = (14..17).map(entry).collect();
    repair.write(given).expect("they are the damaged ones");
    assert_eq!(repair.entry(15).unwrap(), None);
    assert_eq!(repair.entry(17).unwrap(), Some(entry(17)));
    let again = self::repair(dir.path());
    assert_eq!(again.entry(15).unwrap(), Some(entry(15)));
}

#[test]
fn of_sealed_segments_what_is_whole_is_read_and_known_to_be_committed() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = sealed(dir.path());
    let last = log.state().last.expect("it has entries").index;
    drop(log);
    let files = segments(dir.path());
    // The newest frame of the open segment.
    let open = files.last().expect("there are segments");
    change(open, |bytes| {
        let end = bytes.iter().rposition(|byte| *byte != 0).expect("frames");
        bytes[end - 20] ^= 1;
    });
    let repair = repair(dir.path());
    assert_eq!(repair.faulty().entries(), 1);
    assert_eq!(repair.last_index(), Some(last));
    let committed = repair.committed_index().expect("sealed is committed");
    assert!(committed < last);
    assert_eq!(
        repair.entry(committed).unwrap().map(|found| found.id.index),
        Some(committed)
    );
    assert!(repair.chain_crc(committed).unwrap().is_some());
    assert_eq!(repair.entry(last).unwrap(), None);
}

#[test]
fn a_whole_log_has_nothing_to_repair() {
    let dir = tempfile::tempdir().unwrap();
    scene(dir.path());
    let whole = contents(dir.path());
    let mut repair = repair(dir.path());
    assert!(repair.faulty().is_empty());
    repair.write_back(Vec::new()).unwrap();
    assert!(contents(dir.path()) == whole);
    RealDisk.sync_dir(dir.path()).unwrap();
}
