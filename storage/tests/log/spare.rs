//! The next segment is ready before it is needed: it is taken over in the right order, it costs nothing when it fails, and
//! nothing of it stays behind.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::hooked::{Fault, HookedDisk, QuotaDisk};
use crate::support::*;
use inkstone_storage::io::Disk;
use inkstone_storage::log::{Log, LogOptions, Spare};
use inkstone_storage::types::EntryId;

const SPARE: &str = "spare.tmp";

fn in_turn(dir: &Path) -> LogOptions {
    LogOptions {
        spare: Spare::InTurn,
        ..options(dir)
    }
}

fn spare_path(dir: &Path) -> std::path::PathBuf {
    dir.join("group-1/log").join(SPARE)
}

/// Entries of about a kilobyte, each in a sync group of its own: 11 fill a segment.
fn fill(log: &Log, from: u64, to: u64) {
    for index in from..to {
        append(log, vec![command(index, noise(index, 1_000))]);
    }
    // The writer answers before it turns to the spare.
    barrier(log);
}

fn check(log: &Log, to: u64) {
    let found = all(log);
    assert_eq!(found.len() as u64, to - found[0].id.index);
    for entry in found {
        assert_eq!(entry.payload, noise(entry.id.index, 1_000));
    }
}

/// A disk that writes down what changes, and what it wrote.
fn noting() -> (Arc<HookedDisk>, Arc<Mutex<Vec<String>>>) {
    let operations: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = Arc::clone(&operations);
    let disk = HookedDisk::new(move |verb, name| {
        noted
            .lock()
            .expect("readable and writable")
            .push(format!("{verb} {name}"));
        None
    });
    (disk, operations)
}

#[test]
fn a_roll_takes_the_spare_and_creates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, operations) = noting();
    let log = Log::open_on(disk, in_turn(dir.path())).unwrap();
    fill(&log, 0, 10);
    assert!(
        spare_path(dir.path()).exists(),
        "the segment is nearly full"
    );
    assert_eq!(segments(dir.path()).len(), 1);
    operations.lock().unwrap().clear();
    fill(&log, 10, 14);
    let asked = operations.lock().unwrap().clone();
    let renamed = asked.iter().position(|asked| asked == "rename spare.tmp");
    let renamed = renamed.expect("a roll");
    assert!(
        !asked[..renamed]
            .iter()
            .any(|asked| asked.starts_with("create"))
    );
    // The header, durable under the old name; the name, durable; only then a frame, its sync, and the watermark.
    assert_eq!(
        asked[renamed - 2..renamed],
        ["write spare.tmp", "sync spare.tmp"]
    );
    assert_eq!(
        asked[renamed + 1..renamed + 5],
        [
            "sync_dir log",
            "write spare.tmp",
            "sync spare.tmp",
            "write watermark"
        ]
    );
    check(&log, 14);
    drop(log);
    check(&open(dir.path()), 14);
}

#[test]
fn an_idle_log_makes_no_spare() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(in_turn(dir.path())).unwrap();
    fill(&log, 0, 3);
    assert!(!spare_path(dir.path()).exists(), "not half full");
    fill(&log, 3, 4);
    assert!(spare_path(dir.path()).exists());
}

#[test]
fn a_spare_is_all_zeros_and_as_long_as_a_segment() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(in_turn(dir.path())).unwrap();
    fill(&log, 0, 11);
    assert_eq!(fs::read(spare_path(dir.path())).unwrap(), vec![0; 16 << 10]);
}

#[test]
fn a_frame_that_is_too_large_gets_a_file_of_its_own_and_the_spare_waits_for_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(in_turn(dir.path())).unwrap();
    fill(&log, 0, 10);
    append(&log, vec![command(10, noise(10, 40_000))]);
    assert!(spare_path(dir.path()).exists());
    append(&log, vec![command(11, noise(11, 1_000))]);
    assert!(!spare_path(dir.path()).exists(), "it was taken");
    assert_eq!(segments(dir.path()).len(), 3);
    drop(log);
    let found = all(&open(dir.path()));
    assert_eq!(found.len(), 12);
    assert_eq!(found[10].payload, noise(10, 40_000));
}

