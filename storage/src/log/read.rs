//! Records by offset: for consumers, the indexer and searches by time.
//!
//! Promises: only applied records of taken batches, each verified on this path; damage is an error, and what is beside
//! it can still be read. Must not know: logs' names, first offsets, trimming.

use std::ops::{Range, RangeInclusive};

use super::entries::entries;
use super::segment::{Check, Sealed, batch_damage, damage};
use super::shared::Shared;
use super::state::{LiveRow, Place};
use super::{EntryRecords, ReadChunk};
use crate::error::{Damage, ReadError};
use crate::format::batch::{BadBatch, Batches};
use crate::format::fields::FormatError;
use crate::format::segment_footer::LogSummary;
use crate::types::{BatchHeader, Entry, EntryKind, LogId, Record};

/// The entry at `index`, if there is one.
pub(super) fn fetch_one(
    shared: &Shared,
    index: u64,
    check: Check,
) -> Result<Option<Entry>, ReadError> {
    Ok(entries(shared, index, index + 1, 0, check)?.pop())
}

/// Gathers records until there are enough.
struct Gathering {
    log: LogId,
    until: u64,
    size_max: usize,
    size: usize,
    chunk: ReadChunk,
}

impl Gathering {
    fn is_full(&self) -> bool {
        self.chunk.next_offset >= self.until
            || (self.size >= self.size_max && !self.chunk.records.is_empty())
    }

    /// Takes the records of an entry whose first taken record has `base_offset`; `records` gives those of a batch.
    fn take<E>(
        &mut self,
        headers: &[BatchHeader],
        base_offset: u64,
        is_refused: impl Fn(u32) -> bool,
        records: impl Fn(usize, u64, &RangeInclusive<u64>) -> Result<Vec<Record>, E>,
    ) -> Result<(), E> {
        let mut base = base_offset;
        for (number, header) in headers.iter().enumerate() {
            if self.is_full() {
                break;
            }
            if header.log != self.log || is_refused(batch_number(number)) {
                continue;
            }
            let end = base + u64::from(header.records);
            if end > self.chunk.next_offset {
                let wanted = self.chunk.next_offset..=self.until - 1;
                self.extend(records(number, base, &wanted)?);
            }
            base = end;
        }
        Ok(())
    }

    fn extend(&mut self, records: Vec<Record>) {
        for record in records {
            let size = record_size(&record);
            let over = self.size + size > self.size_max;
            if over && !self.chunk.records.is_empty() {
                self.size = self.size.max(self.size_max);
                break;
            }
            self.size += size;
            self.chunk.next_offset = record.offset + 1;
            self.chunk.records.push(record);
        }
    }
}

/// Bytes that a record counts: without what it takes beside its text, empty ones would be gathered without end.
fn record_size(record: &Record) -> usize {
    let attributes = record.attributes.iter();
    let attributes: usize = attributes
        .map(|attribute| size_of_val(attribute) + attribute.0.len() + attribute.1.len())
        .sum();
    size_of_val(record) + record.body.len() + attributes
}

