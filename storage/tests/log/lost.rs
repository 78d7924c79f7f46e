//! Which records a damaged place takes away: as few as may be, and never one that can be read.

use crate::repair::{apply, batch, flip_in_place, sealed};
use crate::support::*;
use inkstone_storage::log::{Log, Lost, Remains};
use inkstone_storage::types::{BatchOutcome, LogId};

const LOG: LogId = LogId(1);
const OTHER: LogId = LogId(2);
/// In a frame: a byte of the payload's preamble and headers, which the frame's crc covers.
const OF_THE_HEADERS: usize = 64 + 20;

fn lost(log: &Log, id: LogId, offset: u64) -> Option<(u64, u64, u64)> {
    let lost = log.lost_at(id, offset).expect("it can be told");
    lost.map(|Lost { from, to, entry }| (from, to, entry.id.index))
}

/// One entry: two batches of three records to one log with one to another log in between.
fn merged(index: u64) -> inkstone_storage::types::Entry {
    let bodies = |seed: u64| (0..3).map(|n| noise(9 * seed + n, 400)).collect::<Vec<_>>();
    batches(
        index,
        &[
            (LOG, bodies(index)),
            (OTHER, vec![noise(index, 300)]),
            (LOG, bodies(index + 100)),
        ],
    )
}

fn scene(dir: &std::path::Path) -> Log {
    let log = open(dir);
    for index in 0..24 {
        append(&log, vec![merged(index)]);
        if log.is_boundary(index) {
            log.seal(index, checkpoint(index - 1));
        }
        let taken = |base_offset| BatchOutcome::Taken { base_offset };
        let outcomes = [taken(6 * index), taken(index), taken(6 * index + 3)];
        log.note_applied(index, &outcomes).expect("readable");
    }
    barrier(&log);
    log
}

/// Where the records of an entry's batch stand, in the segment that has them.
fn position_of(file: &std::path::Path, body: &[u8]) -> usize {
    let bytes = std::fs::read(file).expect("a segment");
    let found = bytes.windows(body.len()).position(|part| part == body);
    found.expect("it is in that segment")
}

#[test]
fn a_damaged_batch_takes_its_own_records_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let log = scene(dir.path());
    let files = segments(dir.path());
    // Entry 1 is in a sealed segment, entry 23 in the one that is appended to.
    for (index, file) in [(1, &files[0]), (23, files.last().unwrap())] {
        assert_eq!(
            log.boundaries().first().is_some_and(|first| index < *first),
            index == 1
        );
        let first = 6 * index;
        assert_eq!(lost(&log, LOG, first), None, "nothing is damaged yet");
        // The first record of the first batch.
        flip_in_place(file, position_of(file, &noise(9 * index, 400)) + 7);
        assert_eq!(lost(&log, LOG, first), Some((first, first + 3, index)));
        assert_eq!(
            lost(&log, LOG, first + 2),
            Some((first + 2, first + 3, index))
        );
        assert_eq!(lost(&log, LOG, first + 3), None);
        assert_eq!(lost(&log, OTHER, index), None);
        log.read(LOG, first, first + 6, usize::MAX).unwrap_err();
        let behind = log.read(LOG, first + 3, first + 6, usize::MAX).unwrap();
        assert_eq!(behind.records.len(), 3);
        // And the second one.
        flip_in_place(file, position_of(file, &noise(9 * (index + 100), 400)) + 7);
        assert_eq!(
            lost(&log, LOG, first + 4),
            Some((first + 4, first + 6, index))
        );
    }
}

#[test]
fn damaged_headers_take_all_records_of_the_entry_from_every_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = scene(dir.path());
    let file = segments(dir.path()).remove(0);
    let size = frame_size(merged(1).payload.len());
    flip_in_place(&file, HEADER + size + OF_THE_HEADERS);
    assert_eq!(lost(&log, LOG, 6), Some((6, 12, 1)));
    assert_eq!(lost(&log, LOG, 10), Some((10, 12, 1)));
    assert_eq!(lost(&log, OTHER, 1), Some((1, 2, 1)));
    assert_eq!(lost(&log, LOG, 12), None);
    assert_eq!(lost(&log, LOG, 1_000), None, "there is none");
    assert_eq!(lost(&log, LogId(9), 0), None);
}

#[test]
fn all_that_is_left_of_a_damaged_entry_is_given_and_the_rest_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let log = scene(dir.path());
    let files = segments(dir.path());
    for (index, file) in [(1, &files[0]), (23, files.last().unwrap())] {
        let first = 6 * index;
        let given = |remains: &Remains, id: LogId| -> Vec<u64> {
            let batches = remains.batches.iter().filter(|(log, _)| *log == id);
            let records = batches.flat_map(|(_, records)| records);
            records.map(|record| record.offset).collect()
        };
        let whole = log.remains(index).unwrap();
        assert_eq!(whole.lost, []);
        assert_eq!(given(&whole, LOG), (first..first + 6).collect::<Vec<_>>());
        // The second of the two batches to the log.
        flip_in_place(file, position_of(file, &noise(9 * (index + 100), 400)) + 7);
        let remains = log.remains(index).unwrap();
        assert_eq!(remains.lost, [(LOG, first + 3, first + 6)]);
        assert_eq!(given(&remains, LOG), (first..first + 3).collect::<Vec<_>>());
        assert_eq!(given(&remains, OTHER), [index]);
        log.read_entries(index, index + 1, 0).unwrap_err();
    }
    // Its headers: nothing is left of it.
    let size = frame_size(merged(1).payload.len());
    flip_in_place(&files[0], HEADER + size + OF_THE_HEADERS);
    let remains = log.remains(1).unwrap();
    assert_eq!(remains.batches, []);
    assert_eq!(remains.lost, [(LOG, 6, 12), (OTHER, 1, 2)]);
}

#[test]
fn a_search_by_time_ends_at_the_damaged_record_that_may_be_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let log = scene(dir.path());
    let records = log.read(LOG, 0, 144, usize::MAX).unwrap().records;
    for (index, file) in [(1, 0), (23, segments(dir.path()).len() - 1)] {
        let file = &segments(dir.path())[file];
        let first = 6 * index;
        let time = records[usize::try_from(first).unwrap() + 1].timestamp;
        let before = log.offset_perhaps_at_time(LOG, first - 1, time).unwrap();
        assert_eq!(before, log.offset_at_time(LOG, first - 1, time).unwrap());
        flip_in_place(file, position_of(file, &noise(9 * index, 400)) + 7);
        let found = log.offset_perhaps_at_time(LOG, first, time).unwrap();
        assert_eq!(found, Some(first));
        log.offset_at_time(LOG, first, time).unwrap_err();
        // Too late for any of them: none needs to be read.
        assert_eq!(
            log.offset_perhaps_at_time(LOG, first, i64::MAX).unwrap(),
            None
        );
    }
}

#[test]
fn what_is_known_of_the_entry_is_what_a_peer_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    drop(sealed(dir.path()));
    let log = open(dir.path());
    apply(&log, log.checkpoint().unwrap().applied.index + 1);
    let file = segments(dir.path()).remove(0);
    let size = frame_size(batch(0).payload.len());
    // The frame's own header is lost: the footer knows what it said.
    flip_in_place(&file, HEADER + 3 * size + 20);
    let found = log.lost_at(LOG, 3).unwrap().expect("it is damaged");
    assert_eq!((found.from, found.to), (3, 4));
    assert_eq!(found.entry.id, batch(3).id);
    assert_eq!(found.entry.kind, batch(3).kind);
    assert_eq!(found.entry.payload_size as usize, batch(3).payload.len());
}
