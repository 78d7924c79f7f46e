//! A real disk that asks before every change what should become of it, and one that has only so much room.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use inkstone_storage::io::{Disk, DiskFile, Map, RealDisk};

/// What becomes of a change instead of success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The disk is broken.
    Broken,
    /// There is no room.
    Full,
    /// The first half of a write is carried out, then there is no room.
    HalfFull,
    /// The first half of a write is carried out, then the disk is broken.
    HalfBroken,
    /// A bug.
    Panic,
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Self::Broken | Self::HalfBroken => io::Error::from_raw_os_error(5),
            Self::Full | Self::HalfFull => io::ErrorKind::StorageFull.into(),
            Self::Panic => panic!("a bug in the disk"),
        }
    }
}

/// Decides about a change: a verb, and the name of the file as it was when it was opened or created.
type Decide = Box<dyn Fn(&str, &str) -> Option<Fault> + Send + Sync>;

pub(crate) struct HookedDisk {
    decide: Arc<Decide>,
}

impl fmt::Debug for HookedDisk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("HookedDisk")
    }
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

impl HookedDisk {
    pub(crate) fn new(
        decide: impl Fn(&str, &str) -> Option<Fault> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            decide: Arc::new(Box::new(decide)),
        })
    }

    fn ask(&self, verb: &str, path: &Path) -> io::Result<()> {
        match (self.decide)(verb, &name(path)) {
            None => Ok(()),
            Some(fault) => Err(fault.error()),
        }
    }

    fn wrap(&self, path: &Path, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(HookedFile {
            file,
            name: name(path),
            decide: Arc::clone(&self.decide),
        })
    }
}

impl Disk for HookedDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(path, RealDisk.open(path)?))
    }
    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.open_to_read(path)
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.ask("create", path)?;
        Ok(self.wrap(path, RealDisk.create(path)?))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask("rename", from)?;
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.ask("remove", path)?;
        RealDisk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.ask("sync_dir", dir)?;
        RealDisk.sync_dir(dir)
    }
    fn free_size(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.free_size(dir)
    }
}

struct HookedFile {
    file: Arc<dyn DiskFile>,
    name: String,
    decide: Arc<Decide>,
}

impl fmt::Debug for HookedFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}

impl HookedFile {
    fn ask(&self, verb: &str) -> io::Result<()> {
        match (self.decide)(verb, &self.name) {
            None => Ok(()),
            Some(fault) => Err(fault.error()),
        }
    }
}

impl DiskFile for HookedFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.file.read_at(buffer, position)
    }
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let fault = (self.decide)("write", &self.name);
        if let Some(Fault::HalfFull | Fault::HalfBroken) = fault {
            let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_vec()).collect();
            let half = IoSlice::new(&bytes[..bytes.len() / 2]);
            self.file.write_at(&[half], position)?;
        }
        match fault {
            None => self.file.write_at(parts, position),
            Some(fault) => Err(fault.error()),
        }
    }
    fn sync(&self) -> io::Result<()> {
        self.ask("sync")?;
        self.file.sync()
    }
    fn allocate(&self, size: u64) -> io::Result<()> {
        self.ask("allocate")?;
        self.file.allocate(size)
    }
    fn set_size(&self, size: u64) -> io::Result<()> {
        self.ask("set_size")?;
        self.file.set_size(size)
    }
    fn forget(&self, position: u64, size: u64) -> io::Result<()> {
        self.file.forget(position, size)
    }
    fn map(&self) -> io::Result<Map> {
        self.file.map()
    }
}

/// What the files of a [`QuotaDisk`] take, by their paths.
type Sizes = Mutex<HashMap<PathBuf, Arc<AtomicU64>>>;

#[derive(Debug)]
struct Quota {
    size: AtomicU64,
    sizes: Sizes,
}

impl Quota {
    fn free(&self) -> u64 {
        let sizes = self.sizes.lock().expect("no panic");
        let used: u64 = sizes.values().map(|size| size.load(Ordering::SeqCst)).sum();
        self.size.load(Ordering::SeqCst).saturating_sub(used)
    }
}

/// A real disk on which files together have only so many bytes: a write that does not fit is carried out as far as it
/// does.
#[derive(Debug)]
pub(crate) struct QuotaDisk {
    quota: Arc<Quota>,
}

impl QuotaDisk {
    pub(crate) fn new(size: u64) -> Arc<Self> {
        let quota = Quota {
            size: AtomicU64::new(size),
            sizes: Sizes::default(),
        };
        Arc::new(Self {
            quota: Arc::new(quota),
        })
    }

    /// Makes so much more room.
    pub(crate) fn grow(&self, by: u64) {
        self.quota.size.fetch_add(by, Ordering::SeqCst);
    }

    fn wrap(&self, path: &Path, file: Arc<dyn DiskFile>, size: u64) -> Arc<dyn DiskFile> {
        let mut sizes = self.quota.sizes.lock().expect("no panic");
        let taken = sizes.entry(path.to_owned()).or_default();
        taken.store(size, Ordering::SeqCst);
        Arc::new(QuotaFile {
            file,
            taken: Arc::clone(taken),
            quota: Arc::clone(&self.quota),
        })
    }
}

impl Disk for QuotaDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = RealDisk.open(path)?;
        let size = file.size()?;
        Ok(self.wrap(path, file, size))
    }
    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.open_to_read(path)
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = RealDisk.create(path)?;
        Ok(self.wrap(path, file, 0))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)?;
        let mut sizes = self.quota.sizes.lock().expect("no panic");
        let size = sizes.remove(from).unwrap_or_default();
        sizes.insert(to.to_owned(), size);
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)?;
        self.quota.sizes.lock().expect("no panic").remove(path);
        Ok(())
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
    fn free_size(&self, _: &Path) -> io::Result<u64> {
        Ok(self.quota.free())
    }
}

#[derive(Debug)]
struct QuotaFile {
    file: Arc<dyn DiskFile>,
    taken: Arc<AtomicU64>,
    quota: Arc<Quota>,
}

impl QuotaFile {
    /// Takes room up to `size`: how much of it there was.
    fn take(&self, size: u64) -> u64 {
        let taken = self.taken.load(Ordering::SeqCst);
        let had = size.min(taken.saturating_add(self.quota.free()));
        self.taken.fetch_max(had, Ordering::SeqCst);
        had
    }
}

impl DiskFile for QuotaFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.file.read_at(buffer, position)
    }
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_vec()).collect();
        let end = position + bytes.len() as u64;
        let room = self.take(end).saturating_sub(position).min(end - position);
        let room = usize::try_from(room).expect("a small file");
        self.file
            .write_at(&[IoSlice::new(&bytes[..room])], position)?;
        if room < bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
    fn allocate(&self, size: u64) -> io::Result<()> {
        if self.take(size) < size {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.allocate(size)
    }
    fn set_size(&self, size: u64) -> io::Result<()> {
        self.file.set_size(size)?;
        self.taken.fetch_min(size, Ordering::SeqCst);
        Ok(())
    }
    fn forget(&self, position: u64, size: u64) -> io::Result<()> {
        self.file.forget(position, size)
    }
    fn map(&self) -> io::Result<Map> {
        self.file.map()
    }
}
