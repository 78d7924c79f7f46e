//! Appends: checked here, carried out by the leader, here or one hop away.
//!
//! Promises: a request that was begun is never cancelled by a client that goes: it runs in a task of its own, or in the
//! group. A refusal that may only be this follower's lag is left to the leader. What the group has taken is its to
//! bound: a client that does not read its answers holds none of the room that this node has for all.

use futures::TryStreamExt;
use inkstone_proto::peer_v1::ForwardAppendRequest;
use inkstone_proto::v1::{AppendRequest, AppendResponse, NodeInfo};
use inkstone_storage::format::batch::EncodedBatch;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{sleep, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status, Streaming};

use crate::grpc::consistency::appended_log;
use crate::grpc::convert::{self, CheckedAppend};
use crate::grpc::deadline::Deadline;
use crate::grpc::leader::{LeaderSearch, Target};
use crate::grpc::limits::{
    ALONE_WAIT, BUSY_TICK, SESSION_APPENDS_MAX, WRITE_TIMEOUT, WRITE_TIMEOUT_MAX,
};
use crate::grpc::session::{self, Outcome, Step};
use crate::grpc::{Services, error};
use crate::raft::{AppendOutcome, Pending, ProposeError};

/// Appends one batch, whichever node leads.
pub(crate) async fn append(
    services: &Services,
    metadata: &MetadataMap,
    request: AppendRequest,
) -> Result<AppendResponse, Status> {
    let deadline = Deadline::of_request(services.clock, metadata, WRITE_TIMEOUT, WRITE_TIMEOUT_MAX);
    let append = CheckedAppend::check(request)?;
    let room = services.append_room(append.size())?;
    let services = services.clone();
    let work = tokio::spawn(async move {
        let answer = carry_out(&services, append, deadline).await;
        // Until here: it may have to be begun again elsewhere. That takes no longer than the deadlines along the way.
        drop(room);
        answer
    });
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
    append: CheckedAppend,
    deadline: Deadline,
) -> Result<AppendResponse, Status> {
    let mut search = LeaderSearch::start(services.clock, deadline);
    loop {
        match search.next(&services.group).await? {
            Target::There(leader) => {
                return forward(services, &leader, append.into_request(), deadline).await;
            }
            Target::Here => match submit(services, &append, deadline).await {
                // A leader that lost its majority may never answer: what waits for it ends with the client's patience. The
                // write goes on, and counts among those in flight in the group until it is decided.
                Ok(pending) => match timeout_at(deadline.instant(), pending).await {
                    Err(_) => return Err(error::write_timeout()),
                    Ok(Err(ProposeError::NotLeader { .. })) => {}
                    Ok(outcome) => return answer(outcome, append.log()),
                },
                Err(NotSubmitted::NotLeader) => {}
                Err(NotSubmitted::Busy(status) | NotSubmitted::Refused(status)) => {
                    return Err(status);
                }
            },
        }
    }
}

/// Appends one batch if this node leads; refuses otherwise. For the peer service: the last hop.
pub(crate) async fn append_here(
    services: &Services,
    request: AppendRequest,
) -> Result<AppendResponse, Status> {
    let deadline = Deadline::after(services.clock, WRITE_TIMEOUT);
    let append = CheckedAppend::check(request)?;
    let room = services.append_room(append.size())?;
    let pending = match submit(services, &append, deadline).await {
        Ok(pending) => pending,
        Err(NotSubmitted::Busy(status) | NotSubmitted::Refused(status)) => return Err(status),
        Err(NotSubmitted::NotLeader) => return Err(not_leader(services)),
    };
    let log = append.into_request().log;
    drop(room);
    answer(pending.await, &log)
}

/// The refusal of a node that does not lead, with who does.
pub(crate) fn not_leader(services: &Services) -> Status {
    let leader = match services.group.leader() {
        crate::raft::Leader::There(leader) => Some(leader),
        crate::raft::Leader::Here | crate::raft::Leader::Unknown => None,
    };
    error::propose(ProposeError::NotLeader { leader })
}

/// Why a batch was not handed to the group: nothing was done.
enum NotSubmitted {
    /// This node does not lead (any more): another may be asked.
    NotLeader,
    /// Too much is in flight: in a moment there may be room.
    Busy(Status),
    /// For good.
    Refused(Status),
}

/// Hands the batch to the group: from here on it has its place in the order.
async fn submit(
    services: &Services,
    append: &CheckedAppend,
    deadline: Deadline,
) -> Result<Pending, NotSubmitted> {
    submit_encoded(services, encode(services, append, deadline).await?)
}

/// Like [`submit`], but waits while the group has too much in flight, as a session does: what it does not take stays
/// with the client.
async fn submit_patiently(
    services: &Services,
    append: &CheckedAppend,
    deadline: Deadline,
) -> Result<Pending, NotSubmitted> {
    let batch = encode(services, append, deadline).await?;
    loop {
        match submit_encoded(services, batch.clone()) {
            Err(NotSubmitted::Busy(_)) if !deadline.of_refusal().expired(services.clock) => {
                sleep(BUSY_TICK).await;
            }
            submitted => return submitted,
        }
    }
}

