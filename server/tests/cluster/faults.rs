//! Every fault of the long runs once, in an order that a seed chose, under 16 clients. `jepsen/README.md` has the long runs.

use anyhow::Result;
use inkstone_jepsen::cluster::ClusterOptions;
use inkstone_jepsen::nemesis::Fault;
use inkstone_jepsen::scenario::Scenario;
use inkstone_jepsen::workload::AppendersOptions;

use crate::scene::{LOG, binary, turn};

/// Appends that are acknowledged between two faults.
const CALM: u64 = 300;

async fn every_fault_once(nodes: usize, seed: u64) -> Result<String> {
    let _turn = turn().await;
    let faults = Fault::list("kill-leader,kill-follower,pause,restart-all")?;
    let scenario = Scenario {
        cluster: ClusterOptions {
            nodes,
            ..ClusterOptions::new(binary())
        },
        log: LOG.to_owned(),
        appenders: AppendersOptions {
            batch: 2,
            ..AppendersOptions::retrying(16)
        },
        appends: 3_000,
        faults_min: faults.len(),
        calm: CALM,
        faults,
        seed,
    };
    let ended = scenario.run(|_| {}).await?;
    let text = ended.text();
    assert!(ended.verdict.is_valid(), "{text}");
    let counts = ended.verdict.counts;
    assert!(counts.appends_acked >= 3_000, "too few appends:\n{text}");
    assert_eq!(
        counts.appends_unknown, counts.appends_unknown_conditional,
        "a retry settles every append that has a place of its own:\n{text}"
    );
    assert_eq!(
        (counts.final_reads, counts.chains),
        (nodes, nodes),
        "{text}"
    );
    assert!(
        counts.again > 0 && counts.tails > 0,
        "nobody asked:\n{text}"
    );
    let steps = ended.steps.join("\n");
    Ok(format!("{steps}\nafter {:?}:\n{text}", ended.elapsed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_lose_double_and_move_nothing_under_kills_pauses_and_restarts() {
    println!("{}", every_fault_once(3, 3).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_lose_double_and_move_nothing_under_kills_pauses_and_restarts() {
    println!("{}", every_fault_once(5, 5).await.unwrap());
}
