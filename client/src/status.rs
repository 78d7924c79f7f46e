//! The cluster and its nodes, as an operator sees them.
//!
//! Promises: plain values. Must not know: the wire.

use std::ops::RangeInclusive;

use crate::types::NodeInfo;

/// What a node is in its group at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeRole {
    /// It takes appends.
    Leader,
    /// It votes and follows.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It follows without a vote.
    Learner,
    /// It found damage when it started, takes no part, and waits for what other nodes still have of it.
    Quarantined,
    /// Not known, for instance because it could not be reached.
    Unknown,
}

/// One node, as far as the answering node could ask it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// Who it is.
    pub node: NodeInfo,
    /// What it is at the moment.
    pub role: NodeRole,
    /// False when the answering node could not reach it; the figures are then 0.
    pub reachable: bool,
    /// Raft index of the last entry that is durable on it.
    pub durable_index: u64,
    /// Raft index of the last entry known to be committed there.
    pub committed_index: u64,
    /// Raft index of the last entry whose records are visible there.
    pub applied_index: u64,
    /// Raft index of the last entry that its search index covers; 0 when it has none.
    pub indexed_index: u64,
    /// The release it runs.
    pub version: String,
    /// Bytes that its segment files hold on disk.
    pub log_bytes: u64,
    /// Chain crc after `durable_index`: equal at equal indexes means equal prefixes.
    pub chain_crc: u32,
    /// What its search for damaged segments has found; `None` when it was not reached, or runs a release without one.
    pub scrub: Option<ScrubStatus>,
    /// Whether it has a vote; otherwise it is a learner.
    pub voter: bool,
    /// How far the leader has brought it; `None` for the leader itself, and when no leader answered.
    pub progress: Option<ReplicationProgress>,
    /// The protocols between nodes that it speaks, the oldest and the newest; `None` when it was not reached, or runs a
    /// release that does not say.
    pub protocols: Option<(u32, u32)>,
    /// What is damaged and what it has written back from other nodes; `None` when it was not reached, or runs a release
    /// without repair.
    pub repair: Option<RepairStatus>,
}

/// How far a node is, as the leader knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicationProgress {
    /// Raft index of the last entry that it is known to hold as the leader does; 0: none yet.
    pub matched_index: u64,
    /// Entries from there to the leader's last one.
    pub behind: u64,
    /// Whether it is near enough to the leader's end to be promoted or to lead, and was heard from lately.
    pub caught_up: bool,
    /// Whether the leader has heard from it lately.
    pub heard: bool,
}

/// What a node has repaired since it started, and what it still has to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairStatus {
    /// Damaged entries that are still to be written back, as far as they are known.
    pub damaged_entries: u64,
    /// Entries that were written back from other nodes.
    pub repaired_entries: u64,
    /// When that last happened, in nanoseconds since the Unix epoch, UTC, by the node's clock; `None`: never.
    pub last_time: Option<i64>,
    /// The damage that keeps the node in quarantine, or, of one that runs, what its readers have met and is not
    /// repaired yet; at most 20 places.
    pub damages: Vec<DamagedPlace>,
    /// What the repair waits for, human-readable; empty when it waits for nothing.
    pub waits_for: String,
}

/// What a node found that reads all of its sealed segments again and again and verifies every byte, since it started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrubStatus {
    /// Bytes per second that it reads at most; 0: it does not.
    pub rate: u64,
    /// How many passes over all sealed segments it has completed.
    pub passes: u64,
    /// The last of them.
    pub last_pass: Option<ScrubPass>,
    /// Bytes that the pass under way has verified; between two passes, what the last one has.
    pub verified_bytes: u64,
    /// Bytes that it has to verify.
    pub total_bytes: u64,
    /// The damaged places that are known of, at most 100.
    pub damages: Vec<DamagedPlace>,
    /// How many are known of, also those that the list has no room for.
    pub damages_count: u64,
}

/// A completed pass over all sealed segments of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubPass {
    /// When it began, in nanoseconds since the Unix epoch, UTC, by the node's clock.
    pub start_time: i64,
    /// When it ended.
    pub end_time: i64,
    /// Bytes that it verified.
    pub bytes: u64,
}

/// A place in a file of a node that is not what was written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedPlace {
    /// The file, relative to the node's data directory.
    pub file: String,
    /// Position in the file, in bytes.
    pub position: u64,
    /// What was expected and what was found.
    pub what: String,
    /// Raft indexes of the entries that cannot be read because of it, if there are any and they are known.
    pub entries: Option<RangeInclusive<u64>>,
}

/// Who is in the cluster, who leads, and how far each node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterStatus {
    /// The cluster's id, a UUID in its usual text form.
    pub cluster_id: String,
    /// The leader's node id, if one is known.
    pub leader: Option<u64>,
    /// Raft's current term at the answering node.
    pub term: u64,
    /// Every member, by node id.
    pub nodes: Vec<NodeStatus>,
    /// The node that answered.
    pub answered_by: u64,
    /// Nodes that are not members and have asked the answering node for the cluster: what can be added.
    pub waiting: Vec<NodeInfo>,
    /// Whether the cluster goes from one set of voters to another.
    pub changing: bool,
}

impl ClusterStatus {
    /// The member of that id, or that is reached at that address by clients or other nodes.
    pub fn member(&self, name: &str) -> Option<&NodeStatus> {
        self.nodes.iter().find(|status| status.node.is(name))
    }

    /// The node that waits to be added, of that id or at that address.
    pub fn waiting_node(&self, name: &str) -> Option<&NodeInfo> {
        self.waiting.iter().find(|node| node.is(name))
    }
}
