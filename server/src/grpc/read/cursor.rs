//! How far one read is, and where it ends: arithmetic only.
//!
//! Must not know: how records are got or sent.

use inkstone_proto::v1::ReadRequest;
use inkstone_storage::log::ReadChunk;
use inkstone_storage::types::Record;

use crate::grpc::convert::record_size;
use crate::grpc::limits::READ_MESSAGE_SIZE_MAX;

/// The position and the bounds of one read.
#[derive(Debug)]
pub(crate) struct Cursor {
    at: u64,
    end: u64,
    /// Records before the first one with this event time are passed over.
    skip_before: Option<i64>,
    records_left: u64,
    bytes_left: u64,
}

impl Cursor {
    /// Starts at `start`, in a log that ends at `next_offset` now.
    pub(crate) fn new(
        request: &ReadRequest,
        start: u64,
        next_offset: u64,
        skip_before: Option<i64>,
    ) -> Self {
        let unbounded = |bound: u64| if bound == 0 { u64::MAX } else { bound };
        let until = request.until_offset.unwrap_or(u64::MAX);
        Self {
            at: start,
            end: if request.follow {
                until
            } else {
                until.min(next_offset)
            },
            skip_before,
            records_left: unbounded(request.limit),
            bytes_left: unbounded(request.limit_bytes),
        }
    }

    /// The next offset.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Whether nothing is left to send.
    pub(crate) fn is_done(&self) -> bool {
        self.at >= self.end || self.records_left == 0 || self.bytes_left == 0
    }

    /// Moves on to an offset that can be read; the gap that this leaves, within the bounds of the read.
    pub(crate) fn skip_to(&mut self, first: u64) -> Option<(u64, u64)> {
        let to = first.min(self.end);
        if self.is_done() || to <= self.at {
            return None;
        }
        let from = std::mem::replace(&mut self.at, to);
        Some((from, to))
    }

    /// The next read of a log that is visible below `visible`: from, until, bytes.
    pub(crate) fn next_read(&self, visible: u64) -> (u64, u64, usize) {
        let mut until = visible.min(self.end);
        if self.skip_before.is_none() {
            until = until.min(self.at.saturating_add(self.records_left));
        }
        let bytes_left = usize::try_from(self.bytes_left).unwrap_or(usize::MAX);
        (self.at, until, READ_MESSAGE_SIZE_MAX.min(bytes_left))
    }

    /// Of what was read, the records to send; moves behind them.
    pub(crate) fn take(&mut self, chunk: ReadChunk) -> Vec<Record> {
        let mut taken = chunk.records;
        if let Some(timestamp) = self.skip_before {
            let first = taken
                .iter()
                .position(|record| record.timestamp >= timestamp);
            taken.drain(..first.unwrap_or(taken.len()));
            if first.is_some() {
                self.skip_before = None;
            }
        }
        self.at = chunk.next_offset;
        let mut count = 0;
        for record in &taken {
            if self.records_left == 0 || self.bytes_left == 0 {
                break;
            }
            count += 1;
            self.records_left -= 1;
            self.bytes_left = self.bytes_left.saturating_sub(record.body.len() as u64);
        }
        taken.truncate(count);
        taken
    }
}

/// Splits records into messages of at most [`READ_MESSAGE_SIZE_MAX`], or one larger record.
pub(crate) fn messages(records: Vec<Record>) -> Vec<Vec<Record>> {
    let mut messages: Vec<Vec<Record>> = Vec::new();
    let mut room = 0;
    for record in records {
        let size = record_size(&record);
        match messages.last_mut() {
            Some(last) if size <= room => {
                room -= size;
                last.push(record);
            }
            _ => {
                room = READ_MESSAGE_SIZE_MAX.saturating_sub(size);
                messages.push(vec![record]);
            }
        }
    }
    messages
}

#[cfg(test)]
mod tests;
