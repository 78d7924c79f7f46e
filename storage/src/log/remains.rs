//! What can be had of an entry that is damaged: for the indexer, which goes on behind it.
//!
//! Promises: every record that the entry put into logs is either given, verified, or named as lost. Must not know: other
//! nodes, what becomes of it.

use std::sync::Arc;

use super::Log;
use super::shared::Shared;
use crate::error::ReadError;
use crate::types::{LogId, Record};

/// What is left of an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remains {
    /// Records that are whole; each log's in the order of their offsets.
    pub batches: Vec<(LogId, Vec<Record>)>,
    /// Records that are damaged: the log, the first offset, and the one behind the last.
    pub lost: Vec<(LogId, u64, u64)>,
}

impl Log {
    /// What the entry at `index`, which was applied, put into logs, as far as it can be had. An error when damage does not even
    /// say which records that were. May read from disk.
    pub fn remains(&self, index: u64) -> Result<Remains, ReadError> {
        let mut remains = Remains::default();
        for (log, from, to) in records_of(self.shared(), index)? {
            self.gather(log, from, to, &mut remains)?;
        }
        Ok(remains)
    }

    fn gather(
        &self,
        log: LogId,
        from: u64,
        to: u64,
        remains: &mut Remains,
    ) -> Result<(), ReadError> {
        let mut at = from;
        while at < to {
            let failed = match self.read(log, at, to, usize::MAX) {
                Ok(chunk) if chunk.next_offset > at => {
                    at = chunk.next_offset;
                    remains.batches.push((log, chunk.records));
                    continue;
                }
                Ok(_) => return Err(ReadError::Purged { at, first: to }),
                Err(failed) => failed,
            };
            let Some(lost) = self.lost_at(log, at)? else {
                return Err(failed);
            };
            remains.lost.push((log, at, lost.to.min(to)));
            at = lost.to;
        }
        Ok(())
    }
}

/// Which records an entry put into logs: the log, the first offset, and the one behind the last.
fn records_of(shared: &Shared, index: u64) -> Result<Vec<(LogId, u64, u64)>, ReadError> {
    let sealed = {
        let state = shared.state.read();
        if index < state.first {
            let first = state.first;
            return Err(ReadError::Purged { at: index, first });
        }
        let Some(sealed) = state.sealed_of(index) else {
            let rows = state.live.iter().filter_map(|(log, rows)| {
                let row = rows.get(rows.partition_point(|row| row.index < index))?;
                let is_of_it = row.index == index;
                is_of_it.then(|| (*log, row.base_offset, row.end_offset()))
            });
            return Ok(rows.collect());
        };
        Arc::clone(sealed)
    };
    let frame = sealed.frame_number(index);
    let mut found = Vec::new();
    for summary in sealed.logs() {
        let number = sealed.find_row(&summary, |row| row.frame.cmp(&frame))?;
        if number >= summary.rows {
            continue;
        }
        let row = sealed.row(&summary, number)?;
        if row.frame == frame {
            found.push((summary.log, row.base_offset, row.end_offset()));
        }
    }
    Ok(found)
}
