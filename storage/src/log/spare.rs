//! The spare: the next segment's file, made ready before it is needed, so that appends do not wait for a roll.
//!
//! Promises: a spare is a file of zeros under a name that no open takes for a segment; it is handed out once, and nobody
//! writes to it any more when it is; whatever goes wrong with it costs the spare and nothing else; no thread, file handle
//! or file stays behind a [`SpareMaker`] that is dropped. Must not know: headers, frames, what the file will be named.
//!
//! # Why it is filled with zeros
//! A reserved extent that was never written is marked so in the file system's metadata, and the first fsync behind a write
//! to it must write that mark, too. Filled ahead, an fsync writes the frames alone. See FORMAT.md, "Preallocation", for
//! the figures, and for why purged segments are not used again instead.

use std::io::{self, IoSlice};
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::LogOptions;
use crate::io::{Disk, DiskFile};

/// Who makes the next segment's file ready before it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spare {
    /// A thread of its own.
    #[default]
    Background,
    /// The writer thread, between two sync groups: appends wait for it, and the disk sees the same operations in the same
    /// order in every run.
    InTurn,
    /// Nobody: a segment's file is made when it is needed.
    Never,
}

/// In the log's directory; deleted at open as everything is that is named so.
const SPARE_NAME: &str = "spare.tmp";
/// Bytes of zeros that are written and synced at once: what an append may have to wait behind.
const FILL_SIZE: usize = 256 << 10;
/// The spare is begun when the active segment is half full. From then on, with each sync group, so many bytes of it are
/// filled for each byte of frames: it is whole before the segment is full, and an idle log writes nothing.
const FILL_RATE: u64 = 3;
/// But only for groups up to so many bytes: for a larger one an fsync has little to gain, and the disk none to give away.
const FILL_GROUP_SIZE_MAX: u64 = 64 << 10;

/// A file that is ready to become a segment.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) path: PathBuf,
    /// Bytes that are reserved for it.
    capacity: u64,
    /// Bytes from its start that were filled.
    filled: u64,
}

#[derive(Debug)]
enum Stage {
    /// There is none.
    Missing,
    /// It is being created and reserved.
    Making,
    /// The next piece of it is being filled.
    Filling,
    Ready(Prepared),
}

/// What is asked for, and how far that is done.
#[derive(Debug)]
struct Order {
    stage: Stage,
    /// Bytes of it that should be filled by now; `None`: it is not time for a spare yet.
    fill_to: Option<u64>,
    /// A failure is not tried again before the next roll.
    failed: bool,
    closed: bool,
}

#[derive(Debug)]
enum Step {
    Make,
    Fill(Prepared),
}

#[derive(Debug)]
struct Workshop {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    capacity: u64,
    order: Mutex<Order>,
    /// Something to do, or closed.
    work: Condvar,
    /// A step has ended.
    ended: Condvar,
}

impl Workshop {
    fn run(&self) {
        let mut order = self.order.lock();
        while !order.closed {
            match order.next_step(self.capacity) {
                Some(step) => {
                    let done = MutexGuard::unlocked(&mut order, || self.carry_out(step));
                    self.end(&mut order, done);
                }
                None => self.work.wait(&mut order),
            }
        }
    }

    /// The step's outcome: the spare as it is now.
    fn carry_out(&self, step: Step) -> io::Result<Prepared> {
        // Whoever takes the spare waits for the end of a step: it must come, also after a panic.
        panic::catch_unwind(AssertUnwindSafe(|| match step {
            Step::Make => self.make(),
            Step::Fill(spare) => fill(spare),
        }))
        .unwrap_or_else(|_| Err(io::Error::other("a panic")))
    }

    /// Its space is reserved and its metadata is on the disk before it is handed out: the sync at the roll has only the
    /// header to write.
    fn make(&self) -> io::Result<Prepared> {
        // A reservation that fails has first taken all that was left, and a checkpoint may have to be written just
        // then: where room is scarce there is no spare.
        let dir = self.path.parent().unwrap_or(&self.path);
        if self
            .disk
            .free_size(dir)
            .is_ok_and(|free| free / 2 < self.capacity)
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = self.disk.create(&self.path)?;
        file.allocate(self.capacity)?;
        file.sync()?;
        Ok(Prepared {
            file,
            path: self.path.clone(),
            capacity: self.capacity,
            filled: 0,
        })
    }

    fn end(&self, order: &mut Order, done: io::Result<Prepared>) {
        order.stage = match done {
            Ok(spare) => Stage::Ready(spare),
            Err(error) => {
                tracing::warn!(file = %self.path.display(), %error, "no segment is made ready: the next roll waits for the disk");
                order.failed = true;
                self.remove();
                Stage::Missing
            }
        };
        self.ended.notify_all();
    }

