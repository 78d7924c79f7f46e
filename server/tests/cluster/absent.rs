//! A follower that stands still: the leader goes on without it, holds nothing for it in memory, and brings it back from its
//! sealed segments.

use std::time::Duration;

use inkstone_client::{IfExists, NewRecord};
use inkstone_jepsen::cluster::{Cluster, ClusterOptions};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::hostile::memory;
use crate::scene::{Stage, binary};

const LOG: &str = "absent";
const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(180);

/// Incompressible, so that it is as large everywhere as here.
fn noise(seed: usize, size: usize) -> Vec<u8> {
    let mut state = u64::try_from(seed).expect("a small number") * 2 + 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        bytes.extend((state >> 16).to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Raft index up to which every node has applied, once that is the same on all.
async fn all_are_level(cluster: &Cluster) {
    let client = cluster.client().expect("a client");
    let mut turns = interval(Duration::from_millis(200));
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let Ok(status) = client.cluster_status().await else {
            continue;
        };
        let first = status.nodes[0].durable_index;
        let level =
            |node: &inkstone_client::NodeStatus| node.reachable && node.durable_index == first;
        if status.nodes.iter().all(level) {
            let chain = status.nodes[0].chain_crc;
            assert!(status.nodes.iter().all(|node| node.chain_crc == chain));
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_stands_still_costs_the_leader_no_memory_and_catches_up() {
    let options = ClusterOptions {
        tables:
            "[log]\nsegment_size = \"16MiB\"\ntail_size = \"8MiB\"\n[search]\nenabled = false\n"
                .to_owned(),
        ..ClusterOptions::new(binary())
    };
    let mut stage = Stage::open_with(options).await;
    let client = stage.cluster.client().unwrap();
    client.create_log(LOG, IfExists::Fail).await.unwrap();
    let leader = stage.cluster.leader().await.unwrap();
    let paused = (leader + 1) % 3;
    let before = memory(&mut stage, leader);
    stage.cluster.pause(paused).unwrap();
    for round in 0..60 {
        let records = (0..4).map(|part| NewRecord::new(noise(4 * round + part, 1_000_000)));
        client.append(LOG, records.collect()).await.unwrap();
    }
    assert_eq!(
        stage.cluster.leader().await.unwrap(),
        leader,
        "nothing is shown by another"
    );
    let more = memory(&mut stage, leader).saturating_sub(before);
    // The tail, the writer's queue, and a connection's window for each follower. Of the 240 MB that the paused one lacks
    // nothing more is held.
    let bound = 8 * MIB + 64 * MIB + 2 * 16 * MIB;
    assert!(more <= bound, "{} MiB", more / MIB);
    stage.cluster.resume(paused).unwrap();
    timeout(PATIENCE, all_are_level(&stage.cluster))
        .await
        .expect("it does not catch up");
    let more = memory(&mut stage, leader).saturating_sub(before);
    assert!(more <= bound, "{} MiB after it has caught up", more / MIB);
}
