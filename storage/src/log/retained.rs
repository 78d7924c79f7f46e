//! What the log still holds, segment by segment and log by log: what retention decides by.
//!
//! Promises: sizes and offsets as the footers say, which were checked when the segments were opened; reads no entry. Must
//! not know: retention, logs' first offsets.

use std::collections::VecDeque;
use std::sync::Arc;

use super::segment::Sealed;
use super::shared::Shared;
use super::state::LiveRow;
use crate::types::LogId;

/// A sealed segment, as far as retention is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// Index of its first entry.
    pub base: u64,
    /// Index of its last entry.
    pub last: u64,
    /// By log id: the logs that have records in it.
    pub logs: Vec<LogExtent>,
}

/// What one log has in one segment, or in all unsealed ones together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogExtent {
    /// The log.
    pub log: LogId,
    /// Offset of its first record there.
    pub first_offset: u64,
    /// Offset behind its last record there.
    pub end_offset: u64,
    /// Bytes of the records before compression.
    pub size: u64,
}

/// The sealed segments, oldest first.
pub(super) fn extents(shared: &Shared) -> Vec<Extent> {
    // The footers are read without the lock: their pages may have to come from the disk.
    let sealed = shared.state.read().sealed.clone();
    sealed.iter().map(|sealed| extent(sealed)).collect()
}

fn extent(sealed: &Sealed) -> Extent {
    let logs = sealed.logs().map(|summary| LogExtent {
        log: summary.log,
        first_offset: summary.first_offset,
        end_offset: summary.end_offset,
        size: summary.size,
    });
    Extent {
        base: sealed.base(),
        last: sealed.last(),
        logs: logs.collect(),
    }
}

/// What is applied and in no sealed segment yet, by log id.
pub(super) fn live_extents(shared: &Shared) -> Vec<LogExtent> {
    let state = shared.state.read();
    let mut live: Vec<LogExtent> = state
        .live
        .iter()
        .filter_map(|(log, rows)| live_extent(*log, rows))
        .collect();
    live.sort_unstable_by_key(|extent| extent.log);
    live
}

fn live_extent(log: LogId, rows: &VecDeque<LiveRow>) -> Option<LogExtent> {
    Some(LogExtent {
        log,
        first_offset: rows.front()?.base_offset,
        end_offset: rows.back()?.end_offset(),
        size: rows.iter().map(|row| row.size).sum(),
    })
}

/// Bytes of a log's records before compression, in all segments that are still there.
pub(super) fn stored_size(shared: &Shared, log: LogId) -> u64 {
    let (sealed, live) = {
        let state = shared.state.read();
        let ranges = state.directory.get(&log).into_iter().flatten();
        let sealed: Vec<Arc<Sealed>> = ranges
            .filter_map(|range| state.sealed_of(range.base).map(Arc::clone))
            .collect();
        let rows = state.live.get(&log);
        (
            sealed,
            rows.and_then(|rows| live_extent(log, rows))
                .map_or(0, |extent| extent.size),
        )
    };
    let sealed = sealed.iter().filter_map(|sealed| sealed.log(log));
    live + sealed.map(|summary| summary.size).sum::<u64>()
}

/// Chain crc before the segment that begins at `boundary`: the same on every node that has the same entries.
pub(super) fn chain_crc_at(shared: &Shared, boundary: u64) -> Option<u32> {
    let state = shared.state.read();
    if let Some(sealed) = state.sealed_of(boundary) {
        return (sealed.base() == boundary).then(|| sealed.footer().chain_start);
    }
    let active = state.active_of(boundary);
    if let Some(active) = active.filter(|active| active.base() == boundary) {
        return Some(active.file.chain_start);
    }
    // Nothing stands at the boundary any more, or yet.
    let before = boundary
        .checked_sub(1)
        .and_then(|last| state.sealed_of(last));
    before
        .filter(|sealed| sealed.last() + 1 == boundary)
        .map(|sealed| sealed.footer().chain_end)
}
