//! Commands of operators: carried out by the leader, here or one hop away. What each does is in `logs` and `members`.
//!
//! Promises: a command that was begun is never cancelled by a client that goes: it runs in a task of its own; one
//! that this node could only refuse because it does not lead goes to the leader, once.

use inkstone_proto::peer_v1 as peer;
use inkstone_proto::v1::NodeInfo;
use tokio::time::timeout_at;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use crate::grpc::append::not_leader;
use crate::grpc::deadline::Deadline;
use crate::grpc::leader::{LeaderSearch, Target};
use crate::grpc::limits::{WRITE_TIMEOUT, WRITE_TIMEOUT_MAX};
use crate::grpc::{Services, error, logs, members};
use crate::raft::{MemberError, ProposeError};

pub(crate) use peer::forward_admin_request::Request as Command;
pub(crate) use peer::forward_admin_response::Response as CommandAnswer;

/// Why a command was not answered with success by this node.
#[derive(Debug)]
pub(crate) enum NotDone {
    /// Nothing was done: this node does not lead (any more), and another may be asked.
    NotLeader,
    /// What the caller is told.
    Refused(Status),
}

impl From<Status> for NotDone {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

impl From<ProposeError> for NotDone {
    fn from(unanswered: ProposeError) -> Self {
        match unanswered {
            ProposeError::NotLeader { .. } => Self::NotLeader,
            other => Self::Refused(error::propose(other)),
        }
    }
}

impl From<MemberError> for NotDone {
    fn from(unanswered: MemberError) -> Self {
        match unanswered {
            MemberError::NotLeader { .. } => Self::NotLeader,
            other => Self::Refused(error::members(&other)),
        }
    }
}

/// Carries a checked command out, whichever node leads.
pub(crate) async fn carry_out(
    services: &Services,
    metadata: &MetadataMap,
    command: Command,
) -> Result<CommandAnswer, Status> {
    let deadline = Deadline::of_request(services.clock, metadata, WRITE_TIMEOUT, WRITE_TIMEOUT_MAX);
    let services = services.clone();
    let work = tokio::spawn(async move { find_leader(&services, command, deadline).await });
    match timeout_at(deadline.instant(), work).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(lost)) => Err(error::propose(ProposeError::Unknown {
            why: lost.to_string(),
        })),
        Err(_) => Err(error::write_timeout()),
    }
}

async fn find_leader(
    services: &Services,
    command: Command,
    deadline: Deadline,
) -> Result<CommandAnswer, Status> {
    let mut search = LeaderSearch::start(services.clock, deadline);
    loop {
        match search.next(&services.group).await? {
            Target::There(leader) => return forward(services, &leader, command, deadline).await,
            Target::Here => match dispatch(services, command.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(NotDone::Refused(status)) => return Err(status),
                Err(NotDone::NotLeader) => {}
            },
        }
    }
}

/// Carries a command out if this node leads; refuses otherwise. For the peer service: the last hop.
pub(crate) async fn carry_out_here(
    services: &Services,
    command: Command,
) -> Result<CommandAnswer, Status> {
    dispatch(services, command)
        .await
        .map_err(|not_done| match not_done {
            NotDone::NotLeader => not_leader(services),
            NotDone::Refused(status) => status,
        })
}

/// Each command to its function.
async fn dispatch(services: &Services, command: Command) -> Result<CommandAnswer, NotDone> {
    Ok(match command {
        Command::CreateLog(request) => {
            CommandAnswer::CreateLog(logs::create_log_here(services, request).await?)
        }
        Command::AddMember(request) => {
            CommandAnswer::AddMember(members::add_here(services, request).await?)
        }
        Command::PromoteMember(request) => {
            CommandAnswer::PromoteMember(members::promote_here(services, request).await?)
        }
        Command::DemoteMember(request) => {
            CommandAnswer::DemoteMember(members::demote_here(services, request).await?)
        }
        Command::RemoveMember(request) => {
            CommandAnswer::RemoveMember(members::remove_here(services, request).await?)
        }
        Command::TransferLeader(request) => {
            CommandAnswer::TransferLeader(members::transfer_here(services, request).await?)
        }
        Command::AlterLog(request) => {
            CommandAnswer::AlterLog(logs::alter_log_here(services, request).await?)
        }
        Command::DeleteLog(request) => {
            CommandAnswer::DeleteLog(logs::delete_log_here(services, request).await?)
        }
        Command::TrimLog(request) => {
            CommandAnswer::TrimLog(logs::trim_log_here(services, request).await?)
        }
    })
}

async fn forward(
    services: &Services,
    leader: &NodeInfo,
    command: Command,
    deadline: Deadline,
) -> Result<CommandAnswer, Status> {
    let mut message = Request::new(peer::ForwardAdminRequest {
        header: Some(services.group.header(leader.id)),
        request: Some(command),
    });
    message.set_timeout(deadline.remaining(services.clock));
    let answer = match services.group.peer(leader).forward_admin(message).await {
        Ok(response) => response.into_inner().response,
        Err(status) => return Err(error::forwarded_write(status, leader)),
    };
    answer.ok_or_else(|| {
        error::propose(ProposeError::Unknown {
            why: "the leader's answer lacks `response`".to_owned(),
        })
    })
}

/// What the caller is told when the leader answered another command than it was given.
pub(crate) fn other_answer() -> Status {
    error::propose(ProposeError::Unknown {
        why: "the leader answered another command".to_owned(),
    })
}
