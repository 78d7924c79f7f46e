//! One group's directory: everything but the segments, which `segments` checks between the hard state that they begin
//! with and the watermark that they must reach.
//!
//! Promises: a file that a crash in a purge left is no damage. Must not know: frames.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crc32fast::Hasher;

use super::slots::check_owner;
use super::{Check, CheckError, FileKind, FileReport, NO_HARD_STATE, State, is_in_cluster};
use crate::format::checkpoint::{CHECKPOINT_HEADER_SIZE, CheckpointHeader};
use crate::format::fields::FormatError;
use crate::format::hard_state::HardState;
use crate::format::segment_header::{SEGMENT_HEADER_SIZE, SegmentHeader};
use crate::format::watermark::Watermark;
use crate::io::DiskFile;
use crate::log::checkpoint::TMP;
use crate::log::hard_state::NEW_SEQUENCE;
use crate::log::segment::{checkpoint_path, segment_path};
use crate::types::{Identity, NO_CLUSTER};

/// Bytes of a checkpoint that are read at once.
const PART_SIZE: u64 = 256 << 10;

/// A group whose directory is checked.
pub(super) struct GroupCheck<'a, 'b> {
    pub(super) check: &'a mut Check<'b>,
    pub(super) dir: PathBuf,
    pub(super) log_dir: PathBuf,
    pub(super) group: u32,
    pub(super) cluster_id: [u8; 16],
    pub(super) hard_state: Option<HardState>,
    pub(super) watermark: Option<Watermark>,
    /// Whether there is a watermark's file that could not be read.
    pub(super) watermark_is_bad: bool,
    /// Base indexes of segments, with their files' names.
    pub(super) segments: BTreeMap<u64, PathBuf>,
    /// Base indexes of checkpoints.
    pub(super) checkpoints: BTreeMap<u64, PathBuf>,
    /// Base index of the last segment that has a whole footer.
    pub(super) last_sealed: Option<u64>,
    pub(super) reports: Vec<FileReport>,
}

