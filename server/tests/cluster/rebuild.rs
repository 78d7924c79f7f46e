//! The index is a cache: a node that lost it builds it again from its log.

use std::time::Duration;

use inkstone_client::{Client, IfExists, SearchOptions};
use inkstone_jepsen::cluster::PATIENCE;
use inkstone_jepsen::lines::{Source, WORDS, lines};
use tokio::time::{interval, timeout};

use crate::scene::{Stage, append_all, node_ids};
use crate::search::search_all;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_index_is_built_again_and_answers_the_same() {
    let mut stage = Stage::open().await;
    let client = stage.cluster.client().unwrap();
    client.create_log("cache", IfExists::Fail).await.unwrap();
    append_all(&client, "cache", &lines(Source::Service, 3_000), 300)
        .await
        .unwrap();
    let leader = stage.cluster.leader().await.unwrap();
    let follower = (leader + 1) % 3;
    let asked = stage.cluster.client_of(follower).unwrap();
    let own_id = node_ids(&stage.cluster).await.unwrap()[follower];
    answers_itself(&asked, own_id).await;
    let mut before = Vec::new();
    for word in WORDS {
        before.push(search_all(&asked, "cache", word).await);
    }

    stage.cluster.terminate(follower).await.unwrap();
    let index = stage.cluster.data_dir(follower).join("group-1/search");
    std::fs::remove_dir_all(&index).unwrap();
    stage.cluster.restart(follower).await.unwrap();

    answers_itself(&asked, own_id).await;
    for (word, before) in WORDS.into_iter().zip(before) {
        assert_eq!(search_all(&asked, "cache", word).await, before, "{word}");
    }
    let status = stage
        .cluster
        .client()
        .unwrap()
        .cluster_status()
        .await
        .unwrap();
    assert!(
        status
            .nodes
            .iter()
            .any(|node| node.node.id == own_id && node.reachable)
    );
    assert!(
        std::fs::read_dir(&index).unwrap().next().is_some(),
        "nothing in {}",
        index.display()
    );
}

/// Returns once the node's searches are answered from its own index and not by another node's.
async fn answers_itself(client: &Client, own_id: u64) {
    let search = async {
        let mut turns = interval(Duration::from_millis(50));
        loop {
            turns.tick().await;
            let options = SearchOptions::new("cache", "info");
            if client
                .search(options)
                .await
                .is_ok_and(|answer| answer.node == own_id)
            {
                return;
            }
        }
    };
    timeout(PATIENCE, search)
        .await
        .expect("the node answers from its own index in time");
}
