//! How openraft's types are filled in, and the conversions between its ids and the store's.
//!
//! Promises: a proposal's payload is the very bytes that go to disk and over the wire. Must not know: protobuf.

use std::fmt;

use bytes::Bytes;
use inkstone_storage::types as store;

use crate::raft::{LogInfo, LogRefusal, Receipt, Refusal};

openraft::declare_raft_types!(
    /// The one group's configuration of openraft.
    pub(crate) TypeConfig:
        D = Proposal,
        R = Applied,
        NodeId = u64,
        Node = Member,
        AsyncRuntime = openraft_rt_tokio::TokioRuntime,
);

/// openraft's handle with our state machine in it.
pub(crate) type Raft = openraft::Raft<TypeConfig, crate::raft::state_machine::StateMachine>;
/// An entry as openraft sees it.
pub(crate) type RaftEntry = openraft::type_config::alias::EntryOf<TypeConfig>;
/// The identity of an entry as openraft sees it.
pub(crate) type RaftLogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
/// A vote as openraft sees it.
pub(crate) type RaftVote = openraft::type_config::alias::VoteOf<TypeConfig>;
/// A membership with the entry that set it.
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
/// Who the members are.
pub(crate) type Membership = openraft::Membership<u64, Member>;

/// How a member is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// HOST:PORT for clients.
    pub client_address: String,
    /// HOST:PORT for the other nodes.
    pub peer_address: String,
}

/// What is proposed: the payload of an entry, encoded once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proposal {
    /// Whether the payload is a command or batches.
    pub kind: ProposalKind,
    /// As it will be on disk.
    pub payload: Bytes,
}

/// The kinds of entries that the application proposes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProposalKind {
    /// A change of the small state.
    Command,
    /// Batches of records.
    Batches,
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {} bytes", self.kind, self.payload.len())
    }
}

/// What apply answers the proposer with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Applied {
    /// A blank or a membership entry.
    Nothing,
    /// For every batch of the entry, in order.
    Batches(Vec<Result<Receipt, Refusal>>),
    /// The log, and whether this command created it.
    Log(LogInfo, bool),
    /// The log that this command changed or deleted, or why it did not.
    Changed(Result<LogInfo, LogRefusal>),
}

/// openraft's form of an entry's identity.
pub(crate) fn raft_log_id(id: store::EntryId) -> RaftLogId {
    RaftLogId::new(
        openraft::impls::leader_id_adv::LeaderId {
            term: id.term,
            node_id: id.node,
        },
        id.index,
    )
}

/// The store's form of an entry's identity.
pub(crate) fn entry_id(id: &RaftLogId) -> store::EntryId {
    let leader = id.committed_leader_id();
    store::EntryId {
        term: leader.term,
        node: leader.node_id,
        index: id.index(),
    }
}

/// openraft's form of a vote.
pub(crate) fn raft_vote(vote: store::Vote) -> RaftVote {
    if vote.committed {
        RaftVote::new_committed(vote.term, vote.node)
    } else {
        RaftVote::new(vote.term, vote.node)
    }
}

/// The store's form of a vote.
pub(crate) fn store_vote(vote: &RaftVote) -> store::Vote {
    let leader = vote.leader_id();
    store::Vote {
        term: leader.term,
        node: leader.node_id,
        committed: vote.is_committed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_votes_come_back_as_they_went() {
        let id = store::EntryId {
            term: 7,
            node: 12,
            index: 99,
        };
        assert_eq!(entry_id(&raft_log_id(id)), id);
        for committed in [false, true] {
            let vote = store::Vote {
                term: 3,
                node: 4,
                committed,
            };
            assert_eq!(store_vote(&raft_vote(vote)), vote);
        }
    }
}
