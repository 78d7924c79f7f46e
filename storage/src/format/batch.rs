//! The payload of a batches entry: all batch headers first, then each batch's records (FORMAT.md, "Batches").

use bytes::Bytes;

use crate::types::{BatchHeader, LogId, NewRecord, Producer, Record};

/// A batch whose records are encoded, before it is joined with others into an entry. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EncodedBatch {
    /// Complete but for `append_time`, which [`join`] sets.
    pub header: BatchHeader,
    /// The encoded records that `header.crc` covers.
    pub records: Bytes,
}

/// Bytes that are not a batches payload, or a batch whose crc does not match.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {position} of the payload: {what}")]
pub struct BadBatch {
    /// Position in the payload.
    pub position: u64,
    /// What was expected and found.
    pub what: String,
}

impl EncodedBatch {
    /// Encodes records (1 or more, within `limits`; the caller has checked), LZ4 when that makes them smaller.
    pub fn encode(
        log: LogId,
        producer: Option<Producer>,
        expected_offset: Option<u64>,
        records: &[NewRecord],
    ) -> Self {
        todo!()
    }
    /// Bytes that it adds to an entry's payload.
    pub fn size(&self) -> usize {
        todo!()
    }
}

/// The payload of one entry that carries these batches (1 or more), each stamped with `append_time`.
pub fn join(batches: &[EncodedBatch], append_time: i64) -> Bytes {
    todo!()
}

/// A batches payload whose headers were parsed and checked; the records are not, until they are asked for.
#[derive(Debug, Clone)]
pub struct Batches {}

impl Batches {
    /// Parses the headers. The payload's own crc has been verified by whoever read it.
    pub fn parse(payload: Bytes) -> Result<Self, BadBatch> {
        todo!()
    }
    /// In the order they stand.
    pub fn headers(&self) -> &[BatchHeader] {
        todo!()
    }
    /// Verifies the crc of batch number `batch`, decodes its records and numbers them from `base_offset`.
    pub fn records(&self, batch: usize, base_offset: u64) -> Result<Vec<Record>, BadBatch> {
        todo!()
    }
}
