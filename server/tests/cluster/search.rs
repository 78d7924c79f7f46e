//! A search finds what a scan of the lines finds, on every node, and what was acknowledged a moment ago.

use std::collections::BTreeSet;

use inkstone_client::{Client, Consistency, IfExists, NewRecord, SearchOptions};
use inkstone_jepsen::lines::{Source, WORDS, lines};

use crate::scene::{Stage, append_all};

/// The words of a line as the index has them: runs of letters and digits, lower-cased.
pub(crate) fn words(line: &[u8]) -> Vec<String> {
    let Ok(text) = std::str::from_utf8(line) else {
        return Vec::new();
    };
    let words = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

/// The offsets of the lines for which this holds, newest first.
pub(crate) fn scan(lines: &[Vec<u8>], matches: impl Fn(&[String]) -> bool) -> Vec<u64> {
    let mut found: Vec<u64> = lines
        .iter()
        .zip(0..)
        .filter(|(line, _)| matches(&words(line)))
        .map(|(_, offset)| offset)
        .collect();
    found.reverse();
    found
}

/// The offsets of all hits, page by page.
pub(crate) async fn search_all(client: &Client, log: &str, query: &str) -> Vec<u64> {
    let mut offsets = Vec::new();
    let mut before_offset = None;
    loop {
        let options = SearchOptions {
            limit: Some(1_000),
            before_offset,
            ..SearchOptions::new(log, query)
        };
        let answer = client
            .search(options)
            .await
            .expect("the search is answered");
        assert!(answer.complete, "{query}: a limit cut the answer");
        offsets.extend(answer.hits.iter().map(|hit| hit.record.offset));
        before_offset = answer.next_before_offset;
        if before_offset.is_none() {
            return offsets;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_finds_what_a_scan_of_the_lines_finds_on_every_node() {
    let stage = Stage::open().await;
    let client = stage.cluster.client().unwrap();
    for source in [Source::Service, Source::Web] {
        let log = format!("search/{source:?}").to_lowercase();
        client.create_log(&log, IfExists::Fail).await.unwrap();
        let bodies = lines(source, 4_000);
        append_all(&client, &log, &bodies, 400).await.unwrap();
        let has = |words: &[String], word: &str| words.contains(&word.to_lowercase());
        for node in 0..stage.cluster.len() {
            let client = stage.cluster.client_of(node).unwrap();
            for word in WORDS {
                let expected = scan(&bodies, |words| has(words, word));
                assert_eq!(
                    search_all(&client, &log, word).await,
                    expected,
                    "{word}: node {node}"
                );
            }
            let both = scan(&bodies, |words| {
                has(words, "timeout") && has(words, "upstream")
            });
            assert_eq!(search_all(&client, &log, "timeout upstream").await, both);
            let either = scan(&bodies, |words| has(words, "timeout") || has(words, "304"));
            assert_eq!(search_all(&client, &log, "timeout OR 304").await, either);
            let neither = scan(&bodies, |words| !has(words, "info") && !has(words, "get"));
            assert_eq!(search_all(&client, &log, "-info -get").await, neither);
            let phrase = scan(&bodies, |words| {
                words
                    .windows(2)
                    .any(|pair| pair == ["connection", "refused"])
            });
            assert_eq!(
                search_all(&client, &log, "\"connection refused\"").await,
                phrase
            );
        }
    }
}

#[test]
fn the_scan_has_something_to_find() {
    let bodies = [lines(Source::Service, 4_000), lines(Source::Web, 4_000)].concat();
    for word in WORDS {
        let found = scan(&bodies, |words| words.contains(&word.to_lowercase()));
        assert!(found.len() > 10, "{word}: {} lines", found.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_found_at_once_a_thousand_times_of_a_thousand() {
    const TIMES: u64 = 1_000;

    let stage = Stage::open().await;
    let client = stage.cluster.client().unwrap();
    client.create_log("fresh", IfExists::Fail).await.unwrap();
    let leader = stage.cluster.leader().await.unwrap();
    let nodes: Vec<Client> = (0..3)
        .map(|node| stage.cluster.client_of(node).unwrap())
        .collect();
    let followers: Vec<&Client> = (0..3)
        .filter(|node| *node != leader)
        .map(|node| &nodes[node])
        .collect();
    let mut missed = BTreeSet::new();
    for time in 0..TIMES {
        let word = format!("needle{time:04}");
        let body = format!("{word} in a haystack of {time} straws");
        let receipt = client
            .append("fresh", vec![NewRecord::new(body)])
            .await
            .unwrap();
        let turn = usize::try_from(time).unwrap();
        let asked = [
            (nodes[turn % 3].clone(), Consistency::Linearizable),
            (
                followers[turn % 2].clone(),
                Consistency::AtLeast(receipt.next_offset),
            ),
        ];
        for (node, consistency) in asked {
            let options = SearchOptions {
                consistency,
                ..SearchOptions::new("fresh", &word)
            };
            let answer = node.search(options).await.unwrap();
            assert!(
                answer.indexed_next_offset >= receipt.next_offset,
                "{word}: {answer:?}"
            );
            let found: Vec<u64> = answer.hits.iter().map(|hit| hit.record.offset).collect();
            if found != [receipt.first_offset] {
                missed.insert((time, format!("{consistency:?} found {found:?}")));
            }
        }
    }
    assert!(
        missed.is_empty(),
        "{} of {TIMES} missed: {missed:?}",
        missed.len()
    );
}
