//! What the log holds, as every reader and the writer thread see it: under one lock, never held across a disk access.
//!
//! Promises: entries are seen from the moment they are appended until they are truncated or purged; records from the
//! moment they are noted as applied. Must not know: files' bytes, the queue.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::segment::{Active, FrameRun, Sealed};
use super::tail::Tail;
use super::{Checkpoint, LogState};
use crate::error::ReadError;
use crate::types::{Entry, EntryId, LogId, Vote};

/// What one applied entry put into one log; kept in memory until its segment is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LiveRow {
    pub(super) index: u64,
    pub(super) base_offset: u64,
    pub(super) records: u32,
    pub(super) timestamp_min: i64,
    pub(super) timestamp_max: i64,
    /// Bytes of the records before compression.
    pub(super) size: u64,
}

impl LiveRow {
    pub(super) fn end_offset(&self) -> u64 {
        self.base_offset + u64::from(self.records)
    }
}

/// A log's part in a sealed segment: what finding an offset needs, so that no footer is searched in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SealedRange {
    pub(super) base: u64,
    pub(super) first_offset: u64,
    pub(super) end_offset: u64,
}

/// Where an entry can be had.
#[derive(Debug)]
pub(super) enum Source {
    /// Behind the log's end.
    End,
    Tail(Vec<Entry>),
    Disk(FrameRun),
    Sealed(Arc<Sealed>),
}

/// Where a record can be had.
#[derive(Debug)]
pub(super) enum Place {
    /// Not applied yet, or of a log that has no records.
    End,
    Sealed(Arc<Sealed>),
    /// The rows from the one that holds it on.
    Live(Vec<LiveRow>),
}

/// # Invariants
/// Segments are contiguous: sealed ones, then active ones. `last` is the last active or sealed entry. `durable` is at or
/// below `last`. `runs` starts at or before the first entry. `live` holds rows of active segments alone.
#[derive(Debug)]
pub(super) struct State {
    pub(super) purged: Option<EntryId>,
    /// The lowest index that the log can hold, and the chain crc before it.
    pub(super) first: u64,
    pub(super) chain_start: u32,
    /// The last entry, if there is one.
    pub(super) last: Option<EntryId>,
    pub(super) chain: u32,
    pub(super) durable: Option<EntryId>,
    pub(super) durable_chain: u32,
    /// For each cut that the writer has not executed yet, the first index that is gone: frames that it writes until then
    /// and that stand at or behind it are not in the log any more.
    pub(super) cuts: VecDeque<u64>,
    /// The first entry of each (term, leader).
    pub(super) runs: VecDeque<EntryId>,
    pub(super) sealed: VecDeque<Arc<Sealed>>,
    /// Bytes of the sealed segments' files: summed up where they come and go, for it is asked with every append.
    pub(super) sealed_size: u64,
    pub(super) active: VecDeque<Active>,
    pub(super) tail: Tail,
    pub(super) directory: HashMap<LogId, VecDeque<SealedRange>>,
    pub(super) live: HashMap<LogId, VecDeque<LiveRow>>,
    /// (index, batch) of active segments that apply refused, rising.
    pub(super) refused: VecDeque<(u64, u32)>,
    /// Everything below was noted as applied, or need not be.
    pub(super) noted: u64,
    pub(super) vote: Option<Vote>,
    /// Boundaries that have a checkpoint, on disk or on the way there.
    pub(super) boundaries: BTreeSet<u64>,
    /// Segments below this are sealed, or on the way there.
    pub(super) sealing: u64,
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) snapshot: Option<Checkpoint>,
}

impl State {
    /// The index of the next entry.
    pub(super) fn next_index(&self) -> u64 {
        self.last.map_or(self.first, |last| last.index + 1)
    }

    /// Whether there has never been an entry, or all were truncated: then the first one says where the log begins.
    pub(super) fn is_unstarted(&self) -> bool {
        self.last.is_none() && self.purged.is_none()
    }

    /// The identity of an entry that is here.
    pub(super) fn id(&self, index: u64) -> Option<EntryId> {
        if index < self.first || index >= self.next_index() {
            return self.purged.filter(|purged| purged.index == index);
        }
        let run = self.runs.partition_point(|run| run.index <= index);
        let run = self.runs.get(run.checked_sub(1)?)?;
        Some(EntryId { index, ..*run })
    }

    /// Adds an entry's term to the runs.
    pub(super) fn push_run(&mut self, id: EntryId) {
        let same = |run: &EntryId| (run.term, run.node) == (id.term, id.node);
        if !self.runs.back().is_some_and(same) {
            self.runs.push_back(id);
        }
    }