#[test]
fn whatever_fails_about_a_spare_costs_the_spare_alone() {
    for spare in [Spare::InTurn, Spare::Background] {
        for (verb, fault) in [
            ("create", Fault::Broken),
            ("create", Fault::Panic),
            ("allocate", Fault::Full),
            ("sync", Fault::Broken),
            ("write", Fault::HalfFull),
            ("write", Fault::Panic),
        ] {
            // In the background it may be taken before a byte of it is filled, and then it is the header that fails.
            if verb == "write" && spare == Spare::Background {
                continue;
            }
            let dir = tempfile::tempdir().unwrap();
            let disk = HookedDisk::new(move |asked, name| {
                (asked == verb && name == SPARE).then_some(fault)
            });
            let options = LogOptions {
                spare,
                ..options(dir.path())
            };
            let log = Log::open_on(disk, options).unwrap();
            fill(&log, 0, 40);
            assert!(log.failure().is_none(), "{verb} {fault:?}");
            assert!(segments(dir.path()).len() > 2);
            drop(log);
            assert!(!spare_path(dir.path()).exists(), "{verb} {fault:?}");
            check(&open(dir.path()), 40);
        }
    }
}

#[test]
fn where_room_is_scarce_no_spare_takes_it() {
    let dir = tempfile::tempdir().unwrap();
    // Hard state and watermark, the first segment, and more than the next one needs, but not twice that.
    let disk = QuotaDisk::new((16 << 10) + (16 << 10) + (30 << 10));
    let log = Log::open_on(disk, in_turn(dir.path())).unwrap();
    fill(&log, 0, 11);
    assert!(!spare_path(dir.path()).exists());
    fill(&log, 11, 14);
    assert_eq!(segments(dir.path()).len(), 2);
    assert!(log.failure().is_none());
}

#[test]
fn taking_the_spare_over_fails_as_any_write_does() {
    for verb in ["rename", "write", "sync"] {
        let dir = tempfile::tempdir().unwrap();
        let armed = Arc::new(Mutex::new(false));
        let is_armed = Arc::clone(&armed);
        let disk = HookedDisk::new(move |asked, name| {
            (asked == verb && name == SPARE && *is_armed.lock().unwrap()).then_some(Fault::Broken)
        });
        let log = Log::open_on(disk, in_turn(dir.path())).unwrap();
        fill(&log, 0, 11);
        *armed.lock().unwrap() = true;
        let mut rest = (11..14)
            .map(|index| wait(|done| log.append(vec![command(index, noise(index, 1_000))], done)));
        assert!(rest.any(|outcome| outcome.is_err()), "{verb}");
        assert!(log.failure().is_some());
        drop(log);
        let log = open(dir.path());
        let last = log.state().last.unwrap().index;
        assert!(last >= 10, "{verb}: {last}");
        check(&log, last + 1);
    }
}

#[test]
fn a_leftover_spare_is_deleted_at_open_whatever_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 0, 14);
    let state = log.state();
    drop(log);
    let segment = fs::read(&segments(dir.path())[0]).unwrap();
    for content in [Vec::new(), vec![0; 16 << 10], vec![0xff; 5_000], segment] {
        fs::write(spare_path(dir.path()), content).unwrap();
        let log = open(dir.path());
        assert!(!spare_path(dir.path()).exists());
        assert_eq!(log.state(), state);
        check(&log, 14);
    }
}

#[test]
fn a_cut_or_a_restart_of_the_log_neither_uses_nor_loses_the_spare() {
    for restart in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(in_turn(dir.path())).unwrap();
        fill(&log, 0, 20);
        assert!(spare_path(dir.path()).exists());
        let next = if restart {
            log.save_snapshot(&checkpoint(100)).unwrap();
            purge(&log, id(100));
            101
        } else {
            // The active segment goes as a whole, and the one before it is cut.
            truncate(&log, Some(5));
            6
        };
        assert!(spare_path(dir.path()).exists());
        fill(&log, next, next + 30);
        let state = log.state();
        check(&log, next + 30);
        drop(log);
        let log = open(dir.path());
        assert_eq!(log.state(), state);
        check(&log, next + 30);
    }
}

