//! What was done to a simulated disk, in order, with what the test noted in between.
//!
//! Promises: complete: replayed from the image at the start, it gives the disk's content. Must not know: crashes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::crash::Crash;
use super::image::Image;

/// A file, whatever its name is now.
#[derive(Clone, PartialEq, Eq)]
pub struct FileId {
    pub(super) number: u64,
    /// The name that it was opened by.
    pub(super) path: Arc<Path>,
}

impl FileId {
    /// The name that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "#{} {}", self.number, self.path.display())
    }
}

/// One thing that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the methods of `Disk` and `DiskFile`")]
pub enum Operation {
    CreateDir {
        dir: PathBuf,
    },
    Create {
        file: FileId,
    },
    /// What took effect of it, when it failed.
    Write {
        file: FileId,
        position: u64,
        bytes: Bytes,
    },
    Sync {
        file: FileId,
    },
    /// A sync that failed, and left the bytes marked clean.
    FailedSync {
        file: FileId,
    },
    Allocate {
        file: FileId,
        size: u64,
    },
    SetSize {
        file: FileId,
        size: u64,
    },
    Rename {
        file: FileId,
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    SyncDir {
        dir: PathBuf,
    },
    /// What the test had to say here. Changes nothing.
    Note(String),
}

impl fmt::Display for Operation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateDir { dir } => write!(out, "create directory {}", dir.display()),
            Self::Create { file } => write!(out, "create {file:?}"),
            Self::Write {
                file,
                position,
                bytes,
            } => write!(out, "write {} at {position} of {file:?}", bytes.len()),
            Self::Sync { file } => write!(out, "sync {file:?}"),
            Self::FailedSync { file } => write!(out, "failed sync {file:?}"),
            Self::Allocate { file, size } => write!(out, "allocate {size} of {file:?}"),
            Self::SetSize { file, size } => write!(out, "set size {size} of {file:?}"),
            Self::Rename { file, to, .. } => write!(out, "rename {file:?} to {}", to.display()),
            Self::Remove { path } => write!(out, "remove {}", path.display()),
            Self::SyncDir { dir } => write!(out, "sync directory {}", dir.display()),
            Self::Note(text) => write!(out, "-- {text}"),
        }
    }
}

/// Everything that was done since the disk was made of an image.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    pub(super) start: Image,
    pub(super) operations: Vec<Operation>,
}

impl Journal {
    /// The operations, in order.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The disk at the start, before the first operation: [`Crash::advance`] walks on from there.
    pub fn start(&self) -> Crash {
        Crash::new(&self.start)
    }

    /// What is durable and what is not after the first `count` operations.
    pub fn crash(&self, count: usize) -> Crash {
        let mut crash = self.start();
        for operation in self.operations.iter().take(count) {
            crash.advance(operation);
        }
        crash
    }
}
