//! Logs: what an operator asks and does, on whichever node.

use inkstone_proto::v1;
use inkstone_proto::v1::{
    AlterLogRequest, AlterLogResponse, CreateLogRequest, CreateLogResponse, DeleteLogRequest,
    DeleteLogResponse, GetLogRequest, GetLogResponse, ListLogsRequest, ListLogsResponse,
    TrimLogRequest, TrimLogResponse,
};
use inkstone_storage::types::LogId;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::grpc::admin::{self, Command, CommandAnswer, NotDone};
use crate::grpc::consistency::linearize;
use crate::grpc::deadline::Deadline;
use crate::grpc::limits::{READ_TIMEOUT, READ_TIMEOUT_MAX};
use crate::grpc::{Services, convert, error};
use crate::raft::{Leader, LogInfo, LogRefusal, Proof, Retention};

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

/// Changes what retention may remove of a log, whichever node leads.
pub(crate) async fn alter_log(
    services: &Services,
    metadata: &MetadataMap,
    request: AlterLogRequest,
) -> Result<AlterLogResponse, Status> {
    convert::check_log_name(&request.name)?;
    match admin::carry_out(services, metadata, Command::AlterLog(request)).await? {
        CommandAnswer::AlterLog(response) => Ok(response),
        _ => Err(admin::other_answer()),
    }
}

/// Ends a log, whichever node leads.
pub(crate) async fn delete_log(
    services: &Services,
    metadata: &MetadataMap,
    request: DeleteLogRequest,
) -> Result<DeleteLogResponse, Status> {
    convert::check_log_name(&request.name)?;
    match admin::carry_out(services, metadata, Command::DeleteLog(request)).await? {
        CommandAnswer::DeleteLog(response) => Ok(response),
        _ => Err(admin::other_answer()),
    }
}

/// Removes a log's records below an offset, whichever node leads.
pub(crate) async fn trim_log(
    services: &Services,
    metadata: &MetadataMap,
    request: TrimLogRequest,
) -> Result<TrimLogResponse, Status> {
    convert::check_log_name(&request.name)?;
    match admin::carry_out(services, metadata, Command::TrimLog(request)).await? {
        CommandAnswer::TrimLog(response) => Ok(response),
        _ => Err(admin::other_answer()),
    }
}

/// Creates a log if this node leads.
pub(crate) async fn create_log_here(
    services: &Services,
    request: CreateLogRequest,
) -> Result<CreateLogResponse, NotDone> {
    convert::check_log_name(&request.name)?;
    let retention = request.retention.unwrap_or_default();
    let retention = Retention::of(retention.max_age_ms, retention.max_bytes);
    let created = services.group.create_log(&request.name, retention).await?;
    let (info, created) = created.map_err(|refusal| error::log_refused(refusal, &request.name))?;
    if !created && !request.if_not_exists {
        return Err(error::log_exists(&request.name).into());
    }
    Ok(CreateLogResponse {
        log: Some(changed(services, info).await),
        created,
    })
}

/// Changes what retention may remove of a log, if this node leads.
pub(crate) async fn alter_log_here(
    services: &Services,
    request: AlterLogRequest,
) -> Result<AlterLogResponse, NotDone> {
    let id = leaders_log(services, &request.name).await?;
    let (age, bytes) = (request.max_age_ms, request.max_bytes);
    let altered = services.group.alter_log(id, age, bytes).await?;
    let log = done(services, altered, &request.name).await?;
    Ok(AlterLogResponse { log: Some(log) })
}

/// Ends a log, if this node leads.
pub(crate) async fn delete_log_here(
    services: &Services,
    request: DeleteLogRequest,
) -> Result<DeleteLogResponse, NotDone> {
    let id = leaders_log(services, &request.name).await?;
    let deleted = services.group.delete_log(id).await?;
    let log = done(services, deleted, &request.name).await?;
    Ok(DeleteLogResponse { log: Some(log) })
}