#[test]
fn a_segment_that_follows_a_deleted_one_of_the_same_base_is_a_new_file() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(in_turn(dir.path())).unwrap();
    fill(&log, 0, 20);
    let base = log.state().last.unwrap().index;
    let boundary = (1..=base).find(|index| log.is_boundary(*index)).unwrap();
    truncate(&log, Some(boundary - 1));
    let other = |index| EntryId {
        term: 2,
        ..id(index)
    };
    for index in boundary..boundary + 20 {
        let entry = inkstone_storage::types::Entry {
            id: other(index),
            ..command(index, noise(index, 900))
        };
        append(&log, vec![entry]);
    }
    drop(log);
    let found = all(&open(dir.path()));
    assert_eq!(found.len() as u64, boundary + 20);
    for entry in &found[place(boundary)..] {
        assert_eq!((entry.id.term, entry.payload.len()), (2, 900));
    }
}

type Life = fn(&Log);

/// What this process has of a log whose group has that number: threads, and open files below a directory.
fn left_behind(group: u64, dir: &Path) -> Vec<String> {
    let mut left = Vec::new();
    for task in fs::read_dir("/proc/self/task").expect("readable and writable") {
        // A thread may end while it is looked at.
        let name = fs::read_to_string(task.expect("readable and writable").path().join("comm"))
            .unwrap_or_default();
        if name.trim().ends_with(&format!("-{group}")) {
            left.push(name);
        }
    }
    for file in fs::read_dir("/proc/self/fd").expect("readable and writable") {
        let target = fs::read_link(file.expect("readable and writable").path()).unwrap_or_default();
        if target.starts_with(dir) {
            left.push(target.display().to_string());
        }
    }
    left
}

#[test]
fn a_log_that_is_dropped_leaves_no_thread_no_file_handle_and_no_spare() {
    // What happens to the log before it is dropped, and after its spare is there.
    let lives: [(&str, Life); 5] = [
        ("nothing", |_| ()),
        ("a purge", |log| purge(log, id(14))),
        ("a restart", |log| {
            log.save_snapshot(&checkpoint(100)).unwrap();
            purge(log, id(100));
        }),
        ("a truncation", |log| truncate(log, Some(3))),
        ("a drop in a callback", |log| {
            let last = log.clone();
            let done = Box::new(move |_| drop(last));
            log.append(Vec::new(), done).unwrap();
        }),
    ];
    for (number, (what, live)) in (0..).zip(lives) {
        let group = 77_000 + number;
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions {
            group,
            ..options(dir.path())
        };
        let log = Log::open(options).unwrap();
        fill(&log, 0, 20);
        assert!(!left_behind(group, dir.path()).is_empty());
        live(&log);
        drop(log);
        // Where the last handle went in a callback, the writer could not be waited for: it ends behind that.
        let gone = (0..1_000_000).any(|_| {
            std::thread::yield_now();
            left_behind(group, dir.path()).is_empty()
        });
        assert!(gone, "{what}: {:?}", left_behind(group, dir.path()));
        assert!(!spare_path(dir.path()).exists(), "{what}");
    }
}

#[test]
fn a_log_that_has_stopped_leaves_nothing_behind_either() {
    let dir = tempfile::tempdir().unwrap();
    let disk =
        HookedDisk::new(|verb, name| (verb == "rename" && name == SPARE).then_some(Fault::Broken));
    let options = LogOptions {
        group: 77_100,
        ..options(dir.path())
    };
    let log = Log::open_on(disk as Arc<dyn Disk>, options).unwrap();
    let failed = (0..30).any(|index| {
        wait(|done| log.append(vec![command(index, noise(index, 1_000))], done)).is_err()
    });
    assert!(failed, "sooner or later a spare is taken");
    drop(log);
    assert_eq!(left_behind(77_100, dir.path()), [""; 0]);
}
