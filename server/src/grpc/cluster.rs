//! The cluster: who is in it, and how far each node is.

use std::time::Duration;

use futures::future::join_all;
use inkstone_proto::peer_v1::NodeStatusRequest;
use inkstone_proto::v1::{ClusterStatusResponse, NodeInfo, NodeStatus};
use tokio::time::timeout;
use uuid::Uuid;

use crate::grpc::limits::STATUS_TIMEOUT;
use crate::grpc::{Services, convert};
use crate::raft::Leader;

/// Who is in the cluster and how far each node is: every member is asked, at the same time. It never fails: what this
/// node does not know is said so, which is what one wants to see when there is no leader.
pub(crate) async fn cluster_status(services: &Services) -> ClusterStatusResponse {
    let group = &services.group;
    let own = group.node_id();
    let mut members = group.members();
    members.sort_by_key(|member| member.id);
    let nodes = join_all(members.into_iter().map(async |member| {
        if member.id == own {
            return node_status_here(services);
        }
        ask_status(services, member, STATUS_TIMEOUT).await
    }))
    .await;
    let leader = match group.leader() {
        Leader::Here => own,
        Leader::There(leader) => leader.id,
        Leader::Unknown => 0,
    };
    ClusterStatusResponse {
        cluster_id: Uuid::from_bytes(group.cluster_id()).to_string(),
        leader,
        term: group.term(),
        nodes,
        answered_by: own,
    }
}

/// This node's own row. For the peer service, too.
pub(crate) fn node_status_here(services: &Services) -> NodeStatus {
    NodeStatus {
        reachable: true,
        indexed_index: services.indexer.index(),
        scrub: Some(convert::scrub_status(
            services.scrub.status(),
            &services.data_dir,
        )),
        ..services.group.node_status()
    }
}

async fn ask_status(services: &Services, member: NodeInfo, patience: Duration) -> NodeStatus {
    let header = services.group.header(member.id);
    let mut peer = services.group.peer(&member);
    let asked = timeout(
        patience,
        peer.node_status(NodeStatusRequest {
            header: Some(header),
        }),
    );
    match asked.await {
        Ok(Ok(response)) => {
            let status = response.into_inner();
            NodeStatus {
                reachable: true,
                node: status.node.or(Some(member)),
                ..status
            }
        }
        Ok(Err(_)) | Err(_) => NodeStatus {
            node: Some(member),
            reachable: false,
            ..NodeStatus::default()
        },
    }
}
