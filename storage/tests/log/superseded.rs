//! A damaged entry in whose place another one was committed: it and what stands behind are cut, and nothing else ever is.

use std::path::Path;
use std::sync::Arc;

use crate::repair::{
    ENTRIES, HEADER_BYTE, PAYLOAD_BYTE, entry, in_memory, kept_of, repair, scene, spoil,
};
use crate::support::*;
use inkstone_storage::error::OpenError;
use inkstone_storage::io::sim::{Names, Policy, SimDisk, Unit};
use inkstone_storage::log::{Log, Repair};
use inkstone_storage::types::Entry;

/// What the others have committed in its place.
fn instead_of(index: u64) -> Entry {
    let mut other = entry(index);
    other.id.term += 1;
    other
}

/// The same of a second leader of that term.
fn of_another_leader(index: u64) -> Entry {
    let mut other = entry(index);
    other.id.node += 1;
    other
}

fn first(count: u64) -> Vec<Entry> {
    (0..count).map(entry).collect()
}

#[test]
fn a_superseded_entry_goes_with_all_behind_it_and_the_log_goes_on_in_front_of_it() {
    // In the middle of the last segment, its last entry, in an earlier one, the first of one, the very first.
    let places = [40, 44, 17, 24, 36, 0];
    for (at, byte, other) in places
        .into_iter()
        .flat_map(|at| [(at, PAYLOAD_BYTE), (at, HEADER_BYTE)])
        .flat_map(|(at, byte)| {
            [
                (at, byte, instead_of(at)),
                (at, byte, of_another_leader(at)),
            ]
        })
    {
        let dir = tempfile::tempdir().unwrap();
        let files = scene(dir.path());
        spoil(&files, at, byte);
        let damaged = repair(dir.path());
        assert_eq!(damaged.supersedable().expect("it can be told").index, at);
        assert!(damaged.cut_superseded(&other).unwrap());
        drop(damaged);
        let log = open(dir.path());
        assert_eq!(all(&log), first(at), "{at}");
        append(&log, vec![other.clone()]);
        drop(log);
        let log = open(dir.path());
        assert_eq!(all(&log).last(), Some(&other), "{at}");
        assert!(log.recovery().is_clean(), "{at}: {:?}", log.recovery());
    }
}

#[test]
fn what_may_be_committed_is_not_cut() {
    let refused = |dir: &Path, committed: Entry| {
        assert!(!repair(dir).cut_superseded(&committed).unwrap());
        assert!(matches!(open_error(dir), OpenError::Faulty(_)));
    };
    let dir = tempfile::tempdir().unwrap();
    let files = scene(dir.path());
    spoil(&files, 30, PAYLOAD_BYTE);
    spoil(&files, 40, PAYLOAD_BYTE);
    // The very same entry, of which another payload makes no other; one that is not damaged; one with damage before it.
    for committed in [entry(30), instead_of(31), instead_of(40)] {
        refused(dir.path(), committed);
    }
    // Headers are lost: what the chain leads to is the very same entry; and the first of several may be committed.
    let dir = tempfile::tempdir().unwrap();
    let files = scene(dir.path());
    spoil(&files, 30, HEADER_BYTE);
    refused(dir.path(), entry(30));
    spoil(&files, 31, HEADER_BYTE);
    assert_eq!(repair(dir.path()).supersedable(), None);
    refused(dir.path(), instead_of(30));
    // A checkpoint says that everything before the second segment is committed, and the damage is in the first.
    let dir = tempfile::tempdir().unwrap();
    let files = scene(dir.path());
    spoil(&files, 5, PAYLOAD_BYTE);
    std::fs::write(files[1].with_extension("ckpt"), b"not even whole").unwrap();
    assert_eq!(repair(dir.path()).supersedable(), None);
    refused(dir.path(), instead_of(5));
    // A snapshot says the same of everything up to entry 35.
    let dir = tempfile::tempdir().unwrap();
    let files = scene(dir.path());
    let log = open(dir.path());
    log.save_snapshot(&checkpoint(35)).unwrap();
    drop(log);
    spoil(&files, 35, PAYLOAD_BYTE);
    refused(dir.path(), instead_of(35));
    spoil(&files, 35, PAYLOAD_BYTE);
    spoil(&files, 36, PAYLOAD_BYTE);
    // To others it says nothing of what stands here: it may have been kept while entries of another history below it were
    // not gone yet.
    assert_eq!(repair(dir.path()).committed_index(), None);
    assert!(repair(dir.path()).cut_superseded(&instead_of(36)).unwrap());
}

#[test]
fn a_crash_at_any_step_of_the_cut_loses_nothing_in_front_of_it() {
    let mut images = 0;
    for at in [40, 17, 24] {
        let dir = tempfile::tempdir().unwrap();
        spoil(&scene(dir.path()), at, PAYLOAD_BYTE);
        let disk = in_memory(dir.path());
        let damaged = Repair::open(Arc::new(disk.clone()), options(dir.path())).unwrap();
        let before = disk.journal().operations().len();
        assert!(damaged.cut_superseded(&instead_of(at)).unwrap());
        let journal = disk.journal();
        let steps = journal.operations().len();
        for step in before..=steps {
            let crash = journal.crash(step);
            for data in kept_of(&crash) {
                for names in [Names::Kept, Names::Lost] {
                    let unit = Unit::Sector;
                    let policy = Policy { data, unit, names };
                    let disk = SimDisk::from_image(&crash.image(&policy));
                    let what = format!("{at}, step {step} of {steps}, {policy:?}");
                    let is_cut = ends_before_or_is_damaged(&disk, dir.path(), at, &what);
                    assert!(is_cut || step < steps, "{what}: it was durable");
                    images += 1;
                }
            }
        }
    }
    assert!(images > 200, "{images}");
}

/// Whether the log ends in front of the entry; else that entry must still be what is damaged.
fn ends_before_or_is_damaged(disk: &SimDisk, dir: &Path, at: u64, what: &str) -> bool {
    match Log::open_on(Arc::new(disk.clone()), options(dir)) {
        Ok(log) => {
            assert_eq!(all(&log), first(at), "{what}");
            true
        }
        Err(OpenError::Faulty(faults)) => {
            assert_eq!(faults.list[0].first, at, "{what}");
            let again = Repair::open(Arc::new(disk.clone()), options(dir)).expect(what);
            assert!(again.cut_superseded(&instead_of(at)).expect(what), "{what}");
            drop(again);
            let log = Log::open_on(Arc::new(disk.clone()), options(dir)).expect(what);
            assert_eq!(all(&log), first(at), "{what}");
            assert!(ENTRIES > at);
            false
        }
        Err(error) => panic!("{what}: {error}"),
    }
}
