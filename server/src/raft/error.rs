//! What can become of a proposal, and of the group, in our words: only a refusal before the proposal is definite.
//!
//! Must not know: gRPC codes.

use inkstone_proto::v1;
use inkstone_storage::error::{LowSpace, WriteError, WriteErrorKind};
use openraft::errors::{ClientWriteError, ForwardToLeader};

use crate::raft::types::TypeConfig;
use crate::raft::{Receipt, Refusal, TooOld, wire};

/// Why a proposal was not answered with its outcome.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ProposeError {
    /// Not proposed: this node does not lead.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, if known.
        leader: Option<v1::NodeInfo>,
    },
    /// Not proposed: too many bytes are in flight.
    #[error("too many appends are in flight ({bound} bytes)")]
    Busy {
        /// The bound, in bytes.
        bound: usize,
    },
    /// Not proposed: this node's disk has less free space than is kept for what must be written.
    #[error(transparent)]
    DiskFull(#[from] LowSpace),
    /// Not proposed: a member could not apply it.
    #[error(transparent)]
    TooOld(#[from] TooOld),
    /// Proposed, and then leadership, the group or time was lost: it may or may not take effect.
    #[error("the outcome is unknown: {why}")]
    Unknown {
        /// What happened.
        why: String,
    },
    /// Not proposed: the node is stopping or has failed.
    #[error("the node is stopping")]
    Stopping,
}

/// The outcome of an append: the outer error says that there is no outcome, the inner one that it was refused at apply.
pub type AppendOutcome = Result<Result<Receipt, Refusal>, ProposeError>;

/// Why a group could not be opened, or has stopped for good: the process ends, and a restart recovers.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Fatal(pub String);

impl Fatal {
    /// What ended the store, and what to do about it.
    pub(super) fn storage(failure: &WriteError) -> Self {
        let advice = match failure.kind {
            WriteErrorKind::Full => {
                "; make room on the disk and start the node again: nothing that was acknowledged is lost"
            }
            WriteErrorKind::Disk | WriteErrorKind::Panic => "",
        };
        Self(format!("{failure}{advice}"))
    }
}

/// What openraft says of a proposal, in our words: only a refusal before the proposal is definite.
pub(super) fn propose_error(error: ClientWriteError<TypeConfig>) -> ProposeError {
    match error {
        ClientWriteError::ForwardToLeader(forward) => ProposeError::NotLeader {
            leader: forwarded(&forward),
        },
        ClientWriteError::LogEntryDiscarded(_)
        | ClientWriteError::ChangeMembershipError(_)
        | ClientWriteError::PreconditionFailed(_) => ProposeError::Unknown {
            why: error.to_string(),
        },
    }
}

pub(super) fn forwarded(forward: &ForwardToLeader<TypeConfig>) -> Option<v1::NodeInfo> {
    let id = forward.leader_id?;
    Some(wire::node_to_wire(id, forward.leader_node.as_ref()?))
}
