//! What waits for the writer thread, in the order in which it was asked for.
//!
//! Promises: one order for all changes; nothing is taken after the log has stopped; the bytes that wait are counted until
//! they are durable, so that callers can hold back. Must not know: how a job is done.

use std::fmt;
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::Done;
use super::repair::Replacement;
use super::segment::SegmentFile;
use crate::error::WriteError;
use crate::format::checkpoint::CheckpointFile;
use crate::format::frame::FrameHeaderBytes;
use crate::format::segment_footer::FooterContent;
use crate::types::{EntryId, Vote};

/// A frame to write: the header lacks its sync stamp.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) header: FrameHeaderBytes,
    pub(super) payload: Bytes,
}

/// Neighbouring frames of one segment.
pub(super) struct Write {
    pub(super) segment: Arc<SegmentFile>,
    pub(super) position: u64,
    pub(super) frames: Vec<Frame>,
    /// Position behind the last frame.
    pub(super) end: u64,
    pub(super) last: EntryId,
    pub(super) chain_crc: u32,
    /// Bytes that it counts in the queue.
    pub(super) size: usize,
    pub(super) done: Option<Done>,
}

/// A durable place in the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) last: Option<EntryId>,
    pub(super) base: u64,
    pub(super) position: u64,
    pub(super) chain_crc: u32,
}

pub(super) struct Truncate {
    /// The segment that is cut, and where.
    pub(super) cut: Option<(Arc<SegmentFile>, u64)>,
    /// Segments that go as a whole, oldest first.
    pub(super) delete: Vec<Arc<SegmentFile>>,
    /// What stays.
    pub(super) mark: Mark,
    pub(super) done: Done,
}

pub(super) struct Purge {
    pub(super) purged: EntryId,
    pub(super) chain_start: u32,
    /// Nothing of what was written before stays.
    pub(super) restart: bool,
    /// Base indexes of segments that go, oldest first.
    pub(super) delete: Vec<u64>,
    /// Boundaries whose checkpoints go, though no segment begins there that does.
    pub(super) checkpoints: Vec<u64>,
    pub(super) done: Done,
}

/// One thing for the writer thread to do.
pub(super) enum Job {
    /// The log begins at this index without a purge.
    Start(u64),
    Create(Arc<SegmentFile>),
    Write(Write),
    Truncate(Truncate),
    Purge(Purge),
    Vote(Vote, Done),
    Seal(Arc<SegmentFile>, Box<FooterContent>),
    Checkpoint(PathBuf, CheckpointFile),
    Snapshot(CheckpointFile, Done),
    /// A sealed segment that was repaired takes the damaged one's place.
    Replace(Replacement, Done),
    /// Nothing, in its turn.
    Pass(Done),
}

impl Job {
    /// Bytes that it counts in the queue.
    fn size(&self) -> usize {
        match self {
            Self::Write(write) => write.size,
            _ => 0,
        }
    }

    /// Whom to answer.
    pub(super) fn into_done(self) -> Option<Done> {
        match self {
            Self::Write(write) => write.done,
            Self::Truncate(Truncate { done, .. })
            | Self::Purge(Purge { done, .. })
            | Self::Vote(_, done)
            | Self::Snapshot(_, done)
            | Self::Replace(_, done)
            | Self::Pass(done) => Some(done),
            Self::Start(_) | Self::Create(_) | Self::Seal(..) | Self::Checkpoint(..) => None,
        }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Start(_) => "Start",
            Self::Create(_) => "Create",
            Self::Write(_) => "Write",
            Self::Truncate(_) => "Truncate",
            Self::Purge(_) => "Purge",
            Self::Vote(..) => "Vote",
            Self::Seal(..) => "Seal",
            Self::Checkpoint(..) => "Checkpoint",
            Self::Snapshot(..) => "Snapshot",
            Self::Replace(..) => "Replace",
            Self::Pass(_) => "Pass",
        })
    }
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: Vec<Job>,
    /// Bytes that are not durable yet, those that the writer has taken included.
    size: usize,
    closed: bool,
    failed: Option<WriteError>,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Something to do, or closed.
    work: Condvar,
    /// Room, or failed.
    room: Condvar,
    size_max: usize,
}

impl Queue {
    pub(super) fn new(size_max: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
            size_max,
        }
    }

    /// Puts jobs behind those that wait.
    pub(super) fn push(&self, jobs: impl IntoIterator<Item = Job>) -> Result<(), WriteError> {
        let mut waiting = self.waiting.lock();
        if let Some(error) = &waiting.failed {
            return Err(error.clone());
        }
        for job in jobs {
            waiting.size += job.size();
            waiting.jobs.push(job);
        }
        self.work.notify_one();
        Ok(())
    }

    /// Waits for jobs and takes all of them, in order: `false` when there are none and there will be none.
    pub(super) fn take(&self, jobs: &mut Vec<Job>) -> bool {
        let mut waiting = self.waiting.lock();
        while waiting.jobs.is_empty() {
            if waiting.closed {
                return false;
            }
            self.work.wait(&mut waiting);
        }
        mem::swap(&mut waiting.jobs, jobs);
        true
    }

    /// Takes what waits now, in order: `false` when there is nothing and there will be nothing.
    pub(super) fn take_now(&self, jobs: &mut Vec<Job>) -> bool {
        let mut waiting = self.waiting.lock();
        mem::swap(&mut waiting.jobs, jobs);
        !(jobs.is_empty() && waiting.closed)
    }

    /// So many bytes have become durable.
    pub(super) fn release(&self, size: usize) {
        self.waiting.lock().size -= size;
        self.room.notify_all();
    }

    /// No more jobs will come.
    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.work.notify_one();
    }

    /// The log has stopped: takes what waits, and nothing from here on.
    pub(super) fn fail(&self, error: &WriteError) -> Vec<Job> {
        let mut waiting = self.waiting.lock();
        waiting.failed.get_or_insert_with(|| error.clone());
        self.room.notify_all();
        mem::take(&mut waiting.jobs)
    }

    pub(super) fn failure(&self) -> Option<WriteError> {
        self.waiting.lock().failed.clone()
    }

    pub(super) fn has_room(&self) -> bool {
        self.waiting.lock().size < self.size_max
    }

    pub(super) fn wait_for_room(&self) {
        let mut waiting = self.waiting.lock();
        while waiting.size >= self.size_max && waiting.failed.is_none() {
            self.room.wait(&mut waiting);
        }
    }
}
