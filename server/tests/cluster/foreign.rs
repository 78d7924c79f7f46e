//! A node of another cluster at the address of a member that is gone.

use std::time::Duration;

use inkstone_client::{IfExists, NewRecord};
use inkstone_jepsen::cluster::ports;
use inkstone_jepsen::process::Process;

use crate::scene::{Stage, binary};

const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_at_a_dead_members_address_ends_no_member_that_starts() {
    let mut stage = Stage::open().await;
    let client = stage.cluster.client().unwrap();
    client.create_log("kept", IfExists::Fail).await.unwrap();
    stage.cluster.kill_all().unwrap();

    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("inkstone.toml");
    let text = format!(
        "data_dir = {:?}\nclient_listen = \"127.0.0.1:{}\"\npeer_listen = {:?}\nbootstrap_expect = 1\n",
        dir.path().join("data").display().to_string(),
        ports::free().unwrap(),
        stage.cluster.peer_address(2),
    );
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let mut stranger =
        Process::spawn(&binary(), &["serve", "--config", config], dir.path()).unwrap();
    stranger.ready(SOON).await.unwrap();

    // The first of them hears of nobody but the stranger.
    stage.cluster.spawn(0).unwrap();
    let warned = async {
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        loop {
            looks.tick().await;
            assert!(stage.cluster.is_running(0), "a stranger has ended it");
            let said = stage.cluster.process(0).unwrap().stderr();
            if said.contains("its answer is left out") {
                return said;
            }
        }
    };
    let said = tokio::time::timeout(SOON, warned).await.unwrap();
    assert!(said.contains("is in cluster"), "{said}");
    stage.cluster.spawn(1).unwrap();
    for node in [0, 1] {
        stage.cluster.ready(node).await.unwrap();
    }
    client
        .append("kept", vec![NewRecord::new("more")])
        .await
        .unwrap();
    let said = stage.cluster.process(0).unwrap().stderr();
    assert_eq!(said.matches("its answer is left out").count(), 1, "{said}");
}
