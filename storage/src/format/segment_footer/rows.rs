//! The rows of a footer's sections (FORMAT.md, "Segment footer").
//!
//! Promises: fixed sizes, so that a row is found by its number. Must not know: where the sections stand.

use std::cmp::Ordering;

use crate::format::fields::{array_at, i64_at, put, u32_at, u64_at};
use crate::types::{EntryKind, LogId};

/// Bytes of a [`FrameRow`].
pub const FRAME_ROW_SIZE: usize = 16;
pub(super) const LOG_ROW_SIZE: usize = 32;
pub(super) const REFUSED_ROW_SIZE: usize = 8;
pub(super) const LOG_SUMMARY_SIZE: usize = 64;
pub(super) const TERM_ROW_SIZE: usize = 24;

/// Where an entry stands, and its identity away from it (its index is the row's number, its term in the term rows).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRow {
    /// Position of the frame.
    pub position: u64,
    /// As in its header.
    pub payload_size: u32,
    /// As in its header.
    pub payload_crc: u32,
    /// As in its header.
    pub kind: EntryKind,
}

impl FrameRow {
    pub(super) fn encode(self) -> [u8; FRAME_ROW_SIZE] {
        let mut bytes = [0; FRAME_ROW_SIZE];
        let position = u32::try_from(self.position / 8).expect("a segment is below 32 GiB");
        put(&mut bytes, 0, &position.to_le_bytes());
        put(&mut bytes, 4, &self.payload_size.to_le_bytes());
        put(&mut bytes, 8, &self.payload_crc.to_le_bytes());
        put(&mut bytes, 12, &[self.kind as u8]);
        bytes
    }

    /// Decodes a row; `None` when it names no kind of entry. Not proven: the frame that it points to proves it.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [kind] = array_at(bytes, 12);
        Some(Self {
            position: u64::from(u32_at(bytes, 0)) * 8,
            payload_size: u32_at(bytes, 4),
            payload_crc: u32_at(bytes, 8),
            kind: EntryKind::from_number(kind)?,
        })
    }
}

/// What one frame put into one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRow {
    /// Offset of the first record.
    pub base_offset: u64,
    /// Records of the taken batches.
    pub records: u32,
    /// Number of the frame in its segment, from 0.
    pub frame: u32,
    /// The latest event time among the records.
    pub timestamp_max: i64,
}

impl LogRow {
    pub(super) fn encode(self, log: LogId) -> [u8; LOG_ROW_SIZE] {
        let mut bytes = [0; LOG_ROW_SIZE];
        put(&mut bytes, 0, &self.base_offset.to_le_bytes());
        put(&mut bytes, 8, &self.timestamp_max.to_le_bytes());
        put(&mut bytes, 16, &self.records.to_le_bytes());
        put(&mut bytes, 20, &self.frame.to_le_bytes());
        let crc = Self::crc(&bytes, log);
        put(&mut bytes, 24, &crc.to_le_bytes());
        bytes
    }

    /// Over the row and the log that it belongs to: an intact row in the wrong place is damage too.
    pub(super) fn crc(bytes: &[u8], log: LogId) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&log.0.to_le_bytes());
        hasher.update(&array_at::<24>(bytes, 0));
        hasher.finalize()
    }

    /// The offset behind its last record.
    pub fn end_offset(&self) -> u64 {
        self.base_offset.saturating_add(u64::from(self.records))
    }

    /// Where the row stands as seen from an offset: equal when it holds it.
    pub fn compare_offset(&self, offset: u64) -> Ordering {
        if self.end_offset() <= offset {
            return Ordering::Less;
        }
        self.base_offset.cmp(&offset).max(Ordering::Equal)
    }
}

/// A log's part in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSummary {
    /// The log.
    pub log: LogId,
    /// Its first offset here.
    pub first_offset: u64,
    /// The offset behind its last here.
    pub end_offset: u64,
    /// Bytes of its records before compression.
    pub size: u64,
    /// The earliest event time.
    pub timestamp_min: i64,
    /// The latest event time.
    pub timestamp_max: i64,
    /// Number of its first log row.
    pub first_row: u32,
    /// How many log rows it has.
    pub rows: u32,
}

impl LogSummary {
    pub(super) fn encode(self) -> [u8; LOG_SUMMARY_SIZE] {
        let mut bytes = [0; LOG_SUMMARY_SIZE];
        put(&mut bytes, 0, &self.log.0.to_le_bytes());
        put(&mut bytes, 8, &self.first_offset.to_le_bytes());
        put(&mut bytes, 16, &self.end_offset.to_le_bytes());
        put(&mut bytes, 24, &self.size.to_le_bytes());
        put(&mut bytes, 32, &self.timestamp_min.to_le_bytes());
        put(&mut bytes, 40, &self.timestamp_max.to_le_bytes());
        put(&mut bytes, 48, &self.first_row.to_le_bytes());
        put(&mut bytes, 52, &self.rows.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Self {
        Self {
            log: LogId(u64_at(bytes, 0)),
            first_offset: u64_at(bytes, 8),
            end_offset: u64_at(bytes, 16),
            size: u64_at(bytes, 24),
            timestamp_min: i64_at(bytes, 32),
            timestamp_max: i64_at(bytes, 40),
            first_row: u32_at(bytes, 48),
            rows: u32_at(bytes, 52),
        }
    }
}
