//! The one thread that writes: it owns every write, sync, rename and deletion of a group's files.
//!
//! Promises: all that waits is written at once and synced once, and answered in order; sync group n + 1 is written only
//! after n is durable, and no sync group spans two files; the first failure stops everything, and nothing is retried,
//! for after a failed fsync the page cache may hold what the disk does not; a panic is a failure like any other. Must not
//! know: who reads.

mod execute;
mod group;

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Arc;

use super::Done;
use super::hard_state::HardStateFile;
use super::queue::{Job, Write};
use super::shared::Shared;
use super::spare::SpareMaker;
use super::watermark::WatermarkFile;
use crate::error::{WriteError, WriteErrorKind};

#[derive(Debug)]
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) hard_state: HardStateFile,
    pub(super) watermark: WatermarkFile,
    /// The last sync group.
    pub(super) sync_group: u64,
    /// Ends with the writer, however that ends.
    pub(super) spare: SpareMaker,
}

/// What was taken from the queue and is not answered yet. It outlives a panic of what is done with it.
///
/// # Invariants
/// Those who wait are, in the order in which they are to be answered, in `group`, `current` and `jobs`.
#[derive(Default)]
struct Taken {
    /// The sync group that is gathered or written.
    group: Vec<Write>,
    /// Who waits for the job that is being carried out.
    current: Option<Done>,
    jobs: VecDeque<Job>,
}

impl Taken {
    fn into_answers(self) -> impl Iterator<Item = Done> {
        let group = self.group.into_iter().filter_map(|write| write.done);
        let jobs = self.jobs.into_iter().filter_map(Job::into_done);
        group.chain(self.current).chain(jobs)
    }
}

/// What a writer keeps from one turn to the next, so that it need not be allocated again.
#[derive(Debug, Default)]
pub(super) struct Desk {
    pub(super) jobs: Vec<Job>,
    buffer: Vec<u8>,
}

/// The log has failed, and everybody was told: its writer's work is over.
#[derive(Debug)]
pub(super) struct Stopped;

fn failed(path: &Path) -> impl Fn(io::Error) -> WriteError {
    move |error| WriteError::of(path, &error)
}

/// What a panic said, as a failure of the log.
fn panicked(panic: &(dyn Any + Send)) -> WriteError {
    let said = panic
        .downcast_ref::<&str>()
        .map(|said| (*said).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    WriteError {
        kind: WriteErrorKind::Panic,
        cause: said.unwrap_or_else(|| "it does not say why".to_owned()),
    }
}

impl Writer {
    /// Works until the queue is closed and empty, or something fails.
    pub(super) fn run(mut self) {
        let mut desk = Desk::default();
        while self.shared.queue.take(&mut desk.jobs) {
            if self.turn(&mut desk).is_err() {
                return;
            }
        }
        self.end();
    }

    /// Does what was taken from the queue, all of it: an error when the log has stopped.
    pub(super) fn turn(&mut self, desk: &mut Desk) -> Result<(), Stopped> {
        let mut taken = Taken {
            jobs: desk.jobs.drain(..).collect(),
            ..Taken::default()
        };
        // Where a panic unwinds, somebody would wait forever for an answer, and others would be let in to wait, too.
        let work = AssertUnwindSafe(|| self.work(&mut taken, &mut desk.buffer));
        let worked = panic::catch_unwind(work).unwrap_or_else(|panic| Err(panicked(&*panic)));
        worked.map_err(|error| {
            self.stop(&error, taken);
            Stopped
        })
    }

    /// Nothing will come any more.
    pub(super) fn end(&mut self) {
        if let Err(error) = self.watermark.sync() {
            tracing::warn!(%error, "the watermark of a clean stop may be an older one");
        }
    }

    /// Latches: everybody who waits is told, in order, and whoever comes is refused.
    fn stop(&self, error: &WriteError, taken: Taken) {
        tracing::error!(%error, "the log stops");
        let queued = self.shared.queue.fail(error);
        let queued = queued.into_iter().filter_map(Job::into_done);
        for done in taken.into_answers().chain(queued) {
            let answer = AssertUnwindSafe(|| done(Err(error.clone())));
            if panic::catch_unwind(answer).is_err() {
                tracing::error!("a callback panicked; the others are told all the same");
            }
        }
    }

    fn work(&mut self, taken: &mut Taken, buffer: &mut Vec<u8>) -> Result<(), WriteError> {
        while let Some(job) = taken.jobs.pop_front() {
            match job {
                Job::Write(write) => {
                    let neighbours = taken
                        .group
                        .last()
                        .is_none_or(|last| Arc::ptr_eq(&last.segment, &write.segment));
                    taken.group.push(write);
                    assert!(
                        neighbours,
                        "a segment is created between two segments' frames"
                    );
                }
                other => {
                    // Back in its place while the group is written, so that a failure answers in order.
                    taken.jobs.push_front(other);
                    self.write(&mut taken.group, buffer)?;
                    if let Some(job) = taken.jobs.pop_front() {
                        self.execute(job, &mut taken.current)?;
                    }
                    if let Some(done) = taken.current.take() {
                        done(Ok(()));
                    }
                }
            }
        }
        self.write(&mut taken.group, buffer)
    }
}
