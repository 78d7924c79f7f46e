//! The searching side: the tail, then the shards, newest first, in windows that grow.
//!
//! Promises: an answer holds the newest hits without a gap between them, whether or not it was cut short. Must not
//! know: time (the caller's closure does), files, the text of hits.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use tantivy::query::{EnableScoring, Query as _, Weight};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, DocSet as _, SegmentReader, TERMINATED};

use super::gaps::IndexGap;
use super::plan::Plan;
use super::query::TimeRange;
use super::reader::{Segment, ShardReader};
use super::view::{Shared, Snapshot, TailNode};
use super::{QueryError, SearchAnswer, SearchRequest, schema};
use crate::limits::SEARCH_HITS_MAX;
use crate::types::LogId;

/// Documents of the first window. Opening one costs about as much as reading so many.
const WINDOW_MIN: DocId = 1 << 11;
/// Documents of the largest: what is done at most between two looks at the deadline, when nothing matches.
const WINDOW_MAX: DocId = 1 << 18;
/// After so many documents or records the deadline is looked at.
const DEADLINE_EVERY: usize = 1_024;
/// After so many bytes of bodies in the tail too.
const DEADLINE_SIZE: usize = 1 << 18;

/// The searching side. Cheap to clone.
#[derive(Clone)]
pub struct Searcher {
    shared: Arc<Shared>,
}

impl fmt::Debug for Searcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Searcher")
            .field("next_index", &self.next_index())
            .finish_non_exhaustive()
    }
}

impl Searcher {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Every record of the log below this offset is searchable, or in a gap.
    pub fn next_offset(&self, log: LogId) -> u64 {
        self.shared.next_offset(log)
    }

    /// Every entry below this index is searchable, or its gaps are named.
    pub fn next_index(&self) -> u64 {
        self.shared.next_index()
    }

    /// Searches, newest first. `expired` is asked now and then; when it says true the answer is cut and marked.
    ///
    /// The hits of a cut answer are still the newest ones, so the last of them is a cursor as good as any.
    pub fn search(
        &self,
        request: &SearchRequest,
        expired: &dyn Fn() -> bool,
    ) -> Result<SearchAnswer, QueryError> {
        if request.limit == 0 || request.limit > SEARCH_HITS_MAX {
            let value = SEARCH_HITS_MAX as u64;
            return Err(QueryError::Limit {
                bound: "search_hits_max",
                value,
            });
        }
        let snapshot = self.shared.snapshot(request.log);
        let next_offset = snapshot.next_offset;
        let below = |gap: &&IndexGap| request.before_offset.is_none_or(|before| gap.from < before);
        let gaps = snapshot.gaps.iter().filter(below).copied().collect();
        let mut search = Search {
            request,
            before: request.before_offset.unwrap_or(u64::MAX),
            times: TimeRange::between(request.since, request.until),
            // One more than asked for tells whether there is more.
            wanted: request.limit + 1,
            offsets: Vec::new(),
            expired,
        };
        let end = search.run(&snapshot)?;
        let Search { mut offsets, .. } = search;
        let more = offsets.len() > request.limit;
        offsets.truncate(request.limit);
        // Cut behind a full page is a full page.
        let complete = more || end != End::Expired;
        Ok(SearchAnswer {
            offsets,
            next_offset,
            complete,
            more,
            gaps,
        })
    }
}

/// Why a part of a search came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// There is nothing left to look at.
    Exhausted,
    /// There are as many hits as wanted.
    Full,
    /// The deadline has passed.
    Expired,
}

struct Search<'a> {
    request: &'a SearchRequest,
    before: u64,
    times: TimeRange,
    wanted: usize,
    /// Falling.
    offsets: Vec<u64>,
    expired: &'a dyn Fn() -> bool,
}

