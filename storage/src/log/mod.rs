//! The log engine of one group: an append-only sequence of entries in segment files.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{OpenError, ReadError, WriteError};
use crate::types::{BatchOutcome, Entry, EntryId, Identity, LogId, Record, Vote};

mod data_dir;

pub use self::data_dir::DirLock;

/// How a log is opened.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// `<data>/group-1`: created when missing.
    pub dir: PathBuf,
    /// Whose it is: a file of another cluster is refused.
    pub identity: Identity,
    /// The group's number, 1 in this release.
    pub group: u64,
    /// Bytes of a segment file, 128 MiB by default.
    pub segment_size: u64,
    /// Bytes of recent entries kept in memory for replication, apply and live readers, beside those not yet durable.
    pub tail_size: usize,
    /// Bytes of entries that may wait for the writer thread.
    pub queue_size: usize,
}

/// Called once, from the writer thread, in the order of the calls, when the change is durable or the log has stopped.
/// Must not block.
pub type Done = Box<dyn FnOnce(Result<(), WriteError>) + Send>;

/// What the log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogState {
    /// The last entry that was purged: everything up to it is gone.
    pub purged: Option<EntryId>,
    /// The last entry, durable or not; `purged` when there is none behind it.
    pub last: Option<EntryId>,
    /// The last durable entry; `purged` when there is none behind it.
    pub durable: Option<EntryId>,
    /// Chain crc after `durable`.
    pub chain_crc: u32,
    /// Bytes that the segment files hold on disk.
    pub disk_size: u64,
}

/// The state machine's small state as of an entry. Its body is the server's; the log keeps it beside the segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last entry that it contains.
    pub applied: EntryId,
    /// Opaque here; protected by the file's crc.
    pub body: Bytes,
}

/// Records from [`Log::read`]: at neighbouring offsets, every one verified on this path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadChunk {
    /// In offset order; empty at the end of what is applied.
    pub records: Vec<Record>,
    /// The offset to go on from.
    pub next_offset: u64,
}

/// What one entry put into logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRecords {
    /// The entry.
    pub index: u64,
    /// Its taken batches, in order: the log, and the records with their offsets.
    pub batches: Vec<(LogId, Vec<Record>)>,
}

/// The engine. Cheap to clone; all clones are one log. Dropping the last one stops the writer thread after it has
/// written and synced what is queued.
#[derive(Debug, Clone)]
pub struct Log {
    inner: Arc<()>,
}

impl Log {
    /// Opens or creates the log of one group and recovers it: a torn tail that can't have been acknowledged is cut;
    /// anything else that is wrong is an error that names file and position.
    pub fn open(options: LogOptions) -> Result<Self, OpenError> {
        todo!()
    }

    /// Appends entries behind the last one. On return every reader sees them; `done` is called once they, and all
    /// before them, are durable. Never blocks on the disk.
    ///
    /// # Panics
    /// When the first entry's index is not the last one's + 1: that is a bug of the caller.
    pub fn append(&self, entries: Vec<Entry>, done: Done) -> Result<(), WriteError> {
        todo!()
    }
    /// Whether fewer than `queue_size` bytes wait for the writer.
    pub fn has_room(&self) -> bool {
        todo!()
    }
    /// Blocks until [`Log::has_room`] or the log has stopped.
    pub fn wait_for_room(&self) {
        todo!()
    }

    /// Drops every entry behind `index` (`None`: all that are not purged). On return no reader sees them; `done` when
    /// that is durable: they never come back.
    pub fn truncate_after(&self, index: Option<u64>, done: Done) -> Result<(), WriteError> {
        todo!()
    }

    /// Drops every entry up to `id`, which may lie behind the last one: then the log is empty and starts at the next
    /// index. Segment files go when all of their entries are purged.
    pub fn purge(&self, id: EntryId, done: Done) -> Result<(), WriteError> {
        todo!()
    }

    /// Keeps a vote; it may be answered once `done` was called with success.
    pub fn save_vote(&self, vote: Vote, done: Done) -> Result<(), WriteError> {
        todo!()
    }
    /// The last vote that was saved.
    pub fn vote(&self) -> Option<Vote> {
        todo!()
    }

