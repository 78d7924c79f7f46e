//! What ends: logs that are deleted, records that are trimmed, and what retention may remove.
//!
//! Promises: a first offset never falls and never passes the log's end; a number is never used again. Must not know: what
//! is on disk.

use inkstone_storage::limits::LOGS_MAX;
use inkstone_storage::types::LogId;

use super::{LogInfo, State};

/// What retention may remove of a log. `None`, which 0 stands for in messages, keeps for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Records whose append time is longer ago, in milliseconds.
    pub max_age_ms: Option<u64>,
    /// The oldest records while there are more bytes than this, before compression.
    pub max_bytes: Option<u64>,
}

impl Retention {
    /// From a message, where absent and 0 both keep for ever.
    pub fn of(max_age_ms: Option<u64>, max_bytes: Option<u64>) -> Self {
        let bound = |value: Option<u64>| value.filter(|value| *value > 0);
        Self {
            max_age_ms: bound(max_age_ms),
            max_bytes: bound(max_bytes),
        }
    }

    /// Whether anything may ever be removed.
    pub fn is_unbounded(&self) -> bool {
        self.max_age_ms.is_none() && self.max_bytes.is_none()
    }
}

/// Why apply refused a command about a log: it had no effect. The same on every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogRefusal {
    /// The log does not exist (any more).
    #[error("no log with that number")]
    LogNotFound,
    /// A trim beyond the log's end.
    #[error("the log's next offset is {next_offset}")]
    OffsetOutOfRange {
        /// Where the log's end is.
        next_offset: u64,
    },
    /// There are so many logs that no further one is created.
    #[error("there are {LOGS_MAX} logs already")]
    TooManyLogs,
}

impl State {
    /// Changes what retention may remove: absent is as it was, 0 keeps for ever.
    pub(crate) fn alter_log(
        &mut self,
        id: LogId,
        max_age_ms: Option<u64>,
        max_bytes: Option<u64>,
    ) -> Result<LogInfo, LogRefusal> {
        let info = self.info_mut(id)?;
        let old = info.retention;
        info.retention = Retention::of(max_age_ms.or(old.max_age_ms), max_bytes.or(old.max_bytes));
        Ok(info.clone())
    }

    /// Ends a log: what it was.
    pub(crate) fn delete_log(&mut self, id: LogId) -> Result<LogInfo, LogRefusal> {
        let log = self.logs.remove(&id).ok_or(LogRefusal::LogNotFound)?;
        self.by_name.remove(&log.info.name);
        for (producer, state) in log.producers {
            self.by_time.remove(&(state.last_append_time, id, producer));
        }
        Ok(log.info)
    }

    /// Moves a log's first offset forward. A trim that comes late, below it, changes nothing.
    pub(crate) fn trim_to(&mut self, id: LogId, offset: u64) -> Result<LogInfo, LogRefusal> {
        let info = self.info_mut(id)?;
        let next_offset = info.next_offset;
        if offset > next_offset {
            return Err(LogRefusal::OffsetOutOfRange { next_offset });
        }
        info.first_offset = info.first_offset.max(offset);
        Ok(info.clone())
    }

    fn info_mut(&mut self, id: LogId) -> Result<&mut LogInfo, LogRefusal> {
        self.logs
            .get_mut(&id)
            .map(|log| &mut log.info)
            .ok_or(LogRefusal::LogNotFound)
    }
}
