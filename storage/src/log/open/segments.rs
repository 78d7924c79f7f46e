//! The segment files at open, before and after the survey: what a purge left goes, what the survey found is made good.
//!
//! Promises: only a file that provably holds nothing that is kept is deleted, and, but for what is purged, only when the
//! log can be opened. Must not know: the small state.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use super::super::LogOptions;
use super::super::hard_state::NEW_SEQUENCE;
use super::super::mutant::Mutation;
use super::super::recovery::Recovery;
use super::super::segment::{Sealed, checkpoint_path, damage, segment_path};
use super::super::state::State;
use super::super::watermark::Found;
use super::begin::Files;
use super::io_error;
use super::survey::{Segment, Survey};
use crate::error::{OpenError, Verdict};
use crate::format::fields::FormatError;
use crate::format::hard_state::HardState;
use crate::io::{Disk, DiskFile};

/// What opening a log knows before it looks at segments.
#[derive(Debug)]
pub(in crate::log) struct Opening<'a> {
    pub(in crate::log) disk: &'a dyn Disk,
    pub(in crate::log) options: &'a LogOptions,
    pub(in crate::log) group: u32,
    pub(in crate::log) seed: u32,
    pub(in crate::log) hard_state: HardState,
    pub(in crate::log) watermark: Found,
    /// Whether no higher mark may have stood where there is none.
    pub(in crate::log) watermark_is_sure: bool,
    pub(in crate::log) mutation: Mutation,
}

impl Opening<'_> {
    fn remove(&self, path: &Path) -> Result<(), OpenError> {
        let dir = self.options.log_dir();
        self.disk
            .remove(path)
            .and_then(|()| self.disk.sync_dir(&dir))
            .map_err(io_error(path))
    }

    /// A purge that a crash interrupted goes on: its id was durable before the first file went.
    pub(in crate::log) fn delete_purged(
        &self,
        files: &mut Files,
        recovery: &mut Recovery,
    ) -> Result<(), OpenError> {
        let dir = self.options.log_dir();
        let first = self.hard_state.first;
        let bases: Vec<u64> = files.segments.iter().copied().collect();
        let followers = bases.iter().skip(1).map(|base| Some(*base)).chain([None]);
        for (base, follower) in bases.iter().zip(followers) {
            let is_purged = if self.hard_state.restarted {
                *base < first
            } else {
                self.hard_state.purged.is_some() && follower.is_some_and(|base| base <= first)
            };
            if is_purged {
                let path = segment_path(&dir, *base);
                self.remove(&path)?;
                recovery.note(Verdict::PurgedFile, &path, 0, 0);
                files.segments.remove(base);
            }
        }
        let kept = files.boundaries.split_off(&first);
        for boundary in std::mem::replace(&mut files.boundaries, kept) {
            let path = checkpoint_path(&dir, boundary);
            self.remove(&path)?;
            recovery.note(Verdict::PurgedFile, &path, 0, 0);
        }
        Ok(())
    }

    /// A log without a segment is empty when the watermark says so, or when nothing was ever kept: the hard state, which
    /// a node changes before its first entry, is as it was created. Else its directory may have been lost.
    pub(super) fn check_empty(&self) -> Result<(), OpenError> {
        if self.watermark != Found::Bad || self.hard_state.sequence <= NEW_SEQUENCE {
            return Ok(());
        }
        let what = "no slot is good, and there is no segment: how much was durable is not known";
        let error = FormatError::bad(0, what);
        Err(damage(&self.options.watermark_path(), 0, error).into())
    }

    /// Makes good what the survey found. The segments are in the state already.
    pub(super) fn make_good(
        &self,
        survey: &Survey,
        state: &mut State,
        recovery: &mut Recovery,
    ) -> Result<(), OpenError> {
        for segment in &survey.segments {
            if survey.headers.contains(&segment.header.base) {
                let header = segment.header.encode();
                let written = segment.file(self.disk).and_then(|file| {
                    file.write_at(&[IoSlice::new(&header)], 0)?;
                    file.sync()
                });
                written.map_err(io_error(&segment.path))?;
            }
        }
        if let Some(from) = survey.unproven_from {
            self.prove_footers(survey, from, state)?;
        }
        for note in survey.notes.iter().chain(&survey.removed) {
            recovery.note(note.verdict, &note.file, note.position, note.size);
        }
        for note in &survey.removed {
            self.remove(&note.file)?;
        }
        Ok(())
    }

    /// Nothing tells that the fsyncs of these footers returned: the process may have been killed before, or the fsync
    /// failed and left the bytes in the page cache alone, marked clean. Trusted as it is, a footer would get its
    /// checkpoint, and a power loss that takes it away would look like damage.
    fn prove_footers(
        &self,
        survey: &Survey,
        from: u64,
        state: &mut State,
    ) -> Result<(), OpenError> {
        let keep = state.sealed.partition_point(|sealed| sealed.base() < from);
        for sealed in state.sealed.split_off(keep) {
            let (base, end) = (sealed.base(), sealed.footer().frames_end);
            // Nothing may be written while it is mapped.
            drop(sealed);
            let of_base = |segment: &&Segment| segment.header.base == base;
            let Some(segment) = survey.segments.iter().find(of_base) else {
                continue;
            };
            let failed = io_error(&segment.path);
            let file = segment.file(self.disk).map_err(&failed)?;
            make_footer_durable(file.as_ref(), segment.size, end).map_err(&failed)?;
            let map = file.map().map_err(&failed)?;
            match Sealed::open(&segment.path, map, self.mutation) {
                Ok(sealed) => state.sealed.push_back(Arc::new(sealed)),
                Err(error) => return Err(damage(&segment.path, 0, error).into()),
            }
        }
        Ok(())
    }
}

fn make_footer_durable(file: &dyn DiskFile, file_size: u64, end: u64) -> io::Result<()> {
    let size = usize::try_from(file_size.saturating_sub(end)).map_err(io::Error::other)?;
    let mut footer = vec![0; size];
    file.read_at(&mut footer, end)?;
    file.write_at(&[IoSlice::new(&footer)], end)?;
    file.sync()
}
