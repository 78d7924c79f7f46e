//! The disk of the operating system.
//!
//! Promises: short and interrupted writes are carried on; a sync is never repeated. Must not know: what is written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Advice, FallocateFlags};
use rustix::io::Errno;

use super::{Disk, DiskFile, Map, mmap};

/// The system takes at most so many parts in one call (`IOV_MAX`).
const PARTS_MAX: usize = 1024;

/// Files of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        // The directory's own name always, also when it is there: whoever created it may have been killed before the
        // sync.
        let mut parents = vec![parent_of(dir)];
        let mut missing = dir;
        while !missing.try_exists()? {
            missing = parent_of(missing);
            parents.push(parent_of(missing));
        }
        fs::create_dir_all(dir)?;
        // From the top: a name is durable only below durable names.
        parents
            .into_iter()
            .rev()
            .try_for_each(|parent| self.sync_dir(parent))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for item in fs::read_dir(dir)? {
            if let Ok(name) = item?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the disk")]
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(RealFile { file }))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the disk")]
    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = File::open(path)?;
        Ok(Arc::new(RealFile { file }))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the disk")]
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        Ok(Arc::new(RealFile { file }))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the disk")]
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the disk")]
    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the disk")]
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free_size(&self, dir: &Path) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(dir)?;
        // What is kept for the superuser does not count: the server is not expected to be it.
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

/// The directory that a directory's name stands in.
fn parent_of(dir: &Path) -> &Path {
    match dir.parent() {
        Some(parent) if parent != Path::new("") => parent,
        None if dir.has_root() => dir,
        _ => Path::new("."),
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
}

impl DiskFile for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, position)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut position = position;
        for parts in parts.chunks(PARTS_MAX) {
            let mut rest: Vec<IoSlice<'_>> = parts.to_vec();
            let mut rest = rest.as_mut_slice();
            IoSlice::advance_slices(&mut rest, 0);
            while !rest.is_empty() {
                match rustix::io::pwritev(&self.file, rest, position) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(size) => {
                        position += size as u64;
                        IoSlice::advance_slices(&mut rest, size);
                    }
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    fn begin_sync(&self, position: u64, size: u64) -> io::Result<()> {
        // Linux begins to write back what it is told not to need (sync_file_range does the same, and no safe crate has
        // it). Its pages stay until that is done, and a failure shows at the sync.
        // A file system that takes no advice has more to do at the sync, and that is all.
        self.forget(position, size).or(Ok(()))
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        // Nothing is reserved twice: an interrupted call is simply made again.
        let reserved = rustix::io::retry_on_intr(|| {
            rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, size)
        });
        match reserved {
            // Some file systems cannot reserve: then a full disk shows at the write.
            Err(Errno::OPNOTSUPP) if self.size()? < size => self.set_size(size),
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.file.set_len(size)
    }

    fn forget(&self, position: u64, size: u64) -> io::Result<()> {
        // A size of 0 would mean up to the end.
        let Some(size) = NonZeroU64::new(size) else {
            return Ok(());
        };
        rustix::fs::fadvise(&self.file, position, Some(size), Advice::DontNeed)?;
        Ok(())
    }

    fn map(&self) -> io::Result<Map> {
        mmap::map(&self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_parts_than_one_call_takes_are_all_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.create(&dir.path().join("file")).unwrap();
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(PARTS_MAX + 500).collect();
        let parts: Vec<IoSlice<'_>> = bytes.chunks(1).map(IoSlice::new).collect();
        file.write_at(&parts, 3).unwrap();
        let mut found = vec![0; bytes.len()];
        file.read_at(&mut found, 3).unwrap();
        assert_eq!(found, bytes);
    }

    #[test]
    fn allocated_bytes_are_zeros_and_keep_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.create(&dir.path().join("file")).unwrap();
        file.write_at(&[IoSlice::new(b"abc")], 0).unwrap();
        file.allocate(8192).unwrap();
        assert_eq!(file.size().unwrap(), 8192);
        let map = file.map().unwrap();
        assert_eq!(map.get(..4), Some(&b"abc\0"[..]));
    }

    #[test]
    fn every_directory_has_one_above_it_that_can_be_synced() {
        for (dir, above) in [
            ("/a/b", "/a"),
            ("/a", "/"),
            ("/", "/"),
            ("a/b", "a"),
            ("a", "."),
            ("", "."),
        ] {
            assert_eq!(parent_of(Path::new(dir)), Path::new(above), "{dir:?}");
        }
    }

    #[test]
    fn reading_behind_the_end_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.create(&dir.path().join("file")).unwrap();
        let error = file.read_at(&mut [0; 4], 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