async fn encode(
    services: &Services,
    append: &CheckedAppend,
    deadline: Deadline,
) -> Result<EncodedBatch, NotSubmitted> {
    let log = appended_log(services, append.log(), deadline.of_refusal())
        .await
        .map_err(NotSubmitted::Refused)?
        .id;
    Ok(append.encode(log, services.clock.unix_nanos()))
}

fn submit_encoded(services: &Services, batch: EncodedBatch) -> Result<Pending, NotSubmitted> {
    services
        .group
        .submit(batch)
        .map_err(|refused| match refused {
            ProposeError::NotLeader { .. } => NotSubmitted::NotLeader,
            ProposeError::Busy { .. } => NotSubmitted::Busy(error::propose(refused)),
            other => NotSubmitted::Refused(error::propose(other)),
        })
}

fn answer(outcome: AppendOutcome, log: &str) -> Result<AppendResponse, Status> {
    match outcome {
        Ok(Ok(receipt)) => Ok(convert::receipt(receipt)),
        Ok(Err(refusal)) => Err(error::refused(refusal, log)),
        Err(unanswered) => Err(error::propose(unanswered)),
    }
}

async fn forward(
    services: &Services,
    leader: &NodeInfo,
    request: AppendRequest,
    deadline: Deadline,
) -> Result<AppendResponse, Status> {
    let header = services.group.header(leader.id);
    let mut message = Request::new(ForwardAppendRequest {
        header: Some(header),
        request: Some(request),
    });
    message.set_timeout(deadline.remaining(services.clock));
    match services.group.peer(leader).forward_append(message).await {
        Ok(response) => Ok(AppendResponse {
            leader: Some(leader.clone()),
            ..response.into_inner()
        }),
        Err(status) => Err(error::forwarded_write(status, leader)),
    }
}

/// Opens a session: its answers, in the order of its requests.
pub(crate) fn append_session(
    services: &Services,
    requests: Streaming<AppendRequest>,
) -> ReceiverStream<Result<AppendResponse, Status>> {
    let (answers, stream) = mpsc::channel(SESSION_APPENDS_MAX);
    let services = services.clone();
    tokio::spawn(async move {
        let stopped = async {
            services.stopped().await;
            error::shutting_down()
        };
        let begin = |request| begin(services.clone(), request);
        session::run(
            requests.map_err(error::unreadable),
            prost::Message::encoded_len,
            begin,
            stopped,
            answers,
            ALONE_WAIT,
        )
        .await;
    });
    ReceiverStream::new(stream)
}

/// Begins one append of a session. On the leader it has its place in the order on return; what is forwarded runs alone,
/// because two calls to another node may overtake each other.
async fn begin(services: Services, request: AppendRequest) -> Step<AppendResponse> {
    let append = match CheckedAppend::check(request) {
        Ok(append) => append,
        Err(status) => return Step::Refused(status),
    };
    let room = services.wait_for_append_room(append.size()).await;
    let deadline = Deadline::after(services.clock, WRITE_TIMEOUT);
    let mut search = LeaderSearch::start(services.clock, deadline);
    loop {
        match search.next(&services.group).await {
            Err(status) => return Step::Refused(status),
            Ok(Target::There(leader)) => {
                return Step::Alone(forwarded(services, leader, append, room));
            }
            Ok(Target::Here) => match submit_patiently(&services, &append, deadline).await {
                Ok(pending) => {
                    // The client decides when the outcome is looked at: neither the room nor the records wait for that.
                    drop(room);
                    let log = append.into_request().log;
                    return Step::Underway(underway(pending, log, deadline));
                }
                Err(NotSubmitted::NotLeader) => {}
                Err(NotSubmitted::Busy(status) | NotSubmitted::Refused(status)) => {
                    return Step::Refused(status);
                }
            },
        }
    }
}

fn underway(pending: Pending, log: String, deadline: Deadline) -> Outcome<AppendResponse> {
    Box::pin(async move {
        timeout_at(deadline.instant(), pending).await.map_or_else(
            |_| Err(error::write_timeout()),
            |outcome| answer(outcome, &log),
        )
    })
}

fn forwarded(
    services: Services,
    leader: NodeInfo,
    append: CheckedAppend,
    room: OwnedSemaphorePermit,
) -> Outcome<AppendResponse> {
    // A task: a client that goes does not cancel what was begun.
    let call = async move {
        let deadline = Deadline::after(services.clock, WRITE_TIMEOUT);
        let answer = forward(&services, &leader, append.into_request(), deadline).await;
        drop(room);
        answer
    };
    Box::pin(async move {
        tokio::spawn(call).await.unwrap_or_else(|lost| {
            Err(error::propose(ProposeError::Unknown {
                why: lost.to_string(),
            }))
        })
    })
}

#[cfg(test)]
mod tests;
