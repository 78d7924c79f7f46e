//! The cluster: who is in it, and how far each node is.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use inkstone_proto::peer_v1::{NodeStatusRequest, ProgressRequest};
use inkstone_proto::v1::{ClusterStatusResponse, NodeInfo, NodeStatus, ReplicationProgress};
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
    let members = group.membership();
    let leader = match group.leader() {
        Leader::Here => own,
        Leader::There(leader) => leader.id,
        Leader::Unknown => 0,
    };
    let rows = join_all(members.nodes.values().map(async |member| {
        if member.id == own {
            return node_status_here(services);
        }
        ask_status(services, member.clone(), STATUS_TIMEOUT).await
    }));
    let (mut nodes, progress) = tokio::join!(rows, progress(services, members.nodes.get(&leader)));
    for status in &mut nodes {
        let id = status.node.as_ref().map_or(0, |node| node.id);
        status.voter = members.is_voter(id);
        status.progress = progress.get(&id).copied();
    }
    ClusterStatusResponse {
        cluster_id: Uuid::from_bytes(group.cluster_id()).to_string(),
        leader,
        term: group.term(),
        nodes,
        answered_by: own,
        waiting: services
            .discovery
            .waiting(|id| members.nodes.contains_key(&id)),
        changing: members.changing,
    }
}

/// How far each member but the leader is, as the leader knows it; empty when it does not say.
async fn progress(
    services: &Services,
    leader: Option<&NodeInfo>,
) -> BTreeMap<u64, ReplicationProgress> {
    let group = &services.group;
    let Some(leader) = leader else {
        return BTreeMap::new();
    };
    if leader.id == group.node_id() {
        let progress = group.progress().into_iter();
        return progress
            .map(|(id, progress)| (id, progress.to_wire()))
            .collect();
    }
    let request = ProgressRequest {
        header: Some(group.header(leader.id)),
    };
    let mut peer = group.peer(leader);
    let Ok(Ok(response)) = timeout(STATUS_TIMEOUT, peer.progress(request)).await else {
        return BTreeMap::new();
    };
    let members = response.into_inner().members.into_iter();
    members
        .filter_map(|member| Some((member.node, member.progress?)))
        .collect()
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
        repair: Some(convert::repair_status(
            services.repairs.status(),
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
