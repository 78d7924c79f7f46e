//! What can go wrong in the store, told apart by what a caller does about it.
//!
//! Promises: every variant that concerns bytes on disk names the file, the position, what was expected and what was
//! found. Must not know: gRPC codes, Raft's errors.

mod damaged;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use self::damaged::{EntryIdentity, Faults, FaultyRange, Known, Verdict};

/// Bytes on disk that are not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: damaged at byte {position}: {what}", file = file.display())]
pub struct Damage {
    /// The damaged file, as it was opened.
    pub file: PathBuf,
    /// Where in it, in bytes.
    pub position: u64,
    /// What was expected and what was found.
    pub what: String,
}

/// What ended a log's writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteErrorKind {
    /// The disk, or the owner's part of it, has no room.
    Full,
    /// Any other failure of the disk.
    Disk,
    /// A panic on the writer thread: a bug.
    Panic,
}

impl fmt::Display for WriteErrorKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Full => "the log has stopped because the disk is full",
            Self::Disk => "the log has stopped after a failed write",
            Self::Panic => "the log has stopped after a panic of its writer",
        })
    }
}

/// A write, sync or other change of the disk failed, or an earlier one did: the log takes no more (it is latched), and
/// what was under way may or may not be durable.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{kind}: {cause}")]
pub struct WriteError {
    /// What kind of failure it was.
    pub kind: WriteErrorKind,
    /// The first failure.
    pub cause: String,
}

impl WriteError {
    /// The failure of an operation on `file`.
    pub(crate) fn of(file: &Path, error: &io::Error) -> Self {
        Self {
            kind: if is_full(error) {
                WriteErrorKind::Full
            } else {
                WriteErrorKind::Disk
            },
            cause: format!("{}: {error}", file.display()),
        }
    }
}

/// Whether an operation failed because there is no room: nothing is wrong with the disk.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// The disk has little room left: an append is refused before it is written, and had no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{dir}: {free_size} bytes are free, and appends are taken from {free_size_min} on",
    dir = dir.display()
)]
pub struct LowSpace {
    /// The group's directory.
    pub dir: PathBuf,
    /// Bytes that files there can still take.
    pub free_size: u64,
    /// The low-water mark.
    pub free_size_min: u64,
}

/// A read that did not give its bytes.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes are there and wrong. They were not returned.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// Below the first that is kept.
    #[error("{at} is below {first}, the first that is kept")]
    Purged {
        /// What was asked for: an index or an offset.
        at: u64,
        /// The first that can be had.
        first: u64,
    },
    /// The disk would not read.
    #[error("{file}: {source}", file = file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a peer's entry was not written back. Nothing of the segment that it concerns was changed.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// No damaged entry has this index, or it was given out of order.
    #[error("entry {index} is not damaged, or was given out of order")]
    NotFaulty {
        /// Of the entry that was given.
        index: u64,
    },
    /// It is not the entry that was damaged.
    #[error("entry {index} is not the damaged one: {what}")]
    Refused {
        /// Of the entry that was given.
        index: u64,
        /// What was expected and what was given.
        what: String,
    },
    /// The log goes on with another chain crc than the one that these entries lead to: they are not the damaged ones.
    #[error(
        "the entries {first} to {last} that were given are not the damaged ones: they lead to chain crc {found:08x}, the \
         log goes on with {expected:08x}"
    )]
    Diverged {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
        /// As the log has it.
        expected: u32,
        /// As the entries that were given have it.
        found: u32,
    },
    /// Entries that can only be proven together were not all given.
    #[error("entries {first} to {last} must be given together, {index} is missing")]
    Incomplete {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
        /// The first that was not given.
        index: u64,
    },
    /// Nothing tells the right entry from a wrong one.
    #[error("nothing is known of entry {index} that would tell the right one")]
    Unverifiable {
        /// The damaged entry.
        index: u64,
    },
    /// The disk failed.
    #[error("{file}: {source}", file = file.display())]
    Disk {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The directory could not be looked at again; what was given is written.
    #[error(transparent)]
    Open(Box<OpenError>),
    /// The log that the segment belongs to has stopped.
    #[error(transparent)]
    Stopped(#[from] WriteError),
}

/// Why a directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the directory's lock.
    #[error("{dir} is in use by another process; stop it, or use another data directory", dir = dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory belongs to another cluster or node.
    #[error("{file}: belongs to {found}, not to {expected}; the directory was put together from several, or its first start \
        was interrupted: restore it as it was, or delete it, and the node joins as a new one", file = file.display())]
    Foreign {
        /// The file that says so.
        file: PathBuf,
        /// Whose it should be.
        expected: String,
        /// Whose it is.
        found: String,
    },
    /// The format is newer than this program.
    #[error("{file}: format version {found} is not one that this release reads (up to {known}); \
        start the release that wrote it, or a newer one", file = file.display())]
    Version {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u32,
        /// The newest that is understood.
        known: u32,
    },
    /// What may have been acknowledged is damaged, and no peer can mend it; nothing was cut.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// Entries that may have been acknowledged are damaged; nothing was cut. Peers may have them: see
    /// [`Repair`](crate::log::Repair).
    #[error("{0}")]
    Faulty(Faults),
    /// The disk failed.
    #[error("{file}: {source}", file = file.display())]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
