//! The promise: in the tail, after commits, in several shards, after merges, restarts and crashes, a search finds
//! exactly the records that the query matches.

use std::collections::BTreeMap;
use std::fs;

use bytes::Bytes;
use inkstone_storage::search::{Feeder, Query, SearchRequest, Searcher};
use inkstone_storage::types::{LogId, Record};
use proptest::prelude::*;

use crate::index::{all_pages, copy_dir, open_at};

/// What one entry put into logs.
type Entry = Vec<(LogId, Vec<Record>)>;
/// A record before it has an offset.
type Unplaced = (i64, Vec<(String, String)>, Vec<u8>);

/// Records of few words, so that queries find some.
fn any_record() -> impl Strategy<Value = Unplaced> {
    let long = "z".repeat(300);
    let words = [
        "a", "b", "A", "c-d", "a.b", "Disk", "10.0", "é", "", ",", &long,
    ];
    let word = prop::sample::select(words.map(str::to_owned).to_vec());
    let body = prop_oneof![
        9 => prop::collection::vec(word, 0..6).prop_map(|words| words.join(" ").into_bytes()),
        1 => Just(b"a \xfe b".to_vec()),
    ];
    let value = prop::sample::select(vec!["x", "X", "y z", "", "9"]).prop_map(str::to_owned);
    (
        -3_i64..10,
        prop::collection::vec(("[kl]", value), 0..3),
        body,
    )
}

fn any_entries() -> impl Strategy<Value = Vec<Entry>> {
    let batch = (0..2_u64, prop::collection::vec(any_record(), 0..5));
    let entry = prop::collection::vec(batch, 0..3);
    prop::collection::vec(entry, 1..30).prop_map(|entries| {
        let mut next_offsets = BTreeMap::from([(0, 40), (1, 0)]);
        let mut place = |log: u64, (timestamp, attributes, body): Unplaced| {
            let next = next_offsets.get_mut(&log).unwrap();
            let offset = *next;
            *next += 1;
            Record {
                offset,
                timestamp,
                attributes,
                body: Bytes::from(body),
            }
        };
        let mut entry = |batches: Vec<(u64, Vec<Unplaced>)>| -> Entry {
            let mut batch = |(log, records): (u64, Vec<Unplaced>)| {
                let records = records
                    .into_iter()
                    .map(|record| place(log, record))
                    .collect();
                (LogId(log), records)
            };
            batches.into_iter().map(&mut batch).collect()
        };
        entries.into_iter().map(&mut entry).collect()
    })
}

fn any_query() -> impl Strategy<Value = String> {
    let leaves = [
        "a",
        "b",
        "c",
        "disk",
        "é",
        "10.0",
        "\"a b\"",
        "\"a a\"",
        "\"b a b\"",
        "c-d",
        "k:x",
        "l:\"Y Z\"",
        "k:9",
        "l:\"\"",
        "timestamp:[0 TO 5}",
        "timestamp:{3 TO *]",
        "timestamp:4",
        "*",
        "nothing",
        ",",
    ];
    let leaf = prop::sample::select(leaves.map(str::to_owned).to_vec());
    let leaf = prop_oneof![8 => leaf, 1 => Just("Z".repeat(300))];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let some = || prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            some().prop_map(|all| format!("({})", all.join(" "))),
            some().prop_map(|any| format!("({})", any.join(" OR "))),
            inner.prop_map(|not| format!("NOT {not}")),
        ]
    })
}

/// What happens next.
#[derive(Debug, Clone, Copy)]
enum Step {
    Feed,
    Commit,
    /// The feeder is dropped, with what was not committed.
    Reopen,
    /// What is on disk at this moment is all that remains.
    Crash,
}

/// A node's entries and the directory of its index.
struct Node {
    dir: tempfile::TempDir,
    shard_size: u64,
    first_index: u64,
    entries: Vec<Entry>,
    /// How many of the entries were fed.
    fed: usize,
    /// How many of them were fed before the last commit.
    committed: usize,
}

impl Node {
    fn open(&self) -> (Feeder, Searcher) {
        let (mut feeder, searcher) = open_at(self.dir.path(), self.shard_size);
        let known = feeder.next_index().saturating_sub(self.first_index);
        let known = usize::try_from(known).unwrap();
        assert!(
            self.committed <= known && known <= self.fed,
            "what was committed is kept"
        );
        for (index, entry) in (self.first_index..)
            .zip(&self.entries)
            .take(self.fed)
            .skip(known)
        {
            feeder.feed(index, entry).unwrap();
        }
        (feeder, searcher)
    }

    fn step(&mut self, step: Step, index: (Feeder, Searcher)) -> (Feeder, Searcher) {
        let (mut feeder, searcher) = index;
        match step {
            Step::Feed => {
                if let Some(entry) = self.entries.get(self.fed) {
                    feeder
                        .feed(self.first_index + self.fed as u64, entry)
                        .unwrap();
                    self.fed += 1;
                }
                return (feeder, searcher);
            }
            Step::Commit => {
                feeder.commit().unwrap();
                self.committed = self.fed;
                return (feeder, searcher);
            }
            Step::Reopen => drop((feeder, searcher)),
            Step::Crash => {
                let dir = tempfile::tempdir().unwrap();
                let (from, to) = (self.dir.path().join("search"), dir.path().join("search"));
                // Merges go on: a copy that missed a file is no moment that ever was.
                while copy_dir(&from, &to).is_err() {
                    fs::remove_dir_all(&to).unwrap();
                }
                drop((feeder, searcher));
                self.dir = dir;
                // The copy took its time: a shard may have changed in it, and is fed again.
                self.committed = 0;
            }
        }
        self.open()
    }

