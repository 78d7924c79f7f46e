//! What must be visible on this node before a read may answer, so that it is linearizable if it has to be.
//!
//! Promises: "no such log" is said only after everything that was acknowledged before the request is visible here.

use inkstone_proto::v1::Consistency;
use tokio::time::timeout_at;
use tonic::Status;

use crate::grpc::deadline::Deadline;
use crate::grpc::{Services, error};
use crate::raft::{LogInfo, Proof};

/// Returns once everything that was acknowledged before the call is visible here: the index up to which that is.
pub(crate) async fn linearize(
    services: &Services,
    proof: Proof,
    deadline: Deadline,
) -> Result<u64, Status> {
    let remaining = deadline.remaining(services.clock);
    services
        .group
        .linearize(proof, remaining)
        .await
        .map_err(error::read_index)
}

/// The log of that name. One that this node has not heard of may be new: the leader is asked before it is denied.
pub(crate) async fn known_log(
    services: &Services,
    name: &str,
    deadline: Deadline,
) -> Result<LogInfo, Status> {
    if let Some(info) = services.group.log_info(name) {
        return Ok(info);
    }
    linearized_log(services, name, Proof::Majority, deadline).await
}

/// The log of that name, for an append on a node that leads: as of now, also when this node has just begun to lead and has
/// not applied yet that another log has the name.
pub(crate) async fn appended_log(
    services: &Services,
    name: &str,
    deadline: Deadline,
) -> Result<LogInfo, Status> {
    if services.group.is_current() {
        known_log(services, name, deadline).await
    } else {
        linearized_log(services, name, Proof::Majority, deadline).await
    }
}

/// The log of that name, as of the call.
async fn linearized_log(
    services: &Services,
    name: &str,
    proof: Proof,
    deadline: Deadline,
) -> Result<LogInfo, Status> {
    linearize(services, proof, deadline).await?;
    services
        .group
        .log_info(name)
        .ok_or_else(|| error::log_not_found(name))
}

/// The log of that name, at least as current as was asked.
pub(crate) async fn visible_log(
    services: &Services,
    name: &str,
    (consistency, at_least_offset): (Consistency, u64),
    deadline: Deadline,
) -> Result<LogInfo, Status> {
    match consistency {
        Consistency::Stale => known_log(services, name, deadline).await,
        Consistency::AtLeast => wait_for_offset(services, name, at_least_offset, deadline).await,
        Consistency::Lease => linearized_log(services, name, Proof::Lease, deadline).await,
        Consistency::Linearizable | Consistency::Unspecified => {
            linearized_log(services, name, Proof::Majority, deadline).await
        }
    }
}

async fn wait_for_offset(
    services: &Services,
    name: &str,
    at_least: u64,
    deadline: Deadline,
) -> Result<LogInfo, Status> {
    let mut applied = services.group.applied().subscribe();
    loop {
        applied.borrow_and_update();
        // By its name: the log of that name may have been deleted and created anew meanwhile.
        let info = known_log(services, name, deadline).await?;
        if info.next_offset >= at_least {
            return Ok(info);
        }
        match timeout_at(deadline.instant(), applied.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(error::shutting_down()),
            Err(_) => {
                return Err(error::timeout(&format!(
                    "the log's next offset is {} here, and at_least_offset is {at_least}; is that offset of this log?",
                    info.next_offset
                )));
            }
        }
    }
}

/// Refuses an offset that no consistency will look at.
pub(crate) fn check(consistency: Consistency, at_least_offset: u64) -> Result<(), Status> {
    if consistency != Consistency::AtLeast && at_least_offset != 0 {
        return Err(error::invalid(format!(
            "at_least_offset is {at_least_offset}, and consistency is not AT_LEAST; set one or leave out the other"
        )));
    }
    Ok(())
}
