//! Feeding: what is searchable when, what a restart keeps, and what is refused.

use std::path::Path;
use std::{fs, thread};

use bytes::Bytes;
use inkstone_storage::search::SearchRequest;
use inkstone_storage::types::{LogId, Record};

use crate::index::{LOG, all_pages, feed_lines, find, never, open_at, record, request, shard_dirs};

#[test]
fn records_are_searchable_when_feed_returns_and_stay_so_at_a_commit() {
    let dir = tempfile::tempdir().unwrap();
    let (mut feeder, searcher) = open_at(dir.path(), u64::MAX);
    assert_eq!(
        (
            feeder.next_index(),
            searcher.next_index(),
            searcher.next_offset(LOG)
        ),
        (0, 0, 0)
    );
    for round in 0..4_u64 {
        feed_lines(&mut feeder, 5, round * 3..round * 3 + 3);
        let expected: Vec<u64> = (0..round * 3 + 3).rev().collect();
        assert_eq!(feeder.uncommitted(), 3);
        assert_eq!(find(&searcher, "tail"), expected);
        feeder.commit().unwrap();
        assert_eq!(feeder.uncommitted(), 0);
        assert_eq!(find(&searcher, "tail"), expected);
        assert_eq!(searcher.next_offset(LOG), round * 3 + 3);
        assert_eq!(searcher.next_index(), round * 3 + 8);
    }
    assert_eq!(find(&searcher, "\"line 7 mod1\" OR 11"), [11, 7]);
    assert_eq!(find(&searcher, "n:4"), [4]);
    assert_eq!(find(&searcher, "timestamp:[30 TO 50} -mod1"), [3]);
}

#[test]
fn an_excluded_phrase_that_comes_later_excludes_nothing_earlier() {
    let dir = tempfile::tempdir().unwrap();
    let (mut feeder, searcher) = open_at(dir.path(), u64::MAX);
    let bodies = ["b", "a", "a b", "b a", "a b", "b"];
    let records = (0..)
        .zip(bodies)
        .map(|(offset, body)| record(offset, body))
        .collect();
    feeder.feed(0, &[(LOG, records)]).unwrap();
    for _ in 0..2 {
        assert_eq!(find(&searcher, "-\"a b\""), [5, 3, 1, 0]);
        assert!(find(&searcher, "NOT (a OR NOT \"a b\")").is_empty());
        assert_eq!(find(&searcher, "b -\"a b\" -\"b a\""), [5, 0]);
        feeder.commit().unwrap();
    }
}

#[test]
fn logs_are_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut feeder, searcher) = open_at(dir.path(), u64::MAX);
    let other = LogId(8);
    for index in 0..40_u64 {
        let other_record = record(100 + index, "word");
        let batches = [
            (LOG, vec![record(index, "word")]),
            (other, vec![other_record]),
        ];
        feeder.feed(index, &batches).unwrap();
        if index == 20 {
            feeder.commit().unwrap();
        }
    }
    let in_log = |log| {
        all_pages(
            &searcher,
            &SearchRequest {
                log,
                ..request("word", 7)
            },
        )
    };
    assert_eq!(in_log(other), (100..140).rev().collect::<Vec<_>>());
    assert_eq!(in_log(LOG), (0..40).rev().collect::<Vec<_>>());
    assert!(in_log(LogId(9)).is_empty());
    assert_eq!(searcher.next_offset(other), 140);
}

