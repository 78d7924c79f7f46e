//! A file, read bit by bit as it is on the disk, not as memory has it.
//!
//! Promises: memory is bounded by one window or what is asked for at once; what is read is asked of the disk anew, and
//! does not stay in memory afterwards; an unreadable place does not hide its neighbours. Must not know: what the bytes
//! mean.

use std::io;

use crate::io::DiskFile;

/// Bytes that are read at once.
pub(super) const WINDOW_SIZE: u64 = 256 << 10;
/// What the system keeps in memory comes in pieces of this size: parts of one are not let go.
const PAGE_SIZE: u64 = 4096;

/// The bytes of a file that were read last.
#[derive(Debug, Default)]
pub(super) struct DiskWindow {
    bytes: Vec<u8>,
    position: u64,
    /// Bytes that were read so far.
    read: u64,
}

impl DiskWindow {
    /// Bytes that were read since the last call.
    pub(super) fn take_read(&mut self) -> u64 {
        std::mem::take(&mut self.read)
    }

    /// The bytes at `position` of a file of `file_size` bytes; an error of kind `UnexpectedEof` when it ends before.
    pub(super) fn get(
        &mut self,
        file: &dyn DiskFile,
        file_size: u64,
        position: u64,
        size: usize,
    ) -> io::Result<&[u8]> {
        let end = position
            .checked_add(size as u64)
            .filter(|end| *end <= file_size)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let held = self.position + self.bytes.len() as u64;
        if position < self.position || end > held {
            let from = position - position % PAGE_SIZE;
            let to = end
                .max(position.saturating_add(WINDOW_SIZE))
                .next_multiple_of(PAGE_SIZE)
                .min(file_size);
            // One bad sector fails the whole read: what was asked for may still be had alone.
            self.fill(file, from, to)
                .or_else(|_| self.fill(file, position, end))?;
        }
        let at = usize::try_from(position - self.position).map_err(io::Error::other)?;
        self.bytes
            .get(at..at + size)
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn fill(&mut self, file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
        let size = to - from;
        self.bytes
            .resize(usize::try_from(size).map_err(io::Error::other)?, 0);
        self.position = from;
        self.read += size;
        let around = from - from % PAGE_SIZE;
        let around_size = (to - around).next_multiple_of(PAGE_SIZE);
        // Where the system does not do it, what memory has is verified: less, and not wrong.
        drop(file.forget(around, around_size));
        let outcome = file.read_at(&mut self.bytes, from);
        drop(file.forget(around, around_size));
        if outcome.is_err() {
            self.bytes.clear();
        }
        outcome
    }
}
