//! Peers' entries, and the proof that each is the damaged one's equal.
//!
//! Promises: nothing is taken on trust: every byte of a payload is under a crc that the log knew before. Must not know:
//! files.

use std::iter::Peekable;

use crate::error::{EntryIdentity, FaultyRange, Known, RepairError};
use crate::format::frame::{FrameHeader, check_payload, payload_crc};
use crate::limits::PAYLOAD_SIZE_MAX;
use crate::types::Entry;

/// Entries as they come.
pub(super) type Peers<'a> = Peekable<Box<dyn Iterator<Item = Entry> + 'a>>;

fn refused(index: u64, what: impl Into<String>) -> RepairError {
    RepairError::Refused {
        index,
        what: what.into(),
    }
}

/// The header of the frame that an entry gets in place of the damaged one with this identity.
pub(super) fn identical(
    group: u32,
    known: &EntryIdentity,
    entry: &Entry,
) -> Result<FrameHeader, RepairError> {
    let index = known.id.index;
    if entry.id != known.id {
        let (expected, found) = (known.id, entry.id);
        return Err(refused(
            index,
            format!("{expected:?} expected, {found:?} given"),
        ));
    }
    if entry.kind != known.kind || entry.payload.len() != known.payload_size as usize {
        let what = format!(
            "{:?} with {} bytes expected, {:?} with {} given",
            known.kind,
            known.payload_size,
            entry.kind,
            entry.payload.len()
        );
        return Err(refused(index, what));
    }
    check_payload(entry.kind, &entry.payload, known.payload_crc)
        .map_err(|error| refused(index, error.to_string()))?;
    Ok(FrameHeader {
        group,
        id: known.id,
        kind: known.kind,
        payload_size: known.payload_size,
        payload_crc: known.payload_crc,
        chain_crc: known.chain_crc,
    })
}

/// The header of the frame that an entry gets behind one with `chain`.
pub(super) fn chained(group: u32, entry: &Entry, chain: u32) -> Result<FrameHeader, RepairError> {
    let index = entry.id.index;
    let size = entry.payload.len();
    if size > PAYLOAD_SIZE_MAX {
        return Err(refused(index, format!("a payload of {size} bytes")));
    }
    let crc = payload_crc(entry.kind, &entry.payload);
    // Of batches the frame's crc covers the headers, and they the rest.
    check_payload(entry.kind, &entry.payload, crc)
        .map_err(|error| refused(index, error.to_string()))?;
    let (header, _) = FrameHeader {
        group,
        id: entry.id,
        kind: entry.kind,
        payload_size: u32::try_from(size).expect("checked above"),
        payload_crc: crc,
        chain_crc: 0,
    }
    .encode(chain);
    Ok(header)
}

/// Takes the entry at `index`, which must come next.
pub(super) fn next(
    entries: &mut Peers<'_>,
    fault: &FaultyRange,
    index: u64,
) -> Result<Entry, RepairError> {
    entries
        .next_if(|entry| entry.id.index == index)
        .ok_or(RepairError::Incomplete {
            first: fault.first,
            last: fault.last,
            index,
        })
}

/// Whether entries that were proven one by one lead to where the log went on.
pub(super) fn arrived(fault: &FaultyRange, chain: u32, size: u64) -> Result<(), RepairError> {
    let Known::Chain {
        after,
        size: expected,
        ..
    } = fault.known
    else {
        return Ok(());
    };
    if chain != after {
        return Err(RepairError::Diverged {
            first: fault.first,
            last: fault.last,
            expected: after,
            found: chain,
        });
    }
    match expected {
        Some(expected) if expected != size => {
            let what = format!("the entries take {size} bytes, and {expected} are to be filled");
            Err(refused(fault.last, what))
        }
        _ => Ok(()),
    }
}
