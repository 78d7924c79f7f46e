//! What a change of the members that was not carried out becomes.

use inkstone_proto::v1::{ErrorDetail, Reason};
use tonic::{Code, Status};

use super::{NO_LEADER_RETRY_MS, disk_full, no_effect, propose, status, unknown_effect};
use crate::raft::{BEHIND_MAX, MemberError, ProposeError};

/// Advice for a caller that met another change, or a node that is behind, in milliseconds.
const RETRY_MS: u32 = NO_LEADER_RETRY_MS;

/// A change of the members, or a transfer of leadership, that was not carried out.
pub(crate) fn members(error: &MemberError) -> Status {
    let (code, detail) = match error {
        MemberError::NotLeader { leader } => {
            let leader = leader.clone();
            return propose(ProposeError::NotLeader { leader });
        }
        MemberError::DiskFull(low) => return disk_full(low),
        MemberError::Unknown { .. } => {
            let detail = ErrorDetail {
                retryable: true,
                ..unknown_effect(Reason::NoLeader)
            };
            (Code::Unknown, detail)
        }
        MemberError::NotFound(_) => (Code::NotFound, no_effect(Reason::NodeNotFound)),
        MemberError::AlreadyMember { .. } => {
            (Code::AlreadyExists, no_effect(Reason::AlreadyMember))
        }
        MemberError::NotLearner { .. } => (Code::FailedPrecondition, no_effect(Reason::NotLearner)),
        MemberError::NotVoter { .. } => (Code::FailedPrecondition, no_effect(Reason::NotVoter)),
        MemberError::LastVoter { .. } => (Code::FailedPrecondition, no_effect(Reason::LastVoter)),
        MemberError::WouldLoseQuorum { .. } => {
            (Code::FailedPrecondition, no_effect(Reason::WouldLoseQuorum))
        }
        MemberError::NotCaughtUp { progress, .. } => {
            let detail = ErrorDetail {
                bound: "behind_max".to_owned(),
                bound_value: BEHIND_MAX,
                behind: progress.heard.then_some(progress.behind),
                ..no_effect(Reason::NotCaughtUp)
            };
            (Code::FailedPrecondition, detail)
        }
        MemberError::NotTaken { .. } => (Code::Aborted, no_effect(Reason::NotCaughtUp)),
        MemberError::UnderWay => {
            let detail = ErrorDetail {
                retry_after_ms: RETRY_MS,
                ..no_effect(Reason::ChangeUnderWay)
            };
            (Code::Aborted, detail)
        }
    };
    status(code, error.to_string(), &detail)
}