/// Removes a log's records below an offset, if this node leads.
pub(crate) async fn trim_log_here(
    services: &Services,
    request: TrimLogRequest,
) -> Result<TrimLogResponse, NotDone> {
    let id = leaders_log(services, &request.name).await?;
    let trimmed = services.group.trim_log(id, request.before_offset).await?;
    let log = done(services, trimmed, &request.name).await?;
    Ok(TrimLogResponse { log: Some(log) })
}

/// The number of the log of that name on a node that leads: an older log of the name may have been deleted, and this
/// node may have led once, so it proves its leadership first.
async fn leaders_log(services: &Services, name: &str) -> Result<LogId, NotDone> {
    convert::check_log_name(name)?;
    if services.group.leader() != Leader::Here {
        return Err(NotDone::NotLeader);
    }
    let deadline = Deadline::after(services.clock, READ_TIMEOUT);
    linearize(services, Proof::Majority, deadline).await?;
    let info = services.group.log_info(name);
    let info = info.ok_or_else(|| error::log_not_found(name))?;
    Ok(info.id)
}

async fn done(
    services: &Services,
    outcome: Result<LogInfo, LogRefusal>,
    name: &str,
) -> Result<v1::LogInfo, Status> {
    let info = outcome.map_err(|refusal| error::log_refused(refusal, name))?;
    Ok(changed(services, info).await)
}

/// A log as the API shows it after a change, which took effect: also when nobody has time to look what is stored of it.
async fn changed(services: &Services, info: LogInfo) -> v1::LogInfo {
    let without_size = convert::log_info(info.clone(), 0);
    shown(services, info).await.unwrap_or(without_size)
}

/// A log as the API shows it, with what this node stores of it.
async fn shown(services: &Services, info: LogInfo) -> Result<v1::LogInfo, Status> {
    let mut shown = all_shown(services, vec![info]).await?;
    Ok(shown.remove(0))
}

async fn all_shown(services: &Services, infos: Vec<LogInfo>) -> Result<Vec<v1::LogInfo>, Status> {
    let log = services.group.log().clone();
    let with_sizes = move || {
        let shown = infos.into_iter().map(|info| {
            let stored_bytes = log.stored_size(info.id);
            convert::log_info(info, stored_bytes)
        });
        shown.collect()
    };
    services
        .reads
        .run(with_sizes)
        .await
        .map_err(error::pool_busy)
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
        .collect();
    let logs = all_shown(services, logs).await?;
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
        log: Some(shown(services, info).await?),
    })
}

fn read_deadline(services: &Services, metadata: &MetadataMap) -> Deadline {
    Deadline::of_request(services.clock, metadata, READ_TIMEOUT, READ_TIMEOUT_MAX)
}

#[cfg(test)]
mod tests {
    use inkstone_proto::v1::{Effect, Reason};

    use std::task::Poll;

    use futures::future::join_all;
    use tokio::sync::oneshot;

    use super::*;
    use crate::grpc::lone_node::{LOG, LoneNode, within_ms};

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

    #[tokio::test]
    async fn a_change_that_took_effect_is_never_refused_for_want_of_a_reader() {
        let node = LoneNode::leading().await;
        let services = &node.services;
        // Every reader is at work, and everybody waits who may.
        let (release, released) = oneshot::channel::<()>();
        let mut released = Some(released);
        let mut reading = Vec::new();
        let refused = loop {
            let first = released.take();
            let work = move || first.is_some_and(|released| released.blocking_recv().is_ok());
            let mut read = Box::pin(services.reads.run(work));
            match futures::poll!(&mut read) {
                Poll::Pending => reading.push(read),
                Poll::Ready(refused) => break refused,
            }
        };
        refused.expect_err("nobody reads");
        let request = DeleteLogRequest {
            name: LOG.to_owned(),
        };
        let deleted = delete_log(services, &MetadataMap::new(), request).await;
        assert_eq!(
            deleted.expect("deleted").log.expect("what it was").name,
            LOG
        );
        assert!(services.group.log_info(LOG).is_none());
        drop(release);
        join_all(reading).await;
    }
}
