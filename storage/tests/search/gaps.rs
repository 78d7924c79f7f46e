//! Entries that were damaged when they were to be fed: what is left out is named, and comes in when it is there.

use inkstone_storage::limits::SEARCH_GAPS_MAX;
use inkstone_storage::search::{Feeder, IndexError, IndexGap, Searcher, delete_from};
use inkstone_storage::types::LogId;

use crate::index::{LOG, feed_lines, find, never, open_at, record, request, shard_dirs};

const OTHER: LogId = LogId(8);

fn gap(index: u64, log: LogId, from: u64, to: u64) -> IndexGap {
    IndexGap {
        index,
        log,
        from,
        to,
    }
}

fn gaps_of(searcher: &Searcher, log: LogId, before_offset: Option<u64>) -> Vec<IndexGap> {
    let mut request = request("tail", 3);
    (request.log, request.before_offset) = (log, before_offset);
    searcher
        .search(&request, &never)
        .expect("it can be searched")
        .gaps
}

/// Ten entries of a record, one of which 10 to 14 and 16 of [`LOG`] and all of [`OTHER`] are lost, and ten more.
fn feed_all(feeder: &mut Feeder) -> Vec<IndexGap> {
    feed_lines(feeder, 0, 0..10);
    let gaps = vec![
        gap(10, LOG, 10, 15),
        gap(10, LOG, 16, 17),
        gap(10, OTHER, 0, 2),
    ];
    let left = [(LOG, vec![record(15, "tail left")])];
    feeder.feed_around(10, &left, &gaps).expect("it is fed");
    for index in 11..21 {
        let record = record(6 + index, "tail behind");
        feeder
            .feed(index, &[(LOG, vec![record])])
            .expect("it is fed");
    }
    gaps
}

fn found() -> Vec<u64> {
    let found = (0..27).filter(|offset| !(10..15).contains(offset) && *offset != 16);
    found.rev().collect()
}

#[test]
fn what_is_left_out_is_named_by_every_answer_over_it_after_a_restart_too() {
    // One shard, and a shard for every few entries.
    for shard_size in [u64::MAX, 100] {
        let dir = tempfile::tempdir().unwrap();
        let (mut feeder, searcher) = open_at(dir.path(), shard_size);
        let gaps = feed_all(&mut feeder);
        let check = |feeder: &Feeder, searcher: &Searcher, when: &str| {
            assert_eq!(find(searcher, "tail"), found(), "{when}");
            assert_eq!(gaps_of(searcher, LOG, None), gaps[..2], "{when}");
            assert_eq!(gaps_of(searcher, LOG, Some(16)), gaps[..1], "{when}");
            assert_eq!(gaps_of(searcher, LOG, Some(10)), [], "{when}");
            assert_eq!(gaps_of(searcher, OTHER, None), gaps[2..], "{when}");
            assert_eq!(searcher.next_offset(OTHER), 2, "{when}");
            assert_eq!(feeder.next_index(), 21, "{when}");
            assert_eq!(feeder.gaps(), gaps, "{when}");
        };
        check(&feeder, &searcher, "fed");
        feeder.commit().unwrap();
        check(&feeder, &searcher, "committed");
        drop((feeder, searcher));
        let (feeder, searcher) = open_at(dir.path(), shard_size);
        check(&feeder, &searcher, "opened");
    }
}

#[test]
fn records_that_neither_stand_there_nor_are_named_are_not_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    for (left, gaps) in [
        (vec![record(10, "x")], vec![gap(10, LOG, 12, 14)]),
        (vec![record(13, "x")], vec![gap(10, LOG, 10, 12)]),
        (vec![record(12, "x")], vec![gap(10, LOG, 10, 13)]),
    ] {
        let (mut feeder, _) = open_at(dir.path(), u64::MAX);
        feed_lines(&mut feeder, 0, 0..10);
        let error = feeder.feed_around(10, &[(LOG, left)], &gaps).unwrap_err();
        assert!(matches!(error, IndexError::Failed(_)), "{error}");
    }
}

#[test]
fn what_was_left_out_goes_with_its_shard_and_is_fed_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut feeder, _) = open_at(dir.path(), 100);
    feed_all(&mut feeder);
    feeder.commit().unwrap();
    drop(feeder);
    let before = shard_dirs(dir.path());
    assert!(before.len() > 2, "{before:?}");
    delete_from(&dir.path().join("search"), 10).unwrap();
    let (mut feeder, searcher) = open_at(dir.path(), 100);
    let next = feeder.next_index();
    assert!((1..=10).contains(&next), "{next}");
    assert_eq!(find(&searcher, "tail"), (0..next).rev().collect::<Vec<_>>());
    assert_eq!(
        (feeder.gaps(), gaps_of(&searcher, LOG, None)),
        (vec![], vec![])
    );
    // Now all of it is there.
    feed_lines(&mut feeder, 0, next..10);
    let whole = (10..17).map(|offset| record(offset, "tail mended"));
    let other = (0..2).map(|offset| record(offset, "tail mended"));
    let whole = [(LOG, whole.collect()), (OTHER, other.collect())];
    feeder.feed(10, &whole).unwrap();
    assert_eq!(find(&searcher, "tail"), (0..17).rev().collect::<Vec<_>>());
}

#[test]
fn gaps_go_with_what_is_purged() {
    let dir = tempfile::tempdir().unwrap();
    let (mut feeder, searcher) = open_at(dir.path(), 100);
    feed_all(&mut feeder);
    feeder.commit().unwrap();
    drop(feeder);
    drop(searcher);
    let (mut feeder, searcher) = open_at(dir.path(), 100);
    feeder.drop_below(21).unwrap();
    assert_eq!(
        (feeder.gaps(), gaps_of(&searcher, LOG, None)),
        (vec![], vec![])
    );
}

#[test]
fn one_gap_more_than_are_kept_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut feeder, searcher) = open_at(dir.path(), u64::MAX);
    for index in 0..SEARCH_GAPS_MAX as u64 {
        let one = gap(index, LOG, index, index + 1);
        feeder.feed_around(index, &[], &[one]).unwrap();
    }
    let next = feeder.next_index();
    let more = gap(next, LOG, next, next + 1);
    let error = feeder.feed_around(next, &[], &[more]).unwrap_err();
    assert!(matches!(error, IndexError::Gaps(_)), "{error}");
    assert_eq!(feeder.next_index(), next);
    feed_lines(&mut feeder, 0, next..next + 2);
    assert_eq!(find(&searcher, "tail"), [next + 1, next]);
    feeder.commit().unwrap();
}
