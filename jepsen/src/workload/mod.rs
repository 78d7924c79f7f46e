//! What clients do while things break. Every call goes into the history, by way of the functions here and of no others,
//! so that the classification of errors stands in one place.

mod append;
mod chains;
mod final_read;
mod load;
mod observe;
mod questions;
mod sessions;
mod trim;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use inkstone_client::{Error, Reason};
use tokio::sync::watch;
use tokio::time::timeout;

pub use append::{Appenders, AppendersOptions};
pub use chains::final_chains;
pub use final_read::{final_read, final_reads};
pub use load::Load;
pub use observe::Observers;
pub use questions::{Asked, Questions};
pub use trim::{Trimmer, TrimmerOptions};

use crate::cluster::PATIENCE;
use crate::history::{History, Outcome};

/// What the clients of one run share.
#[derive(Debug, Clone)]
pub struct Run {
    /// Where every operation is noted.
    pub history: Arc<History>,
    /// How far the appends are.
    pub progress: Progress,
    next_client: Arc<AtomicU32>,
}

impl Run {
    /// A run that notes in this history.
    pub fn new(history: Arc<History>) -> Self {
        Self {
            history,
            progress: Progress::new(),
            next_client: Arc::new(AtomicU32::new(0)),
        }
    }

    /// A client number that was never used in this run.
    pub fn new_client(&self) -> u32 {
        self.next_client.fetch_add(1, Ordering::Relaxed)
    }
}

/// How many appends were acknowledged, to be waited for: the event that says that a cluster serves (again).
#[derive(Debug, Clone)]
pub struct Progress {
    acked: watch::Sender<u64>,
}

impl Progress {
    fn new() -> Self {
        Self {
            acked: watch::Sender::new(0),
        }
    }

    fn acknowledge(&self) {
        self.acked.send_modify(|acked| *acked += 1);
    }

    /// Appends that were acknowledged.
    pub fn acked(&self) -> u64 {
        *self.acked.borrow()
    }

    /// Returns once so many more were acknowledged than when it was called. A slow cluster is waited for, one that
    /// acknowledges nothing any more is not.
    pub async fn wait_for_more(&self, appends: u64) -> Result<()> {
        let mut watch = self.acked.subscribe();
        let goal = self.acked() + appends;
        while self.acked() < goal {
            timeout(PATIENCE, watch.changed())
                .await
                .with_context(|| format!("{} of {goal} appends were acknowledged", self.acked()))?
                .context("the run is over")?;
        }
        Ok(())
    }
}

/// How long a client waits after a failure before it tries again: pacing, nothing depends on it.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(20);

/// How an error counts in a history. Only what certainly had no effect is a refusal.
pub fn outcome_of(error: &Error) -> Outcome {
    match error {
        Error::Refused {
            reason: Reason::OffsetMismatch,
            detail,
            ..
        } => match detail.next_offset {
            Some(next_offset) => Outcome::Mismatch { next_offset },
            None => Outcome::Refused {
                why: error.to_string(),
            },
        },
        Error::Refused { .. } | Error::Unavailable { .. } => Outcome::Refused {
            why: error.to_string(),
        },
        Error::Unknown { .. } => Outcome::Unknown {
            why: error.to_string(),
        },
    }
}
