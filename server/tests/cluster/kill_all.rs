//! All nodes die at the same moment, in the middle of appends.

use inkstone_jepsen::nemesis::kill_all_and_restart;

use crate::scene::FaultRun;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_record_is_lost_doubled_or_moved_when_all_nodes_are_killed_at_once() {
    let mut faults = FaultRun::start().await.unwrap();
    for _ in 0..3 {
        kill_all_and_restart(&mut faults.stage.cluster)
            .await
            .unwrap();
        faults.run.progress.wait_for_more(300).await.unwrap();
    }
    println!("{}", faults.judge(900).await.unwrap());
}
