//! What must hold of a log in a damaged directory, and whether it does.
//!
//! Promises: an entry or record that comes back is the one that was put in; nothing that was acknowledged is missing
//! without an error; an error names a file that was damaged, and where a frame is damaged, that frame; a refusal has
//! changed nothing. Must not know: how the directory was damaged, but for which bytes are different.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use inkstone_storage::error::{
    Damage, EntryIdentity, Faults, Known, OpenError, ReadError, Verdict,
};
use inkstone_storage::format::frame::FrameHeader;
use inkstone_storage::format::identity;
use inkstone_storage::io::Disk;
use inkstone_storage::log::{Log, LogOptions, check as survey};
use inkstone_storage::types::{EntryKind, LogId, Record};

use super::disk::MemoryDisk;
use super::image::Applied;
use super::region::Frame;
use super::workload::{ONE, TWO, Workload, checkpoint};

/// How a log is opened: as it is, or with a deliberate bug.
pub(crate) type Open<'a> = &'a (dyn Fn(Arc<dyn Disk>, LogOptions) -> Result<Log, OpenError> + Sync);

/// What became of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// The directory was not opened.
    Refused,
    /// It was opened, and some of what is in it was an error.
    Reported,
    /// Everything was there.
    Whole,
}

macro_rules! ensure {
    ($holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err(format!($($what)*));
        }
    };
}

/// A directory that was damaged, and what is known of it.
pub(crate) struct Check<'a> {
    pub(crate) work: &'a Workload,
    pub(crate) frames: &'a [Frame],
    pub(crate) applied: &'a Applied,
}

