//! A file that is read through a window.
//!
//! Promises: bytes that the disk cannot read are told from the end of the file, and cost their neighbours nothing. Must
//! not know: what the bytes mean.

use crate::format::fields::FormatError;
use crate::io::DiskFile;

/// Bytes that are read at once.
const WINDOW_SIZE: u64 = 1 << 20;
/// Bytes that are read at once where a larger read failed.
const BLOCK_SIZE: u64 = 4096;

/// A file, read through a window.
pub(in crate::log) struct Window<'a> {
    file: &'a dyn DiskFile,
    size: u64,
    bytes: Vec<u8>,
    position: u64,
    /// Where blocks of the window begin that cannot be read, rising, and what the system said of the first.
    unreadable: Vec<u64>,
    cause: String,
}

impl<'a> Window<'a> {
    /// Over a file of `size` bytes.
    pub(in crate::log) fn new(file: &'a dyn DiskFile, size: u64) -> Self {
        Self {
            file,
            size,
            bytes: Vec::new(),
            position: 0,
            unreadable: Vec::new(),
            cause: String::new(),
        }
    }

    /// Bytes of the file.
    pub(in crate::log) fn size(&self) -> u64 {
        self.size
    }

    /// The bytes at `position`; an error when the file ends before, or they cannot be read.
    pub(in crate::log) fn get(&mut self, position: u64, size: usize) -> Result<&[u8], FormatError> {
        let end = position.saturating_add(size as u64);
        if end > self.size {
            return Err(FormatError::bad(0, "the file ends"));
        }
        let held = position >= self.position && end <= self.position + self.bytes.len() as u64;
        if !held {
            let wanted = (size as u64).max(WINDOW_SIZE).min(self.size - position);
            self.fill(position, wanted);
        }
        let is_bad = |block: &&u64| **block < end && **block + BLOCK_SIZE > position;
        if let Some(block) = self.unreadable.iter().find(is_bad) {
            let at = usize::try_from(block.saturating_sub(position)).unwrap_or(0);
            let what = format!("cannot be read: {}", self.cause);
            return Err(FormatError::bad(at, what));
        }
        let at = usize::try_from(position - self.position).expect("inside of the window");
        let bytes = self.bytes.get(at..at + size);
        Ok(bytes.expect("the window was filled"))
    }

    fn fill(&mut self, position: u64, size: u64) {
        let bytes = usize::try_from(size).expect("a window fits into memory");
        self.bytes.resize(bytes, 0);
        self.position = position;
        self.unreadable.clear();
        let Err(error) = self.file.read_at(&mut self.bytes, position) else {
            return;
        };
        self.cause = error.to_string();
        let end = position + size;
        let mut from = position;
        let mut rest = self.bytes.as_mut_slice();
        while from < end {
            let block = from - from % BLOCK_SIZE;
            let to = (block + BLOCK_SIZE).min(end);
            let part = usize::try_from(to - from).expect("a block");
            let (bytes, behind) = rest.split_at_mut(part);
            if self.file.read_at(bytes, from).is_err() {
                self.unreadable.push(block);
            }
            rest = behind;
            from = to;
        }
    }

    /// Whether there is nothing but zeros from `position` on.
    pub(in crate::log) fn is_zero_from(&mut self, position: u64) -> bool {
        let mut position = position;
        while position < self.size {
            let size = WINDOW_SIZE.min(self.size - position);
            let bytes = self.get(position, usize::try_from(size).expect("a window"));
            if !bytes.is_ok_and(|bytes| bytes.iter().all(|byte| *byte == 0)) {
                return false;
            }
            position += size;
        }
        true
    }
}