impl Search<'_> {
    fn run(&mut self, snapshot: &Snapshot) -> Result<End, QueryError> {
        if let Some(tail) = &snapshot.tail {
            let end = self.search_tail(tail);
            if end != End::Exhausted {
                return Ok(end);
            }
        }
        let fields = schema::fields();
        let plan = Plan::new(&self.request.query, fields, self.request.log, self.times);
        for shard in snapshot.shards.iter().rev() {
            let end = self.search_shard(shard, &plan).map_err(failed)?;
            if end != End::Exhausted {
                return Ok(end);
            }
        }
        Ok(End::Exhausted)
    }

    fn search_tail(&mut self, tail: &TailNode) -> End {
        let (mut seen, mut size) = (0, 0);
        for record in tail.newest_first() {
            seen += 1;
            size += record.body.len();
            if seen >= DEADLINE_EVERY || size >= DEADLINE_SIZE {
                (seen, size) = (0, 0);
                if (self.expired)() {
                    return End::Expired;
                }
            }
            let is_hit = record.offset < self.before
                && self.times.contains(record.timestamp)
                && self.request.query.matches(record);
            if is_hit {
                self.offsets.push(record.offset);
                if self.offsets.len() == self.wanted {
                    return End::Full;
                }
            }
        }
        End::Exhausted
    }

    fn search_shard(&mut self, shard: &ShardReader, plan: &Plan) -> tantivy::Result<End> {
        let scoring = EnableScoring::disabled_from_searcher(&shard.searcher);
        let weight = plan.query.weight(scoring)?;
        for segment in shard.segments.iter().rev() {
            if (self.expired)() {
                return Ok(End::Expired);
            }
            if segment.timestamps.max_value() < plan.times.min
                || plan.times.max < segment.timestamps.min_value()
            {
                continue;
            }
            let reader = shard.searcher.segment_reader(segment.number);
            let segment = InSegment {
                segment,
                reader,
                plan,
            };
            let end = self.search_segment(&segment, weight.as_ref())?;
            if end != End::Exhausted {
                return Ok(end);
            }
        }
        Ok(End::Exhausted)
    }

    fn search_segment(
        &mut self,
        segment: &InSegment<'_>,
        weight: &dyn Weight,
    ) -> tantivy::Result<End> {
        let mut high = segment.end(self.before)?;
        let mut width = WINDOW_MIN;
        while high > 0 {
            let low = high.saturating_sub(width);
            let mut window = VecDeque::new();
            let Some(first) = self.read_window(segment, weight, low..high, &mut window)? else {
                return Ok(End::Expired);
            };
            self.offsets.extend(window.into_iter().rev());
            if self.offsets.len() == self.wanted {
                return Ok(End::Full);
            }
            // The segment's first match is in the window or behind it.
            if first >= low {
                return Ok(End::Exhausted);
            }
            if (self.expired)() {
                return Ok(End::Expired);
            }
            high = low;
            width = WINDOW_MAX.min(width * 4);
        }
        Ok(End::Exhausted)
    }

    /// Keeps the last hits in a window, in rising order, and tells the first match of the whole segment. `None`: the
    /// deadline has passed, and what was kept is of no use, for later hits are missing.
    fn read_window(
        &self,
        segment: &InSegment<'_>,
        weight: &dyn Weight,
        window: std::ops::Range<DocId>,
        hits: &mut VecDeque<u64>,
    ) -> tantivy::Result<Option<DocId>> {
        let wanted = self.wanted - self.offsets.len();
        let mut scorer = weight.scorer(segment.reader, 1.0)?;
        let first = scorer.doc();
        let mut document = if first < window.start {
            scorer.seek(window.start)
        } else {
            first
        };
        let mut seen = 0;
        while document < window.end {
            seen += 1;
            if seen == DEADLINE_EVERY {
                seen = 0;
                if (self.expired)() {
                    return Ok(None);
                }
            }
            if segment.is_in_time(document) {
                if hits.len() == wanted {
                    hits.pop_front();
                }
                hits.push_back(segment.offset(document));
            }
            document = scorer.advance();
        }
        Ok(Some(first))
    }
}

/// A segment under one plan.
struct InSegment<'a> {
    segment: &'a Segment,
    reader: &'a SegmentReader,
    plan: &'a Plan,
}

impl InSegment<'_> {
    fn offset(&self, document: DocId) -> u64 {
        self.segment.offsets.first(document).unwrap_or(u64::MAX)
    }

    fn is_in_time(&self, document: DocId) -> bool {
        self.plan.times == TimeRange::ALL
            || self
                .segment
                .timestamps
                .first(document)
                .is_some_and(|time| self.plan.times.contains(time))
    }

    /// The document from which on the log's offsets are not below `before`, found by halving: they rise.
    fn end(&self, before: u64) -> tantivy::Result<DocId> {
        let log = self.reader.inverted_index(self.plan.log.field())?;
        let Some(info) = log.get_term_info(&self.plan.log)? else {
            return Ok(0);
        };
        let (mut low, mut high) = (0, self.segment.documents);
        while before != u64::MAX && low < high {
            let middle = low + (high - low) / 2;
            let mut documents = log.read_postings_from_terminfo(&info, IndexRecordOption::Basic)?;
            let document = match documents.doc() {
                document if document < middle => documents.seek(middle),
                document => document,
            };
            if document == TERMINATED || document >= high || self.offset(document) >= before {
                high = middle;
            } else {
                low = document + 1;
            }
        }
        Ok(high)
    }
}

fn failed(error: impl fmt::Display) -> QueryError {
    QueryError::Failed(error.to_string())
}