impl Check<'_> {
    /// Looks without changing anything, as `inkstone check` does, then opens; what is lost was seen by the look.
    pub(crate) fn run_after_survey(&self, open: Open<'_>) -> Result<Outcome, String> {
        let all_is_good = self.survey()?;
        let outcome = self.run(open)?;
        ensure!(
            outcome == Outcome::Whole || !all_is_good,
            "{outcome:?}, and a survey sees nothing wrong"
        );
        Ok(outcome)
    }

    /// Whether a survey finds everything good.
    fn survey(&self) -> Result<bool, String> {
        let mut files = self.applied.files.clone();
        let data = self
            .work
            .options
            .dir
            .parent()
            .expect("below the data directory");
        let identity = identity::encode(self.work.options.identity).to_vec();
        files.insert(data.join("identity"), identity);
        let disk = MemoryDisk::new(&files, &self.applied.faults);
        let reports = survey::check(disk.as_ref(), data, &mut |_| ());
        let reports = reports.map_err(|error| error.to_string())?;
        ensure!(disk.files() == files, "a survey changes something");
        Ok(reports.iter().all(|report| report.state.is_good()))
    }

    /// Opens, applies again, reads everything and verifies.
    pub(crate) fn run(&self, open: Open<'_>) -> Result<Outcome, String> {
        let disk = MemoryDisk::new(&self.applied.files, &self.applied.faults);
        let options = self.work.options.clone();
        match open(Arc::clone(&disk) as _, options) {
            Err(error) => {
                self.check_refusal(&error)
                    .and_then(|()| self.check_unchanged(&disk))
                    .map_err(|what| format!("{what}; refused with: {error}"))?;
                Ok(Outcome::Refused)
            }
            Ok(log) => {
                let mut errors = Vec::new();
                if self.was_rolled_back(&log) {
                    return Ok(Outcome::Whole);
                }
                self.check_state(&log)?;
                let stop = self.apply_again(&log, &mut errors)?;
                self.check_entries(&log, &mut errors)?;
                for id in [ONE, TWO] {
                    self.check_records(&log, id, stop, &mut errors)?;
                    self.check_times(&log, id, stop, &mut errors)?;
                }
                self.check_checkpoints(&log, &mut errors)?;
                if let Err(error) = log.verify() {
                    self.check_read_error(&error, &mut errors)?;
                }
                let whole = errors.is_empty();
                Ok(if whole {
                    Outcome::Whole
                } else {
                    Outcome::Reported
                })
            }
        }
    }

    /// Whether the log ends early because the watermark is whole and of an earlier time, and something else is damaged. A
    /// crash leaves both of these, a watermark whose last write was lost and a torn end: nothing tells them apart.
    fn was_rolled_back(&self, log: &Log) -> bool {
        let watermark = self.work.options.dir.join("watermark");
        let may_be = self.applied.is_displaced
            && self.is_different(&watermark)
            && self.applied.different.len() > 1;
        let last = log.state().last;
        let kept = last.and_then(|last| self.work.entries.get(&last.index));
        may_be && last != self.work.last() && kept.is_some_and(|kept| last == Some(kept.0.id))
    }

    fn is_different(&self, path: &Path) -> bool {
        self.applied.different.contains_key(path)
    }

    /// Whether an entry's frame is different, or a row that leads to it.
    fn is_damaged(&self, frame: &Frame) -> bool {
        // A file that is gone has no bytes to compare.
        !self.applied.files.contains_key(&frame.file)
            || self.differs_in(&frame.file, &frame.place)
            || frame
                .rows
                .iter()
                .any(|row| self.differs_in(&frame.file, row))
    }

    fn differs_in(&self, file: &Path, place: &Range<usize>) -> bool {
        self.applied.different.get(file).is_some_and(|different| {
            let from = different.partition_point(|at| *at < place.start);
            different.get(from).is_some_and(|at| *at < place.end)
        })
    }

    fn damaged_entries(&self) -> BTreeSet<u64> {
        let frames = self.frames.iter();
        let damaged = frames.filter(|frame| self.is_damaged(frame));
        damaged.map(|frame| frame.index).collect()
    }

    /// The frame that alone is different, of the whole directory.
    fn only_frame(&self) -> Option<&Frame> {
        let mut files = self.applied.different.iter();
        let (Some((path, bytes)), None) = (files.next(), files.next()) else {
            return None;
        };
        let (first, last) = (bytes.first()?, bytes.last()?);
        self.frames.iter().find(|frame| {
            frame.file == *path && frame.place.contains(first) && frame.place.contains(last)
        })
    }

    fn is_segment(path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension == "seg")
    }

    /// Whether a file may be named: it is different, or what is different is known by it.
    fn may_name(&self, named: &Path) -> bool {
        if self.is_different(named) {
            return true;
        }
        let segments: Vec<&PathBuf> = self
            .work
            .files
            .keys()
            .filter(|path| Self::is_segment(path))
            .collect();
        let number = |path: &Path| segments.iter().position(|segment| *segment == path);
        self.applied.different.keys().any(|path| {
            let neighbours = match (number(named), number(path)) {
                (Some(one), Some(two)) => one.abs_diff(two) <= 1,
                // The watermark's place, beyond what is there.
                (Some(_), None) => path.ends_with("watermark"),
                // The log without segments.
                (None, Some(_)) => named.ends_with("watermark") || Self::is_segment(named),
                (None, None) => false,
            };
            let state = path
                .extension()
                .is_some_and(|extension| extension == "ckpt");
            neighbours || (state && named.ends_with("snapshot"))
        })
    }

    fn check_refusal(&self, error: &OpenError) -> Result<(), String> {
        let named = match error {
            OpenError::Damaged(damage) => return self.check_damage(damage),
            OpenError::Faulty(faults) => return self.check_faults(faults),
            OpenError::Io { file, .. }
            | OpenError::Foreign { file, .. }
            | OpenError::Version { file, .. } => file,
            OpenError::Locked { dir } => dir,
        };
        ensure!(self.is_different(named), "an intact file is named");
        if matches!(error, OpenError::Io { .. }) {
            let unreadable = self.applied.faults.iter().any(|(path, _)| path == named);
            ensure!(unreadable, "damage is taken for a failing disk");
        }
        Ok(())
    }

    /// Exactly the damaged entries are named, and what is said to be known of them is so.
    fn check_faults(&self, faults: &Faults) -> Result<(), String> {
        let mut named = BTreeSet::new();
        for fault in &faults.list {
            self.check_damage(&fault.damage)?;
            named.extend(fault.first..=fault.last);
            let frame = |index: u64| self.frames.iter().find(|frame| frame.index == index);
            let chain = |index: u64| frame(index).map(|frame| self.identity(frame).chain_crc);
            match &fault.known {
                // A whole header of another time or place says what it says: the chain will not lead on from there.
                _ if self.applied.is_displaced => {}
                Known::Identity(known) => {
                    for (index, known) in (fault.first..).zip(known) {
                        let written = frame(index).map(|frame| self.identity(frame));
                        ensure!(Some(*known) == written, "entry {index} is not {known:?}");
                    }
                }
                Known::Chain { before, after, .. } => {
                    let first = chain(fault.first.wrapping_sub(1));
                    ensure!(
                        first.is_none_or(|first| first == *before),
                        "chain before {fault}"
                    );
                    ensure!(chain(fault.last) == Some(*after), "chain behind {fault}");
                }
                Known::Nothing => {}
            }
        }
        let damaged = self.damaged_entries();
        // What stands behind the last entry counts as one when nobody knows which is the last.
        let behind = self.work.last().map(|last| last.index + 1);
        let unknown = faults.list.last().map(|fault| fault.verdict) == Some(Verdict::UnknownTail);
        let is_one = |index: &&u64| !unknown || Some(**index) != behind;
        let intact: Vec<&u64> = named.difference(&damaged).filter(is_one).collect();
        // What was whole and is out of place may lead astray, to more being named, never to less.
        ensure!(
            intact.is_empty() || self.applied.is_displaced,
            "intact entries {intact:?} are named"
        );
        let sealed = |index: &u64| {
            let mut frames = self.frames.iter();
            frames.any(|frame| frame.index == *index && !frame.rows.is_empty())
        };
        let mut missed = damaged.difference(&named).filter(|index| !sealed(index));
        let last = faults.list.last().map(|fault| fault.verdict);
        let mut is_bounded = faults.unlisted == 0 && last != Some(Verdict::UnknownTail);
        // Without its newest slot the watermark does not reach to the last group.
        is_bounded &= !self.is_different(&self.work.options.dir.join("watermark"));
        // A frame that was moved to where headers are bad passes for the next one; the survey after its repair sees more.
        let is_led_astray = self.applied.is_displaced && self.applied.is_pair;
        ensure!(
            is_led_astray || missed.all(|index| !is_bounded && Some(index) > named.last()),
            "of the damaged entries {damaged:?} only {named:?} are named"
        );
        Ok(())
    }

    /// What was written of an entry, apart from its payload.
    fn identity(&self, frame: &Frame) -> EntryIdentity {
        let bytes = &self.work.files[&frame.file][frame.place.clone()];
        let header = FrameHeader::decode(bytes.first_chunk().expect("a frame"));
        let header = header.expect("a valid one");
        EntryIdentity {
            id: header.id,
            kind: header.kind,
            payload_size: header.payload_size,
            payload_crc: header.payload_crc,
            chain_crc: header.chain_crc,
        }
    }

    fn check_damage(&self, damage: &Damage) -> Result<(), String> {
        ensure!(
            self.may_name(&damage.file),
            "an intact file is named: {damage}"
        );
        if let Some(frame) = self.only_frame()
            && damage.file == frame.file
            && !self.applied.is_displaced
        {
            let position = usize::try_from(damage.position).unwrap_or(usize::MAX);
            ensure!(
                frame.place.contains(&position)
                    || frame.rows.iter().any(|row| row.contains(&position)),
                "the frame of entry {} at {:?} is damaged, another place is named: {damage}",
                frame.index,
                frame.place
            );
        }
        Ok(())
    }

    /// A refusal has changed nothing: whoever repairs finds what the disk made of it.
    fn check_unchanged(&self, disk: &MemoryDisk) -> Result<(), String> {
        let after = disk.files();
        for (path, bytes) in &self.applied.files {
            if path.ends_with("hard-state") || path.ends_with("watermark") {
                continue;
            }
            let Some(after) = after.get(path) else {
                return Err(format!("{} was removed", path.display()));
            };
            ensure!(after == bytes, "{} was changed", path.display());
        }
        ensure!(
            after.len() <= self.applied.files.len() + 1,
            "files were created"
        );
        Ok(())
    }

    fn check_state(&self, log: &Log) -> Result<(), String> {
        let (work, state) = (self.work, log.state());
        // One slot bad and the other of an earlier time: nothing tells that it is.
        let is_rolled_back = self.applied.is_displaced
            && self.applied.is_pair
            && self.is_different(&work.options.dir.join("hard-state"));
        ensure!(
            log.vote() == work.vote || is_rolled_back,
            "the vote is {:?}",
            log.vote()
        );
        ensure!(state.purged == work.purged, "purged {:?}", state.purged);
        ensure!(
            state.last == work.last(),
            "the log ends with {:?}, acknowledged was {:?}",
            state.last,
            work.last()
        );
        ensure!(
            state.durable == state.last,
            "durable is {:?}",
            state.durable
        );
        for (index, (entry, _)) in &work.entries {
            let id = log.entry_id(*index).map_err(|error| error.to_string())?;
            ensure!(id == Some(entry.id), "entry {index} is {id:?}");
        }
        let is_known = |found| {
            work.checkpoints
                .values()
                .chain(&work.snapshot)
                .any(|known| known == found)
        };
        let snapshot = log.snapshot();
        let damaged = self.is_different(&work.options.dir.join("snapshot"));
        ensure!(
            // Nothing tells a snapshot from a checkpoint that took its place.
            snapshot == work.snapshot || (damaged && snapshot.as_ref().is_none_or(is_known)),
            "the snapshot is {snapshot:?}"
        );
        let newest = work
            .checkpoints
            .values()
            .chain(&work.snapshot)
            .max_by_key(|checkpoint| checkpoint.applied.index);
        let found = log.checkpoint();
        ensure!(
            found.as_ref().is_none_or(is_known),
            "the checkpoint is {found:?}"
        );
        let state_differs = self
            .applied
            .different
            .keys()
            .any(|path| !Self::is_segment(path));
        // Apply must pass by a segment whose footer is to be made again.
        let rebuilt = log.recovery().find(Verdict::LostFooter).is_some();
        ensure!(
            found.as_ref() == newest || state_differs || rebuilt,
            "not the newest: {found:?}"
        );
        Ok(())
    }

    /// Applies from the checkpoint on: where that ended, when an entry could not be read.
    fn apply_again(&self, log: &Log, errors: &mut Vec<String>) -> Result<u64, String> {
        let from = log.checkpoint().map_or(0, |found| found.applied.index + 1);
        for (index, (entry, outcomes)) in self.work.entries.range(from..) {
            if log.is_boundary(*index) {
                let before = self.work.entries.get(&(index - 1)).map(|kept| kept.0.id);
                log.seal(
                    *index,
                    checkpoint(before.or(self.work.purged).unwrap_or(entry.id)),
                );
            }
            if entry.kind != EntryKind::Batches {
                continue;
            }
            if let Err(error) = log.note_applied(*index, outcomes) {
                self.check_lost(*index, &error, errors)?;
                return Ok(*index);
            }
        }
        let (tx, rx) = mpsc::sync_channel(1);
        let pushed = log.append(Vec::new(), Box::new(move |outcome| drop(tx.send(outcome))));
        let done = pushed.and_then(|()| rx.recv().expect("answered"));
        if let Err(error) = done {
            ensure!(!self.applied.faults.is_empty(), "the log stopped: {error}");
            errors.push(error.to_string());
        }
        Ok(u64::MAX)
    }

    /// An entry that cannot be had: only a damaged one, and the error says so.
    fn check_lost(
        &self,
        index: u64,
        error: &ReadError,
        errors: &mut Vec<String>,
    ) -> Result<(), String> {
        let frame = self.frames.iter().find(|frame| frame.index == index);
        let Some(frame) = frame.filter(|frame| self.is_damaged(frame)) else {
            return Err(format!(
                "entry {index} is intact, and cannot be read: {error}"
            ));
        };
        match error {
            ReadError::Damaged(damage) => {
                ensure!(damage.file == frame.file, "entry {index}: {damage}");
                let position = usize::try_from(damage.position).unwrap_or(usize::MAX);
                let mut places = frame.rows.iter().chain([&frame.place]);
                // A bad row of the footer leads anywhere.
                let astray = frame
                    .rows
                    .iter()
                    .any(|row| self.differs_in(&frame.file, row));
                ensure!(
                    astray || places.any(|place| place.contains(&position)),
                    "entry {index} stands at {:?}, not there: {damage}",
                    frame.place
                );
            }
            ReadError::Io { file, .. } => {
                let unreadable = self.applied.faults.iter().any(|(path, _)| path == file);
                ensure!(unreadable, "entry {index}: {error}");
            }
            ReadError::Purged { .. } => return Err(format!("entry {index}: {error}")),
        }
        errors.push(error.to_string());
        Ok(())
    }

    fn check_read_error(&self, error: &ReadError, errors: &mut Vec<String>) -> Result<(), String> {
        let named = match error {
            ReadError::Damaged(damage) => &damage.file,
            ReadError::Io { file, .. } => file,
            ReadError::Purged { .. } => return Err(error.to_string()),
        };
        ensure!(self.is_different(named), "an intact file is named: {error}");
        if let ReadError::Damaged(damage) = error {
            self.check_damage(damage)?;
        }
        errors.push(error.to_string());
        Ok(())
    }

    fn check_entries(&self, log: &Log, errors: &mut Vec<String>) -> Result<(), String> {
        let damaged = self.damaged_entries();
        let mut next = log.state().first_index;
        for (index, (entry, _)) in &self.work.entries {
            ensure!(next == *index, "entry {next} is expected, there is {index}");
            next += 1;
            match log.entries(*index, index + 1, 1) {
                Ok(found) => {
                    ensure!(found.len() == 1, "{} entries at {index}", found.len());
                    ensure!(
                        found[0] == *entry,
                        "entry {index}: not what was written: {:?}",
                        found[0]
                    );
                }
                Err(error) => {
                    ensure!(damaged.contains(index), "entry {index}: {error}");
                    self.check_lost(*index, &error, errors)?;
                }
            }
        }
        let behind = log.entries(next, u64::MAX, usize::MAX);
        ensure!(
            matches!(&behind, Ok(none) if none.is_empty()),
            "behind the last: {behind:?}"
        );
        Ok(())
    }

    /// The records of a log that can be had: those of entries that were applied.
    fn expected(&self, id: LogId, stop: u64) -> BTreeMap<u64, &(Record, u64)> {
        let records = self.work.records.range((id, 0)..=(id, u64::MAX));
        let applied = records.filter(|(_, (_, index))| *index < stop);
        applied.map(|((_, offset), kept)| (*offset, kept)).collect()
    }

    fn check_records(
        &self,
        log: &Log,
        id: LogId,
        stop: u64,
        errors: &mut Vec<String>,
    ) -> Result<(), String> {
        let expected = self.expected(id, stop);
        let (Some(first), Some(last)) = (expected.keys().next(), expected.keys().next_back())
        else {
            return Ok(());
        };
        let mut offset = *first;
        while offset <= *last {
            match log.read(id, offset, u64::MAX, usize::MAX) {
                Ok(chunk) => {
                    ensure!(!chunk.records.is_empty(), "{id:?}: nothing at {offset}");
                    for record in &chunk.records {
                        let known = expected.get(&record.offset).map(|kept| &kept.0);
                        ensure!(
                            record.offset == offset,
                            "{id:?}: {offset} expected, {record:?}"
                        );
                        // What is behind a lost entry may be in a sealed segment.
                        let known =
                            known.or_else(|| Some(&self.work.records.get(&(id, offset))?.0));
                        ensure!(
                            known == Some(record),
                            "{id:?}: not what was written: {record:?}"
                        );
                        offset += 1;
                    }
                    ensure!(
                        chunk.next_offset == offset,
                        "{id:?}: next is {}",
                        chunk.next_offset
                    );
                }
                Err(error) => {
                    let (_, index) = expected[&offset];
                    self.check_lost(*index, &error, errors)?;
                    offset += 1;
                }
            }
        }
        Ok(())
    }

    /// A lookup by time is right, or an error.
    fn check_times(
        &self,
        log: &Log,
        id: LogId,
        stop: u64,
        errors: &mut Vec<String>,
    ) -> Result<(), String> {
        let expected = self.expected(id, stop);
        let Some(first) = expected.keys().next() else {
            return Ok(());
        };
        if stop != u64::MAX {
            // Behind a lost entry, what is sealed can be found.
            return Ok(());
        }
        for time in [i64::MIN, 37, 161, i64::MAX] {
            let mut found = expected.values().map(|kept| &kept.0);
            let right = found.find(|record| record.timestamp >= time);
            match log.offset_at_time(id, *first, time) {
                Ok(found) => {
                    let right = right.map(|record| record.offset);
                    ensure!(
                        found == right,
                        "{id:?}: time {time} is at {found:?}, not {right:?}"
                    );
                }
                Err(error) => self.check_read_error(&error, errors)?,
            }
        }
        Ok(())
    }

    fn check_checkpoints(&self, log: &Log, errors: &mut Vec<String>) -> Result<(), String> {
        for (boundary, checkpoint) in &self.work.checkpoints {
            match log.checkpoint_at(*boundary) {
                Ok(found) => {
                    let path = self
                        .work
                        .options
                        .dir
                        .join(format!("log/{boundary:020}.ckpt"));
                    let missing = found.is_none() && self.is_different(&path);
                    ensure!(
                        found.as_ref() == Some(checkpoint) || missing,
                        "the checkpoint at {boundary} is {found:?}"
                    );
                }
                Err(error) => self.check_read_error(&error, errors)?,
            }
        }
        Ok(())
    }
}
