//! What comes before the segments at open: the directory, the hard state, the watermark, the names of the files.
//!
//! Promises: a hard state that is read holds every vote that was answered; what was not complete when a crash came is
//! gone. Must not know: what is in segments.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::super::LogOptions;
use super::super::checkpoint::TMP;
use super::super::hard_state::HardStateFile;
use super::super::mutant::Mutation;
use super::super::recovery::Recovery;
use super::super::segment::damage;
use super::super::watermark::{Found, WatermarkFile};
use super::{Opening, io_error};
use crate::error::{OpenError, Verdict};
use crate::format::fields::FormatError;
use crate::format::frame::stamp_seed;
use crate::format::hard_state::HARD_STATE_SIZE;
use crate::format::segment_header::SEGMENT_SIZE_MAX;
use crate::io::Disk;

/// The group's number, when the format can hold what was asked for.
fn check_options(options: &LogOptions) -> Result<u32, OpenError> {
    let group = u32::try_from(options.group).map_err(|_| OpenError::Io {
        file: options.dir.clone(),
        source: io::Error::other(format!("group {} is over 32 bits", options.group)),
    })?;
    if options.segment_size > SEGMENT_SIZE_MAX {
        let size = options.segment_size;
        return Err(OpenError::Io {
            file: options.dir.clone(),
            source: io::Error::other(format!(
                "segments of {size} bytes, at most {SEGMENT_SIZE_MAX}"
            )),
        });
    }
    Ok(group)
}

/// What is read before the segments.
#[derive(Debug)]
pub(in crate::log) struct Begun {
    pub(in crate::log) group: u32,
    pub(in crate::log) has_snapshot: bool,
    pub(in crate::log) files: Files,
    pub(in crate::log) hard_state: HardStateFile,
    pub(in crate::log) watermark: WatermarkFile,
    pub(in crate::log) found: Found,
}

impl Begun {
    pub(in crate::log) fn begin(
        disk: &dyn Disk,
        options: &LogOptions,
        mutation: Mutation,
        recovery: &mut Recovery,
    ) -> Result<Self, OpenError> {
        let group = check_options(options)?;
        let log_dir = options.log_dir();
        disk.create_dir(&log_dir).map_err(io_error(&log_dir))?;
        let names = list(disk, &options.dir, recovery)?;
        let files = list_log(disk, &log_dir, recovery)?;
        let has = |name: &str| names.iter().any(|found| found == name);
        if !has("hard-state") {
            if has("snapshot") || has("watermark") || !files.segments.is_empty() {
                let error = FormatError::bad(0, "the hard state is missing, and with it the vote");
                return Err(damage(&options.hard_state_path(), 0, error).into());
            }
            HardStateFile::create(disk, options, group)?;
            recovery.note(Verdict::NewLog, &options.dir, 0, 0);
        }
        let hard_state = HardStateFile::open(disk, options, group, mutation)?;
        if let Some(slot) = hard_state.rewritten() {
            let size = HARD_STATE_SIZE as u64;
            recovery.note(Verdict::SlotBehind, &options.hard_state_path(), slot, size);
        }
        let (watermark, found) = WatermarkFile::open(disk, options, group, has("watermark"))?;
        Ok(Self {
            group,
            has_snapshot: has("snapshot"),
            files,
            hard_state,
            watermark,
            found,
        })
    }

    /// What looking at the segments needs.
    pub(in crate::log) fn opening<'a>(
        &self,
        disk: &'a dyn Disk,
        options: &'a LogOptions,
        mutation: Mutation,
    ) -> Opening<'a> {
        Opening {
            disk,
            options,
            group: self.group,
            seed: stamp_seed(options.identity.cluster_id),
            hard_state: *self.hard_state.current(),
            watermark: self.found,
            watermark_is_sure: self.watermark.is_sure(),
            mutation,
        }
    }
}

fn list(disk: &dyn Disk, dir: &Path, recovery: &mut Recovery) -> Result<Vec<String>, OpenError> {
    let names = disk.list(dir).map_err(io_error(dir))?;
    for name in &names {
        // A file that was not complete when a crash came.
        let path = dir.join(name);
        if path.extension().is_some_and(|extension| extension == TMP) {
            disk.remove(&path).map_err(io_error(&path))?;
            recovery.note(Verdict::Leftover, &path, 0, 0);
        }
    }
    Ok(names)
}

/// What is in the log's directory, by base index.
#[derive(Debug, Default)]
pub(in crate::log) struct Files {
    pub(super) segments: BTreeSet<u64>,
    pub(in crate::log) boundaries: BTreeSet<u64>,
}

fn list_log(disk: &dyn Disk, log_dir: &Path, recovery: &mut Recovery) -> Result<Files, OpenError> {
    let mut files = Files::default();
    for name in list(disk, log_dir, recovery)? {
        let (stem, extension) = name.split_once('.').unwrap_or((&name, ""));
        match (stem.parse(), extension) {
            (Ok(base), "seg") => drop(files.segments.insert(base)),
            (Ok(base), "ckpt") => drop(files.boundaries.insert(base)),
            _ => {}
        }
    }
    Ok(files)
}
