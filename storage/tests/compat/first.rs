//! The first directory: a sealed segment with refused batches, two terms and two logs, plain and LZ4, all kinds of entries,
//! a checkpoint, an unsealed tail, a snapshot that is older, a committed vote.

use std::fs;
use std::path::{Path, PathBuf};

use super::{copy, fixture, wait};
use bytes::Bytes;
use inkstone_storage::format::batch::{EncodedBatch, join};
use inkstone_storage::log::{Checkpoint, DirLock, Log, LogOptions, Spare};
use inkstone_storage::types::{
    BatchOutcome, Codec, Entry, EntryId, EntryKind, Identity, LogId, NewRecord, Producer, Vote,
};

const IDENTITY: Identity = Identity {
    cluster_id: *b"a cluster's uuid",
    node_id: 0x1122_3344_5566_7788,
};
const VOTE: Vote = Vote {
    term: 7,
    node: 42,
    committed: true,
};
const FIRST_LOG: LogId = LogId(3);
const SECOND_LOG: LogId = LogId(8);
const REFUSED: BatchOutcome = BatchOutcome::Refused;
/// The first entry of the second segment, and how many there are.
const BOUNDARY: u64 = 7;
const ENTRIES: u64 = 9;

fn v1() -> PathBuf {
    fixture("v1", write_fixture)
}

fn taken(base_offset: u64) -> BatchOutcome {
    BatchOutcome::Taken { base_offset }
}

fn options(data: &Path) -> LogOptions {
    LogOptions {
        dir: data.join("group-1"),
        identity: IDENTITY,
        group: 1,
        segment_size: 6144,
        tail_size: 0,
        queue_size: 1 << 20,
        free_size_min: 0,
        spare: Spare::Background,
    }
}

fn id(index: u64) -> EntryId {
    let term = if index < 3 { 5 } else { 7 };
    EntryId {
        term,
        node: 40 + term - 5,
        index,
    }
}

fn new_record(number: u64) -> NewRecord {
    NewRecord {
        timestamp: 1_000_000_007 * number.cast_signed() - 3,
        attributes: vec![("level".to_owned(), format!("level {}", number % 3))],
        body: format!("record number {number}").into_bytes().into(),
    }
}

/// A batch of the records with these numbers.
fn batch(log: LogId, numbers: std::ops::Range<u64>, producer: Option<Producer>) -> EncodedBatch {
    let records: Vec<NewRecord> = numbers.map(new_record).collect();
    EncodedBatch::encode(log, producer, producer.map(|_| 0), &records)
}

/// The entry at an index, and what apply decided about its batches.
fn entry(index: u64) -> (Entry, Vec<BatchOutcome>) {
    let batches = |batches: &[EncodedBatch]| (EntryKind::Batches, join(batches, 123_456));
    let producer = Producer {
        id: 99,
        epoch: 2,
        sequence: 0,
    };
    let plain = |text: &'static str| Bytes::from_static(text.as_bytes());
    let ((kind, payload), outcomes) = match index {
        0 => ((EntryKind::Membership, plain("the members")), vec![]),
        1 => ((EntryKind::Command, plain("create a log")), vec![]),
        2 => (
            batches(&[batch(FIRST_LOG, 0..1, Some(producer))]),
            vec![taken(0)],
        ),
        3 => ((EntryKind::Blank, Bytes::new()), vec![]),
        4 => (
            batches(&[
                batch(FIRST_LOG, 1..21, None),
                batch(SECOND_LOG, 0..2, None),
                batch(FIRST_LOG, 900..901, Some(producer)),
                batch(FIRST_LOG, 21..22, None),
            ]),
            vec![taken(1), taken(0), REFUSED, taken(21)],
        ),
        5 => ((EntryKind::Command, Bytes::from(vec![0xa5; 300])), vec![]),
        6 => (batches(&[batch(FIRST_LOG, 22..25, None)]), vec![taken(22)]),
        7 => ((EntryKind::Command, Bytes::from(vec![0x5a; 1_000])), vec![]),
        8 => (
            batches(&[
                batch(SECOND_LOG, 2..4, None),
                batch(FIRST_LOG, 25..26, None),
            ]),
            vec![taken(2), taken(25)],
        ),
        _ => unreachable!("the fixture has {ENTRIES} entries"),
    };
    let id = id(index);
    (Entry { id, kind, payload }, outcomes)
}

