//! A member that was started with other addresses is found again.
//!
//! It says hello with its id and its new addresses. Whoever hears that asks at the new address whether it is so, and at
//! the old one whether nobody is there any more: two processes with one identity would have one vote twice. Then it
//! reaches the node at the new address, and the leader puts that into the membership.

use inkstone_proto::peer_v1::HelloRequest;
use inkstone_proto::v1::NodeInfo;

use crate::discovery::cluster_from_wire;
use crate::grpc::Services;
use crate::raft::MemberError;

/// Looks whether the asker is a member with other addresses than the membership has, and follows it in the background.
pub(crate) fn notice(services: &Services, request: &HelloRequest) {
    let Some(node) = &request.node else { return };
    let ours = cluster_from_wire(&request.cluster_id) == services.group.cluster_id();
    let members = services.group.membership();
    let Some(known) = members.nodes.get(&node.id) else {
        return;
    };
    if !ours {
        return;
    }
    if known == node {
        // What was heard before the membership knew is over.
        services.group.reach_at(node);
        return;
    }
    // One at a time for each node: it says hello several times a second.
    let Some(turn) = services.group.begin_move(node.id) else {
        return;
    };
    let (services, known, node) = (services.clone(), known.clone(), node.clone());
    tokio::spawn(async move {
        follow(&services, &known, node).await;
        drop(turn);
    });
}

async fn follow(services: &Services, known: &NodeInfo, node: NodeInfo) {
    let (old, new) = (known.peer_address.as_str(), node.peer_address.as_str());
    if answers_as(services, new).await.as_ref() != Some(&node) {
        return;
    }
    if old != new && answers_as(services, old).await.map(|there| there.id) == Some(node.id) {
        tracing::warn!(
            node = node.id,
            old,
            new,
            "a node runs at both addresses: a data directory was copied; stop one of the two"
        );
        return;
    }
    services.group.reach_at(&node);
    match services.group.set_address(node.clone()).await {
        Ok(_) => tracing::info!(
            node = node.id,
            old,
            new,
            "the node's new addresses are known"
        ),
        // The leader hears of it from the node itself.
        Err(MemberError::NotLeader { .. } | MemberError::UnderWay) => {}
        Err(error) => {
            tracing::warn!(node = node.id, %error, "a node's new addresses could not be noted");
        }
    }
}

/// Who answers at that address.
async fn answers_as(services: &Services, address: &str) -> Option<NodeInfo> {
    services.discovery.hello(address).await?.node
}
