//! Changes of the members: add a learner, give and take votes, remove, correct an address.
//!
//! Promises: one change at a time; one that was begun is not cancelled by a caller that goes away; a change that would
//! leave too few voters able to commit is refused before it is proposed; what was proposed and lost is unknown, never a
//! refusal. A change of voters goes through joint consensus, and whoever leads ends one that its beginner did not
//! ([`Group::finish_change`]). Must not know: gRPC, who asks.

mod plan;

use std::collections::{BTreeMap, BTreeSet};

use inkstone_proto::v1;
use inkstone_storage::error::LowSpace;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, Instant as _};

use crate::raft::look::look;
use crate::raft::progress::{BEHIND_MAX, Progress};
use crate::raft::types::{RaftLogId, TypeConfig};
use crate::raft::{Group, Leader, forwarded, wire};

pub(crate) use self::plan::not_found;
use self::plan::{Change, Proposal, plan};

/// Why a change of the members, or a transfer of leadership, was not carried out.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MemberError {
    /// Not begun: this node does not lead.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, if known.
        leader: Option<v1::NodeInfo>,
    },
    /// No member, or nobody who waits, has that id or address.
    #[error("{0}")]
    NotFound(String),
    /// It is a member.
    #[error("node {} at {} is a member already, as a {}", .node.id, .node.peer_address, if *.voter { "voter" } else { "learner" })]
    AlreadyMember {
        /// Who.
        node: v1::NodeInfo,
        /// Whether it has a vote.
        voter: bool,
    },
    /// It is not a learner.
    #[error("node {node} is a voter already")]
    NotLearner {
        /// Who.
        node: u64,
    },
    /// It is not a voter.
    #[error("node {node} is a learner: it has no vote; `ink cluster promote {node}` gives it one")]
    NotVoter {
        /// Who.
        node: u64,
    },
    /// It is the only voter.
    #[error("node {node} is the only voter: add and promote another node first")]
    LastVoter {
        /// Who.
        node: u64,
    },
    /// Too few of the remaining voters could commit.
    #[error("{}", quorum_text(*.node, .able, .remaining))]
    WouldLoseQuorum {
        /// Whose vote was to go.
        node: u64,
        /// The remaining voters that are reachable and caught up.
        able: BTreeSet<u64>,
        /// All that would remain.
        remaining: BTreeSet<u64>,
    },
    /// It is too far behind, or silent.
    #[error("{}", behind_text(*.node, *.progress))]
    NotCaughtUp {
        /// Who.
        node: u64,
        /// How far it is.
        progress: Progress,
    },
    /// Another change is under way.
    #[error(
        "another change of the members is under way; retry when `ink cluster status` shows that it is over"
    )]
    UnderWay,
    /// The node that was asked to lead did not take over, and this one leads on.
    #[error(
        "node {node} was asked to lead and did not take over; this node leads on: retry, or name another node"
    )]
    NotTaken {
        /// Who.
        node: u64,
    },
    /// Not proposed: this node's disk has less free space than is kept for what must be written.
    #[error(transparent)]
    DiskFull(#[from] LowSpace),
    /// Proposed, and then leadership or the group was lost: it may or may not take effect.
    #[error("the change was begun, not confirmed: {why}")]
    Unknown {
        /// What happened.
        why: String,
    },
}

fn quorum_text(node: u64, able: &BTreeSet<u64>, remaining: &BTreeSet<u64>) -> String {
    let unable: Vec<String> = remaining
        .difference(able)
        .map(ToString::to_string)
        .collect();
    format!(
        "without node {node} only {} of the {} remaining voters are reachable and caught up, and {} are needed to append \
         anything (not: {}); bring these back or replace them first",
        able.len(),
        remaining.len(),
        remaining.len() / 2 + 1,
        unable.join(", ")
    )
}

fn behind_text(node: u64, progress: Progress) -> String {
    if !progress.heard {
        return format!(
            "the leader has not heard from node {node} lately: check that it runs and can be reached; when last \
             heard of it was {} entries behind",
            progress.behind
        );
    }
    format!(
        "node {node} is {} entries behind the leader, at most {BEHIND_MAX} are allowed; wait until `ink cluster status` \
         shows that it has caught up",
        progress.behind
    )
}

/// Which of the remaining voters count as able to commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Able {
    /// Those that are reachable and caught up.
    CaughtUp,
    /// Also those that are behind: an operator wants it so.
    Reachable,
}

/// The membership as this node knows it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Members {
    /// Every member, by id.
    pub nodes: BTreeMap<u64, v1::NodeInfo>,
    /// Those with a vote; while the membership changes, in the old or the new set.
    pub voters: BTreeSet<u64>,
    /// Whether there are two sets of voters, or the newest membership is not committed yet.
    pub changing: bool,
    /// Raft index of the entry that says so; 0: none.
    pub index: u64,
}

