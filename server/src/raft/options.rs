//! What a group is opened with.
//!
//! Promises: the default surroundings are those of a process. Must not know: what becomes of a group.

use inkstone_net::Dial;
use inkstone_storage::log::Log;

use crate::blocking::Offload;
use crate::clock::Clock;
use crate::raft::{Member, Repairs, Timings};

/// What a group is opened with.
#[derive(Debug, Clone)]
pub struct GroupOptions {
    /// The open log.
    pub log: Log,
    /// This node.
    pub node_id: u64,
    /// Its cluster.
    pub cluster_id: [u8; 16],
    /// How others reach it.
    pub member: Member,
    /// Raft's timings.
    pub timings: Timings,
    /// Time for appends without one.
    pub clock: Clock,
    /// What repair has done and has to do.
    pub repairs: Repairs,
    /// What it runs in.
    pub surroundings: Surroundings,
}

/// What a group finds in a process, and does not in a simulation: the default is a process.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Where reads of the disk are done.
    pub offload: Offload,
    /// How the other members are reached.
    pub dial: Dial,
}
