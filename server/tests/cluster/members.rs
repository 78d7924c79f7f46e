//! Members come and go: by an operator's word, one at a time, while clients append.

use std::time::Duration;

use anyhow::{Context as _, Result};
use inkstone_client::{
    Able, Client, ClusterStatus, Consistency, Error, IfExists, NodeRole, Reason,
};
use inkstone_jepsen::cluster::{Cluster, PATIENCE};
use tokio::time::{interval, timeout};

use crate::scene::{LOG, Stage, append_all, node_ids};

/// The code with which a node ends that was removed.
const REMOVED: i32 = 5;

/// Looks at the cluster until it is as it should be.
async fn until(
    client: &Client,
    what: &str,
    reached: impl Fn(&ClusterStatus) -> bool,
) -> Result<ClusterStatus> {
    let looking = async {
        let mut looks = interval(Duration::from_millis(50));
        loop {
            looks.tick().await;
            if let Ok(status) = client.cluster_status().await
                && reached(&status)
            {
                return status;
            }
        }
    };
    timeout(PATIENCE, looking)
        .await
        .with_context(|| format!("never: {what}"))
}

/// Starts a node that is in no cluster, and returns its id once the others know that it waits.
pub(crate) async fn start_waiting(cluster: &mut Cluster, node: usize) -> Result<u64> {
    cluster.spawn(node)?;
    let address = cluster.peer_address(node).to_owned();
    let client = cluster.client()?;
    let waits = |status: &ClusterStatus| status.waiting_node(&address).is_some();
    let status = until(&client, "the new node waits", waits).await?;
    Ok(status.waiting_node(&address).expect("it waits").id)
}

/// Adds a waiting node, waits until it is ready and has caught up, and gives it a vote.
pub(crate) async fn join(cluster: &mut Cluster, node: usize, id: u64) -> Result<()> {
    let client = cluster.client()?;
    let id = id.to_string();
    match client.add_member(&id).await {
        // Somebody was here before.
        Err(error) if error.reason() == Some(Reason::AlreadyMember) => {}
        added => drop(added?),
    }
    cluster.ready(node).await?;
    let caught_up = |status: &ClusterStatus| {
        let progress = status.member(&id).and_then(|member| member.progress);
        progress.is_some_and(|progress| progress.caught_up)
    };
    until(&client, "the new node has caught up", caught_up).await?;
    client.promote_member(&id).await?;
    Ok(())
}

/// Waits for the end of a node that was removed, and for what it says.
pub(crate) async fn says_that_it_was_removed(cluster: &mut Cluster, node: usize) -> Result<()> {
    let process = cluster.process(node)?;
    let status = process.exited(PATIENCE).await?;
    let said = process.stderr();
    assert_eq!(status.code(), Some(REMOVED), "{said}");
    assert!(said.contains("was removed from cluster"), "{said}");
    Ok(())
}

fn reason(refused: Result<impl std::fmt::Debug, Error>) -> Option<Reason> {
    refused.expect_err("refused").reason()
}

