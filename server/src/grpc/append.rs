//! Appends: checked here, carried out by the leader, here or one hop away.
//!
//! Promises: a request that was begun is never cancelled by a client that goes (P9): it runs in a task of its own, or
//! in the group. A refusal that may only be this follower's lag is left to the leader.

use futures::TryStreamExt;
use inkstone_proto::peer_v1::ForwardAppendRequest;
use inkstone_proto::v1::{AppendRequest, AppendResponse, NodeInfo};
use tokio::sync::mpsc;
use tokio::time::timeout_at;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status, Streaming};

use crate::grpc::consistency::known_log;
use crate::grpc::convert::{self, CheckedAppend};
use crate::grpc::deadline::Deadline;
use crate::grpc::leader::{LeaderSearch, Target};
use crate::grpc::limits::{SESSION_APPENDS_MAX, WRITE_TIMEOUT, WRITE_TIMEOUT_MAX};
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
                Ok(pending) => match pending.await {
                    Err(ProposeError::NotLeader { .. }) => {}
                    outcome => return answer(outcome, append.log()),
                },
                Err(NotSubmitted::NotLeader) => {}
                Err(NotSubmitted::Refused(status)) => return Err(status),
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
        Err(NotSubmitted::Refused(status)) => return Err(status),
        Err(NotSubmitted::NotLeader) => return Err(not_leader(services)),
    };
    let outcome = pending.await;
    drop(room);
    answer(outcome, append.log())
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
    /// For good.
    Refused(Status),
}

/// Hands the batch to the group: from here on it has its place in the order.
async fn submit(
    services: &Services,
    append: &CheckedAppend,
    deadline: Deadline,
) -> Result<Pending, NotSubmitted> {
    let log = known_log(services, append.log(), deadline)
        .await
        .map_err(NotSubmitted::Refused)?
        .id;
    let batch = append.encode(log, services.clock.unix_nanos());
    services
        .group
        .submit(batch)
        .map_err(|refused| match refused {
            ProposeError::NotLeader { .. } => NotSubmitted::NotLeader,
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
        Ok(response) => Ok(response.into_inner()),
        Err(status) => Err(error::forwarded_write(status, leader)),
    }
}

/// Opens a session: its answers, in the order of its requests.
pub(crate) fn append_session(
    services: &Services,
    requests: Streaming<AppendRequest>,
) -> Result<ReceiverStream<Result<AppendResponse, Status>>, Status> {
    let place = services.stream_place()?;
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
        )
        .await;
        drop(place);
    });
    Ok(ReceiverStream::new(stream))
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
                return Step::Alone(Box::pin(async move {
                    // A task: a client that goes does not cancel what was begun.
                    let call = async move {
                        let deadline = Deadline::after(services.clock, WRITE_TIMEOUT);
                        let request = append.into_request();
                        let answer = forward(&services, &leader, request, deadline).await;
                        drop(room);
                        answer
                    };
                    tokio::spawn(call).await.unwrap_or_else(|lost| {
                        Err(error::propose(ProposeError::Unknown {
                            why: lost.to_string(),
                        }))
                    })
                }));
            }
            Ok(Target::Here) => match submit(&services, &append, deadline).await {
                Ok(pending) => {
                    let outcome: Outcome<AppendResponse> = Box::pin(async move {
                        let outcome = timeout_at(deadline.instant(), pending).await;
                        drop(room);
                        outcome.map_or_else(
                            |_| Err(error::write_timeout()),
                            |outcome| answer(outcome, append.log()),
                        )
                    });
                    return Step::Underway(outcome);
                }
                Err(NotSubmitted::NotLeader) => {}
                Err(NotSubmitted::Refused(status)) => return Step::Refused(status),
            },
        }
    }
}