#[test]
fn an_entry_is_taken_once_and_a_gap_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut feeder, searcher) = open_at(dir.path(), u64::MAX);
    feed_lines(&mut feeder, 5, 0..3);
    feed_lines(&mut feeder, 5, 0..3);
    assert_eq!(find(&searcher, "*"), [2, 1, 0]);
    feeder.feed(8, &[]).unwrap();
    assert_eq!(searcher.next_index(), 9);
    let gap = feeder.feed(10, &[(LOG, vec![record(3, "x")])]).unwrap_err();
    assert!(
        gap.to_string()
            .contains("entry 10 was fed where 9 was expected"),
        "{gap}"
    );
    assert!(feeder.feed(9, &[]).is_err(), "a failure is final");
    drop(feeder);
    let (mut feeder, searcher) = open_at(dir.path(), u64::MAX);
    assert_eq!(feeder.next_index(), 0, "nothing was committed");
    feed_lines(&mut feeder, 5, 0..3);
    assert!(
        feeder.feed(8, &[(LOG, vec![record(4, "x")])]).is_err(),
        "a gap in offsets"
    );
    assert_eq!(find(&searcher, "*"), [2, 1, 0]);
}

#[test]
fn entries_without_records_count() {
    let dir = tempfile::tempdir().unwrap();
    let (mut feeder, _) = open_at(dir.path(), u64::MAX);
    for index in 0..4 {
        feeder.feed(index, &[]).unwrap();
    }
    feeder.commit().unwrap();
    drop(feeder);
    let (mut feeder, searcher) = open_at(dir.path(), u64::MAX);
    assert_eq!((feeder.next_index(), searcher.next_index()), (4, 4));
    feed_lines(&mut feeder, 4, 0..1);
    assert_eq!(find(&searcher, "*"), [0]);
}

#[test]
fn a_full_shard_is_finished_and_the_next_one_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut feeder, searcher) = open_at(dir.path(), 2_000);
    for offset in 0..400_u64 {
        feed_lines(&mut feeder, 3, offset..offset + 1);
        if offset % 20 == 19 {
            feeder.commit().unwrap();
        }
    }
    let all: Vec<u64> = (0..400).rev().collect();
    assert_eq!(find(&searcher, "tail"), all);
    assert_eq!(all_pages(&searcher, &request("tail", 7)), all);
    drop(feeder);
    assert_eq!(
        find(&searcher, "tail"),
        all,
        "a searcher outlives its feeder"
    );
    let (feeder, searcher) = open_at(dir.path(), 2_000);
    assert_eq!(feeder.next_index(), 403);
    assert_eq!(find(&searcher, "tail"), all);
    let names: Vec<String> = shard_dirs(dir.path())
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert!(names.len() > 2, "{names:?}");
    assert!(
        names[0].starts_with("00000000000000000003-0000000000"),
        "{names:?}"
    );
    let (last, finished) = names.split_last().unwrap();
    assert!(last.ends_with("-open") && finished.iter().all(|name| !name.contains("open")));
    for name in finished {
        assert_eq!(
            segments(&dir.path().join("search").join(name)),
            1,
            "merged, the rest deleted"
        );
    }
}

/// How many segments have files in a shard's directory.
fn segments(shard: &Path) -> usize {
    let entries = fs::read_dir(shard)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "idx"))
        .count()
}

#[test]
fn a_search_beside_the_feed_sees_every_record_once_at_every_moment() {
    const RECORDS: u64 = 300;
    let dir = tempfile::tempdir().unwrap();
    let (mut feeder, searcher) = open_at(dir.path(), 3_000);
    let search = || {
        let mut seen = 0;
        while seen < RECORDS {
            let answer = searcher.search(&request("tail", 1_000), &never).unwrap();
            assert!(answer.next_offset >= seen, "what was searchable stays so");
            seen = answer.next_offset;
            assert_eq!(answer.offsets, (0..seen).rev().collect::<Vec<_>>());
        }
    };
    thread::scope(|scope| {
        let searches = [scope.spawn(search), scope.spawn(search)];
        for offset in 0..RECORDS {
            feed_lines(&mut feeder, 0, offset..offset + 1);
            if offset % 7 == 6 {
                feeder.commit().unwrap();
            }
        }
        for search in searches {
            search.join().unwrap();
        }
    });
}

