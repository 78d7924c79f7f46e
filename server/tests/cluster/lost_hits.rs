//! A search that finds a record which is damaged on every node: the answer says so, and is whole in all else.

use std::path::PathBuf;

use anyhow::Result;
use inkstone_client::{Client, Consistency, Gap, GapReason, IfExists, SearchAnswer, SearchOptions};
use inkstone_jepsen::cluster::{Cluster, ClusterOptions};
use inkstone_jepsen::lines::Numbers;

use crate::damage::{find_records, segments};
use crate::scene::{Stage, append_all, binary};
use crate::scrub::flip_in_place;

pub(crate) const LOG: &str = "found";
pub(crate) const RECORDS: u64 = 1_200;

/// Text that does not compress, so that it stands in the file as it is; each with a word of its own.
pub(crate) fn texts() -> Vec<Vec<u8>> {
    let mut numbers = Numbers::new(21);
    let letter = |byte: u8| {
        b"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-+"[usize::from(byte & 63)]
    };
    let text = |number: u64| {
        let noise = numbers.bytes(15 << 10).into_iter().map(letter);
        format!("needle{number} every ")
            .into_bytes()
            .into_iter()
            .chain(noise)
            .collect()
    };
    (0..RECORDS).map(text).collect()
}

pub(crate) async fn search(client: &Client, query: &str) -> SearchAnswer {
    let options = SearchOptions {
        consistency: Consistency::Linearizable,
        ..SearchOptions::new(LOG, query)
    };
    client.search(options).await.expect("an answer")
}

/// A cluster whose nodes have all searched the log and sealed its first segment, with a client of each; nothing scrubs.
pub(crate) async fn searched_cluster(texts: &[Vec<u8>]) -> (Stage, Vec<Client>) {
    searched_cluster_after(async |client| append_all(client, LOG, texts, 10).await.map(drop)).await
}

/// The same after the texts were appended in another way.
pub(crate) async fn searched_cluster_after(
    append: impl AsyncFnOnce(&Client) -> Result<()>,
) -> (Stage, Vec<Client>) {
    let options = ClusterOptions {
        tables: "[log]\nsegment_size = 16777216\ntail_size = 1048576\n".to_owned(),
        ..ClusterOptions::new(binary())
    };
    let mut stage = Stage::open_with(options).await;
    for node in 0..3 {
        stage
            .cluster
            .write_config(node, "scrub_rate = 0\n")
            .expect("the cluster works");
        assert!(
            stage
                .cluster
                .terminate(node)
                .await
                .expect("the cluster works")
                .success()
        );
        stage
            .cluster
            .restart(node)
            .await
            .expect("the cluster works");
    }
    let client = stage.cluster.client().expect("the cluster works");
    client
        .create_log(LOG, IfExists::Fail)
        .await
        .expect("the cluster works");
    append(&client).await.expect("the cluster works");
    let asked: Vec<Client> = (0..3)
        .map(|node| stage.cluster.client_of(node).expect("the cluster works"))
        .collect();
    for client in &asked {
        assert_eq!(search(client, "needle1199").await.hits.len(), 1);
    }
    // Written when the footer of the segment before is durable.
    let is_sealed = |node| {
        let second = segments(&stage.cluster, node).into_iter().nth(1);
        second.is_some_and(|second| second.with_extension("ckpt").exists())
    };
    while !(0..3).all(is_sealed) {
        tokio::task::yield_now().await;
    }
    (stage, asked)
}

/// A record of that segment, and on each node a byte of it.
pub(crate) fn a_record(cluster: &Cluster, texts: &[Vec<u8>]) -> (u64, Vec<(PathBuf, u64)>) {
    let mut lost = None;
    let bytes = (0..3).map(|node| {
        let file = segments(cluster, node).remove(0);
        let found = find_records(&file, texts);
        let lost = *lost.get_or_insert(found[40].1);
        let (position, _) = found
            .iter()
            .find(|(_, of)| *of == lost)
            .expect("the cluster works");
        (file, *position as u64 + 9_000)
    });
    let bytes = bytes.collect();
    (lost.expect("the cluster works") as u64, bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hit_that_is_damaged_on_every_node_is_named_and_the_others_are_shown() {
    let texts = texts();
    let (stage, asked) = searched_cluster(&texts).await;
    let (lost, bytes) = a_record(&stage.cluster, &texts);
    for (file, position) in &bytes {
        flip_in_place(file, *position);
    }
    for client in &asked {
        let answer = search(client, &format!("needle{lost} OR needle{}", RECORDS - 1)).await;
        assert_eq!(answer.hits.len(), 1);
        assert_eq!(answer.hits[0].record.offset, RECORDS - 1);
        assert!(!answer.complete, "{:?}", answer.gaps);
        let [Gap { from, to, reason }] = answer.gaps[..] else {
            panic!("{:?}", answer.gaps);
        };
        assert_eq!(reason, GapReason::Damaged);
        assert!(
            (from..to).contains(&lost) && to - from <= 10,
            "{from} to {to}"
        );
        let other = search(client, &format!("needle{}", RECORDS - 2)).await;
        assert!(other.complete && other.gaps.is_empty() && other.hits.len() == 1);
    }
}
