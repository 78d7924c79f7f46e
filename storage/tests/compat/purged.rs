//! What the first directory lacks. `v1-purged`: a log that begins at entry 10, several sealed segments, the first gone and
//! the next one purged in its middle, sync groups of several frames, three terms, two unsealed segments, a vote that is
//! not committed. `v1-restarted`: a log that went on behind a snapshot, and holds unsealed segments alone; no vote.

use std::fs;
use std::path::Path;

use inkstone_storage::format::batch::{EncodedBatch, join};
use inkstone_storage::format::hard_state::HardState;
use inkstone_storage::format::watermark::Watermark;
use inkstone_storage::log::{Checkpoint, DirLock, Log, LogOptions, Spare};
use inkstone_storage::types::{
    BatchOutcome, Entry, EntryId, EntryKind, Identity, LogId, NewRecord, Vote,
};

use super::{copy, fixture, wait};

const IDENTITY: Identity = Identity {
    cluster_id: *b"a cluster's uuid",
    node_id: 0x1122_3344_5566_7788,
};
const VOTE: Vote = Vote {
    term: 3,
    node: 41,
    committed: false,
};
const ONE: LogId = LogId(1);
const TWO: LogId = LogId(u64::MAX);
/// The first entry of the purged log, the last one purged, the first not applied, and the one behind the last.
const FIRST: u64 = 10;
const PURGED: u64 = 24;
const UNAPPLIED: u64 = 36;
const END: u64 = 46;
/// The last entry of the snapshot that the restarted log begins behind, and the one behind its last.
const SNAPSHOT: u64 = 1_000;
const RESTARTED_END: u64 = 1_012;

fn options(data: &Path) -> LogOptions {
    LogOptions {
        dir: data.join("group-1"),
        identity: IDENTITY,
        group: 1,
        segment_size: 6144,
        tail_size: 0,
        queue_size: 1 << 20,
        free_size_min: 0,
        spare: Spare::Never,
    }
}

fn id(index: u64) -> EntryId {
    let term = 1 + index.saturating_sub(20) / 10;
    EntryId {
        term,
        node: 40 + term,
        index,
    }
}

fn records(index: u64, log: LogId) -> Vec<NewRecord> {
    let time =
        |number: u64| i64::MIN / 2 + (index * 1_000).cast_signed() - (number * 9).cast_signed();
    let count = if log == ONE { 2 } else { 1 + index % 4 * 5 };
    (0..count)
        .map(|number| NewRecord {
            timestamp: time(number),
            attributes: vec![(format!("key {number}"), "value".repeat(3))],
            body: format!("entry {index}, record {number} of {}", log.0).into(),
        })
        .collect()
}

/// Every third entry carries batches, of which the second is a duplicate.
fn entry(index: u64) -> Entry {
    let batch = |log| EncodedBatch::encode(log, None, Some(index), &records(index, log));
    let (kind, payload) = match index % 6 {
        0 | 3 => (
            EntryKind::Batches,
            join(&[batch(ONE), batch(ONE), batch(TWO)], -5),
        ),
        1 => (EntryKind::Membership, vec![1; 77].into()),
        2 => (EntryKind::Blank, Vec::new().into()),
        _ => (EntryKind::Command, vec![index.to_le_bytes()[0]; 333].into()),
    };
    Entry {
        id: id(index),
        kind,
        payload,
    }
}

/// What was put into a log by the entries from `first` on: dense offsets.
fn outcomes(first: u64, index: u64) -> Vec<BatchOutcome> {
    let before = |log| {
        let entries = (first..index).filter(|index| index % 3 == 0);
        let records = entries.map(|index| records(index, log).len() as u64);
        records.sum::<u64>()
    };
    let taken = |log| BatchOutcome::Taken {
        base_offset: before(log),
    };
    vec![taken(ONE), BatchOutcome::Refused, taken(TWO)]
}

fn checkpoint(index: u64) -> Checkpoint {
    Checkpoint {
        applied: id(index),
        body: vec![7; 50].into(),
    }
}

fn apply(log: &Log, first: u64, indexes: std::ops::Range<u64>) {
    for index in indexes {
        if log.is_boundary(index) {
            log.seal(index, checkpoint(index - 1));
        }
        if index % 3 == 0 {
            log.note_applied(index, &outcomes(first, index))
                .expect("readable");
        }
    }
    wait(|done| log.append(Vec::new(), done));
}

fn append(log: &Log, indexes: std::ops::Range<u64>) {
    let groups = [3, 1, 2];
    let mut next = indexes.start;
    for size in groups.into_iter().cycle() {
        let end = indexes.end.min(next + size);
        wait(|done| log.append((next..end).map(entry).collect(), done));
        next = end;
        if next == indexes.end {
            break;
        }
    }
}

fn create(data: &Path) -> Log {
    let lock = DirLock::acquire(data).expect("a new directory");
    lock.set_identity(IDENTITY).expect("a new directory");
    Log::open(options(data)).expect("a new log")
}

fn write_purged(data: &Path) {
    let log = create(data);
    append(&log, FIRST..END);
    apply(&log, FIRST, FIRST..UNAPPLIED);
    log.save_snapshot(&checkpoint(PURGED)).expect("durable");
    wait(|done| log.purge(id(PURGED), done));
    wait(|done| log.save_vote(VOTE, done));
}

