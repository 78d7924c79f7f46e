//! The network between the nodes fails while clients reach all of them.

use anyhow::Result;
use inkstone_jepsen::cluster::{ClusterOptions, Network};
use inkstone_jepsen::nemesis::{Deafness, lose_one_way, split_off_leader};
use inkstone_jepsen::workload::AppendersOptions;

use crate::scene::{FaultRun, LOG, binary};

/// Appends that show that the majority serves.
const A_FEW: u64 = 100;

async fn start(nodes: usize) -> Result<FaultRun> {
    let cluster = ClusterOptions {
        nodes,
        network: Network::Relayed,
        ..ClusterOptions::new(binary())
    };
    let appenders = AppendersOptions {
        trying_once: 2,
        sessions: 2,
        asking_again: 2,
        ..AppendersOptions::default()
    };
    FaultRun::start_with(cluster, appenders).await
}

/// The observers and thirty more clients ask the old leader, too: it must not answer from the past.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_serves_nothing_stale_and_loses_nothing() {
    let mut faults = start(3).await.unwrap();
    let FaultRun { stage, run, .. } = &mut faults;
    for _ in 0..2 {
        let (old, new) = split_off_leader(&stage.cluster, run, LOG, 0, A_FEW)
            .await
            .unwrap();
        assert_ne!(old, new);
    }
    println!("{}", faults.judge(400).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_with_the_minority_serves_nothing_stale_and_loses_nothing() {
    let mut faults = start(5).await.unwrap();
    let FaultRun { stage, run, .. } = &mut faults;
    split_off_leader(&stage.cluster, run, LOG, 1, A_FEW)
        .await
        .unwrap();
    println!("{}", faults.judge(200).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_not_heard_or_does_not_hear_is_deposed_and_loses_nothing() {
    let mut faults = start(3).await.unwrap();
    let FaultRun { stage, run, .. } = &mut faults;
    for deafness in [Deafness::Mute, Deafness::Deaf] {
        lose_one_way(&stage.cluster, run, LOG, deafness, A_FEW)
            .await
            .unwrap();
    }
    println!("{}", faults.judge(400).await.unwrap());
}
