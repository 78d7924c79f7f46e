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

/// Takes a range of a map out of this process's pages; the system reads them again when they are asked for.
#[expect(
    unsafe_code,
    reason = "the advice is unsafe for maps whose bytes are nowhere else; this is the one place"
)]
pub(super) fn forget(map: &memmap2::Mmap, from: usize, size: usize) -> io::Result<()> {
    // SAFETY: the advice would lose what was written to a private map. This one is shared and read-only, over a file
    // that is not changed while the map lives: the pages come back with the bytes that they had.
    unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, from, size) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::IoSlice;
    use std::path::Path;

    use crate::io::{Disk, RealDisk};

    /// KiB of a mapped file that this process holds in memory, as the system says.
    fn resident(path: &Path) -> u64 {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let path = path.to_str().unwrap();
        let mut lines = maps.lines().skip_while(|line| !line.ends_with(path));
        let line = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse().unwrap()
    }

    #[test]
    fn what_is_forgotten_leaves_memory_and_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(1 << 20).collect();
        let file = RealDisk.create(&path).unwrap();
        file.write_at(&[IoSlice::new(&bytes)], 0).unwrap();
        file.sync().unwrap();
        let map = file.map().unwrap();
        assert!(*map == *bytes);
        assert_eq!(resident(&path), 1024);
        map.forget(256 << 10, 512 << 10).unwrap();
        assert_eq!(resident(&path), 512);
        map.forget(0, u64::MAX).unwrap();
        assert_eq!(resident(&path), 0);
        assert!(*map == *bytes);
        map.forget(u64::MAX, 1).unwrap();
    }
}
