//! The members of the fake cluster: what is asked to be done is done at once, but a learner catches up as it is looked at.

use inkstone_proto::v1;
use tonic::{Code, Status};

use super::{State, refusal};

/// What a node lacks less of, each time somebody looks.
const STEP: u64 = 4_000;
/// What a new node lacks.
const NEW_BEHIND: u64 = 10_000;
/// A node that lacks more may not be promoted.
const BEHIND_MAX: u64 = 1_000;

fn is(node: &v1::NodeInfo, name: &str) -> bool {
    node.id.to_string() == name || node.client_address == name || node.peer_address == name
}

fn not_found() -> Status {
    refusal(Code::NotFound, v1::Reason::NodeNotFound, None, None)
}

fn progress(behind: u64) -> v1::ReplicationProgress {
    v1::ReplicationProgress {
        matched_index: NEW_BEHIND - behind,
        behind,
        caught_up: behind <= BEHIND_MAX,
        heard: true,
    }
}

impl State {
    pub(super) fn catch_up(&mut self) {
        for status in &mut self.nodes {
            if let Some(now) = &mut status.progress {
                *now = progress(now.behind.saturating_sub(STEP));
            }
        }
    }

    pub(super) fn member(&self, name: &str) -> Result<v1::NodeInfo, Status> {
        let nodes = self.nodes.iter().filter_map(|status| status.node.as_ref());
        nodes
            .into_iter()
            .find(|node| is(node, name))
            .cloned()
            .ok_or_else(not_found)
    }

    fn status_of(&mut self, name: &str) -> Result<&mut v1::NodeStatus, Status> {
        let named =
            |status: &&mut v1::NodeStatus| status.node.as_ref().is_some_and(|node| is(node, name));
        self.nodes.iter_mut().find(named).ok_or_else(not_found)
    }

    pub(super) fn add(&mut self, name: &str) -> Result<v1::NodeInfo, Status> {
        let waits = self.waiting.iter().position(|node| is(node, name));
        let Some(waits) = waits else {
            return Err(match self.member(name) {
                Ok(_) => refusal(Code::AlreadyExists, v1::Reason::AlreadyMember, None, None),
                Err(not_found) => not_found,
            });
        };
        let node = self.waiting.remove(waits);
        self.nodes.push(v1::NodeStatus {
            node: Some(node.clone()),
            role: v1::NodeRole::Learner.into(),
            reachable: true,
            progress: Some(progress(NEW_BEHIND)),
            ..v1::NodeStatus::default()
        });
        Ok(node)
    }

    pub(super) fn promote(&mut self, name: &str) -> Result<v1::NodeInfo, Status> {
        let status = self.status_of(name)?;
        if status.voter {
            let reason = v1::Reason::NotLearner;
            return Err(refusal(Code::FailedPrecondition, reason, None, None));
        }
        if !status.progress.is_some_and(|progress| progress.caught_up) {
            let reason = v1::Reason::NotCaughtUp;
            return Err(refusal(Code::FailedPrecondition, reason, None, None));
        }
        status.voter = true;
        status.node.clone().ok_or_else(not_found)
    }

    /// Only with force: the others are always behind here.
    pub(super) fn demote(&mut self, name: &str, force: bool) -> Result<v1::NodeInfo, Status> {
        if !force {
            let reason = v1::Reason::WouldLoseQuorum;
            return Err(refusal(Code::FailedPrecondition, reason, None, None));
        }
        let status = self.status_of(name)?;
        status.voter = false;
        status.node.clone().ok_or_else(not_found)
    }

    pub(super) fn remove(&mut self, name: &str) -> Result<v1::NodeInfo, Status> {
        let node = self.member(name)?;
        self.nodes
            .retain(|status| status.node.as_ref().is_none_or(|known| known.id != node.id));
        Ok(node)
    }
}
