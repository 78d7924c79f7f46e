//! The disk as a trait, the real one, and one in memory that fails as a test tells it to.
//!
//! Promises: every file operation of the log engine goes through [`Disk`]: [`RealDisk`] is what runs, and [`sim`] is what
//! stands in its place to fail calls, tear writes and forget what was not synced. Nothing retries: a failed write or sync
//! is for the caller to treat as final. One suite of tests holds both disks to what the traits say. Must not know: what
//! the bytes mean.
//!
//! What the engine assumes of the disk below: a write changes no byte outside of it; a 512-byte sector is written as a
//! whole or not at all, unless it is found bad; what was synced stays, or is found damaged by a crc. FORMAT.md ("What is
//! assumed of the disk") is the authority, and [`sim::Crash`] leaves whatever it allows.

mod mmap;
mod real;
pub mod sim;

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

pub use self::real::RealDisk;

/// Directories and the names in them.
pub trait Disk: Debug + Send + Sync {
    /// Creates a directory and its parents when missing; durable on return.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// The names of the files and directories in a directory, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Opens an existing file to read and write.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file to read, also one that may not be written.
    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path)
    }
    /// Creates an empty file, or empties the one that is there. Its name is durable after [`Disk::sync_dir`].
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name, replacing what has it. Durable after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a name; whoever has the file open or mapped can still read it. Durable after [`Disk::sync_dir`].
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes what was created, renamed and removed in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that files in a directory can still take from the disk. Others may take them first.
    fn free_size(&self, dir: &Path) -> io::Result<u64>;
}

/// An open file.
pub trait DiskFile: Debug + Send + Sync {
    /// Bytes in the file.
    fn size(&self) -> io::Result<u64>;
    /// Reads exactly `buffer.len()` bytes; an error of kind `UnexpectedEof` when the file ends before.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()>;
    /// Writes all parts, one behind the other.
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()>;
    /// Lets the disk begin with what was written there, so that the [`DiskFile::sync`] that follows has less to wait for.
    /// A hint: nothing is durable by it, and a disk may do nothing. An error is one of the write.
    fn begin_sync(&self, position: u64, size: u64) -> io::Result<()> {
        let _ = (position, size);
        Ok(())
    }
    /// Makes the bytes written so far durable, and the size that is needed to read them.
    fn sync(&self) -> io::Result<()>;
    /// Reserves space up to `size`, and makes the file at least so long: what is new reads as zeros.
    fn allocate(&self, size: u64) -> io::Result<()>;
    /// Cuts the file, or makes it longer with zeros.
    fn set_size(&self, size: u64) -> io::Result<()>;
    /// Lets go of copies of the bytes in memory that are not needed there, so that the next read asks the disk. What
    /// was written stays as it is.
    fn forget(&self, position: u64, size: u64) -> io::Result<()>;
    /// The whole file as memory. The file must never be written or cut again.
    fn map(&self) -> io::Result<Map>;
}

/// A file's bytes as memory.
#[derive(Debug)]
pub struct Map(Backing);

#[derive(Debug)]
enum Backing {
    Mapped(memmap2::Mmap),
    Copied(Bytes),
}

impl Map {
    fn mapped(map: memmap2::Mmap) -> Self {
        Self(Backing::Mapped(map))
    }

    /// Lets go of the pages of a range that memory holds: [`DiskFile::forget`] leaves those alone that are mapped.
    pub fn forget(&self, position: u64, size: u64) -> io::Result<()> {
        let Backing::Mapped(map) = &self.0 else {
            return Ok(());
        };
        let from = usize::try_from(position).map_err(io::Error::other)?;
        let size = usize::try_from(size).map_err(io::Error::other)?;
        let from = from.min(map.len());
        mmap::forget(map, from, size.min(map.len() - from))
    }
}

impl From<Bytes> for Map {
    /// For disks that are memory already.
    fn from(bytes: Bytes) -> Self {
        Self(Backing::Copied(bytes))
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Backing::Mapped(map) => map,
            Backing::Copied(bytes) => bytes,
        }
    }
}
