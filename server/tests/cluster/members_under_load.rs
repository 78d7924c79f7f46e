//! Members and leaders change while clients append: nothing is lost, and no client that retries sees an error.

use std::time::Duration;

use inkstone_client::Able;
use inkstone_jepsen::cluster::ClusterOptions;
use inkstone_jepsen::history::{Call, Outcome};
use inkstone_jepsen::workload::{AppendersOptions, Run};

use crate::members::{join, says_that_it_was_removed, start_waiting};
use crate::scene::{FaultRun, binary, node_ids};

/// Clients that retry alone: each of their appends must be answered.
const RETRYING: AppendersOptions = AppendersOptions {
    retrying: 4,
    conditional: 1,
    ..AppendersOptions::NONE
};

async fn start() -> FaultRun {
    FaultRun::start_with(ClusterOptions::new(binary()), RETRYING)
        .await
        .expect("the cluster takes appends")
}

/// No append that has ended was refused or lost. A conditional one may be unknown: a try of it that was lost, and then
/// refused because the log has grown, can't be settled by another try.
fn assert_all_appended(run: &Run) {
    for operation in run.history.operations() {
        let Call::Append {
            expected_offset, ..
        } = &operation.call
        else {
            continue;
        };
        let fine = match &operation.outcome {
            Outcome::Appended { .. } | Outcome::Mismatch { .. } => true,
            Outcome::Unknown { why } => why == "never answered" || expected_offset.is_some(),
            _ => false,
        };
        assert!(fine, "{operation:?}");
    }
}

/// The longest time in which no append was acknowledged, within these two points of the run.
fn longest_gap(run: &Run, from: u64, to: u64) -> Duration {
    let mut ends: Vec<u64> = run
        .history
        .operations()
        .iter()
        .filter(|operation| matches!(operation.outcome, Outcome::Appended { .. }))
        .map(|operation| operation.returned)
        .filter(|returned| (from..=to).contains(returned))
        .collect();
    ends.sort_unstable();
    let gap = ends.windows(2).map(|pair| pair[1] - pair[0]).max();
    Duration::from_nanos(gap.unwrap_or(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_node_is_replaced_while_clients_append() {
    let mut faults = start().await;
    let cluster = &mut faults.stage.cluster;
    let ids = node_ids(cluster).await.unwrap();
    for node in [0, 1] {
        cluster.kill(node).unwrap();
        cluster.wipe(node).unwrap();
        faults.run.progress.wait_for_more(100).await.unwrap();
        let id = start_waiting(cluster, node).await.unwrap();
        assert!(!ids.contains(&id), "a wiped node has its old id");
        join(cluster, node, id).await.unwrap();
        let old = ids[node].to_string();
        let client = cluster.client().unwrap();
        client.remove_member(&old, Able::CaughtUp).await.unwrap();
        faults.run.progress.wait_for_more(100).await.unwrap();
    }
    assert_all_appended(&faults.run);
    println!("{}", faults.judge(300).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_become_five_and_three_again_under_load() {
    let mut faults = start().await;
    let cluster = &mut faults.stage.cluster;
    for _ in 0..2 {
        let node = cluster.add_node().unwrap();
        let id = start_waiting(cluster, node).await.unwrap();
        join(cluster, node, id).await.unwrap();
        faults.run.progress.wait_for_more(100).await.unwrap();
    }
    let client = cluster.client().unwrap();
    assert_eq!(client.cluster_status().await.unwrap().nodes.len(), 5);
    // The leader, and then whoever leads after it.
    for _ in 0..2 {
        let leader = cluster.leader().await.unwrap();
        let address = cluster.address(leader).to_owned();
        let status = client.cluster_status().await.unwrap();
        let id = status.member(&address).unwrap().node.id.to_string();
        client.remove_member(&id, Able::CaughtUp).await.unwrap();
        says_that_it_was_removed(cluster, leader).await.unwrap();
        cluster.retire(leader);
        faults.run.progress.wait_for_more(100).await.unwrap();
    }
    let status = client.cluster_status().await.unwrap();
    assert!(status.nodes.len() == 3 && status.nodes.iter().all(|node| node.voter));
    assert_all_appended(&faults.run);
    println!("{}", faults.judge(300).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_fifty_times_under_load() {
    let faults = start().await;
    let client = faults.stage.cluster.client().unwrap();
    let mut leader = client.cluster_status().await.unwrap().leader;
    for _ in 0..50 {
        let transfer = client.transfer_leader(None).await.unwrap();
        assert!(transfer.transferred && Some(transfer.leader.id) != leader);
        leader = Some(transfer.leader.id);
        faults.run.progress.wait_for_more(10).await.unwrap();
    }
    assert_all_appended(&faults.run);
    println!("{}", faults.judge(500).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_costs_no_append_and_no_election() {
    let mut faults = start().await;
    let mut gaps = Vec::new();
    for _ in 0..2 {
        for node in 0..3 {
            let cluster = &mut faults.stage.cluster;
            let led = cluster.leader().await.unwrap() == node;
            let from = faults.run.history.now();
            assert!(cluster.terminate(node).await.unwrap().success());
            faults.run.progress.wait_for_more(50).await.unwrap();
            let to = faults.run.history.now();
            gaps.push((led, longest_gap(&faults.run, from, to)));
            faults.stage.cluster.restart(node).await.unwrap();
            faults.run.progress.wait_for_more(50).await.unwrap();
        }
        // At least once a leader is stopped.
        let cluster = &faults.stage.cluster;
        let first = node_ids(cluster).await.unwrap()[0].to_string();
        let client = cluster.client().unwrap();
        client.transfer_leader(Some(&first)).await.unwrap();
    }
    println!("(it led, longest time without an acknowledged append): {gaps:?}");
    assert!(gaps.iter().any(|(led, _)| *led), "no leader was stopped");
    assert_all_appended(&faults.run);
    println!("{}", faults.judge(300).await.unwrap());
}
