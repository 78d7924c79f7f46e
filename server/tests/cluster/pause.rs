//! The leader's process stands still until it is deposed, and then goes on as if nothing had happened.

use inkstone_jepsen::nemesis::pause_leader_until_deposed;

use crate::scene::{FaultRun, LOG};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_slept_through_its_deposition_serves_nothing_stale_and_loses_nothing() {
    let mut faults = FaultRun::start().await.unwrap();
    for _ in 0..2 {
        let FaultRun { stage, run, .. } = &mut faults;
        let (old, new) = pause_leader_until_deposed(&mut stage.cluster, run, LOG, 100)
            .await
            .unwrap();
        assert_ne!(old, new);
        run.progress.wait_for_more(300).await.unwrap();
    }
    println!("{}", faults.judge(800).await.unwrap());
}
