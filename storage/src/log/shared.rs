//! What all handles of a log and its writer thread have in common.
//!
//! Promises: nothing but the parts and the order in which their locks are taken: state before queue. Must not know: what
//! is done with them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::RwLock;

use super::LogOptions;
use super::mutant::Mutation;
use super::queue::Queue;
use super::repair::Turns;
use super::state::State;
use crate::format::checkpoint::CheckpointFile;
use crate::io::Disk;

use super::Checkpoint;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: LogOptions,
    /// The options' group, as it is in frames.
    pub(super) group: u32,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) state: RwLock<State>,
    pub(super) queue: Queue,
    /// Whose turn it is to write a sealed segment anew.
    pub(super) repairing: Arc<Turns>,
    /// Whether the last append that asked was refused for want of room.
    pub(super) is_low: AtomicBool,
    pub(super) mutation: Mutation,
}

impl Shared {
    /// A checkpoint as a file has it.
    pub(super) fn checkpoint_file(&self, checkpoint: Checkpoint) -> CheckpointFile {
        CheckpointFile {
            group: self.group,
            cluster_id: self.options.identity.cluster_id,
            applied: checkpoint.applied,
            body: checkpoint.body,
        }
    }
}

impl LogOptions {
    /// `<data>/group-1/log`
    pub(super) fn log_dir(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// `<data>/group-1/hard-state`
    pub(super) fn hard_state_path(&self) -> PathBuf {
        self.dir.join("hard-state")
    }

    /// `<data>/group-1/watermark`
    pub(super) fn watermark_path(&self) -> PathBuf {
        self.dir.join("watermark")
    }

    /// `<data>/group-1/snapshot`
    pub(super) fn snapshot_path(&self) -> PathBuf {
        self.dir.join("snapshot")
    }
}
