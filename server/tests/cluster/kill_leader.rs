//! The leader dies, again and again, while clients append.

use inkstone_jepsen::nemesis::kill_leader_and_restart;

use crate::scene::FaultRun;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_record_is_lost_doubled_or_moved_when_five_leaders_are_killed() {
    let mut faults = FaultRun::start().await.unwrap();
    for _ in 0..5 {
        kill_leader_and_restart(&mut faults.stage.cluster)
            .await
            .unwrap();
        faults.run.progress.wait_for_more(300).await.unwrap();
    }
    println!("{}", faults.judge(1500).await.unwrap());
}