fn checkpoint(index: u64) -> Checkpoint {
    Checkpoint {
        applied: id(index),
        body: format!("the state as of {index}").into(),
    }
}

/// Applies the entries from `first` on, as a node does.
fn apply(log: &Log, first: u64) {
    for index in first..ENTRIES {
        if log.is_boundary(index) {
            log.seal(index, checkpoint(index - 1));
        }
        let (entry, outcomes) = entry(index);
        if entry.kind == EntryKind::Batches {
            log.note_applied(index, &outcomes).expect("readable");
        }
    }
}

fn write_fixture(data: &Path) {
    let lock = DirLock::acquire(data).expect("a new directory");
    lock.set_identity(IDENTITY).expect("a new directory");
    let log = Log::open(options(data)).expect("a new log");
    wait(|done| log.save_vote(VOTE, done));
    for index in 0..ENTRIES {
        wait(|done| log.append(vec![entry(index).0], done));
    }
    apply(&log, 0);
    log.save_snapshot(&checkpoint(2)).expect("durable");
}

fn check_records(log: &Log, id: LogId, count: u64) {
    let found = log.read(id, 0, u64::MAX, usize::MAX).expect("readable");
    assert_eq!(found.next_offset, count);
    for (number, record) in (0..).zip(&found.records) {
        let expected = new_record(number);
        assert_eq!(record.offset, number);
        assert_eq!(record.timestamp, expected.timestamp);
        assert_eq!(record.attributes, expected.attributes);
        assert_eq!(record.body, expected.body);
    }
}

#[test]
fn a_directory_of_version_1_opens_and_gives_what_was_put_in() {
    let data = tempfile::tempdir().expect("a directory");
    copy(&v1(), data.path());
    let lock = DirLock::acquire(data.path()).expect("it opens");
    assert_eq!(lock.identity().expect("intact"), Some(IDENTITY));
    let log = Log::open(options(data.path())).expect("it opens");
    assert_eq!(log.vote(), Some(VOTE));
    let state = log.state();
    assert_eq!(state.last, Some(id(ENTRIES - 1)));
    assert_eq!((state.first_index, state.purged), (0, None));
    assert_eq!(log.boundaries(), [BOUNDARY]);
    assert_eq!(log.checkpoint(), Some(checkpoint(BOUNDARY - 1)));
    assert_eq!(log.snapshot(), Some(checkpoint(2)));
    assert_eq!(log.terms(), [id(0), id(3)]);
    log.verify().expect("intact");
    let entries = log.entries(0, ENTRIES, usize::MAX).expect("readable");
    let expected: Vec<Entry> = (0..ENTRIES).map(|index| entry(index).0).collect();
    assert_eq!(entries, expected);
    // The sealed segment's records stand by its footer alone; the others' once apply has decided again.
    check_records(&log, FIRST_LOG, 25);
    check_records(&log, SECOND_LOG, 2);
    apply(&log, BOUNDARY);
    check_records(&log, FIRST_LOG, 26);
    check_records(&log, SECOND_LOG, 4);
}

#[test]
fn the_fixture_has_a_batch_of_each_codec() {
    let codec = |numbers| batch(FIRST_LOG, numbers, None).header.codec;
    assert_eq!(codec(0..1), Codec::Plain);
    assert_eq!(codec(1..21), Codec::Lz4);
}

#[test]
fn the_fixture_has_every_file_of_a_group() {
    let log = v1().join("group-1/log");
    let names = |dir: &Path| {
        let mut names: Vec<String> = fs::read_dir(dir)
            .expect("the fixture")
            .map(|item| {
                item.expect("the fixture")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    };
    assert_eq!(
        names(&v1().join("group-1")),
        ["hard-state", "log", "snapshot", "watermark"]
    );
    assert_eq!(
        names(&log),
        [
            format!("{:020}.seg", 0),
            format!("{BOUNDARY:020}.ckpt"),
            format!("{BOUNDARY:020}.seg")
        ]
    );
}
