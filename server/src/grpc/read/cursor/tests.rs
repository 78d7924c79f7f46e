//! Bounds of reads: where they begin, what they pass over, where they end.

use bytes::Bytes;

use super::*;

fn record(offset: u64, timestamp: i64, body: usize) -> Record {
    Record {
        offset,
        timestamp,
        attributes: Vec::new(),
        body: Bytes::from(vec![b'x'; body]),
    }
}

fn chunk(offsets: std::ops::Range<u64>, body: usize) -> ReadChunk {
    let next_offset = offsets.end;
    let records = offsets
        .map(|offset| record(offset, 100 + offset.cast_signed(), body))
        .collect();
    ReadChunk {
        records,
        next_offset,
    }
}

fn offsets(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.offset).collect()
}

#[test]
fn without_follow_a_read_ends_where_the_log_ended() {
    let mut cursor = Cursor::new(&ReadRequest::default(), 3, 10, None);
    assert_eq!(cursor.next_read(50), (3, 10, READ_MESSAGE_SIZE_MAX));
    assert_eq!(cursor.take(chunk(3..10, 1)).len(), 7);
    assert!(cursor.is_done());
}

#[test]
fn with_follow_only_until_ends_a_read() {
    let follow = ReadRequest {
        follow: true,
        ..ReadRequest::default()
    };
    let mut cursor = Cursor::new(&follow, 10, 10, None);
    assert!(!cursor.is_done());
    cursor.take(chunk(10..20, 1));
    assert!(!cursor.is_done());
    let bounded = ReadRequest {
        until_offset: Some(15),
        ..follow
    };
    let mut cursor = Cursor::new(&bounded, 10, 10, None);
    assert_eq!(cursor.next_read(20), (10, 15, READ_MESSAGE_SIZE_MAX));
    cursor.take(chunk(10..15, 1));
    assert!(cursor.is_done());
}

#[test]
fn an_empty_range_is_done_at_once() {
    let request = ReadRequest {
        until_offset: Some(4),
        ..ReadRequest::default()
    };
    assert!(Cursor::new(&request, 4, 10, None).is_done());
    assert!(Cursor::new(&request, 7, 10, None).is_done());
}

#[test]
fn a_limit_of_records_holds_across_reads() {
    let request = ReadRequest {
        limit: 5,
        ..ReadRequest::default()
    };
    let mut cursor = Cursor::new(&request, 0, 100, None);
    assert_eq!(cursor.next_read(100).1, 5);
    assert_eq!(cursor.take(chunk(0..3, 1)).len(), 3);
    assert_eq!(offsets(&cursor.take(chunk(3..9, 1))), [3, 4]);
    assert!(cursor.is_done());
}

#[test]
fn a_limit_of_bytes_ends_with_the_record_that_reaches_it_and_gives_at_least_one() {
    let request = ReadRequest {
        limit_bytes: 25,
        ..ReadRequest::default()
    };
    let mut cursor = Cursor::new(&request, 0, 100, None);
    assert_eq!(cursor.next_read(100).2, 25);
    assert_eq!(offsets(&cursor.take(chunk(0..10, 10))), [0, 1, 2]);
    assert!(cursor.is_done());
    let tiny = ReadRequest {
        limit_bytes: 1,
        ..ReadRequest::default()
    };
    let mut cursor = Cursor::new(&tiny, 0, 100, None);
    assert_eq!(offsets(&cursor.take(chunk(0..1, 1_000))), [0]);
    assert!(cursor.is_done());
}

#[test]
fn records_before_the_time_are_passed_over_once_and_cost_nothing() {
    let request = ReadRequest {
        limit: 2,
        ..ReadRequest::default()
    };
    let mut cursor = Cursor::new(&request, 0, 100, Some(105));
    assert_eq!(
        cursor.next_read(100).1,
        100,
        "the limit counts what is sent"
    );
    assert!(cursor.take(chunk(0..3, 1)).is_empty());
    assert_eq!((cursor.at(), cursor.is_done()), (3, false));
    let mut mixed = chunk(3..9, 1);
    // Event times may fall again behind the first: those are sent.
    mixed.records[3].timestamp = 1;
    assert_eq!(offsets(&cursor.take(mixed)), [5, 6]);
    assert!(cursor.is_done());
}

#[test]
fn a_gap_covers_what_was_trimmed_within_the_bounds_of_the_read() {
    let mut cursor = Cursor::new(&ReadRequest::default(), 2, 10, None);
    assert_eq!(cursor.skip_to(6), Some((2, 6)));
    assert_eq!(cursor.skip_to(6), None);
    assert_eq!(cursor.at(), 6);
    let request = ReadRequest {
        until_offset: Some(4),
        ..ReadRequest::default()
    };
    let mut cursor = Cursor::new(&request, 2, 10, None);
    assert_eq!(cursor.skip_to(6), Some((2, 4)));
    assert!(cursor.is_done());
}

#[test]
fn messages_hold_their_bound_or_one_record() {
    let half = READ_MESSAGE_SIZE_MAX / 2 - 64;
    let records = vec![
        record(0, 0, half),
        record(1, 0, half),
        record(2, 0, 1_000),
        record(3, 0, READ_MESSAGE_SIZE_MAX),
        record(4, 0, 1),
    ];
    let split: Vec<_> = messages(records)
        .iter()
        .map(|message| offsets(message))
        .collect();
    assert_eq!(split, [vec![0, 1], vec![2], vec![3], vec![4]]);
    assert!(messages(Vec::new()).is_empty());
}

#[test]
fn attributes_count_as_bytes_of_a_message() {
    let mut large = record(0, 0, 0);
    large.attributes = vec![("k".to_owned(), "v".repeat(READ_MESSAGE_SIZE_MAX / 2 + 1))];
    assert_eq!(messages(vec![large.clone(), large]).len(), 2);
}
