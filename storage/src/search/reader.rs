//! A shard as a search reads it: its segments in the order in which they were fed, and their columns.
//!
//! Promises: what loads is whole and in order, or is an error. Must not know: how a shard is written, queries.

use std::ops::Range;

use tantivy::IndexReader;
use tantivy::columnar::Column;
use tantivy::index::SegmentId;

use super::IndexError;
use super::schema;

/// A segment of a shard, with the columns that a search reads.
pub(super) struct Segment {
    /// Its number in the searcher.
    pub(super) number: u32,
    id: SegmentId,
    /// The ordinal of its first document.
    first: u64,
    /// How many documents it has.
    pub(super) documents: u32,
    /// Each document's offset.
    pub(super) offsets: Column<u64>,
    /// Each document's event time.
    pub(super) timestamps: Column<i64>,
}

/// A shard as of one commit: cheap to share, unchanged by what is fed or merged later.
pub(super) struct ShardReader {
    /// The index of the shard's first entry.
    pub(super) from: u64,
    /// tantivy's view.
    pub(super) searcher: tantivy::Searcher,
    /// By the order in which they were fed.
    pub(super) segments: Vec<Segment>,
}

impl ShardReader {
    /// Takes what the reader has loaded, and proves that no document is missing, twice or out of place.
    pub(super) fn load(from: u64, reader: &IndexReader) -> Result<Self, IndexError> {
        let searcher = reader.searcher();
        let mut segments = Vec::new();
        for (number, reader) in (0..).zip(searcher.segment_readers()) {
            let columns = reader.fast_fields();
            let ordinals = columns.u64(schema::ORDINAL)?;
            let segment = Segment {
                number,
                id: reader.segment_id(),
                first: ordinals.min_value(),
                documents: reader.max_doc(),
                offsets: columns.u64(schema::OFFSET)?,
                timestamps: columns.i64(schema::TIMESTAMP)?,
            };
            let last = segment.first + u64::from(segment.documents.saturating_sub(1));
            if reader.has_deletes() || ordinals.max_value() != last {
                return Err(IndexError::failed(
                    "a segment's documents are not contiguous",
                ));
            }
            segments.push(segment);
        }
        segments.sort_unstable_by_key(|segment| segment.first);
        let shard = Self {
            from,
            searcher,
            segments,
        };
        let mut next = 0;
        for segment in &shard.segments {
            if segment.first != next {
                return Err(IndexError::failed("a segment is missing, or out of place"));
            }
            next += u64::from(segment.documents);
        }
        Ok(shard)
    }

    /// How many documents it has.
    pub(super) fn documents(&self) -> u64 {
        self.sizes().iter().sum()
    }

    pub(super) fn sizes(&self) -> Vec<u64> {
        self.segments
            .iter()
            .map(|segment| u64::from(segment.documents))
            .collect()
    }

    pub(super) fn ids(&self, run: Range<usize>) -> Vec<SegmentId> {
        self.segments
            .get(run)
            .unwrap_or_default()
            .iter()
            .map(|segment| segment.id)
            .collect()
    }
}
