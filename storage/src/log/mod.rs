//! The log engine of one group: an append-only sequence of entries in segment files.
//!
//! Promises: what was completed is durable; what is read was verified on that read; readers never wait for the disk's
//! writes. Order of reading: `state` (what is seen), `append` (a place for an entry), `writer` (its way to the disk),
//! `open` with `scan` (what a crash leaves, and what rotted), `repair` (what peers give back), then `read` and `seal`.
//! Must not know: Raft's rules, the content of commands, runtimes, clocks.

use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use parking_lot::Mutex;

use self::mutant::Mutation;
use self::queue::Job;
use self::segment::Check;
use self::shared::Shared;

use crate::error::{
    Faults, LowSpace, OpenError, ReadError, RepairError, WriteError, WriteErrorKind,
};
use crate::format::batch::Batches;
use crate::io::{Disk, RealDisk};
use crate::types::{BatchOutcome, Entry, EntryId, Identity, LogId, Record, Vote};

mod append;
pub mod check;
mod checkpoint;
mod data_dir;
mod driven;
mod entries;
mod hard_state;
mod lost;
mod mutant;
mod open;
mod purge;
mod queue;
mod read;
mod recovery;
mod remains;
mod repair;
mod retained;
mod scan;
mod scrub;
mod seal;
mod segment;
mod shared;
mod space;
mod spare;
mod state;
mod tail;
mod truncate;
mod verify;
mod watermark;
mod writer;

pub use self::data_dir::DirLock;
pub use self::driven::{Driver, Turn};
pub use self::lost::Lost;
#[cfg(feature = "mutants")]
pub use self::mutant::Mutant;
pub use self::recovery::{Finding, Recovery};
pub use self::remains::Remains;
pub use self::repair::{Repair, Supersedable};
pub use self::retained::{Extent, LogExtent};
pub use self::scrub::{ScrubProgress, ScrubStep, Scrubber};
pub use self::spare::Spare;
pub use self::verify::Fault;
pub use crate::error::Verdict;

/// How a log is opened.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// `<data>/group-1`: created when missing.
    pub dir: PathBuf,
    /// Whose it is: a file of another cluster is refused.
    pub identity: Identity,
    /// The group's number, 1 in this release.
    pub group: u64,
    /// Bytes of a segment file, 128 MiB by default, at most 32 GiB.
    pub segment_size: u64,
    /// Bytes of recent entries kept in memory for replication, apply and live readers, beside those not yet durable.
    pub tail_size: usize,
    /// Bytes of entries that may wait for the writer thread.
    pub queue_size: usize,
    /// Bytes that must be free on the disk for [`Log::check_space`] to let an append pass: the low-water mark. What is
    /// below it is left for Raft's own entries, checkpoints and snapshots. 0: none.
    pub free_size_min: u64,
    /// Who makes the next segment's file ready.
    pub spare: Spare,
}

/// Called once, from the writer thread, in the order of the calls, when the change is durable or the log has stopped.
/// Must not block.
pub type Done = Box<dyn FnOnce(Result<(), WriteError>) + Send>;

/// What the log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogState {
    /// The index of the first entry that is kept, or, in an empty log, of the next one if that is known (else 0).
    pub first_index: u64,
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
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    recovery: Recovery,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.queue.close();
        let writer = self.writer.lock().take();
        // A callback that drops the last handle runs on the writer thread, which cannot wait for itself.
        if let Some(writer) = writer.filter(|writer| writer.thread().id() != thread::current().id())
            && writer.join().is_err()
        {
            tracing::error!("the log's writer thread panicked");
        }
    }
}