    /// Chain crc before `index`, which is not below the active segments.
    pub(super) fn chain_before(&self, index: u64) -> u32 {
        match self.active_of(index.saturating_sub(1)) {
            Some(active) if index > 0 => active.chain_before(index),
            _ => self
                .active
                .front()
                .map(|active| active.file.chain_start)
                .or_else(|| self.sealed.back().map(|sealed| sealed.footer().chain_end))
                .unwrap_or(self.chain_start),
        }
    }

    fn active_number(&self, index: u64) -> Option<usize> {
        self.active
            .partition_point(|active| active.base() <= index)
            .checked_sub(1)
    }

    /// The unsealed segment that holds an entry.
    pub(super) fn active_of(&self, index: u64) -> Option<&Active> {
        self.active
            .get(self.active_number(index)?)
            .filter(|active| index < active.next_index())
    }

    /// The sealed segment that holds an entry.
    pub(super) fn sealed_of(&self, index: u64) -> Option<&Arc<Sealed>> {
        let number = self
            .sealed
            .partition_point(|sealed| sealed.base() <= index)
            .checked_sub(1)?;
        self.sealed
            .get(number)
            .filter(|sealed| index <= sealed.last())
    }

    /// Whether a segment that is not the first begins at `index`.
    pub(super) fn is_boundary(&self, index: u64) -> bool {
        let mut bases = self
            .sealed
            .front()
            .map(|sealed| sealed.base())
            .into_iter()
            .chain(self.active.front().map(Active::base));
        bases.next().is_some_and(|first| first < index)
            && (self
                .sealed_of(index)
                .is_some_and(|sealed| sealed.base() == index)
                || self
                    .active_number(index)
                    .and_then(|number| self.active.get(number))
                    .is_some_and(|active| active.base() == index))
    }

    /// The writer has synced everything up to `index`, of which some may have been cut since.
    pub(super) fn set_durable(&mut self, index: u64) {
        let cut = self.cuts.iter().copied().min().unwrap_or(u64::MAX);
        let Some(index) = cut.checked_sub(1).map(|kept| kept.min(index)) else {
            return;
        };
        if self.durable.is_some_and(|durable| durable.index >= index) {
            return;
        }
        if let Some(id) = self.id(index).filter(|_| index >= self.first) {
            self.durable = Some(id);
            self.durable_chain = self.chain_before(index + 1);
            self.tail.set_durable(index);
        }
    }

    /// Where the entry at `index` can be had, and its neighbours up to `to` and `size_max` bytes of payload.
    pub(super) fn source(&self, index: u64, to: u64, size_max: usize) -> Result<Source, ReadError> {
        if index < self.first {
            return Err(ReadError::Purged {
                at: index,
                first: self.first,
            });
        }
        if index >= self.next_index() {
            return Ok(Source::End);
        }
        if index >= self.tail.first() {
            return Ok(Source::Tail(self.tail.range(index, to, size_max)));
        }
        if let Some(sealed) = self.sealed_of(index) {
            return Ok(Source::Sealed(Arc::clone(sealed)));
        }
        let active = self
            .active_of(index)
            .expect("an entry at or behind the first is in a segment");
        let mut run = FrameRun {
            file: Arc::clone(&active.file),
            frames: Vec::new(),
        };
        let mut size = 0;
        for index in index..to.min(active.next_index()).min(self.tail.first()) {
            let (Some(frame), Some(id)) = (active.frame(index), self.id(index)) else {
                break;
            };
            size += frame.payload_size as usize;
            if size > size_max && !run.frames.is_empty() {
                break;
            }
            run.frames.push((id, *frame));
        }
        Ok(Source::Disk(run))
    }

    /// Whether the frames of a run are still where they were: they may have been cut, or sealed, while they were read.
    pub(super) fn holds(&self, run: &FrameRun) -> bool {
        run.frames.iter().all(|(id, meta)| {
            self.id(id.index) == Some(*id)
                && self.active_of(id.index).is_some_and(|active| {
                    Arc::ptr_eq(&active.file, &run.file) && active.frame(id.index) == Some(meta)
                })
        })
    }

    /// Where the record at `offset` can be had. Live rows come with their followers, `size_max` bytes of them.
    pub(super) fn place(
        &self,
        log: LogId,
        offset: u64,
        size_max: usize,
    ) -> Result<Place, ReadError> {
        let live = self.live.get(&log).filter(|rows| !rows.is_empty());
        let live_first = live
            .and_then(|rows| rows.front())
            .map(|row| row.base_offset);
        if let Some(rows) = live
            && live_first.is_some_and(|first| first <= offset)
        {
            return Ok(live_place(rows, offset, size_max));
        }
        let purged = |first| ReadError::Purged { at: offset, first };
        let range = self.directory.get(&log).and_then(|ranges| {
            ranges.get(ranges.partition_point(|range| range.end_offset <= offset))
        });
        if let Some(range) = range {
            if range.first_offset > offset {
                return Err(purged(range.first_offset));
            }
            let sealed = self
                .sealed_of(range.base)
                .expect("the directory names sealed segments");
            return Ok(Place::Sealed(Arc::clone(sealed)));
        }
        match live_first {
            Some(first) => Err(purged(first)),
            None => Ok(Place::End),
        }
    }

