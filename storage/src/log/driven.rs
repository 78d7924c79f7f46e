//! A writer without a thread: it works when it is given a turn.
//!
//! Promises: a turn does what the writer's thread does when it wakes up, in the same order, and nothing happens between
//! two turns. Must not know: who gives the turns, and when.

use std::sync::Arc;

use parking_lot::Mutex;

use super::mutant::Mutation;
use super::queue::Job;
use super::writer::{Desk, Writer};
use super::{Checkpoint, Done, Handle, Log, LogOptions, open};
use crate::error::{OpenError, WriteError};
use crate::io::Disk;

impl Log {
    /// [`Log::open_on`] without a thread: nothing becomes durable but in a turn of the [`Driver`], on whatever thread gives
    /// it one. For simulations, in which when a disk is done is a choice of the seed. Whoever gives the turns must not
    /// wait for the log in between: [`Log::wait_for_room`] and [`Log::save_snapshot`] would wait for ever.
    pub fn open_driven(
        disk: Arc<dyn Disk>,
        options: LogOptions,
    ) -> Result<(Self, Driver), OpenError> {
        let (shared, writer, recovery) = open::open(disk, options, Mutation::default())?;
        let handle = Handle {
            shared,
            recovery,
            writer: Mutex::new(None),
        };
        let log = Self {
            handle: Arc::new(handle),
        };
        Ok((log, Driver::new(writer)))
    }

    /// [`Log::save_snapshot`] for a caller that does not block: `done` when it is durable.
    pub fn keep_snapshot(&self, snapshot: Checkpoint, done: Done) -> Result<(), WriteError> {
        let file = self.shared().checkpoint_file(snapshot);
        self.shared().queue.push([Job::Snapshot(file, done)])
    }
}

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing waited.
    Idle,
    /// What waited is durable and answered.
    Worked,
    /// The log has failed, and everybody was told so.
    Failed,
    /// The last handle is gone, and what it left is durable.
    Ended,
}

/// The writer of a log that was opened by [`Log::open_driven`](super::Log::open_driven). Dropping it leaves what waits
/// undone, as a crash of the process does.
#[derive(Debug)]
pub struct Driver {
    writer: Writer,
    desk: Desk,
    over: Option<Turn>,
}

impl Driver {
    pub(super) fn new(writer: Writer) -> Self {
        Self {
            writer,
            desk: Desk::default(),
            over: None,
        }
    }

    /// Writes, syncs and answers everything that waits. After [`Turn::Failed`] or [`Turn::Ended`] it does nothing more.
    pub fn turn(&mut self) -> Turn {
        if let Some(over) = self.over {
            return over;
        }
        if !self.writer.shared.queue.take_now(&mut self.desk.jobs) {
            self.writer.end();
            self.over = Some(Turn::Ended);
            return Turn::Ended;
        }
        if self.desk.jobs.is_empty() {
            return Turn::Idle;
        }
        if self.writer.turn(&mut self.desk).is_err() {
            self.over = Some(Turn::Failed);
            return Turn::Failed;
        }
        Turn::Worked
    }
}
