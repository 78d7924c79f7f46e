//! From offsets to hits: the records are read from the log, in few reads, newest first, within a bound of bytes.
//!
//! Runs on a thread that may block. Promises: a hit whose record can't be read and verified is an error, or named as lost,
//! never left out in silence; what was trimmed since is no hit any more.

use std::path::PathBuf;
use std::sync::Arc;

use inkstone_storage::error::ReadError;
use inkstone_storage::log::Log;
use inkstone_storage::search::{SearchRequest, Searcher};
use inkstone_storage::types::Record;
use tonic::Status;

use crate::clock::Clock;
use crate::grpc::deadline::Deadline;
use crate::grpc::error;
use crate::grpc::limits::{READ_MESSAGE_SIZE_MAX, SEARCH_READ_SPAN_MAX};
use crate::grpc::search::lost::LostHits;
use crate::grpc::search::page::{Page, hit};
use crate::raft::Group;

/// One search, ready to run.
#[derive(Debug)]
pub(crate) struct Fetch {
    pub(crate) searcher: Searcher,
    pub(crate) log: Log,
    pub(crate) group: Group,
    pub(crate) clock: Clock,
    /// When the answer is cut.
    pub(crate) deadline: Deadline,
    pub(crate) request: SearchRequest,
    /// The log's first offset: what is below it was trimmed, and may still be in the index.
    pub(crate) first_offset: u64,
    pub(crate) data_dir: Arc<PathBuf>,
}

impl Fetch {
    /// Searches, then reads what was found until the answer is full.
    pub(crate) fn run(&self) -> Result<Page, Status> {
        let expired = || self.deadline.expired(self.clock);
        let mut found = self
            .searcher
            .search(&self.request, &expired)
            .map_err(|failed| error::query(&failed))?;
        // They fall: behind the first that is trimmed all are.
        let kept = found
            .offsets
            .partition_point(|offset| *offset >= self.first_offset);
        if kept < found.offsets.len() {
            found.offsets.truncate(kept);
            (found.more, found.complete) = (false, true);
        }
        // Below the first offset there is nothing to find: also an index that never held it covers it.
        let indexed_next_offset = found.next_offset.max(self.first_offset);
        let mut page = Page::new(indexed_next_offset, found.complete);
        let mut rest = found.offsets.as_slice();
        while !rest.is_empty() && page.next_before_offset.is_none() {
            if expired() && page.end_here() {
                page.complete = false;
                break;
            }
            let run;
            (run, rest) = rest.split_at(run_length(rest));
            let records = self.read_run(run, &mut page.lost)?.into_iter();
            page.take_in(records.map(|record| hit(record, &self.request.query)));
        }
        if page.next_before_offset.is_none() && (found.more || !found.complete) {
            // A search that was cut can be continued where it stopped.
            page.next_before_offset = found.offsets.last().copied();
        }
        page.leave_out(found.gaps, self.first_offset);
        Ok(page)
    }

    /// The records at these falling offsets, in their order; those trimmed since are left out, those that are damaged are
    /// `lost`.
    fn read_run(&self, offsets: &[u64], lost: &mut Vec<LostHits>) -> Result<Vec<Record>, Status> {
        let (Some(newest), Some(oldest)) = (offsets.first(), offsets.last()) else {
            return Ok(Vec::new());
        };
        let mut wanted = offsets.iter().rev().copied().peekable();
        let mut records = Vec::with_capacity(offsets.len());
        let mut at = *oldest;
        while at <= *newest {
            let read = self
                .log
                .read(self.request.log, at, newest + 1, READ_MESSAGE_SIZE_MAX);
            let chunk = match read {
                Ok(chunk) => chunk,
                Err(ReadError::Purged { first, .. }) if first > at => {
                    while wanted.next_if(|offset| *offset < first).is_some() {}
                    at = first;
                    continue;
                }
                Err(why) => {
                    let Ok(Some(found)) = self.log.lost_at(self.request.log, at) else {
                        return Err(error::read(&why, &self.data_dir));
                    };
                    at = found.to;
                    let are_lost =
                        std::iter::from_fn(|| wanted.next_if(|offset| *offset < found.to));
                    let offsets: Vec<u64> = are_lost.collect();
                    if !offsets.is_empty() {
                        lost.push(LostHits {
                            lost: found,
                            why,
                            offsets: newest_first(offsets),
                        });
                    }
                    continue;
                }
            };
            if chunk.next_offset <= at {
                if self.group.is_purged(self.request.log, at) {
                    // With all behind it.
                    return Ok(newest_first(records));
                }
                break;
            }
            at = chunk.next_offset;
            for record in chunk.records {
                if wanted.next_if_eq(&record.offset).is_some() {
                    records.push(record);
                }
            }
        }
        if let Some(missing) = wanted.next() {
            return Err(error::internal_read(format!(
                "the search index names offset {missing}, which the log does not give; ask another node"
            )));
        }
        Ok(newest_first(records))
    }
}

fn newest_first<T>(mut rising: Vec<T>) -> Vec<T> {
    rising.reverse();
    rising
}

/// How many of the first offsets, which fall, one read fetches.
pub(super) fn run_length(offsets: &[u64]) -> usize {
    let Some(newest) = offsets.first() else {
        return 0;
    };
    offsets
        .iter()
        .take_while(|offset| newest - **offset < SEARCH_READ_SPAN_MAX)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_offsets_are_read_together_and_distant_ones_apart() {
        assert_eq!(run_length(&[100, 99, 80, 69, 68]), 4);
        assert_eq!(run_length(&[1_000, 5]), 1);
        assert_eq!(run_length(&[3, 2, 1, 0]), 4);
        assert_eq!(run_length(&[]), 0);
    }
}
