//! The only unsafe code of the crate: mapping a sealed segment file into memory.
//!
//! Promises: a map is read-only. Must not know: which files are sealed; the log engine upholds that.

use std::fs::File;
use std::io;

use super::Map;

/// Maps a whole file that is not written or cut any more.
#[expect(
    unsafe_code,
    reason = "mapping a file is unsafe whoever does it; this is the one place"
)]
pub(super) fn map(file: &File) -> io::Result<Map> {
    // SAFETY: the bytes behind the map must not change and the file must not shrink while the map lives. The log engine
    // maps only sealed segments, never writes or truncates one after its footer was synced, and only unlinks it, which
    // leaves the mapped pages in place. The data directory is locked against other processes of ours; rot below the
    // file system is found by the crc that is verified on a copy of the bytes, never on the map itself.
    let map = unsafe { memmap2::Mmap::map(file)? };
    Ok(Map::mapped(map))
}
