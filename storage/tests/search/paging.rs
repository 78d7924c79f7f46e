//! Pages, deadlines and limits.

use std::cell::Cell;

use inkstone_storage::limits::SEARCH_HITS_MAX;
use inkstone_storage::search::{QueryError, SearchRequest};
use inkstone_storage::types::{LogId, Record};

use crate::index::{LOG, feed_lines, find, never, open_at, record, request};

#[test]
fn a_page_before_an_offset_is_found_across_windows() {
    let dir = tempfile::tempdir().unwrap();
    let (mut feeder, searcher) = open_at(dir.path(), u64::MAX);
    let body = |offset| {
        if offset % 1_000 == 7 {
            "rare common"
        } else {
            "common"
        }
    };
    let records: Vec<Record> = (0..9_000)
        .map(|offset| record(offset, body(offset)))
        .collect();
    for (index, chunk) in (0..).zip(records.chunks(3_000)) {
        let others = (index * 50..index * 50 + 50).map(|offset| record(offset, "common"));
        feeder
            .feed(
                index,
                &[(LOG, chunk.to_vec()), (LogId(1), others.collect())],
            )
            .unwrap();
    }
    feeder.commit().unwrap();
    assert_eq!(
        find(&searcher, "rare"),
        (0..9).rev().map(|n| n * 1_000 + 7).collect::<Vec<_>>()
    );
    assert_eq!(
        find(&searcher, "rare timestamp:[40070 TO 60070}"),
        [5_007, 4_007]
    );
    for before in [
        0,
        1,
        7,
        8,
        2_999,
        3_000,
        3_001,
        4_567,
        8_999,
        9_000,
        u64::MAX,
    ] {
        let request = SearchRequest {
            before_offset: Some(before),
            ..request("common", 3)
        };
        let answer = searcher.search(&request, &never).unwrap();
        let expected: Vec<u64> = (0..9_000.min(before)).rev().take(3).collect();
        assert_eq!(answer.offsets, expected, "before {before}");
        assert_eq!((answer.next_offset, answer.more), (9_000, before > 3));
    }
}

#[test]
fn a_page_token_is_not_disturbed_by_what_is_fed_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let (mut feeder, searcher) = open_at(dir.path(), 1_000);
    feed_lines(&mut feeder, 0, 0..100);
    let mut request = request("mod0", 4);
    let mut found = Vec::new();
    for round in 0.. {
        let page = searcher.search(&request, &never).unwrap();
        request.before_offset = page.offsets.last().copied();
        found.extend(page.offsets);
        if !page.more {
            break;
        }
        feed_lines(&mut feeder, 0, 100 + round * 10..110 + round * 10);
        feeder.commit().unwrap();
    }
    assert_eq!(
        found,
        (0..100)
            .rev()
            .filter(|offset| offset % 3 == 0)
            .collect::<Vec<_>>()
    );
}

#[test]
fn a_deadline_cuts_the_answer_and_what_it_holds_is_still_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let (mut feeder, searcher) = open_at(dir.path(), u64::MAX);
    for index in 0..4 {
        let from = index * 4_000;
        let records = (from..from + 4_000)
            .map(|offset| record(offset, "a"))
            .collect();
        feeder.feed(index, &[(LOG, records)]).unwrap();
        if index == 2 {
            feeder.commit().unwrap();
        }
    }
    let everything = find(&searcher, "n:3");
    let mut sizes = Vec::new();
    for patience in 0..40_u32 {
        let left = Cell::new(patience);
        let expired = || left.replace(left.get().saturating_sub(1)) == 0;
        let answer = searcher.search(&request("n:3", 1_000), &expired).unwrap();
        assert!(everything.starts_with(&answer.offsets));
        assert_eq!(
            answer.complete,
            answer.offsets.len() == 1_000,
            "patience {patience}"
        );
        assert_eq!(answer.more, answer.complete);
        sizes.push(answer.offsets.len());
    }
    assert!(
        sizes.is_sorted() && sizes[0] < 1_000 && sizes[39] == 1_000,
        "{sizes:?}"
    );
    let answer = searcher.search(&request("nowhere", 10), &|| true).unwrap();
    assert!(!answer.complete && !answer.more && answer.offsets.is_empty());
}

#[test]
fn a_limit_beyond_the_bound_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (_feeder, searcher) = open_at(dir.path(), u64::MAX);
    for limit in [0, SEARCH_HITS_MAX + 1] {
        let refused = searcher.search(&request("*", limit), &never).unwrap_err();
        assert_eq!(
            refused,
            QueryError::Limit {
                bound: "search_hits_max",
                value: 1_000
            }
        );
    }
}
