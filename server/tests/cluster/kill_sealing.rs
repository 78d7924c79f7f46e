//! Nodes die while segments fill, are sealed and get their checkpoints: what is read after a restart comes from all of
//! them.

use inkstone_jepsen::cluster::ClusterOptions;
use inkstone_jepsen::nemesis::{kill_all_and_restart, kill_leader_and_restart};
use inkstone_jepsen::workload::AppendersOptions;

use crate::scene::{FaultRun, binary};

/// With 64 KiB per append, more than one of the smallest segments that the server allows.
const APPENDS: u64 = 350;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_record_is_lost_doubled_or_moved_when_nodes_are_killed_while_segments_roll()
{
    let cluster = ClusterOptions {
        tables: "[log]\nsegment_size = 16777216\n".to_owned(),
        ..ClusterOptions::new(binary())
    };
    let appends = AppendersOptions {
        batch: 8,
        size: 8 << 10,
        ..AppendersOptions::default()
    };
    let mut faults = FaultRun::start_with(cluster, appends).await.unwrap();
    for _ in 0..2 {
        faults.run.progress.wait_for_more(APPENDS).await.unwrap();
        kill_leader_and_restart(&mut faults.stage.cluster)
            .await
            .unwrap();
        faults.run.progress.wait_for_more(APPENDS).await.unwrap();
        kill_all_and_restart(&mut faults.stage.cluster)
            .await
            .unwrap();
    }
    let checkpoints = std::fs::read_dir(faults.stage.cluster.data_dir(0).join("group-1/log"))
        .unwrap()
        .filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .path()
                .extension()
                .is_some_and(|e| e == "ckpt")
        })
        .count();
    assert!(
        checkpoints >= 2,
        "{checkpoints} checkpoints: the segments did not roll"
    );
    println!("{}", faults.judge(1_400).await.unwrap());
}
