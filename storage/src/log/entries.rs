//! Entries by index: for replication and apply.
//!
//! Promises: an entry from disk is verified as a whole; an entry that was truncated while it was read is not returned and
//! not taken for damage. Must not know: records.

use std::sync::Arc;

use super::segment::{Check, Sealed};
use super::shared::Shared;
use super::state::Source;
use crate::error::ReadError;
use crate::types::{Entry, EntryId};

/// Entries `from..to`, at least one if there is one, until `size_max` bytes of payload are reached.
pub(super) fn entries(
    shared: &Shared,
    from: u64,
    to: u64,
    size_max: usize,
    check: Check,
) -> Result<Vec<Entry>, ReadError> {
    let mut found: Vec<Entry> = Vec::new();
    let mut size = 0;
    let mut next = from;
    while next < to && (found.is_empty() || size < size_max) {
        let room = size_max.saturating_sub(size);
        let source = match shared.state.read().source(next, to, room) {
            Ok(source) => source,
            // Purged behind the first that was found: what was found is still right.
            Err(_) if !found.is_empty() => break,
            Err(error) => return Err(error),
        };
        let more = match source {
            Source::End => break,
            Source::Tail(entries) => entries,
            Source::Disk(run) => match run.read(check) {
                Ok(entries) => entries,
                Err(_) if !shared.state.read().holds(&run) => continue,
                // What was found before the damage is right; who goes on from there is told.
                Err(_) if !found.is_empty() => break,
                Err(error) => return Err(error),
            },
            Source::Sealed(sealed) => match from_sealed(&sealed, next, to, room, check) {
                Ok(entries) => entries,
                Err(_) if !found.is_empty() => break,
                Err(error) => return Err(error),
            },
        };
        let Some(first) = more.first() else { break };
        let over = size + first.payload.len() > size_max;
        if over && !found.is_empty() {
            break;
        }
        size += more.iter().map(|entry| entry.payload.len()).sum::<usize>();
        next += more.len() as u64;
        found.extend(more);
    }
    Ok(found)
}

fn from_sealed(
    sealed: &Sealed,
    from: u64,
    to: u64,
    size_max: usize,
    check: Check,
) -> Result<Vec<Entry>, ReadError> {
    let mut found = Vec::new();
    let mut size = 0;
    for index in from..to.min(sealed.last() + 1) {
        size += sealed.payload_size(index);
        if size > size_max && !found.is_empty() {
            break;
        }
        match sealed.entry(index, check) {
            Ok(entry) => found.push(entry),
            Err(_) if !found.is_empty() => break,
            Err(damage) => return Err(damage.into()),
        }
    }
    Ok(found)
}

/// Entries from memory alone; `None` when the first is not there.
pub(super) fn entries_in_tail(
    shared: &Shared,
    from: u64,
    to: u64,
    size_max: usize,
) -> Option<Vec<Entry>> {
    let state = shared.state.read();
    if from >= state.next_index() || from >= to {
        return Some(Vec::new());
    }
    (from >= state.first && from >= state.tail.first())
        .then(|| state.tail.range(from, to, size_max))
}

/// Chain crc behind an entry.
pub(super) fn chain_crc(shared: &Shared, index: u64) -> Result<Option<u32>, ReadError> {
    let sealed = {
        let state = shared.state.read();
        if index < state.first {
            return Ok(None);
        }
        let Some(sealed) = state.sealed_of(index) else {
            let active = state.active_of(index);
            let frame = active.and_then(|active| active.frame(index));
            return Ok(frame.map(|frame| frame.chain_crc));
        };
        Arc::clone(sealed)
    };
    Ok(Some(sealed.chain_crc(index)?))
}

/// The first entry of each term.
pub(super) fn terms(shared: &Shared) -> Vec<EntryId> {
    let state = shared.state.read();
    if state.last.is_none() {
        return Vec::new();
    }
    let first = state.first;
    let ids = state.runs.iter().map(|run| EntryId {
        index: run.index.max(first),
        ..*run
    });
    ids.collect()
}
