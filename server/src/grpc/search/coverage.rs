//! Waiting until this node's index covers what a search asked for, or until that takes too long.
//!
//! Promises: "no such log" is said only after everything that was acknowledged before the request is visible here; an
//! answer that is behind is given only to a caller that asked for one, and says so.

use inkstone_proto::v1::{Consistency, Reason, SearchRequest};
use inkstone_storage::search::Searcher;
use tokio::time::timeout_at;
use tonic::Status;

use crate::grpc::consistency::{known_log, linearize};
use crate::grpc::deadline::Deadline;
use crate::grpc::search::searcher;
use crate::grpc::{Services, error};
use crate::raft::{LogInfo, Proof};

/// What a search answers from.
#[derive(Debug)]
pub(super) struct Coverage {
    pub(super) info: LogInfo,
    /// The very index that was looked at: one that was opened since may reach less far.
    pub(super) searcher: Searcher,
    /// The consistency was not met.
    pub(super) behind: bool,
}

/// The log and its index, once that covers what was asked, or once it can't be waited for any longer and the caller takes
/// what there is.
pub(super) async fn covered(
    services: &Services,
    request: &SearchRequest,
    consistency: Consistency,
    patience: Deadline,
) -> Result<Coverage, Status> {
    let met = match consistency {
        Consistency::Stale => stale(services, request, patience).await,
        Consistency::AtLeast => at_least(services, request, patience).await,
        Consistency::Lease => linearizable(services, request, Proof::Lease, patience).await,
        Consistency::Linearizable | Consistency::Unspecified => {
            linearizable(services, request, Proof::Majority, patience).await
        }
    };
    let missed = match met {
        Ok((info, searcher)) => {
            return Ok(Coverage {
                info,
                searcher,
                behind: false,
            });
        }
        Err(status) => status,
    };
    // STALE asks for nothing that can be missed: it fails only where there is no such log.
    if consistency == Consistency::Stale || !request.allow_behind || !is_behind(&missed) {
        return Err(missed);
    }
    Ok(Coverage {
        info: services.group.log_info(&request.log).ok_or(missed)?,
        searcher: searcher(services)?,
        behind: true,
    })
}

/// Whether only the consistency could not be had: older records can be searched all the same.
fn is_behind(status: &Status) -> bool {
    matches!(
        error::reason_of(status),
        Some(Reason::Timeout | Reason::NoLeader)
    )
}

async fn stale(
    services: &Services,
    request: &SearchRequest,
    patience: Deadline,
) -> Result<(LogInfo, Searcher), Status> {
    let info = known_log(services, &request.log, patience).await?;
    Ok((info, searcher(services)?))
}

async fn linearizable(
    services: &Services,
    request: &SearchRequest,
    proof: Proof,
    patience: Deadline,
) -> Result<(LogInfo, Searcher), Status> {
    let index = linearize(services, proof, patience).await?;
    let info = services
        .group
        .log_info(&request.log)
        .ok_or_else(|| error::log_not_found(&request.log))?;
    let searcher = wait_for_index(services, patience, |searcher| {
        let next = searcher.next_index();
        if next > index {
            return Ok(());
        }
        Err(format!(
            "the index covers entries below {next}, and the read must see {index}"
        ))
    })
    .await?;
    Ok((info, searcher))
}

async fn at_least(
    services: &Services,
    request: &SearchRequest,
    patience: Deadline,
) -> Result<(LogInfo, Searcher), Status> {
    let info = known_log(services, &request.log, patience).await?;
    let wanted = request.at_least_offset;
    let searcher = wait_for_index(services, patience, |searcher| {
        // An index that began behind a trim never held what was before.
        let covered = searcher.next_offset(info.id).max(info.first_offset);
        if covered >= wanted {
            return Ok(());
        }
        Err(format!(
            "the index covers offsets below {covered}, and at_least_offset is {wanted}"
        ))
    })
    .await?;
    Ok((info, searcher))
}

/// The index, once it covers enough; `covers` says what is missing. When this node stops to index that is told at
/// once, because another one may answer.
async fn wait_for_index(
    services: &Services,
    patience: Deadline,
    covers: impl Fn(&Searcher) -> Result<(), String>,
) -> Result<Searcher, Status> {
    let mut progress = services.indexer.subscribe();
    loop {
        // Before the look at the index: progress after it ends the wait.
        progress.borrow_and_update();
        let searcher = searcher(services)?;
        let Err(missing) = covers(&searcher) else {
            return Ok(searcher);
        };
        match timeout_at(patience.instant(), progress.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(error::shutting_down()),
            Err(_) => {
                return Err(error::timeout(&missing));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missed_consistency_is_answered_behind() {
        assert!(is_behind(&error::timeout("x")));
        assert!(is_behind(&error::no_leader(None)));
        assert!(!is_behind(&error::log_not_found("x")));
        assert!(!is_behind(&error::no_index()));
        assert!(!is_behind(&Status::unavailable("no detail")));
    }
}