fn batch_number(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Records of a log from offset `from` on.
pub(super) fn read(
    shared: &Shared,
    log: LogId,
    from: u64,
    until: u64,
    size_max: usize,
) -> Result<ReadChunk, ReadError> {
    let mut gathering = Gathering {
        log,
        until,
        size_max,
        size: 0,
        chunk: ReadChunk {
            records: Vec::new(),
            next_offset: from,
        },
    };
    while !gathering.is_full() {
        let before = gathering.chunk.next_offset;
        let outcome = read_on(shared, &mut gathering);
        match outcome {
            Ok(true) if gathering.chunk.next_offset > before => {}
            Ok(_) => break,
            // What was found before the damage is right; who goes on from there is told.
            Err(_) if !gathering.chunk.records.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(gathering.chunk)
}

/// Takes records from one place: `false` at the end.
fn read_on(shared: &Shared, gathering: &mut Gathering) -> Result<bool, ReadError> {
    let offset = gathering.chunk.next_offset;
    let room = gathering.size_max.saturating_sub(gathering.size);
    let (place, first) = {
        let state = shared.state.read();
        (state.place(gathering.log, offset, room)?, state.first)
    };
    match place {
        Place::End => return Ok(false),
        Place::Sealed(sealed) => read_sealed(&sealed, first, gathering)?,
        Place::Live(rows) => {
            for row in rows {
                if gathering.is_full() {
                    break;
                }
                read_live(shared, &row, gathering)?;
            }
        }
    }
    Ok(true)
}

fn read_live(shared: &Shared, row: &LiveRow, gathering: &mut Gathering) -> Result<(), ReadError> {
    let Some(entry) = fetch_one(shared, row.index, Check::Headers)? else {
        return Ok(());
    };
    let index = row.index;
    let batches = parse(shared, entry)?;
    // Asked before the batches are decoded: a decoder under the lock would hold up every append.
    let refused = refused_live(shared, index, &batches);
    gathering
        .take(
            batches.headers(),
            row.base_offset,
            |batch| refused.contains(&batch),
            |number, base, wanted| batches.records_within(number, base, wanted),
        )
        .map_err(|bad| bad_batch(shared, index, bad).into())
}

pub(super) fn refused_live(shared: &Shared, index: u64, batches: &Batches) -> Vec<u32> {
    let state = shared.state.read();
    match state.sealed_of(index) {
        // Sealed since the row was found.
        Some(sealed) => refused_sealed(sealed, sealed.frame_number(index), batches.headers()),
        None => (0..batch_number(batches.headers().len()))
            .filter(|batch| state.is_refused(index, *batch))
            .collect(),
    }
}

pub(super) fn refused_sealed(sealed: &Sealed, frame: u32, headers: &[BatchHeader]) -> Vec<u32> {
    (0..batch_number(headers.len()))
        .filter(|batch| sealed.is_refused(frame, *batch))
        .collect()
}

fn read_sealed(sealed: &Sealed, first: u64, gathering: &mut Gathering) -> Result<(), ReadError> {
    let offset = gathering.chunk.next_offset;
    let Some(log) = sealed.log(gathering.log) else {
        return Ok(());
    };
    let from = sealed.find_offset(&log, offset)?;
    for number in from..log.rows {
        if gathering.is_full() {
            break;
        }
        let row = sealed.row_of(&log, number, gathering.chunk.next_offset)?;
        let index = sealed.base() + u64::from(row.frame);
        if index < first {
            let kept = first - sealed.base();
            let number = sealed.find_row(&log, |row| u64::from(row.frame).cmp(&kept))?;
            let first = if number < log.rows {
                sealed.row(&log, number)?.base_offset
            } else {
                log.end_offset
            };
            return Err(ReadError::Purged { at: offset, first });
        }
        let batches = sealed.batches(index)?;
        let frame = row.frame;
        gathering.take(
            batches.headers(),
            row.base_offset,
            |batch| sealed.is_refused(frame, batch),
            |number, base, wanted| batches.records(number, base, wanted),
        )?;
    }
    Ok(())
}

/// The batches of an entry.
pub(super) fn parse(shared: &Shared, entry: Entry) -> Result<Batches, Damage> {
    let index = entry.id.index;
    Batches::parse(entry.payload).map_err(|bad| bad_batch(shared, index, bad))
}

/// A bad batch of an entry, wherever that is now.
fn bad_batch(shared: &Shared, index: u64, bad: BadBatch) -> Damage {
    let state = shared.state.read();
    if let Some(sealed) = state.sealed_of(index) {
        return batch_damage(sealed.path(), sealed.position(index), bad);
    }
    let place = state
        .active_of(index)
        .and_then(|active| Some((active.file.path.as_path(), active.frame(index)?.position)));
    let (file, position) = place.unwrap_or((shared.options.dir.as_path(), 0));
    batch_damage(file, position, bad)
}

/// What the entries `from..to` put into logs.
pub(super) fn read_entries(
    shared: &Shared,
    from: u64,
    to: u64,
    size_max: usize,
) -> Result<Vec<EntryRecords>, ReadError> {
    entries(shared, from, to, size_max, Check::Headers)?
        .into_iter()
        .map(|entry| {
            let index = entry.id.index;
            let batches = match entry.kind {
                EntryKind::Batches => taken(shared, index, &parse(shared, entry)?)?,
                EntryKind::Blank | EntryKind::Membership | EntryKind::Command => Vec::new(),
            };
            Ok(EntryRecords { index, batches })
        })
        .collect()
}

/// The taken batches of an entry, with their records.
fn taken(
    shared: &Shared,
    index: u64,
    batches: &Batches,
) -> Result<Vec<(LogId, Vec<Record>)>, ReadError> {
    let refused = refused_live(shared, index, batches);
    let mut next: Vec<(LogId, Option<u64>)> = Vec::new();
    let mut taken = Vec::new();
    for (number, header) in batches.headers().iter().enumerate() {
        if refused.contains(&batch_number(number)) {
            continue;
        }
        let known = next.iter().position(|(log, _)| *log == header.log);
        let known = if let Some(known) = known {
            known
        } else {
            next.push((header.log, base_offset(shared, index, header.log)?));
            next.len() - 1
        };
        let Some((_, Some(base))) = next.get_mut(known) else {
            // Not noted as applied: nobody may see it.
            continue;
        };
        let records = batches
            .records(number, *base)
            .map_err(|bad| bad_batch(shared, index, bad))?;
        *base += u64::from(header.records);
        taken.push((header.log, records));
    }
    Ok(taken)
}

/// The offset of the first record that an entry put into a log.
fn base_offset(shared: &Shared, index: u64, log: LogId) -> Result<Option<u64>, ReadError> {
    let state = shared.state.read();
    if let Some(sealed) = state.sealed_of(index) {
        let sealed = std::sync::Arc::clone(sealed);
        drop(state);
        return sealed_base_offset(&sealed, index, log).map(Some);
    }
    let rows = state.live.get(&log);
    let row = rows.and_then(|rows| rows.get(rows.partition_point(|row| row.index < index)));
    Ok(row
        .filter(|row| row.index == index)
        .map(|row| row.base_offset))
}

/// The base offset in a sealed segment: whatever was taken there has a row.
fn sealed_base_offset(sealed: &Sealed, index: u64, log: LogId) -> Result<u64, ReadError> {
    let frame = sealed.frame_number(index);
    let missing = |summary: &LogSummary, number: u32| {
        let what = format!("footer, log rows: none for entry {index} and log {}", log.0);
        sealed.row_damage(summary, number, what)
    };
    let Some(summary) = sealed.log(log) else {
        let error = FormatError::bad(0, format!("footer, logs: none for log {}", log.0));
        return Err(damage(sealed.path(), sealed.footer().frames_end, error).into());
    };
    let number = sealed.find_row(&summary, |row| row.frame.cmp(&frame))?;
    if number >= summary.rows {
        return Err(missing(&summary, number).into());
    }
    let row = sealed.row(&summary, number)?;
    if row.frame != frame {
        return Err(missing(&summary, number).into());
    }
    Ok(row.base_offset)
}

/// Where a record of a time or later may be.
enum Candidate {
    /// Nowhere.
    None,
    /// Not before this offset.
    Behind(u64),
    /// In this range of offsets, perhaps.
    Range(u64, u64),
}

/// What a search by time makes of damaged records, which may be of the time that is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnDamage {
    /// It fails.
    Fail,
    /// It ends at the first of them.
    Find,
}

/// The smallest offset at or behind `from` whose record is of `timestamp` or later.
pub(super) fn offset_at_time(
    shared: &Shared,
    log: LogId,
    from: u64,
    (timestamp, on_damage): (i64, OnDamage),
) -> Result<Option<u64>, ReadError> {
    let mut next = from;
    loop {
        match candidate(shared, log, next, timestamp)? {
            Candidate::None => return Ok(None),
            Candidate::Behind(offset) => next = offset,
            Candidate::Range(base, end) => {
                let range = next.max(base)..end;
                let found = search_records(shared, log, range, (timestamp, on_damage))?;
                if found.is_some() {
                    return Ok(found);
                }
                next = end;
            }
        }
    }
}

/// Looks at the time bounds from offset `from` on, without reading records.
fn candidate(
    shared: &Shared,
    log: LogId,
    from: u64,
    timestamp: i64,
) -> Result<Candidate, ReadError> {
    let sealed = {
        let state = shared.state.read();
        match state.place(log, from, 0)? {
            Place::End => return Ok(Candidate::None),
            Place::Sealed(sealed) => sealed,
            Place::Live(_) => {
                let mut rows = state.live.get(&log).into_iter().flatten();
                let row =
                    rows.find(|row| row.end_offset() > from && row.timestamp_max >= timestamp);
                return Ok(row.map_or(Candidate::None, |row| {
                    Candidate::Range(row.base_offset, row.end_offset())
                }));
            }
        }
    };
    let Some(summary) = sealed.log(log) else {
        return Ok(Candidate::None);
    };
    if summary.timestamp_max >= timestamp {
        let mut next = from.max(summary.first_offset);
        let first = sealed.find_offset(&summary, next)?;
        for number in first..summary.rows {
            let row = sealed.row_of(&summary, number, next)?;
            next = row.end_offset();
            if row.timestamp_max >= timestamp {
                return Ok(Candidate::Range(row.base_offset, row.end_offset()));
            }
        }
        if next != summary.end_offset {
            // The search began at a row that was moved towards the end.
            let what = format!("footer, log rows: none for offset {next}");
            return Err(sealed.row_damage(&summary, summary.rows, what).into());
        }
    }
    Ok(Candidate::Behind(summary.end_offset))
}

/// The first record in a range of offsets that is of `timestamp` or later.
fn search_records(
    shared: &Shared,
    log: LogId,
    range: Range<u64>,
    (timestamp, on_damage): (i64, OnDamage),
) -> Result<Option<u64>, ReadError> {
    let mut next = range.start;
    while next < range.end {
        let chunk = match read(shared, log, next, range.end, usize::MAX) {
            Err(ReadError::Damaged(_)) if on_damage == OnDamage::Find => return Ok(Some(next)),
            read => read?,
        };
        if chunk.records.is_empty() {
            break;
        }
        next = chunk.next_offset;
        let found = chunk
            .records
            .iter()
            .find(|record| record.timestamp >= timestamp);
        if let Some(record) = found {
            return Ok(Some(record.offset));
        }
    }
    Ok(None)
}