#[test]
fn dropped_shards_are_gone_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut feeder, searcher) = open_at(dir.path(), 500);
    feed_lines(&mut feeder, 10, 0..200);
    feeder.commit().unwrap();
    drop(feeder);
    drop(open_at(dir.path(), 500));
    let (mut feeder, fresh) = open_at(dir.path(), 500);
    let froms: Vec<u64> = shard_dirs(dir.path())
        .iter()
        .map(|path| first_index(path))
        .collect();
    assert!(froms.len() > 4, "{froms:?}");
    feeder.drop_below(froms[2] - 1).unwrap();
    let kept = froms[1] - 10;
    assert_eq!(find(&fresh, "tail"), (kept..200).rev().collect::<Vec<_>>());
    feeder.drop_below(froms[2]).unwrap();
    let kept = froms[2] - 10;
    assert_eq!(find(&fresh, "tail"), (kept..200).rev().collect::<Vec<_>>());
    assert_eq!(
        find(&searcher, "tail").len(),
        200,
        "files in use stay readable"
    );
    drop(feeder);
    let (mut feeder, searcher) = open_at(dir.path(), 500);
    assert_eq!((feeder.next_index(), searcher.next_offset(LOG)), (210, 200));
    feeder.drop_below(u64::MAX).unwrap();
    feed_lines(&mut feeder, 10, 200..210);
    feeder.commit().unwrap();
    drop(feeder);
    let (feeder, searcher) = open_at(dir.path(), 500);
    assert_eq!(feeder.next_index(), 220);
    let found = find(&searcher, "tail");
    assert!(
        found.len() >= 10 && found[0] == 209,
        "the newest shard is kept: {found:?}"
    );
}

fn first_index(shard: &Path) -> u64 {
    let name = shard.file_name().unwrap().to_str().unwrap();
    name[..20].parse().unwrap()
}

#[test]
fn many_commits_leave_few_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (mut feeder, searcher) = open_at(dir.path(), u64::MAX);
    for offset in 0..60 {
        feed_lines(&mut feeder, 0, offset..offset + 1);
        feeder.commit().unwrap();
        assert_eq!(
            find(&searcher, "tail"),
            (0..=offset).rev().collect::<Vec<_>>()
        );
    }
    drop(feeder);
    drop(open_at(dir.path(), u64::MAX));
    let segments = segments(&shard_dirs(dir.path())[0]);
    assert!(segments < 40, "{segments} segments of 60 commits");
}

#[test]
fn much_that_is_uncommitted_is_committed_by_the_feed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut feeder, searcher) = open_at(dir.path(), u64::MAX);
    let batch = |from: u64| {
        (from..from + 5_000)
            .map(|o| record(o, "w"))
            .collect::<Vec<_>>()
    };
    for index in 0..5 {
        feeder.feed(index, &[(LOG, batch(index * 5_000))]).unwrap();
    }
    assert_eq!(feeder.uncommitted(), 5_000);
    assert_eq!(find(&searcher, "w").len(), 25_000);
}

#[test]
fn odd_bodies_are_records_like_others() {
    let dir = tempfile::tempdir().unwrap();
    let (mut feeder, searcher) = open_at(dir.path(), u64::MAX);
    let long = "x".repeat(100_000);
    let bodies: [&[u8]; 4] = [b"word \xff word", b"", long.as_bytes(), b"word"];
    let records: Vec<Record> = (0..)
        .zip(bodies)
        .map(|(offset, body)| Record {
            body: Bytes::copy_from_slice(body),
            ..record(offset, "")
        })
        .collect();
    feeder.feed(1, &[(LOG, records)]).unwrap();
    for _ in 0..2 {
        assert_eq!(find(&searcher, "word"), [3]);
        assert_eq!(find(&searcher, "-word"), [2, 1, 0]);
        assert_eq!(find(&searcher, "*"), [3, 2, 1, 0]);
        assert_eq!(find(&searcher, "n:0 timestamp:0"), [0]);
        assert!(
            find(&searcher, &long[..4_000]).is_empty(),
            "another token with the same prefix"
        );
        feeder.commit().unwrap();
    }
}
