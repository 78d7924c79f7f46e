//! This node's own row of the cluster's status.

use inkstone_proto::v1;
use inkstone_storage::types::EntryId;
use openraft::ServerState;

use crate::raft::look::look;
use crate::raft::{Group, types, wire};

impl Group {
    /// This node's own row of the cluster's status; `indexed_index` and `scrub` are left for the caller to fill.
    pub fn node_status(&self) -> v1::NodeStatus {
        let log = self.inner.log.state();
        let voter = self.membership().is_voter(self.inner.node_id);
        let published = self.inner.raft.metrics();
        let (state, committed) = look(&published, |metrics| {
            (metrics.state, metrics.local_committed)
        });
        let index = |id: Option<EntryId>| id.map_or(0, |id| id.index);
        let role = match state {
            ServerState::Leader => v1::NodeRole::Leader,
            ServerState::Candidate => v1::NodeRole::Candidate,
            ServerState::Follower => v1::NodeRole::Follower,
            ServerState::Learner => v1::NodeRole::Learner,
            ServerState::Shutdown => v1::NodeRole::Unspecified,
        };
        v1::NodeStatus {
            node: Some(wire::node_to_wire(self.inner.node_id, &self.inner.member)),
            role: role.into(),
            reachable: true,
            durable_index: index(log.durable),
            committed_index: committed.as_ref().map_or(0, types::RaftLogId::index),
            applied_index: self.inner.applied.index(),
            indexed_index: 0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            log_bytes: log.disk_size,
            chain_crc: log.chain_crc,
            scrub: None,
            voter,
            progress: None,
            oldest_protocol: self.versions().own().protocols.oldest,
            newest_protocol: self.versions().own().protocols.newest,
            repair: None,
        }
    }
}