impl Log {
    /// Opens or creates the log of one group and recovers it, row by row of FORMAT.md, "Recovery": what a crash left is made
    /// good ([`Log::recovery`] says what it was), and so is damage that the log itself makes up for. Entries that may have
    /// been acknowledged and are damaged are named ([`OpenError::Faulty`]), and nothing is cut: see [`Repair`]. Any other
    /// damage is an error that names file and position.
    pub fn open(options: LogOptions) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(RealDisk), options)
    }

    /// [`Log::open`] on a given disk.
    pub fn open_on(disk: Arc<dyn Disk>, options: LogOptions) -> Result<Self, OpenError> {
        Self::open_with(disk, options, Mutation::default())
    }

    /// [`Log::open_on`] with a deliberate bug: the suites that must catch it open the log so.
    #[cfg(feature = "mutants")]
    pub fn open_mutant(
        disk: Arc<dyn Disk>,
        options: LogOptions,
        mutant: Option<Mutant>,
    ) -> Result<Self, OpenError> {
        Self::open_with(disk, options, Mutation::of(mutant))
    }

    fn open_with(
        disk: Arc<dyn Disk>,
        options: LogOptions,
        mutation: Mutation,
    ) -> Result<Self, OpenError> {
        let (shared, writer, recovery) = open::open(disk, options, mutation)?;
        let writer = thread::Builder::new()
            .name(format!("log-writer-{}", shared.group))
            .spawn(move || writer.run())
            .map_err(|source| OpenError::Io {
                file: shared.options.dir.clone(),
                source,
            })?;
        Ok(Self {
            handle: Arc::new(Handle {
                shared,
                recovery,
                writer: Mutex::new(Some(writer)),
            }),
        })
    }

    fn shared(&self) -> &Shared {
        &self.handle.shared
    }

    /// Appends entries behind the last one. On return every reader sees them; `done` is called once they, and all
    /// before them, are durable. Never blocks on the disk. On an error `done` is not called.
    ///
    /// A log that has never held an entry begins with whatever index comes first.
    ///
    /// # Panics
    /// When the first entry's index is not the last one's + 1: that is a bug of the caller.
    pub fn append(&self, entries: Vec<Entry>, done: Done) -> Result<(), WriteError> {
        append::append(self.shared(), entries, done)
    }

    /// How many bytes are free on the disk above `free_size_min`, as many as there may be when there is no such mark;
    /// refuses when fewer than that are free. To be asked before something is proposed that would be
    /// appended here: [`Log::append`] itself refuses nothing for want of room, since Raft must be able to write what it
    /// has decided. Asks the file system, which mostly answers from memory in a few microseconds, but may have to wait.
    pub fn check_space(&self) -> Result<u64, LowSpace> {
        space::check(self.shared())
    }

    /// Bytes that are free on the log's disk; `None` when the disk does not say.
    pub fn free_size(&self) -> Option<u64> {
        space::free_size(self.shared())
    }

    /// Whether fewer than `queue_size` bytes wait for the writer.
    pub fn has_room(&self) -> bool {
        self.shared().queue.has_room()
    }

    /// Blocks until [`Log::has_room`] or the log has stopped.
    pub fn wait_for_room(&self) {
        self.shared().queue.wait_for_room();
    }

    /// Drops every entry behind `index` (`None`: all that are not purged). On return no reader sees them; `done` when
    /// that is durable: they never come back.
    ///
    /// # Panics
    /// When one of them is in a sealed segment, hence applied: that is a bug of the caller.
    pub fn truncate_after(&self, index: Option<u64>, done: Done) -> Result<(), WriteError> {
        truncate::truncate_after(self.shared(), index, done)
    }

    /// Drops every entry up to `id`, which may lie behind the last one: then the log is empty and starts at the next
    /// index. Segment files go when all of their entries are purged.
    ///
    /// The caller has kept a snapshot or checkpoint that contains `id`: without one the log does not open again, for the
    /// state behind what is purged cannot be had.
    pub fn purge(&self, id: EntryId, done: Done) -> Result<(), WriteError> {
        purge::purge(self.shared(), id, None, done)
    }

    /// [`Log::purge`] for a caller that knows the chain crc behind `id`: of a snapshot, which carries it. A log that restarts
    /// behind `id` then goes on with the chain that the other nodes have.
    pub fn purge_behind(
        &self,
        id: EntryId,
        chain_crc: Option<u32>,
        done: Done,
    ) -> Result<(), WriteError> {
        purge::purge(self.shared(), id, chain_crc, done)
    }

    /// Keeps a vote; it may be answered once `done` was called with success.
    pub fn save_vote(&self, vote: Vote, done: Done) -> Result<(), WriteError> {
        self.shared().queue.push([Job::Vote(vote, done)])
    }

    /// The last vote that is durable.
    pub fn vote(&self) -> Option<Vote> {
        self.shared().state.read().vote
    }

    /// What open found and made good.
    pub fn recovery(&self) -> &Recovery {
        &self.handle.recovery
    }

    /// What the log holds now.
    pub fn state(&self) -> LogState {
        self.shared().state.read().summary()
    }

    /// The first failure of a write, if there was one: the log takes no more and the process should end.
    pub fn failure(&self) -> Option<WriteError> {
        self.shared().queue.failure()
    }

    /// Entries `from..to`, fewer when `size_max` bytes of payload are reached (never none, if the first exists), or
    /// when the log ends before `to` or one behind the first is damaged. Every payload is verified. May read from disk: not on a runtime thread.
    pub fn entries(&self, from: u64, to: u64, size_max: usize) -> Result<Vec<Entry>, ReadError> {
        entries::entries(self.shared(), from, to, size_max, Check::Payload)
    }

    /// [`Log::entries`] from memory alone: `None` when the entry at `from` (which exists) is not in the tail any more.
    pub fn entries_in_tail(&self, from: u64, to: u64, size_max: usize) -> Option<Vec<Entry>> {
        entries::entries_in_tail(self.shared(), from, to, size_max)
    }

    /// The identity of the entry at `index`, if it is in the log. `purged` counts.
    pub fn entry_id(&self, index: u64) -> Result<Option<EntryId>, ReadError> {
        Ok(self.shared().state.read().id(index))
    }

    /// Chain crc behind the entry at `index`, which says what the whole log up to there is; `None` when the entry is not
    /// in the log. May read from disk.
    pub fn chain_crc(&self, index: u64) -> Result<Option<u32>, ReadError> {
        entries::chain_crc(self.shared(), index)
    }

    /// For each term in the log, its first entry: `(id)`, rising. For Raft's start-up.
    pub fn terms(&self) -> Vec<EntryId> {
        entries::terms(self.shared())
    }

    /// Whether `index` is the first of a segment that is not the log's first: the state machine must call
    /// [`Log::seal`] before it applies that entry.
    pub fn is_boundary(&self, index: u64) -> bool {
        self.shared().state.read().is_boundary(index)
    }

    /// Tells the log what apply decided for the batches of entry `index`, in the order of their headers. From here on
    /// the records of the taken ones can be read. Called for every batches entry, in index order; again after a
    /// restart for those behind the checkpoint (an entry of a sealed segment is ignored). An error means that the entry
    /// cannot be read: the caller must stop, and not apply what follows.
    ///
    /// # Panics
    /// When the entry has another number of batches, or neighbouring batches of one log were given offsets that are
    /// not: that is a bug of the caller.
    pub fn note_applied(&self, index: u64, outcomes: &[BatchOutcome]) -> Result<(), ReadError> {
        seal::note_applied(self.shared(), index, outcomes)
    }

    /// [`Log::note_applied`] for a caller that has read the entry and parsed it: nothing is read again.
    ///
    /// # Panics
    /// Where [`Log::note_applied`] does.
    pub fn note_batches(&self, index: u64, batches: &Batches, outcomes: &[BatchOutcome]) {
        seal::note_batches(self.shared(), index, batches, outcomes);
    }

    /// Seals the segment before `boundary`, and keeps the checkpoint as of `boundary - 1`, in the background, once
    /// durable: first the footer, then the checkpoint. Nothing to do when that was done before.
    pub fn seal(&self, boundary: u64, checkpoint: Checkpoint) {
        seal::seal(self.shared(), boundary, checkpoint);
    }

    /// The newest usable checkpoint at open: of a snapshot, or one at or below the durable last entry.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.shared().state.read().checkpoint.clone()
    }

    /// The boundaries that [`Log::seal`] was called with and that are not purged, rising: at each, the log can be purged
    /// to the entry before it.
    pub fn boundaries(&self) -> Vec<u64> {
        self.shared()
            .state
            .read()
            .boundaries
            .iter()
            .copied()
            .collect()
    }

    /// The checkpoint kept as of `boundary - 1`; `None` when it is not there (yet). Reads from disk.
    pub fn checkpoint_at(&self, boundary: u64) -> Result<Option<Checkpoint>, ReadError> {
        checkpoint::read_at(self.shared(), boundary)
    }

    /// Chain crc of the entry before `boundary`, the base of a segment; `None` when no segment begins there.
    pub fn chain_crc_at(&self, boundary: u64) -> Option<u32> {
        retained::chain_crc_at(self.shared(), boundary)
    }

    /// The sealed segments, oldest first, and what each log has in them. May read from disk: not on a runtime thread.
    pub fn extents(&self) -> Vec<Extent> {
        retained::extents(self.shared())
    }

    /// What each log has in segments that are not sealed, of what was noted as applied; by log id.
    pub fn live_extents(&self) -> Vec<LogExtent> {
        retained::live_extents(self.shared())
    }

    /// Bytes of a log's records before compression, in all segments that are not deleted. May read from disk.
    pub fn stored_size(&self, log: LogId) -> u64 {
        retained::stored_size(self.shared(), log)
    }

    /// Keeps a snapshot built here or received from the leader, durably, on return. Never an older one in a newer one's
    /// place. Blocks.
    pub fn save_snapshot(&self, snapshot: &Checkpoint) -> Result<(), WriteError> {
        let (answer, answered) = mpsc::sync_channel(1);
        let done: Done = Box::new(move |outcome| {
            // The receiver waits below: it is there.
            drop(answer.send(outcome));
        });
        self.keep_snapshot(snapshot.clone(), done)?;
        answered.recv().unwrap_or_else(|_| {
            Err(WriteError {
                kind: WriteErrorKind::Panic,
                cause: "the writer thread is gone".to_owned(),
            })
        })
    }

    /// The last snapshot kept by [`Log::save_snapshot`].
    pub fn snapshot(&self) -> Option<Checkpoint> {
        self.shared().state.read().snapshot.clone()
    }

    /// Records of a log at `from..until`, as many as fit `size_max` bytes of memory, bodies and attributes
    /// included (at least one, if there is one).
    /// Only what was noted as applied is seen. May read from disk: not on a runtime thread.
    pub fn read(
        &self,
        log: LogId,
        from: u64,
        until: u64,
        size_max: usize,
    ) -> Result<ReadChunk, ReadError> {
        read::read(self.shared(), log, from, until, size_max)
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
        read::read_entries(self.shared(), from, to, size_max)
    }

    /// The smallest offset at or behind `from` whose record has an event time of `timestamp` or later; `None` when
    /// no applied record has. Uses the time bounds of segments and batches, then reads one batch.
    pub fn offset_at_time(
        &self,
        log: LogId,
        from: u64,
        timestamp: i64,
    ) -> Result<Option<u64>, ReadError> {
        read::offset_at_time(self.shared(), log, from, (timestamp, read::OnDamage::Fail))
    }

    /// The damaged entries of the sealed segment that holds `index`, each with what a peer's entry must be to take its
    /// place; `None` when that entry is in no sealed segment. Reads the whole segment from disk.
    pub fn faulty_sealed(&self, index: u64) -> Result<Option<Faults>, ReadError> {
        repair::faulty(self.shared(), index)
    }

    /// Writes peers' entries back into the sealed segment that holds the entry `index`, in the order of their indexes. Each
    /// is proven to be the damaged one's equal, or refused. Without any entry, the footer's frame rows and log rows are
    /// built again from the frames, which must be whole: refused when that is not what they were.
    ///
    /// The segment is written anew on this thread and takes the old one's place on the writer thread: `done` is called
    /// when that is durable. Who reads the old one goes on. On an error nothing was changed and `done` is not called.
    pub fn repair_sealed(
        &self,
        index: u64,
        entries: impl IntoIterator<Item = Entry>,
        done: Done,
    ) -> Result<(), RepairError> {
        repair::repair_sealed(self.shared(), index, entries, done)
    }

    /// Whether the entry is in a sealed segment, and so can be repaired while the log runs.
    pub fn is_sealed(&self, index: u64) -> bool {
        self.shared().state.read().sealed_of(index).is_some()
    }

    /// Verifies every sealed segment; the first damage ends it.
    pub fn verify(&self) -> Result<(), ReadError> {
        let sealed = self.shared().state.read().sealed.clone();
        for segment in sealed {
            segment.verify()?;
        }
        Ok(())
    }
}
