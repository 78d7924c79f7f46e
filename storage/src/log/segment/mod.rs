//! Segments: a file of frames while it grows, and once it is sealed.
//!
//! Promises: an unsealed segment's frames are indexed in memory and its file is never mapped; a sealed one is immutable,
//! mapped, and keeps next to nothing on the heap. Must not know: who reads, when a segment is rolled or sealed.

mod active;
mod batches;
mod sealed;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

pub(super) use self::active::{Active, FrameMeta, FrameRun};
pub(super) use self::sealed::Sealed;
use crate::error::{Damage, is_full};
use crate::format::batch::BadBatch;
use crate::format::fields::FormatError;
use crate::format::frame::FRAME_HEADER_SIZE;
use crate::io::DiskFile;

/// How much of a payload must be proven before it is handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// Every byte.
    Payload,
    /// What the frame's payload crc covers; whoever takes records verifies their batches.
    Headers,
}

/// The file of an unsealed segment. Readers may hold it before the writer thread has created the file.
#[derive(Debug)]
pub(super) struct SegmentFile {
    pub(super) base: u64,
    pub(super) path: PathBuf,
    /// Bytes that are reserved for it.
    pub(super) capacity: u64,
    /// Chain crc before its first frame.
    pub(super) chain_start: u32,
    file: OnceLock<Arc<dyn DiskFile>>,
}

impl SegmentFile {
    /// One that the writer thread is still to create.
    pub(super) fn planned(log_dir: &Path, base: u64, capacity: u64, chain_start: u32) -> Self {
        Self {
            base,
            path: segment_path(log_dir, base),
            capacity,
            chain_start,
            file: OnceLock::new(),
        }
    }

    /// Gives it its file, once.
    pub(super) fn set_file(&self, file: Arc<dyn DiskFile>) {
        assert!(
            self.file.set(file).is_ok(),
            "a segment's file is created once"
        );
    }

    /// The file.
    ///
    /// # Panics
    /// Before it was created: only frames that are durable are read from it, and only created files are written.
    pub(super) fn file(&self) -> &Arc<dyn DiskFile> {
        self.file
            .get()
            .expect("a frame is durable only in a file that was created")
    }

    /// Reserves its space again after it was cut. A full disk is no reason to stop: the next frames are written where
    /// there is room, or fail.
    pub(super) fn reserve(&self) -> io::Result<()> {
        match self.file().allocate(self.capacity) {
            Err(error) if is_full(&error) => {
                tracing::warn!(file = %self.path.display(), %error, "no space is reserved for what follows");
                Ok(())
            }
            reserved => reserved,
        }
    }
}

/// `<base index, 20 digits>.seg`
pub(super) fn segment_path(log_dir: &Path, base: u64) -> PathBuf {
    log_dir.join(format!("{base:020}.seg"))
}

/// `<base index, 20 digits>.ckpt`
pub(super) fn checkpoint_path(log_dir: &Path, base: u64) -> PathBuf {
    log_dir.join(format!("{base:020}.ckpt"))
}

/// The damage that `error`, found in bytes from `position` on, is.
pub(super) fn damage(file: &Path, position: u64, error: FormatError) -> Damage {
    let (at, what) = match error {
        FormatError::Bad { position, what } => (position, what),
        FormatError::Version { found } => (0, format!("unknown format version {found}")),
    };
    Damage {
        file: file.to_owned(),
        position: position.saturating_add(at),
        what,
    }
}

/// The damage that a bad batch in the payload of the frame at `position` is.
pub(super) fn batch_damage(file: &Path, position: u64, bad: BadBatch) -> Damage {
    let error = FormatError::Bad {
        position: FRAME_HEADER_SIZE as u64 + bad.position,
        what: bad.what,
    };
    damage(file, position, error)
}
