//! Which records a damaged place takes away: what a reader who finds it on every node is told to go on behind.
//!
//! Promises: only records that were not verified when they were looked at are named, and as few as damage leaves no choice
//! about: the rest of a batch, or of an entry when its headers are bad. Must not know: other nodes.

use std::path::PathBuf;

use super::Log;
use super::read::{self, OnDamage, fetch_one, parse, refused_live, refused_sealed};
use super::segment::{Check, Sealed};
use super::shared::Shared;
use super::state::{LiveRow, Place};
use crate::error::{EntryIdentity, ReadError};
use crate::types::{BatchHeader, EntryId, EntryKind, LogId};

/// Records of one entry that cannot be had here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// The first offset: the one that was asked for.
    pub from: u64,
    /// The offset behind the last.
    pub to: u64,
    /// The entry that they are in, as far as this node knows; its chain crc is not filled in. A peer whose entry is this one
    /// has the records; that no peer has it says nothing when what is known of it is damaged, too.
    pub entry: EntryIdentity,
}

impl Log {
    /// The file of the sealed segment that holds an entry.
    pub fn sealed_file(&self, index: u64) -> Option<PathBuf> {
        let state = self.shared().state.read();
        state
            .sealed_of(index)
            .map(|sealed| sealed.path().to_owned())
    }

    /// Whether a segment that begins with that entry is kept, sealed or not.
    pub fn holds_segment(&self, base: u64) -> bool {
        let state = self.shared().state.read();
        let is_active = state.active.iter().any(|active| active.base() == base);
        is_active
            || state
                .sealed_of(base)
                .is_some_and(|sealed| sealed.base() == base)
    }

    /// As [`Log::offset_at_time`], but also the smallest offset whose record is damaged and may be of that time: who reads
    /// on from there and passes over records before `timestamp` misses none.
    pub fn offset_perhaps_at_time(
        &self,
        log: LogId,
        from: u64,
        timestamp: i64,
    ) -> Result<Option<u64>, ReadError> {
        read::offset_at_time(self.shared(), log, from, (timestamp, OnDamage::Find))
    }

    /// What a read of a log finds damaged at `offset`. `None`: it can be read, or does not exist. An error where damage
    /// does not even say which entry has it.
    pub fn lost_at(&self, log: LogId, offset: u64) -> Result<Option<Lost>, ReadError> {
        let shared = self.shared();
        let place = shared.state.read().place(log, offset, 0)?;
        match place {
            Place::End => Ok(None),
            Place::Sealed(sealed) => in_sealed(&sealed, log, offset),
            Place::Live(rows) => match rows.first() {
                Some(row) if row.base_offset <= offset => in_live(shared, row, log, offset),
                _ => Ok(None),
            },
        }
    }
}

/// An offset of a log that is looked for among the batches of an entry.
struct Wanted {
    log: LogId,
    offset: u64,
    /// The offset of the log's first record in the entry.
    base: u64,
}

impl Wanted {
    /// The batch that holds it, with its first offset and the one behind its last.
    fn batch(&self, headers: &[BatchHeader], refused: &[u32]) -> Option<(usize, u64, u64)> {
        let mut base = self.base;
        for (number, header) in (0_u32..).zip(headers) {
            if header.log != self.log || refused.contains(&number) {
                continue;
            }
            let end = base + u64::from(header.records);
            if end > self.offset {
                return Some((usize::try_from(number).ok()?, base, end));
            }
            base = end;
        }
        None
    }
}

fn in_sealed(sealed: &Sealed, log: LogId, offset: u64) -> Result<Option<Lost>, ReadError> {
    let Some(summary) = sealed.log(log) else {
        return Ok(None);
    };
    let number = sealed.find_offset(&summary, offset)?;
    let row = sealed.row_of(&summary, number, offset)?;
    let index = sealed.base() + u64::from(row.frame);
    let wanted = Wanted {
        log,
        offset,
        base: row.base_offset,
    };
    let to = match sealed.batches(index) {
        Err(_) => row.end_offset(),
        Ok(batches) => {
            let refused = refused_sealed(sealed, row.frame, batches.headers());
            let Some((batch, base, end)) = wanted.batch(batches.headers(), &refused) else {
                return Ok(None);
            };
            if batches.records(batch, base, &(offset..=end - 1)).is_ok() {
                return Ok(None);
            }
            end
        }
    };
    let known = sealed.frame_row(index).zip(sealed.id(index));
    Ok(known.map(|(frame, id)| Lost {
        from: offset,
        to,
        entry: EntryIdentity {
            id,
            kind: frame.kind,
            payload_size: frame.payload_size,
            payload_crc: frame.payload_crc,
            chain_crc: 0,
        },
    }))
}

fn in_live(
    shared: &Shared,
    row: &LiveRow,
    log: LogId,
    offset: u64,
) -> Result<Option<Lost>, ReadError> {
    let index = row.index;
    let wanted = Wanted {
        log,
        offset,
        base: row.base_offset,
    };
    let to = match fetch_one(shared, index, Check::Headers) {
        Err(ReadError::Damaged(_)) => row.end_offset(),
        Err(error) => return Err(error),
        Ok(None) => return Ok(None),
        Ok(Some(entry)) => {
            let batches = parse(shared, entry)?;
            let refused = refused_live(shared, index, &batches);
            let Some((batch, base, end)) = wanted.batch(batches.headers(), &refused) else {
                return Ok(None);
            };
            let read = batches.records_within(batch, base, &(offset..=end - 1));
            if read.is_ok() {
                return Ok(None);
            }
            end
        }
    };
    Ok(known_live(shared, index).map(|entry| Lost {
        from: offset,
        to,
        entry,
    }))
}

fn known_live(shared: &Shared, index: u64) -> Option<EntryIdentity> {
    let state = shared.state.read();
    let id: EntryId = state.id(index)?;
    let frame = state.active_of(index)?.frame(index)?;
    (frame.kind == EntryKind::Batches).then_some(EntryIdentity {
        id,
        kind: frame.kind,
        payload_size: frame.payload_size,
        payload_crc: frame.payload_crc,
        chain_crc: 0,
    })
}
