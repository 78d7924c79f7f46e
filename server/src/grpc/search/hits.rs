//! From offsets to hits: the records are read from the log, in few reads, newest first, within a bound of bytes.
//!
//! Runs on a thread that may block. Promises: a hit whose record can't be read and verified is an error, or named as lost,
//! never left out in silence; what was trimmed since is no hit any more.

use std::path::PathBuf;
use std::sync::Arc;

use inkstone_proto::v1::{Highlight, Hit};
use inkstone_storage::error::ReadError;
use inkstone_storage::log::Log;
use inkstone_storage::search::{IndexGap, Query, SearchRequest, Searcher};
use inkstone_storage::types::Record;
use tonic::Status;

use crate::clock::Clock;
use crate::grpc::convert::{self, record_size};
use crate::grpc::deadline::Deadline;
use crate::grpc::error;
use crate::grpc::limits::{
    HIGHLIGHTS_MAX, READ_MESSAGE_SIZE_MAX, SEARCH_ANSWER_SIZE_MAX, SEARCH_READ_SPAN_MAX,
};
use crate::grpc::search::lost::LostHits;
use crate::raft::Group;

/// Bytes that a highlight takes in an answer, at most.
const HIGHLIGHT_SIZE: usize = 12;

/// Gaps of the index that one answer names.
const UNINDEXED_MAX: usize = 16;

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

/// The hits of one answer, and what they cover.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) hits: Vec<Hit>,
    pub(crate) indexed_next_offset: u64,
    pub(crate) complete: bool,
    pub(crate) next_before_offset: Option<u64>,
    /// Hits whose records are damaged here.
    pub(crate) lost: Vec<LostHits>,
    /// What the index lacks of what the page is over, newest first.
    pub(crate) unindexed: Vec<IndexGap>,
}

impl Page {
    /// Names what the index lacks among the offsets that the page is over. With more of it than one answer names, the page
    /// ends in front of the rest.
    fn leave_out(&mut self, gaps: Vec<IndexGap>, first_offset: u64) {
        let from = self.next_before_offset.unwrap_or(0).max(first_offset);
        let unindexed = gaps.into_iter().rev().filter(|gap| gap.to > from);
        self.unindexed = unindexed.collect();
        if self.unindexed.len() <= UNINDEXED_MAX {
            return;
        }
        self.unindexed.truncate(UNINDEXED_MAX);
        let end = self.unindexed.last().map_or(0, |gap| gap.from);
        let is_in_page = |hit: &Hit| hit.record.as_ref().is_some_and(|it| it.offset >= end);
        self.hits.retain(is_in_page);
        self.lost.retain(|hit| hit.lost.from >= end);
        self.next_before_offset = Some(end);
    }
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
        let mut page = Page {
            hits: Vec::with_capacity(found.offsets.len()),
            // Below the first offset there is nothing to find: also an index that never held it covers it.
            indexed_next_offset: found.next_offset.max(self.first_offset),
            complete: found.complete,
            next_before_offset: None,
            lost: Vec::new(),
            unindexed: Vec::new(),
        };
        let mut room = SEARCH_ANSWER_SIZE_MAX;
        let mut rest = found.offsets.as_slice();
        let mut cut = false;
        while !rest.is_empty() && !cut {
            if !page.hits.is_empty() && expired() {
                page.complete = false;
                cut = true;
                break;
            }
            let run;
            (run, rest) = rest.split_at(run_length(rest));
            for record in self.read_run(run, &mut page.lost)? {
                let hit = hit(record, &self.request.query);
                if hit.1 > room && !page.hits.is_empty() {
                    cut = true;
                    break;
                }
                room = room.saturating_sub(hit.1);
                page.hits.push(hit.0);
            }
        }
        if cut {
            let last = page.hits.last().and_then(|hit| hit.record.as_ref());
            page.next_before_offset = last.map(|record| record.offset);
        } else if found.more || !found.complete {
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
                    let mut is_hit = false;
                    while wanted.next_if(|offset| *offset < found.to).is_some() {
                        is_hit = true;
                    }
                    if is_hit {
                        lost.push(LostHits { lost: found, why });
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

fn newest_first(mut records: Vec<Record>) -> Vec<Record> {
    records.reverse();
    records
}

/// How many of the first offsets, which fall, one read fetches.
fn run_length(offsets: &[u64]) -> usize {
    let Some(newest) = offsets.first() else {
        return 0;
    };
    offsets
        .iter()
        .take_while(|offset| newest - **offset < SEARCH_READ_SPAN_MAX)
        .count()
}

/// A hit and the bytes that it takes in an answer.
fn hit(record: Record, query: &Query) -> (Hit, usize) {
    let ranges = std::str::from_utf8(&record.body).map(|body| query.highlights(body));
    let highlights: Vec<Highlight> = ranges
        .unwrap_or_default()
        .into_iter()
        .take(HIGHLIGHTS_MAX)
        .filter_map(|range| {
            let from = u32::try_from(range.start).ok()?;
            Some(Highlight {
                from,
                to: u32::try_from(range.end).ok()?,
            })
        })
        .collect();
    let size = record_size(&record) + highlights.len() * HIGHLIGHT_SIZE;
    (
        Hit {
            record: Some(convert::record(record)),
            highlights,
        },
        size,
    )
}

#[cfg(test)]
mod tests {
    use inkstone_storage::types::LogId;

    use super::*;

    #[test]
    fn a_page_names_the_gaps_that_it_is_over_and_ends_in_front_of_too_many() {
        let gap = |from: u64| IndexGap {
            index: from,
            log: LogId(1),
            from,
            to: from + 5,
        };
        let gaps: Vec<IndexGap> = (0..20).map(|number| gap(100 * number)).collect();
        let page = |next_before_offset| {
            let hit = |offset| Hit {
                record: Some(inkstone_proto::v1::Record {
                    offset,
                    ..inkstone_proto::v1::Record::default()
                }),
                highlights: Vec::new(),
            };
            Page {
                hits: [1_950, 1_450, 350].map(hit).to_vec(),
                indexed_next_offset: 2_000,
                complete: true,
                next_before_offset,
                lost: Vec::new(),
                unindexed: Vec::new(),
            }
        };
        let mut few = page(None);
        few.leave_out(gaps[..3].to_vec(), 103);
        assert_eq!(few.unindexed, [gap(200), gap(100)]);
        assert_eq!((few.hits.len(), few.next_before_offset), (3, None));
        let mut cut = page(Some(350));
        cut.leave_out(gaps[..5].to_vec(), 0);
        assert_eq!(cut.unindexed, [gap(400)]);
        assert_eq!(cut.next_before_offset, Some(350));
        let mut many = page(None);
        many.leave_out(gaps.clone(), 0);
        assert_eq!(many.unindexed.len(), UNINDEXED_MAX);
        assert_eq!(many.unindexed.last(), Some(&gap(400)));
        assert_eq!((many.hits.len(), many.next_before_offset), (2, Some(400)));
    }

    #[test]
    fn neighbouring_offsets_are_read_together_and_distant_ones_apart() {
        assert_eq!(run_length(&[100, 99, 80, 69, 68]), 4);
        assert_eq!(run_length(&[1_000, 5]), 1);
        assert_eq!(run_length(&[3, 2, 1, 0]), 4);
        assert_eq!(run_length(&[]), 0);
    }
}