    /// Gives the space back. What stays is deleted at the next open.
    fn remove(&self) {
        if let Err(error) = self.disk.remove(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(file = %self.path.display(), %error, "the spare stays until the next open");
        }
    }
}

/// Writes the next piece of zeros. Synced by itself, lest the first sync group in this file wait for all of them.
fn fill(spare: Prepared) -> io::Result<Prepared> {
    static ZEROS: [u8; FILL_SIZE] = [0; FILL_SIZE];
    let left = usize::try_from(spare.capacity - spare.filled).unwrap_or(FILL_SIZE);
    let size = left.min(FILL_SIZE);
    let zeros = ZEROS.get(..size).expect("no more than a piece");
    spare
        .file
        .write_at(&[IoSlice::new(zeros)], spare.filled)
        .and_then(|()| spare.file.sync())?;
    Ok(Prepared {
        filled: spare.filled + size as u64,
        ..spare
    })
}

impl Order {
    /// Takes the next step, if one is due.
    fn next_step(&mut self, capacity: u64) -> Option<Step> {
        let fill_to = self.fill_to.filter(|_| !self.failed)?;
        let due = match &self.stage {
            Stage::Missing => Stage::Making,
            Stage::Ready(spare)
                if fill_to >= capacity.min(spare.filled + FILL_SIZE as u64)
                    && spare.filled < capacity =>
            {
                Stage::Filling
            }
            _ => return None,
        };
        match std::mem::replace(&mut self.stage, due) {
            Stage::Ready(spare) => Some(Step::Fill(spare)),
            _ => Some(Step::Make),
        }
    }
}

/// Makes spares, one at a time, for one owner: the writer.
#[derive(Debug)]
pub(super) struct SpareMaker {
    policy: Spare,
    workshop: Arc<Workshop>,
    thread: Option<JoinHandle<()>>,
}

impl SpareMaker {
    pub(super) fn start(disk: Arc<dyn Disk>, options: &LogOptions) -> Self {
        let workshop = Arc::new(Workshop {
            disk,
            path: options.log_dir().join(SPARE_NAME),
            capacity: options.segment_size,
            order: Mutex::new(Order {
                stage: Stage::Missing,
                fill_to: None,
                failed: false,
                closed: false,
            }),
            work: Condvar::new(),
            ended: Condvar::new(),
        });
        let mut policy = options.spare;
        let mut thread = None;
        if policy == Spare::Background {
            let workshop = Arc::clone(&workshop);
            let builder = thread::Builder::new().name(format!("log-spare-{}", options.group));
            match builder.spawn(move || workshop.run()) {
                Ok(started) => thread = Some(started),
                Err(error) => {
                    tracing::warn!(%error, "no thread makes segments ready: rolls wait for the disk");
                    policy = Spare::Never;
                }
            }
        }
        Self {
            policy,
            workshop,
            thread,
        }
    }

    /// A sync group of `size` bytes was written into the active segment, which has room for `capacity` and is full up to
    /// `end`.
    pub(super) fn advance(&self, size: u64, end: u64, capacity: u64) {
        if self.policy == Spare::Never || end < capacity / 2 {
            return;
        }
        let workshop = &self.workshop;
        let mut order = workshop.order.lock();
        let more = if size <= FILL_GROUP_SIZE_MAX {
            size * FILL_RATE
        } else {
            0
        };
        let fill_to = order.fill_to.unwrap_or(0) + more;
        order.fill_to = Some(fill_to.min(workshop.capacity));
        match self.policy {
            Spare::Background => {
                workshop.work.notify_one();
            }
            Spare::InTurn => {
                while let Some(step) = order.next_step(workshop.capacity) {
                    let done = workshop.carry_out(step);
                    workshop.end(&mut order, done);
                }
            }
            Spare::Never => {}
        }
    }

    /// The spare, if there is one with room for `capacity` bytes. From here on it is the caller's alone.
    pub(super) fn take(&self, capacity: u64) -> Option<Prepared> {
        let mut order = self.workshop.order.lock();
        // The rest of one piece is sooner written than a file created. One that is only being made is not waited for.
        while matches!(order.stage, Stage::Filling) {
            self.workshop.ended.wait(&mut order);
        }
        order.fill_to = None;
        order.failed = false;
        match std::mem::replace(&mut order.stage, Stage::Missing) {
            Stage::Ready(spare) if spare.capacity >= capacity => Some(spare),
            other => {
                order.stage = other;
                None
            }
        }
    }
}

impl Drop for SpareMaker {
    fn drop(&mut self) {
        self.workshop.order.lock().closed = true;
        self.workshop.work.notify_one();
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("the thread that makes segments ready panicked");
        }
        let mut order = self.workshop.order.lock();
        if let Stage::Ready(spare) = std::mem::replace(&mut order.stage, Stage::Missing) {
            drop(spare);
            self.workshop.remove();
        }
    }
}
