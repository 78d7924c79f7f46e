//! Eight clients that all want the next offset, while leaders change.

use inkstone_jepsen::cluster::ClusterOptions;
use inkstone_jepsen::nemesis::{kill_leader_and_restart, pause_leader_until_deposed};
use inkstone_jepsen::workload::AppendersOptions;

use crate::scene::{FaultRun, LOG, binary};

/// Wins that show that the race goes on.
const WINS: u64 = 100;

/// What the checkers find here: an append elsewhere than at its expected offset, two records at one offset (two
/// winners), a tail in a refusal that was not the log's end at any moment between call and answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_racing_writers_have_one_winner_per_offset_and_losers_are_told_the_true_tail() {
    let writers = AppendersOptions {
        conditional: 4,
        conditional_unnumbered: 4,
        ..AppendersOptions::NONE
    };
    let mut faults = FaultRun::start_with(ClusterOptions::new(binary()), writers)
        .await
        .unwrap();
    let FaultRun { stage, run, .. } = &mut faults;
    run.progress.wait_for_more(WINS).await.unwrap();
    kill_leader_and_restart(&mut stage.cluster).await.unwrap();
    run.progress.wait_for_more(WINS).await.unwrap();
    pause_leader_until_deposed(&mut stage.cluster, run, LOG, WINS)
        .await
        .unwrap();
    kill_leader_and_restart(&mut stage.cluster).await.unwrap();
    run.progress.wait_for_more(WINS).await.unwrap();
    let verdict = faults.judge(400).await.unwrap();
    println!("{verdict}");
}