    fn records(&self, log: LogId) -> Vec<Record> {
        let batches = self.entries.iter().take(self.fed).flatten();
        batches
            .filter(|(to, _)| *to == log)
            .flat_map(|(_, records)| records.clone())
            .collect()
    }

    fn assert_search_is_matches(&self, searcher: &Searcher, query: &str, limit: usize) {
        // Such as one of commas only.
        let Ok(query) = Query::parse(query) else {
            return;
        };
        for log in [LogId(0), LogId(1)] {
            let records = self.records(log);
            let next = records.last().map_or(0, |record| record.offset + 1);
            assert_eq!(searcher.next_offset(log), next);
            for (since, until) in [(None, None), (Some(2), Some(7)), (None, Some(i64::MIN))] {
                let query = query.clone();
                let request = SearchRequest {
                    log,
                    query,
                    limit,
                    since,
                    until,
                    before_offset: None,
                };
                let expected: Vec<u64> = records
                    .iter()
                    .rev()
                    .filter(|record| since.is_none_or(|since| record.timestamp >= since))
                    .filter(|record| until.is_none_or(|until| record.timestamp < until))
                    .filter(|record| request.query.matches(record))
                    .map(|record| record.offset)
                    .collect();
                assert_eq!(all_pages(searcher, &request), expected);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn search_is_matches_over_all_records(
        entries in any_entries(),
        steps in prop::collection::vec(
            prop_oneof![
                20 => Just(Step::Feed),
                6 => Just(Step::Commit),
                1 => Just(Step::Reopen),
                1 => Just(Step::Crash),
            ],
            1..60,
        ),
        queries in prop::collection::vec(any_query(), 12),
        shard_size in prop_oneof![Just(u64::MAX), 100..2_000_u64],
        first_index in 0..3_u64,
        limit in prop_oneof![Just(1_usize), Just(3), Just(1_000)],
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut node = Node { dir, shard_size, first_index, entries, fed: 0, committed: 0 };
        let mut index = node.open();
        for (step, query) in steps.into_iter().zip(queries.iter().cycle()) {
            index = node.step(step, index);
            node.assert_search_is_matches(&index.1, query, limit);
        }
        for query in &queries {
            node.assert_search_is_matches(&index.1, query, limit);
        }
    }
}

/// A body of a few of 40 words, the first ones common and the last ones rare.
fn any_body(random: &mut impl FnMut(u64) -> u64) -> String {
    let words = (0..random(12)).map(|_| {
        let rarity = random(6);
        format!("w{}", random(1 + 40 * rarity / 6))
    });
    words.collect::<Vec<_>>().join(" ")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2, ..ProptestConfig::default() })]

    /// Many blocks of postings, many windows: where small corpora do not reach.
    #[test]
    fn search_is_matches_over_many_records(seed in 1..u64::MAX, limit in 300..1_000_usize) {
        let mut state = seed;
        let mut random = |below: u64| {
            // Marsaglia's xorshift.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut next_offsets = [0, 0];
        let mut entries: Vec<Entry> = Vec::new();
        for _ in 0..12 {
            let log = random(2);
            let next = &mut next_offsets[usize::try_from(log).unwrap()];
            let mut records = Vec::new();
            for _ in 0..random(1_500) {
                let attributes = vec![("k".to_owned(), format!("v{}", random(5)))];
                let timestamp = i64::try_from(random(1_000)).unwrap();
                let body = Bytes::from(any_body(&mut random));
                records.push(Record { offset: *next, timestamp, attributes, body });
                *next += 1;
            }
            entries.push(vec![(LogId(log), records)]);
        }
        let dir = tempfile::tempdir().unwrap();
        let (shard_size, first_index) = (60_000, 1);
        let mut node = Node { dir, shard_size, first_index, entries, fed: 0, committed: 0 };
        let mut index = node.open();
        for step in [[Step::Feed; 3], [Step::Feed, Step::Feed, Step::Commit]].concat().repeat(2) {
            index = node.step(step, index);
        }
        node.fed = node.entries.len();
        index = node.step(Step::Reopen, index);
        for _ in 0..5 {
            let mut word = || format!("w{}", random(40));
            let (a, b, c, d) = (word(), word(), word(), word());
            for query in [
                format!("{a} OR \"{b} {c}\" OR {d}"),
                format!("\"w0 {a}\" -{b} -\"w1 {c}\""),
                format!("-(k:v1 OR {a}) (w0 OR timestamp:[100 TO 300}})"),
                format!("{a} {b} timestamp:[200 TO *] NOT (k:v2 -{c})"),
            ] {
                node.assert_search_is_matches(&index.1, &query, limit);
            }
        }
    }
}
