//! Logs: what an operator asks and does, on whichever node.

use inkstone_proto::v1::{
    CreateLogRequest, CreateLogResponse, GetLogRequest, GetLogResponse, ListLogsRequest,
    ListLogsResponse,
};
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::grpc::admin::{self, Command, CommandAnswer, NotDone};
use crate::grpc::consistency::linearize;
use crate::grpc::deadline::Deadline;
use crate::grpc::limits::{READ_TIMEOUT, READ_TIMEOUT_MAX};
use crate::grpc::{Services, convert, error};
use crate::raft::Proof;

/// Creates a log, whichever node leads. Like an append it is not cancelled by a client that goes.
pub(crate) async fn create_log(
    services: &Services,
    metadata: &MetadataMap,
    request: CreateLogRequest,
) -> Result<CreateLogResponse, Status> {
    convert::check_log_name(&request.name)?;
    match admin::carry_out(services, metadata, Command::CreateLog(request)).await? {
        CommandAnswer::CreateLog(response) => Ok(response),
        _ => Err(admin::other_answer()),
    }
}

/// Creates a log if this node leads.
pub(crate) async fn create_log_here(
    services: &Services,
    request: CreateLogRequest,
) -> Result<CreateLogResponse, NotDone> {
    convert::check_log_name(&request.name)?;
    let (info, created) = services.group.create_log(&request.name).await?;
    if !created && !request.if_not_exists {
        return Err(error::log_exists(&request.name).into());
    }
    Ok(CreateLogResponse {
        log: Some(convert::log_info(info)),
        created,
    })
}

/// All logs whose name starts with the prefix: everything that was created before the call is among them.
pub(crate) async fn list_logs(
    services: &Services,
    metadata: &MetadataMap,
    request: &ListLogsRequest,
) -> Result<ListLogsResponse, Status> {
    linearize(services, Proof::Majority, read_deadline(services, metadata)).await?;
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
    linearize(services, Proof::Majority, read_deadline(services, metadata)).await?;
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