impl<'a, 'b> GroupCheck<'a, 'b> {
    /// Checks the group in `dir`; the reports go to the check's.
    pub(super) fn run(
        check: &'a mut Check<'b>,
        dir: &Path,
        group: u32,
        identity: Option<Identity>,
    ) -> Result<(), CheckError> {
        let log_dir = dir.join("log");
        let mut this = Self {
            check,
            dir: dir.to_owned(),
            log_dir,
            group,
            cluster_id: identity.map_or(NO_CLUSTER, |identity| identity.cluster_id),
            hard_state: None,
            watermark: None,
            watermark_is_bad: false,
            segments: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            last_sealed: None,
            reports: Vec::new(),
        };
        let names = this.list(dir)?;
        let has = |name: &str| names.iter().any(|found| found == name);
        let mut others = Vec::new();
        if has("log") {
            others = this.list_log()?;
        }
        let is_new = !has("watermark") && !has("snapshot") && this.segments.is_empty();
        this.check_hard_state(has("hard-state"), is_new, identity);
        this.check_watermark(has("watermark"));
        this.find_cluster();
        let mut reached = has("snapshot").then(|| this.snapshot()).flatten();
        reached = reached.max(this.check_checkpoints());
        this.check_reach(reached);
        this.check_segments();
        this.finish(&names, others);
        Ok(())
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, CheckError> {
        let unlistable = |source| CheckError::Unlistable {
            dir: dir.to_owned(),
            source,
        };
        let mut names = self.check.disk.list(dir).map_err(unlistable)?;
        names.sort();
        Ok(names)
    }

    /// Sorts the log's directory: what is neither segment nor checkpoint is given back.
    fn list_log(&mut self) -> Result<Vec<PathBuf>, CheckError> {
        let mut others = Vec::new();
        for name in self.list(&self.log_dir)? {
            let path = self.log_dir.join(&name);
            let stem = name.split_once('.').and_then(|(stem, _)| stem.parse().ok());
            match stem {
                Some(base) if segment_path(&self.log_dir, base) == path => {
                    self.segments.insert(base, path);
                }
                Some(base) if checkpoint_path(&self.log_dir, base) == path => {
                    self.checkpoints.insert(base, path);
                }
                _ => others.push(path),
            }
        }
        Ok(others)
    }

    pub(super) fn first(&self) -> u64 {
        self.hard_state.map_or(0, |state| state.first)
    }

    fn check_hard_state(&mut self, is_there: bool, is_new: bool, identity: Option<Identity>) {
        let path = self.dir.join("hard-state");
        if !is_there {
            if !is_new || is_in_cluster(identity) {
                let (kind, what) = (FileKind::HardState, NO_HARD_STATE);
                let missing = self.check.missing(&path, kind, what, None);
                self.reports.push(missing);
            }
            return;
        }
        let (mut report, found) = self.check.hard_state(&path);
        if let Some(state) = found {
            // A node's hard state is written before its identity says in which cluster it is.
            let known = identity.filter(|identity| identity.cluster_id != NO_CLUSTER);
            let cluster_id = known.map_or(state.owner.cluster_id, |identity| identity.cluster_id);
            let found = (state.owner.cluster_id, state.group);
            let is_ours = check_owner(&mut report, (cluster_id, self.group), found);
            let node_id = identity.map_or(state.owner.node_id, |identity| identity.node_id);
            if state.owner.node_id != node_id {
                let found = state.owner.node_id;
                report.set(State::Foreign, format!("of node {found}, not of {node_id}"));
            } else if is_ours {
                self.cluster_id = cluster_id;
                self.hard_state = Some(state);
            }
        }
        self.reports.push(report);
    }

    fn check_watermark(&mut self, is_there: bool) {
        let path = self.dir.join("watermark");
        let sequence = self.hard_state.map_or(u64::MAX, |state| state.sequence);
        let is_new = self.segments.is_empty() && sequence <= NEW_SEQUENCE;
        if !is_there {
            self.watermark_is_bad = true;
            if !is_new && !self.reports.is_empty() {
                let what = "the watermark is missing: how far the log was durable is not known";
                let missing = self.check.missing(&path, FileKind::Watermark, what, None);
                self.reports.push(missing);
            }
            return;
        }
        let (mut report, found) = self.check.watermark(&path, || is_new);
        match found {
            Some(mark) => {
                // The slot that was lost may have been the higher one.
                self.watermark_is_bad = report.state != State::Whole;
                if self.cluster_id == NO_CLUSTER {
                    self.cluster_id = mark.cluster_id;
                }
                let expected = (self.cluster_id, self.group);
                if check_owner(&mut report, expected, (mark.cluster_id, mark.group)) {
                    self.watermark = Some(mark);
                }
            }
            None => self.watermark_is_bad = true,
        }
        self.reports.push(report);
    }

    /// Without identity, hard state and watermark the first good header says whose segments these are.
    fn find_cluster(&mut self) {
        for path in self.segments.values() {
            if self.cluster_id != NO_CLUSTER {
                return;
            }
            let bytes = self.check.read_bounded(path, SEGMENT_HEADER_SIZE);
            let header = bytes
                .ok()
                .and_then(|bytes| SegmentHeader::decode(&bytes).ok());
            self.cluster_id = header.map_or(NO_CLUSTER, |header| header.cluster_id);
        }
    }

    /// The last entry that the snapshot contains, if it is whole.
    fn snapshot(&mut self) -> Option<u64> {
        let path = self.dir.join("snapshot");
        let (report, applied) = self.checkpoint_file(&path, FileKind::Snapshot);
        self.reports.push(report);
        applied
    }

    /// The last entry that a whole checkpoint contains.
    fn check_checkpoints(&mut self) -> Option<u64> {
        let mut reached = None;
        for (base, path) in std::mem::take(&mut self.checkpoints) {
            let (mut report, applied) = self.checkpoint_file(&path, FileKind::Checkpoint);
            if base < self.first() {
                report = self.check.report(&path, FileKind::Checkpoint);
                report.set(State::Leftover, "of a purge; deleted at the next start");
            } else if let Some(applied) = applied {
                if applied.checked_add(1) == Some(base) {
                    reached = reached.max(Some(applied));
                } else {
                    let what = format!("as of entry {applied}, which is not the one before {base}");
                    report.fault(&path, 0, FormatError::bad(0, what), None);
                }
            }
            self.checkpoints.insert(base, path);
            self.reports.push(report);
        }
        reached
    }

    /// The last entry that the file contains, if it is whole and belongs here.
    fn checkpoint_file(&self, path: &Path, kind: FileKind) -> (FileReport, Option<u64>) {
        let mut report = self.check.report(path, kind);
        let file = match self.check.disk.open_to_read(path) {
            Ok(file) => file,
            Err(error) => {
                report.unreadable(path, &error);
                return (report, None);
            }
        };
        let size = report.size.unwrap_or_default();
        match read_checkpoint(file.as_ref(), size) {
            Ok(header) => {
                let found = (header.cluster_id, header.group);
                let is_ours = check_owner(&mut report, (self.cluster_id, self.group), found);
                let index = header.applied.index;
                report.note(format!("as of entry {index}"));
                (report, is_ours.then_some(index))
            }
            Err(error) => {
                report.bad(path, 0, error);
                (report, None)
            }
        }
    }

    /// The state behind what is purged must be had from somewhere.
    fn check_reach(&mut self, reached: Option<u64>) {
        let purged = self.hard_state.and_then(|state| state.purged);
        let Some(purged) = purged.filter(|purged| reached < Some(purged.index)) else {
            return;
        };
        let path = self.dir.join("snapshot");
        let what = format!(
            "entries up to {} are purged, and no whole checkpoint or snapshot reaches there",
            purged.index
        );
        let there = self
            .reports
            .iter_mut()
            .find(|report| report.kind == FileKind::Snapshot);
        if let Some(report) = there {
            report.fault(&path, 0, FormatError::bad(0, what), None);
        } else {
            let missing = self.check.missing(&path, FileKind::Snapshot, what, None);
            self.reports.push(missing);
        }
    }

    /// A report on a segment's file that is not there.
    pub(super) fn missing_segment(&mut self, what: String, entries: RangeInclusive<u64>) {
        let path = segment_path(&self.log_dir, *entries.start());
        let missing = self
            .check
            .missing(&path, FileKind::Segment, what, Some(entries));
        self.reports.push(missing);
    }

    /// What is left of the directory, and everything in the order of the names.
    fn finish(mut self, names: &[String], others: Vec<PathBuf>) {
        for name in names {
            let path = self.dir.join(name);
            match name.as_str() {
                "hard-state" | "watermark" | "snapshot" | "log" => {}
                "search" => {
                    let file = self.check.relative(&path);
                    let mut report = FileReport::new(file, FileKind::Search, None);
                    let note = "derived from the log, and built again when it is wrong or gone";
                    report.set(State::NotChecked, note);
                    self.reports.push(report);
                }
                _ => self.leftover(&path),
            }
        }
        for path in others {
            self.leftover(&path);
        }
        self.reports.sort_by(|one, two| one.file.cmp(&two.file));
        self.check.reports.append(&mut self.reports);
    }

    fn leftover(&mut self, path: &Path) {
        let mut report = self.check.report(path, FileKind::Unknown);
        if path.extension().is_some_and(|extension| extension == TMP) {
            report.set(
                State::Leftover,
                "not complete when the node stopped; deleted at the next start",
            );
        } else {
            report.set(
                State::Unknown,
                "not a file of this release; it is left alone",
            );
        }
        self.reports.push(report);
    }
}

/// Verifies a whole checkpoint file, part by part.
fn read_checkpoint(file: &dyn DiskFile, size: u64) -> Result<CheckpointHeader, FormatError> {
    let unreadable = |error: std::io::Error| {
        FormatError::bad(0, format!("checkpoint: the disk does not read it: {error}"))
    };
    let header_size = CHECKPOINT_HEADER_SIZE as u64;
    let mut bytes = vec![0; usize::try_from(size.min(header_size)).unwrap_or_default()];
    file.read_at(&mut bytes, 0).map_err(unreadable)?;
    let header = CheckpointHeader::decode(&bytes)?;
    let mut crc = Hasher::new();
    let mut position = header_size;
    while position < size {
        let part = PART_SIZE.min(size - position);
        bytes.resize(usize::try_from(part).unwrap_or_default(), 0);
        file.read_at(&mut bytes, position).map_err(unreadable)?;
        crc.update(&bytes);
        position += part;
    }
    header.check_body(size - header_size, crc.finalize())?;
    Ok(header)
}