    /// What the log holds now.
    pub fn state(&self) -> LogState {
        todo!()
    }
    /// The first failure of a write, if there was one: the log takes no more and the process should end.
    pub fn failure(&self) -> Option<WriteError> {
        todo!()
    }

    /// Entries `from..to`, fewer when `size_max` bytes of payload are reached (never none, if the first exists), or
    /// when the log ends before `to`. Every payload is verified. May read from disk: not on a runtime thread.
    pub fn entries(&self, from: u64, to: u64, size_max: usize) -> Result<Vec<Entry>, ReadError> {
        todo!()
    }
    /// The same from memory alone: `None` when the entry at `from` (which exists) is not in the tail any more.
    pub fn entries_in_tail(&self, from: u64, to: u64, size_max: usize) -> Option<Vec<Entry>> {
        todo!()
    }
    /// The identity of the entry at `index`, if it is in the log. `purged` counts.
    pub fn entry_id(&self, index: u64) -> Result<Option<EntryId>, ReadError> {
        todo!()
    }
    /// For each term in the log, its first entry: `(id)`, rising. For Raft's start-up.
    pub fn terms(&self) -> Vec<EntryId> {
        todo!()
    }

    /// Whether `index` is the first of a segment that is not the log's first: the state machine must call
    /// [`Log::seal`] before it applies that entry.
    pub fn is_boundary(&self, index: u64) -> bool {
        todo!()
    }
    /// Tells the log what apply decided for the batches of entry `index`, in the order of their headers. From here on
    /// the records of the taken ones can be read. Called for every batches entry, in index order; again after a
    /// restart for those behind the checkpoint (an entry of a sealed segment is ignored).
    pub fn note_applied(&self, index: u64, outcomes: &[BatchOutcome]) {
        todo!()
    }
    /// Seals the segment before `boundary`, and keeps the checkpoint as of `boundary - 1`, in the background, once
    /// durable: first the footer, then the checkpoint. Nothing to do when that was done before.
    pub fn seal(&self, boundary: u64, checkpoint: Checkpoint) {
        todo!()
    }
    /// The newest usable checkpoint at open: of a snapshot, or one at or below the durable last entry.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        todo!()
    }
    /// Keeps a snapshot received from the leader, durably, on return. Blocks.
    pub fn save_snapshot(&self, snapshot: &Checkpoint) -> Result<(), WriteError> {
        todo!()
    }
    /// The last snapshot kept by [`Log::save_snapshot`].
    pub fn snapshot(&self) -> Option<Checkpoint> {
        todo!()
    }

    /// Records of a log at `from..until`, as many as fit `size_max` bytes of bodies (at least one, if there is one).
    /// Only what was noted as applied is seen. May read from disk: not on a runtime thread.
    pub fn read(
        &self,
        log: LogId,
        from: u64,
        until: u64,
        size_max: usize,
    ) -> Result<ReadChunk, ReadError> {
        todo!()
    }
    /// What the entries `from..to` put into logs, entry by entry, for the indexer: an item for every entry in the range,
    /// also for those that put nothing; fewer when `size_max` bytes of payload are reached (never none, if the first
    /// exists). The caller asks only for entries that were applied. May read from disk.
    pub fn read_entries(
        &self,
        from: u64,
        to: u64,
        size_max: usize,
    ) -> Result<Vec<EntryRecords>, ReadError> {
        todo!()
    }
    /// The smallest offset at or behind `from` whose record has an event time of `timestamp` or later; `None` when
    /// no applied record has. Uses the time bounds of segments and batches, then reads one batch.
    pub fn offset_at_time(
        &self,
        log: LogId,
        from: u64,
        timestamp: i64,
    ) -> Result<Option<u64>, ReadError> {
        todo!()
    }
    /// Verifies every sealed segment; the first damage ends it.
    pub fn verify(&self) -> Result<(), ReadError> {
        todo!()
    }
}