fn write_restarted(data: &Path) {
    let log = create(data);
    append(&log, 0..5);
    log.save_snapshot(&checkpoint(SNAPSHOT)).expect("durable");
    wait(|done| log.purge(id(SNAPSHOT), done));
    append(&log, SNAPSHOT + 1..RESTARTED_END);
}

/// The records of a log that entries in a range put there, from offset 0 at `first`.
fn check_records(log: &Log, log_id: LogId, first: u64, kept: std::ops::Range<u64>) {
    let entries = (first..kept.end).filter(|index| index % 3 == 0);
    let all = entries.flat_map(|index| {
        let records = records(index, log_id).into_iter();
        records.map(move |record| (index, record))
    });
    for (offset, (index, expected)) in (0..).zip(all) {
        let found = log.read(log_id, offset, offset + 1, 1);
        if index < kept.start {
            assert!(found.is_err(), "offset {offset} is purged");
            continue;
        }
        let found = found.expect("readable").records.remove(0);
        assert_eq!(
            (found.offset, found.timestamp),
            (offset, expected.timestamp)
        );
        assert_eq!(found.attributes, expected.attributes);
        assert_eq!(found.body, expected.body);
    }
}

fn hard_state(fixture: &Path) -> HardState {
    let bytes = fs::read(fixture.join("group-1/hard-state")).expect("the fixture");
    let slots = [0, 4096].map(|at| {
        let slot = bytes[at..].first_chunk().expect("a slot");
        HardState::decode(slot).expect("intact")
    });
    assert_eq!(slots[0], slots[1]);
    slots[0]
}

fn names(fixture: &Path, extension: &str) -> Vec<String> {
    let items = fs::read_dir(fixture.join("group-1/log")).expect("the fixture");
    let names = items.map(|item| item.expect("the fixture").file_name());
    let mut names: Vec<String> = names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.ends_with(extension))
        .collect();
    names.sort();
    names
}

#[test]
fn a_directory_of_version_1_that_was_purged_opens_and_gives_what_is_left() {
    let fixture = fixture("v1-purged", write_purged);
    let state = hard_state(&fixture);
    assert_eq!((state.purged, state.first), (Some(id(PURGED)), PURGED + 1));
    assert_eq!((state.vote, state.restarted), (Some(VOTE), false));
    assert!(names(&fixture, ".seg").len() >= 4);
    assert!(names(&fixture, ".ckpt").len() >= 2);
    let data = tempfile::tempdir().expect("a directory");
    copy(&fixture, data.path());
    let log = Log::open(options(data.path())).expect("it opens");
    assert_eq!(log.vote(), Some(VOTE));
    let state = log.state();
    assert_eq!(state.last, Some(id(END - 1)));
    assert_eq!(
        (state.first_index, state.purged),
        (PURGED + 1, Some(id(PURGED)))
    );
    assert_eq!(log.terms(), [id(PURGED + 1), id(30), id(40)]);
    assert_eq!(log.snapshot(), Some(checkpoint(PURGED)));
    let found = log.entries(PURGED + 1, END, usize::MAX).expect("readable");
    assert_eq!(found, (PURGED + 1..END).map(entry).collect::<Vec<_>>());
    log.verify().expect("intact");
    let applied = log.checkpoint().expect("one is there").applied.index;
    assert_eq!(log.boundaries().last(), Some(&(applied + 1)));
    for boundary in log.boundaries() {
        let found = log.checkpoint_at(boundary).expect("intact");
        assert_eq!(found, Some(checkpoint(boundary - 1)));
    }
    apply(&log, FIRST, applied + 1..END);
    for log_id in [ONE, TWO] {
        check_records(&log, log_id, FIRST, PURGED + 1..END);
    }
}

#[test]
fn a_directory_of_version_1_that_was_restarted_opens_and_goes_on() {
    let fixture = fixture("v1-restarted", write_restarted);
    let state = hard_state(&fixture);
    assert_eq!((state.vote, state.restarted), (None, true));
    let bytes = fs::read(fixture.join("group-1/watermark")).expect("the fixture");
    let slot = bytes[4096..].first_chunk().expect("a slot");
    let mark = Watermark::decode(slot).expect("intact");
    assert!(mark.last.is_some_and(|last| last.index > SNAPSHOT));
    let data = tempfile::tempdir().expect("a directory");
    copy(&fixture, data.path());
    let log = Log::open(options(data.path())).expect("it opens");
    let first = SNAPSHOT + 1;
    let state = log.state();
    assert_eq!(
        (state.purged, state.first_index),
        (Some(id(SNAPSHOT)), first)
    );
    assert_eq!(state.last, Some(id(RESTARTED_END - 1)));
    assert_eq!(log.checkpoint(), Some(checkpoint(SNAPSHOT)));
    let found = log.entries(first, RESTARTED_END, usize::MAX);
    let expected: Vec<Entry> = (first..RESTARTED_END).map(entry).collect();
    assert_eq!(found.expect("readable"), expected);
    apply(&log, first, first..RESTARTED_END);
    for log_id in [ONE, TWO] {
        check_records(&log, log_id, first, first..RESTARTED_END);
    }
    append(&log, RESTARTED_END..RESTARTED_END + 3);
}
