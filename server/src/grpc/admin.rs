//! Logs and the cluster: what an operator asks and does, on whichever node.

use std::time::Duration;

use futures::future::join_all;
use inkstone_proto::peer_v1::{ForwardCreateLogRequest, NodeStatusRequest};
use inkstone_proto::v1::{
    ClusterStatusResponse, CreateLogRequest, CreateLogResponse, GetLogRequest, GetLogResponse,
    ListLogsRequest, ListLogsResponse, NodeInfo, NodeStatus,
};
use tokio::time::{timeout, timeout_at};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};
use uuid::Uuid;

use crate::grpc::append::not_leader;
use crate::grpc::consistency::linearize;
use crate::grpc::deadline::Deadline;
use crate::grpc::leader::{LeaderSearch, Target};
use crate::grpc::limits::{
    READ_TIMEOUT, READ_TIMEOUT_MAX, STATUS_TIMEOUT, WRITE_TIMEOUT, WRITE_TIMEOUT_MAX,
};
use crate::grpc::{Services, convert, error};
use crate::raft::{Leader, ProposeError};

/// Creates a log, whichever node leads. Like an append it is not cancelled by a client that goes.
pub(crate) async fn create_log(
    services: &Services,
    metadata: &MetadataMap,
    request: CreateLogRequest,
) -> Result<CreateLogResponse, Status> {
    let deadline = Deadline::of_request(services.clock, metadata, WRITE_TIMEOUT, WRITE_TIMEOUT_MAX);
    convert::check_log_name(&request.name)?;
    let services = services.clone();
    let work = tokio::spawn(async move { carry_out(&services, request, deadline).await });
    match timeout_at(deadline.instant(), work).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(lost)) => Err(error::propose(ProposeError::Unknown {
            why: lost.to_string(),
        })),
        Err(_) => Err(error::write_timeout()),
    }
}

async fn carry_out(
    services: &Services,
    request: CreateLogRequest,
    deadline: Deadline,
) -> Result<CreateLogResponse, Status> {
    let mut search = LeaderSearch::start(services.clock, deadline);
    loop {
        match search.next(&services.group).await? {
            Target::There(leader) => return forward(services, &leader, request, deadline).await,
            Target::Here => match services.group.create_log(&request.name).await {
                Err(ProposeError::NotLeader { .. }) => {}
                Err(unanswered) => return Err(error::propose(unanswered)),
                Ok((info, created)) => return created_log(info, created, &request),
            },
        }
    }
}

/// Creates a log if this node leads; refuses otherwise. For the peer service: the last hop.
pub(crate) async fn create_log_here(
    services: &Services,
    request: CreateLogRequest,
) -> Result<CreateLogResponse, Status> {
    convert::check_log_name(&request.name)?;
    match services.group.create_log(&request.name).await {
        Err(ProposeError::NotLeader { leader: None }) => Err(not_leader(services)),
        Err(unanswered) => Err(error::propose(unanswered)),
        Ok((info, created)) => created_log(info, created, &request),
    }
}

fn created_log(
    info: crate::raft::LogInfo,
    created: bool,
    request: &CreateLogRequest,
) -> Result<CreateLogResponse, Status> {
    if !created && !request.if_not_exists {
        return Err(error::log_exists(&request.name));
    }
    Ok(CreateLogResponse {
        log: Some(convert::log_info(info)),
        created,
    })
}

async fn forward(
    services: &Services,
    leader: &NodeInfo,
    request: CreateLogRequest,
    deadline: Deadline,
) -> Result<CreateLogResponse, Status> {
    let header = services.group.header(leader.id);
    let mut message = Request::new(ForwardCreateLogRequest {
        header: Some(header),
        request: Some(request),
    });
    message.set_timeout(deadline.remaining(services.clock));
    match services
        .group
        .peer(leader)
        .forward_create_log(message)
        .await
    {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => Err(error::forwarded_write(status, leader)),
    }
}

/// All logs whose name starts with the prefix: everything that was created before the call is among them.
pub(crate) async fn list_logs(
    services: &Services,
    metadata: &MetadataMap,
    request: &ListLogsRequest,
) -> Result<ListLogsResponse, Status> {
    linearize(services, read_deadline(services, metadata)).await?;
    let logs = services
        .group
        .logs()
        .into_iter()
        .filter(|info| info.name.starts_with(&request.prefix))
        .map(convert::log_info)
        .collect();
    Ok(ListLogsResponse { logs })
}

/// One log, as of the call.
pub(crate) async fn get_log(
    services: &Services,
    metadata: &MetadataMap,
    request: &GetLogRequest,
) -> Result<GetLogResponse, Status> {
    convert::check_log_name(&request.name)?;
    linearize(services, read_deadline(services, metadata)).await?;
    let info = services
        .group
        .log_info(&request.name)
        .ok_or_else(|| error::log_not_found(&request.name))?;
    Ok(GetLogResponse {
        log: Some(convert::log_info(info)),
    })
}

fn read_deadline(services: &Services, metadata: &MetadataMap) -> Deadline {
    Deadline::of_request(services.clock, metadata, READ_TIMEOUT, READ_TIMEOUT_MAX)
}

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

#[cfg(test)]
mod tests {
    use inkstone_proto::v1::{Effect, Reason};

    use super::*;
    use crate::grpc::lone_node::{LoneNode, within_ms};

    #[tokio::test]
    async fn without_a_leader_a_new_log_is_refused_before_its_deadline_makes_it_unknown() {
        let node = LoneNode::without_leader().await;
        let request = CreateLogRequest {
            name: "log".to_owned(),
            ..CreateLogRequest::default()
        };
        let refused = create_log(&node.services, &within_ms(400), request).await;
        let detail = error::detail_of(&refused.expect_err("nobody leads")).expect("detail");
        assert_eq!(detail.reason(), Reason::NoLeader);
        assert_eq!(detail.effect(), Effect::None);
    }
}
