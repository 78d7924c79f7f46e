//! The watermark's file: how far the log was durable, written after every sync group, with no sync of its own.
//!
//! Promises: it never says more than is durable: a cut of the log lowers it, durably and in both slots, before the file
//! is cut. It may say less. Must not know: what follows from it at open.

use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;

use super::LogOptions;
use super::hard_state::{foreign, owner_text};
use super::queue::Mark;
use crate::error::{OpenError, WriteError};
use crate::format::fields::FormatError;
use crate::format::watermark::{WATERMARK_SIZE, WATERMARK_SLOT, WATERMARK_VERSION, Watermark};
use crate::io::{Disk, DiskFile};

const SLOTS: [u64; 2] = [0, WATERMARK_SLOT];

/// What the file said at open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The newest slot.
    Known(Watermark),
    /// Neither slot is good: how far the log was durable is not known. Every open writes both before there can be a
    /// segment, so a file that is missing or all zeros was lost, unless the log is new.
    Bad,
}

impl Found {
    /// The last entry that is known to have been durable.
    pub(super) fn index(&self) -> Option<u64> {
        match self {
            Self::Known(mark) => mark.last.map(|last| last.index),
            Self::Bad => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct WatermarkFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    group: u32,
    cluster_id: [u8; 16],
    sequence: u64,
    /// Whether both slots were good at open.
    is_sure: bool,
}

impl WatermarkFile {
    /// Opens the file, or creates it: what it said, too.
    pub(super) fn open(
        disk: &dyn Disk,
        options: &LogOptions,
        group: u32,
        exists: bool,
    ) -> Result<(Self, Found), OpenError> {
        let path = options.watermark_path();
        let failed = |source| OpenError::Io {
            file: options.watermark_path(),
            source,
        };
        let file = if exists {
            disk.open(&path)
        } else {
            disk.create(&path)
        }
        .map_err(failed)?;
        let mut slots = [[0; WATERMARK_SIZE]; 2];
        for (bytes, at) in slots.iter_mut().zip(SLOTS) {
            // A slot that cannot be read, or that a short file lacks, is a bad one.
            if file.read_at(bytes, at).is_err() {
                bytes.fill(0);
            }
        }
        file.allocate(2 * WATERMARK_SLOT)
            .and_then(|()| file.sync())
            .and_then(|()| disk.sync_dir(&options.dir))
            .map_err(failed)?;
        let mut opened = Self {
            file,
            path,
            group,
            cluster_id: options.identity.cluster_id,
            sequence: 0,
            is_sure: false,
        };
        let [even, odd] = &slots;
        let slots = [
            Watermark::decode_slot(even, 0),
            Watermark::decode_slot(odd, 1),
        ];
        opened.is_sure = slots.iter().all(Result::is_ok);
        let found = opened.found(slots)?;
        if let Found::Known(mark) = &found {
            opened.sequence = mark.sequence;
        }
        Ok((opened, found))
    }

    fn found(&self, slots: [Result<Watermark, FormatError>; 2]) -> Result<Found, OpenError> {
        let mut newest: Option<Watermark> = None;
        for slot in slots {
            match slot {
                Ok(mark) if newest.is_none_or(|newest| newest.sequence < mark.sequence) => {
                    newest = Some(mark);
                }
                Ok(_) | Err(FormatError::Bad { .. }) => {}
                Err(FormatError::Version { found }) => {
                    return Err(OpenError::Version {
                        file: self.path.clone(),
                        found,
                        known: WATERMARK_VERSION,
                    });
                }
            }
        }
        let Some(mark) = newest else {
            return Ok(Found::Bad);
        };
        if (mark.cluster_id, mark.group) != (self.cluster_id, self.group) {
            return Err(foreign(
                &self.path,
                owner_text(self.cluster_id, self.group),
                owner_text(mark.cluster_id, mark.group),
            ));
        }
        Ok(Found::Known(mark))
    }

    /// Whether the highest mark that a crash can have left is the one that was found. No crash leaves a slot that is
    /// bad: the one that was lost may have been higher by a sync group, so nothing may be cut that stands above the other.
    pub(super) fn is_sure(&self) -> bool {
        self.is_sure
    }

    /// The log is durable up to `mark`. Not synced: after a crash of the system an older mark may stand there.
    pub(super) fn raise(&mut self, mark: &Mark, sync_group: u64) -> Result<(), WriteError> {
        self.sequence += 1;
        let bytes = Watermark {
            group: self.group,
            cluster_id: self.cluster_id,
            sequence: self.sequence,
            sync_group,
            last: mark.last,
            base: mark.base,
            position: mark.position,
            chain_crc: mark.chain_crc,
        }
        .encode();
        let slot = (self.sequence % 2) * WATERMARK_SLOT;
        self.file
            .write_at(&[IoSlice::new(&bytes)], slot)
            .map_err(|error| self.failed(&error))
    }

    /// The log will end at `mark`: durable in both slots on return, lest an older, higher mark call the cut damage.
    pub(super) fn set(&mut self, mark: &Mark, sync_group: u64) -> Result<(), WriteError> {
        for _ in SLOTS {
            self.raise(mark, sync_group)?;
            self.sync()?;
        }
        Ok(())
    }

    pub(super) fn sync(&self) -> Result<(), WriteError> {
        self.file.sync().map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &std::io::Error) -> WriteError {
        WriteError::of(&self.path, error)
    }
}
