//! Both slots of the hard state are bad on as many nodes as may fail: these do not start, for they might vote twice; the
//! others go on and have everything; and new nodes take their places.

use anyhow::Result;
use inkstone_client::{Able, IfExists};
use inkstone_jepsen::cluster::ClusterOptions;

use crate::damage::{LOG, bodies};
use crate::damage_refused::{AS_A_NEW_NODE, both_slots, refusal};
use crate::heal::all_nodes_agree;
use crate::members::{join, start_waiting};
use crate::scene::{Stage, append_all, binary, node_ids};

const FEW: usize = 100;

/// A cluster of so many nodes, of which the first `damaged` lose their hard state.
async fn lost_on(nodes: usize, damaged: usize) -> Result<()> {
    let options = ClusterOptions {
        nodes,
        tables: "[search]\nenabled = false\n".to_owned(),
        ..ClusterOptions::new(binary())
    };
    let mut stage = Stage::open_with(options).await;
    let mut bodies = bodies();
    bodies.truncate(FEW);
    let client = stage.cluster.client()?;
    client.create_log(LOG, IfExists::Fail).await?;
    append_all(&client, LOG, &bodies[..FEW / 2], 10).await?;
    let ids = node_ids(&stage.cluster).await?;
    stage.cluster.kill_all()?;
    for (node, id) in ids.iter().enumerate().take(damaged) {
        both_slots(&stage.cluster.data_dir(node).join("group-1/hard-state"));
        let line = refusal(&mut stage.cluster, node, "both slots").await;
        assert!(
            line.contains("hard-state") && line.contains(AS_A_NEW_NODE),
            "{line}"
        );
        let command = format!("ink cluster remove {id}");
        assert!(line.contains(&command), "{line}");
    }
    for node in damaged..nodes {
        stage.cluster.spawn(node)?;
    }
    for node in damaged..nodes {
        stage.cluster.ready(node).await?;
    }
    append_all(&client, LOG, &bodies[FEW / 2..], 10).await?;

    // As the message says.
    for (node, old) in ids.iter().enumerate().take(damaged) {
        client
            .remove_member(&old.to_string(), Able::CaughtUp)
            .await?;
        stage.cluster.wipe(node)?;
        let id = start_waiting(&mut stage.cluster, node).await?;
        assert_ne!(id, *old);
        join(&mut stage.cluster, node, id).await?;
    }
    all_nodes_agree(&stage.cluster, &bodies).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_without_its_hard_state_stays_down_and_is_replaced() {
    lost_on(3, 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_five_without_their_hard_state_stay_down_and_are_replaced() {
    lost_on(5, 2).await.unwrap();
}