impl Members {
    /// The member of that id or address.
    pub fn find(&self, name: &str) -> Option<&v1::NodeInfo> {
        find_named(self.nodes.values(), name)
    }

    /// Whether it has a vote.
    pub fn is_voter(&self, node: u64) -> bool {
        self.voters.contains(&node)
    }
}

/// The node of that id (decimal), or that is reached at that address by clients or other nodes.
pub fn find_named<'n>(
    nodes: impl IntoIterator<Item = &'n v1::NodeInfo>,
    name: &str,
) -> Option<&'n v1::NodeInfo> {
    nodes.into_iter().find(|node| is_named(node, name))
}

/// Whether that is the node's id (decimal), or one of its addresses.
pub fn is_named(node: &v1::NodeInfo, name: &str) -> bool {
    name.parse() == Ok(node.id) || node.peer_address == name || node.client_address == name
}

impl Group {
    /// Adds a node without a vote.
    pub async fn add_learner(&self, node: v1::NodeInfo) -> Result<v1::NodeInfo, MemberError> {
        self.change(Change::Add(node)).await
    }

    /// Gives a learner that is caught up a vote.
    pub async fn promote(&self, node: u64) -> Result<v1::NodeInfo, MemberError> {
        self.change(Change::Promote(node)).await
    }

    /// Takes a voter's vote: it stays as a learner.
    pub async fn demote(&self, node: u64, able: Able) -> Result<v1::NodeInfo, MemberError> {
        self.change(Change::Demote(node, able)).await
    }

    /// Removes a member.
    pub async fn remove(&self, node: u64, able: Able) -> Result<v1::NodeInfo, MemberError> {
        self.change(Change::Remove(node, able)).await
    }

    /// Corrects how a member is reached. Somebody must have made sure that it is this node that is reached there.
    pub async fn set_address(&self, node: v1::NodeInfo) -> Result<v1::NodeInfo, MemberError> {
        self.change(Change::Address(node)).await
    }

    /// The newest membership that this node has, committed or not.
    pub fn membership(&self) -> Members {
        look(&self.inner.raft.metrics(), |metrics| {
            let effective = &metrics.membership_config;
            let membership = effective.membership();
            let nodes = membership
                .nodes()
                .map(|(id, member)| (*id, wire::node_to_wire(*id, member)));
            Members {
                nodes: nodes.collect(),
                voters: membership.voter_ids().collect(),
                changing: membership.get_joint_config().len() > 1
                    || metrics.committed_membership_config.log_id() != effective.log_id(),
                index: effective.log_id().as_ref().map_or(0, RaftLogId::index),
            }
        })
    }

    /// The sets of voters by which this node goes, two while the membership changes, and the Raft index of the entry that
    /// says so.
    pub fn voter_sets(&self) -> (u64, Vec<BTreeSet<u64>>) {
        look(&self.inner.raft.metrics(), |metrics| {
            let effective = &metrics.membership_config;
            let index = effective.log_id().as_ref().map_or(0, RaftLogId::index);
            (index, effective.membership().get_joint_config().clone())
        })
    }

    /// The newest membership that this node knows to be committed: the entry's index (0: none), and who is in it.
    pub fn committed_membership(&self) -> (u64, BTreeSet<u64>) {
        look(&self.inner.raft.metrics(), |metrics| {
            let committed = &metrics.committed_membership_config;
            let index = committed.log_id().as_ref().map_or(0, RaftLogId::index);
            let nodes = committed.membership().nodes();
            (index, nodes.map(|(id, _)| *id).collect())
        })
    }

    /// The newest entry of this node's own log by which it is a member, committed or not; `None`: there is none.
    pub fn member_since(&self) -> Option<u64> {
        look(&self.inner.raft.metrics(), |metrics| {
            let known = [
                &metrics.membership_config,
                &metrics.committed_membership_config,
            ];
            let with_me = known.into_iter().filter(|membership| {
                let member = membership.membership().get_node(&self.inner.node_id);
                member.is_some()
            });
            with_me
                .map(|membership| membership.log_id().as_ref().map_or(0, RaftLogId::index))
                .max()
        })
    }

    /// The entry up to which this node knows the cluster to have agreed.
    pub fn known_committed(&self) -> u64 {
        look(&self.inner.raft.metrics(), |metrics| {
            metrics
                .cluster_committed
                .as_ref()
                .map_or(0, RaftLogId::index)
        })
    }

    /// Returns once everything that is in this node's log now is applied, or was replaced by what is.
    pub async fn settled(&self) {
        let last = look(&self.inner.raft.metrics(), |metrics| metrics.last_log_index);
        self.inner.applied.wait_for(last.unwrap_or(0)).await;
    }