/// What can't be added or promoted: nobody, a member, a node that only waits.
async fn strangers_are_refused(client: &Client, member: &str, waiting: &str) {
    assert_eq!(
        reason(client.add_member("4711").await),
        Some(Reason::NodeNotFound)
    );
    assert_eq!(
        reason(client.add_member("127.0.0.1:9").await),
        Some(Reason::NodeNotFound)
    );
    assert_eq!(
        reason(client.add_member(member).await),
        Some(Reason::AlreadyMember)
    );
    assert_eq!(
        reason(client.promote_member(waiting).await),
        Some(Reason::NodeNotFound)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_added_promoted_and_removed_and_then_says_so_and_stops() {
    let mut stage = Stage::open().await;
    let cluster = &mut stage.cluster;
    let client = cluster.client().unwrap();
    client.create_log(LOG, IfExists::Fail).await.unwrap();
    let bodies: Vec<_> = (0..200).map(|n| format!("{n}").into_bytes()).collect();
    append_all(&client, LOG, &bodies, 1).await.unwrap();

    let node = cluster.add_node().unwrap();
    let id = start_waiting(cluster, node).await.unwrap();
    let said = cluster.process(node).unwrap().stderr();
    let hint = format!("ink cluster add {}", cluster.peer_address(node));
    assert!(said.contains(&hint), "{said}");

    let name = id.to_string();
    strangers_are_refused(&client, cluster.address(0), &name).await;

    let address = cluster.peer_address(node).to_owned();
    assert_eq!(client.add_member(&address).await.unwrap().id, id);
    assert_eq!(
        reason(client.add_member(&name).await),
        Some(Reason::AlreadyMember)
    );
    cluster.ready(node).await.unwrap();
    let learns = |status: &ClusterStatus| {
        status.member(&name).is_some_and(|member| {
            member.role == NodeRole::Learner
                && !member.voter
                && member.progress.is_some_and(|progress| progress.caught_up)
        })
    };
    let status = until(&client, "a learner", learns).await.unwrap();
    assert_eq!((status.nodes.len(), status.waiting.len()), (4, 0));
    assert_eq!(
        reason(client.transfer_leader(Some(&name)).await),
        Some(Reason::NotVoter)
    );
    assert_eq!(
        reason(client.demote_member(&name, Able::CaughtUp).await),
        Some(Reason::NotVoter)
    );

    join(cluster, node, id).await.unwrap();
    assert_eq!(
        reason(client.promote_member(&name).await),
        Some(Reason::NotLearner)
    );
    let votes = |status: &ClusterStatus| {
        !status.changing && status.member(&name).is_some_and(|member| member.voter)
    };
    until(&client, "a voter", votes).await.unwrap();
    let own = cluster.client_of(node).unwrap();
    assert_eq!(
        own.tail(LOG, Consistency::Linearizable)
            .await
            .unwrap()
            .next_offset,
        200
    );

    client.remove_member(&name, Able::CaughtUp).await.unwrap();
    says_that_it_was_removed(cluster, node).await.unwrap();
    cluster.retire(node);
    cluster.spawn(node).unwrap();
    says_that_it_was_removed(cluster, node).await.unwrap();
    append_all(&client, LOG, &bodies, 10).await.unwrap();
    let status = client.cluster_status().await.unwrap();
    assert_eq!(status.nodes.len(), 3);
    assert!(status.member(&name).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_would_stop_the_cluster_is_refused_and_a_dead_node_goes() {
    let mut stage = Stage::open().await;
    let cluster = &mut stage.cluster;
    let client = cluster.client().unwrap();
    client.create_log(LOG, IfExists::Fail).await.unwrap();
    let ids = node_ids(cluster).await.unwrap();

    // A learner that stands still while the log grows beyond the bound.
    let node = cluster.add_node().unwrap();
    let learner = start_waiting(cluster, node).await.unwrap().to_string();
    client.add_member(&learner).await.unwrap();
    cluster.ready(node).await.unwrap();
    cluster.pause(node).unwrap();
    let bodies: Vec<_> = (0..1_200).map(|n| format!("{n}").into_bytes()).collect();
    append_all(&client, LOG, &bodies, 1).await.unwrap();
    let early = client.promote_member(&learner).await.unwrap_err();
    assert_eq!(early.reason(), Some(Reason::NotCaughtUp), "{early}");
    let status = client.cluster_status().await.unwrap();
    let behind = status.member(&learner).unwrap().progress.unwrap().behind;
    assert!(behind > 1_000, "{behind}");
    assert!(early.to_string().contains("entries behind"), "{early}");
    cluster.resume(node).unwrap();
    join(cluster, node, learner.parse().unwrap()).await.unwrap();
    client
        .remove_member(&learner, Able::CaughtUp)
        .await
        .unwrap();
    says_that_it_was_removed(cluster, node).await.unwrap();
    cluster.retire(node);

    // One of three is dead: of the other two none may go, and the dead one may.
    let dead = (cluster.leader().await.unwrap() + 1) % 3;
    cluster.kill(dead).unwrap();
    let dead_id = ids[dead].to_string();
    let silent = |status: &ClusterStatus| {
        let progress = status.member(&dead_id).and_then(|member| member.progress);
        progress.is_some_and(|progress| !progress.heard)
    };
    until(&client, "the dead node is silent", silent)
        .await
        .unwrap();
    for (number, id) in ids.iter().enumerate().filter(|(number, _)| *number != dead) {
        let id = id.to_string();
        for able in [Able::CaughtUp, Able::Reachable] {
            let refused = client.remove_member(&id, able).await.unwrap_err();
            let reason = refused.reason();
            assert_eq!(
                reason,
                Some(Reason::WouldLoseQuorum),
                "node {number}: {refused}"
            );
            assert!(refused.to_string().contains(&dead_id), "{refused}");
        }
        let refused = client.demote_member(&id, Able::CaughtUp).await;
        assert_eq!(reason(refused), Some(Reason::WouldLoseQuorum));
    }
    let refused = client.transfer_leader(Some(&dead_id)).await;
    assert_eq!(reason(refused), Some(Reason::NotCaughtUp));
    client
        .remove_member(&dead_id, Able::CaughtUp)
        .await
        .unwrap();
    append_all(&client, LOG, &bodies[..10], 1).await.unwrap();
    cluster.spawn(dead).unwrap();
    says_that_it_was_removed(cluster, dead).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_back_at_other_addresses_is_found_again() {
    let mut stage = Stage::open().await;
    let cluster = &mut stage.cluster;
    let client = cluster.client().unwrap();
    client.create_log(LOG, IfExists::Fail).await.unwrap();
    let ids = node_ids(cluster).await.unwrap();
    let moved = (cluster.leader().await.unwrap() + 1) % 3;
    assert!(cluster.terminate(moved).await.unwrap().success());
    cluster.move_node(moved).unwrap();
    cluster.restart(moved).await.unwrap();
    let (id, address) = (ids[moved].to_string(), cluster.peer_address(moved));
    let known = |status: &ClusterStatus| {
        let member = status.member(&id);
        member.is_some_and(|member| {
            member.node.peer_address == address
                && member.progress.is_some_and(|progress| progress.caught_up)
        })
    };
    let client = cluster.client().unwrap();
    until(&client, "its new address is known", known)
        .await
        .unwrap();
    append_all(&client, LOG, &[b"one".to_vec()], 1)
        .await
        .unwrap();
    let own = cluster.client_of(moved).unwrap();
    let tail = own.tail(LOG, Consistency::Linearizable).await.unwrap();
    assert_eq!(tail.next_offset, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_removed_hands_over_first() {
    let mut stage = Stage::open().await;
    let cluster = &mut stage.cluster;
    let client = cluster.client().unwrap();
    client.create_log(LOG, IfExists::Fail).await.unwrap();
    let leader = cluster.leader().await.unwrap();
    let id = node_ids(cluster).await.unwrap()[leader].to_string();
    // On a busy machine the leader may not have heard of one of them yet, and then it rightly refuses.
    let caught_up = |status: &ClusterStatus| {
        let others = status
            .nodes
            .iter()
            .filter(|row| row.node.id.to_string() != id);
        let mut progress = others.map(|row| row.progress.as_ref());
        progress.all(|progress| progress.is_some_and(|it| it.caught_up))
    };
    until(&client, "both others are caught up", caught_up)
        .await
        .unwrap();
    client.remove_member(&id, Able::CaughtUp).await.unwrap();
    says_that_it_was_removed(cluster, leader).await.unwrap();
    cluster.retire(leader);
    append_all(&client, LOG, &[b"one".to_vec()], 1)
        .await
        .unwrap();
}