    /// Whether apply refused a batch of an active segment.
    pub(super) fn is_refused(&self, index: u64, batch: u32) -> bool {
        self.refused.binary_search(&(index, batch)).is_ok()
    }

    /// Takes a segment from the active ones to the sealed ones.
    pub(super) fn set_sealed(&mut self, sealed: Arc<Sealed>) {
        let last = sealed.last();
        let position = self
            .active
            .iter()
            .position(|active| active.base() == sealed.base());
        // Purged in the meantime: the file is about to go.
        let Some(0) = position else { return };
        self.active.pop_front();
        self.drop_rows_below(last + 1);
        self.list(&sealed);
        self.push_sealed(sealed);
    }

    /// Adds a sealed segment behind the others.
    pub(super) fn push_sealed(&mut self, sealed: Arc<Sealed>) {
        self.sealed_size += sealed.size();
        self.sealed.push_back(sealed);
    }

    /// Forgets the oldest sealed segments, so many of them: their base indexes.
    pub(super) fn drain_sealed(&mut self, count: usize) -> Vec<u64> {
        let gone: Vec<Arc<Sealed>> = self.sealed.drain(..count).collect();
        self.sealed_size -= gone.iter().map(|sealed| sealed.size()).sum::<u64>();
        gone.iter().map(|sealed| sealed.base()).collect()
    }

    /// Whether a sealed segment begins at `base`.
    pub(super) fn is_sealed(&self, base: u64) -> bool {
        self.sealed_of(base)
            .is_some_and(|sealed| sealed.base() == base)
    }

    /// Puts a repaired segment in the place of the damaged one, of which it is a copy but for what was damaged.
    pub(super) fn replace_sealed(&mut self, sealed: Arc<Sealed>) {
        let base = sealed.base();
        if let Some(old) = self.sealed.iter_mut().find(|old| old.base() == base) {
            *old = sealed;
        }
    }

    /// Enters a sealed segment's logs in the directory.
    pub(super) fn list(&mut self, sealed: &Sealed) {
        for summary in sealed.logs() {
            self.directory
                .entry(summary.log)
                .or_default()
                .push_back(SealedRange {
                    base: sealed.base(),
                    first_offset: summary.first_offset,
                    end_offset: summary.end_offset,
                });
        }
    }

    /// Forgets the live rows of entries below `index`.
    pub(super) fn drop_rows_below(&mut self, index: u64) {
        self.live.retain(|_, rows| {
            let gone = rows.partition_point(|row| row.index < index);
            rows.drain(..gone);
            !rows.is_empty()
        });
        let gone = self.refused.partition_point(|(at, _)| *at < index);
        self.refused.drain(..gone);
    }

    /// Forgets the live rows of entries from `index` on. Raft truncates nothing that was applied; an engine that is
    /// driven otherwise must not show what is gone.
    pub(super) fn drop_rows_from(&mut self, index: u64) {
        self.live.retain(|_, rows| {
            let kept = rows.partition_point(|row| row.index < index);
            rows.truncate(kept);
            !rows.is_empty()
        });
        let kept = self.refused.partition_point(|(at, _)| *at < index);
        self.refused.truncate(kept);
        self.noted = self.noted.min(index);
    }

    /// Bytes of segment files.
    fn disk_size(&self) -> u64 {
        let active = self.active.iter().map(|active| active.file.capacity);
        self.sealed_size + active.sum::<u64>()
    }

    pub(super) fn summary(&self) -> LogState {
        LogState {
            first_index: self.first,
            purged: self.purged,
            last: self.last.or(self.purged),
            durable: self.durable.or(self.purged),
            chain_crc: self.durable_chain,
            disk_size: self.disk_size(),
        }
    }
}

fn live_place(rows: &VecDeque<LiveRow>, offset: u64, size_max: usize) -> Place {
    let from = rows.partition_point(|row| row.end_offset() <= offset);
    let mut size = 0;
    let mut found: Vec<LiveRow> = Vec::new();
    for row in rows.iter().skip(from) {
        if size >= size_max as u64 && !found.is_empty() {
            break;
        }
        size += row.size;
        found.push(*row);
    }
    if found.is_empty() {
        return Place::End;
    }
    Place::Live(found)
}