    /// How far each other member is; empty where this node does not lead.
    pub fn progress(&self) -> BTreeMap<u64, Progress> {
        look(&self.inner.raft.metrics(), |metrics| {
            let (Some(matched), Some(heard)) = (&metrics.replication, &metrics.heartbeat) else {
                return BTreeMap::new();
            };
            let last = metrics.last_log_index.unwrap_or(0);
            let of = |id: &u64, matched: &Option<RaftLogId>| {
                let at = heard.get(id).copied().flatten();
                let heard = at.is_some_and(|at| at.elapsed() <= self.inner.silence_max);
                Progress::new(last, matched.as_ref().map(RaftLogId::index), heard)
            };
            matched
                .iter()
                .filter(|(id, _)| **id != self.inner.node_id)
                .map(|(id, matched)| (*id, of(id, matched)))
                .collect()
        })
    }

    /// Ends a change of voters that whoever led before could not end. For the node that leads.
    pub async fn finish_change(&self) -> Result<(), MemberError> {
        let _turn = self.inner.changing.lock().await;
        if !self.is_half_changed() {
            return Ok(());
        }
        tracing::info!("ending a change of the members that an earlier leader began");
        let nothing_more = (ChangeMembers::AddVoterIds(BTreeSet::new()), true);
        self.write_change(nothing_more).await
    }

    /// Whether this node leads a cluster that stands between two sets of voters, both agreed.
    pub fn is_half_changed(&self) -> bool {
        // The same channel whose changes `leader_change` tells: another one may be a step behind.
        look(&self.inner.raft.server_metrics(), |metrics| {
            let effective = &metrics.membership_config;
            metrics.state == openraft::ServerState::Leader
                && effective.membership().get_joint_config().len() > 1
                && metrics.committed_membership_config.log_id() == effective.log_id()
        })
    }

    /// Carries a change out in a task of its own: a caller that goes away does not cancel it.
    async fn change(&self, change: Change) -> Result<v1::NodeInfo, MemberError> {
        let group = self.clone();
        let work = tokio::spawn(async move { group.change_here(change).await });
        work.await
            .unwrap_or_else(|lost| Err(unknown(&lost.to_string())))
    }

    async fn change_here(&self, change: Change) -> Result<v1::NodeInfo, MemberError> {
        let Ok(_turn) = self.inner.changing.try_lock() else {
            return Err(MemberError::UnderWay);
        };
        self.require_lead()?;
        let members = self.membership();
        let progress = self.progress();
        let (node, proposal) = plan(self.inner.node_id, &members, &progress, change)?;
        let takes_vote = matches!(&proposal.0, ChangeMembers::RemoveVoters(_));
        if members.changing {
            return Err(MemberError::UnderWay);
        }
        if takes_vote && node.id == self.inner.node_id {
            // A leader does not vote itself out: its successor does it.
            let (leader, _) = self.hand_over(None).await?;
            return Err(MemberError::NotLeader {
                leader: Some(leader),
            });
        }
        self.inner.space.check(0).await?;
        self.write_change(proposal).await?;
        Ok(node)
    }

    /// Refuses where this node does not lead.
    pub(super) fn require_lead(&self) -> Result<(), MemberError> {
        match self.leader() {
            Leader::Here => Ok(()),
            Leader::There(leader) => Err(MemberError::NotLeader {
                leader: Some(leader),
            }),
            Leader::Unknown => Err(MemberError::NotLeader { leader: None }),
        }
    }

    /// Proposes a change and waits until it is over. A refusal after the first of two steps is none: the change has begun.
    async fn write_change(&self, (change, retain): Proposal) -> Result<(), MemberError> {
        let before = self.membership().index;
        let raft = &self.inner.raft;
        let Err(error) = raft.change_membership(change, retain).await else {
            return Ok(());
        };
        let begun = self.membership().index != before;
        Err(match error {
            RaftError::APIError(error) if !begun => refusal(error),
            error => unknown(&error.to_string()),
        })
    }
}

fn unknown(why: &str) -> MemberError {
    MemberError::Unknown {
        why: why.to_owned(),
    }
}

/// What openraft says of a change that it did not begin.
fn refusal(error: ClientWriteError<TypeConfig>) -> MemberError {
    match error {
        ClientWriteError::ForwardToLeader(forward) => MemberError::NotLeader {
            leader: forwarded(&forward),
        },
        ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_)) => {
            MemberError::UnderWay
        }
        ClientWriteError::ChangeMembershipError(ChangeMembershipError::LearnerNotFound(who)) => {
            not_found(&who.node_id.to_string())
        }
        other => unknown(&other.to_string()),
    }
}

#[cfg(test)]
mod tests;
