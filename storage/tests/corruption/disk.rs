//! A disk of a few files in memory, that can be had as bytes before and after, and whose reads can fail or go astray.
//!
//! Promises: every image has its own copy; what is written stays as it was written. Must not know: what the bytes mean,
//! and crashes: those are `inkstone_storage::io::sim`'s; an image is about what stood on the disk all along.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use inkstone_storage::io::{Disk, DiskFile, Map};

/// Files by their paths.
pub(crate) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A place that cannot be read as it is, until it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Reading any of it is an error.
    Unreadable(Range<usize>),
    /// It reads as what stands behind `from`.
    Astray { place: Range<usize>, from: usize },
}

impl Fault {
    fn place(&self) -> &Range<usize> {
        match self {
            Self::Unreadable(place) | Self::Astray { place, .. } => place,
        }
    }
}

#[derive(Debug)]
pub(crate) struct MemoryDisk {
    files: Mutex<BTreeMap<PathBuf, Arc<MemoryFile>>>,
}

impl MemoryDisk {
    pub(crate) fn new(files: &Files, faults: &[(PathBuf, Fault)]) -> Arc<Self> {
        let file = |(path, bytes): (&PathBuf, &Vec<u8>)| {
            let faults = faults.iter().filter(|(of, _)| of == path);
            let content = Content {
                bytes: bytes.clone(),
                faults: faults.map(|(_, fault)| fault.clone()).collect(),
            };
            let content = Mutex::new(content);
            (path.clone(), Arc::new(MemoryFile { content }))
        };
        Arc::new(Self {
            files: Mutex::new(files.iter().map(file).collect()),
        })
    }

    /// What stands on the disk now.
    pub(crate) fn files(&self) -> Files {
        let files = self.names();
        let bytes = |file: &MemoryFile| file.content().bytes.clone();
        let files = files.iter().map(|(path, file)| (path.clone(), bytes(file)));
        files.collect()
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Arc<MemoryFile>>> {
        self.files.lock().expect("nobody panics with it")
    }
}

impl Disk for MemoryDisk {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let files = self.names();
        let below = files.keys().filter_map(|path| path.strip_prefix(dir).ok());
        let names = below.filter_map(|path| path.components().next());
        let name = |part: Component<'_>| part.as_os_str().to_str().map(str::to_owned);
        let mut names: Vec<String> = names.filter_map(name).collect();
        names.dedup();
        Ok(names)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let files = self.names();
        let file = files.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(Arc::<MemoryFile>::clone(file))
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = Arc::new(MemoryFile::default());
        self.names().insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.names();
        let file = files.remove(from).ok_or(ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.names().remove(path);
        removed.map(drop).ok_or(ErrorKind::NotFound.into())
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn free_size(&self, _: &Path) -> io::Result<u64> {
        Ok(1 << 40)
    }
}

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    faults: Vec<Fault>,
}

#[derive(Debug, Default)]
struct MemoryFile {
    content: Mutex<Content>,
}

impl MemoryFile {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().expect("nobody panics with it")
    }
}

fn overlap(one: &Range<usize>, two: &Range<usize>) -> bool {
    one.start < two.end && two.start < one.end
}

impl Content {
    fn read(&self, buffer: &mut [u8], position: usize) -> io::Result<()> {
        let wanted = position..position.saturating_add(buffer.len());
        let bytes = self.bytes.get(wanted.clone());
        buffer.copy_from_slice(bytes.ok_or(ErrorKind::UnexpectedEof)?);
        for fault in &self.faults {
            match fault {
                Fault::Unreadable(place) if overlap(place, &wanted) => {
                    return Err(io::Error::other("the sector cannot be read"));
                }
                Fault::Unreadable(_) => {}
                Fault::Astray { place, from } => {
                    for (at, byte) in wanted.clone().zip(buffer.iter_mut()) {
                        if place.contains(&at) {
                            let there = from + (at - place.start);
                            *byte = self.bytes.get(there).copied().unwrap_or(0);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

fn place(position: u64) -> usize {
    usize::try_from(position).expect("64 bits")
}

impl DiskFile for MemoryFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.content().bytes.len() as u64)
    }
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.content().read(buffer, place(position))
    }
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut content = self.content();
        let from = place(position);
        let mut at = from;
        for part in parts {
            let end = at + part.len();
            if content.bytes.len() < end {
                content.bytes.resize(end, 0);
            }
            content.bytes[at..end].copy_from_slice(part);
            at = end;
        }
        content
            .faults
            .retain(|fault| !overlap(fault.place(), &(from..at)));
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn allocate(&self, size: u64) -> io::Result<()> {
        let mut content = self.content();
        let size = place(size).max(content.bytes.len());
        content.bytes.resize(size, 0);
        Ok(())
    }
    fn set_size(&self, size: u64) -> io::Result<()> {
        self.content().bytes.resize(place(size), 0);
        Ok(())
    }
    fn forget(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn map(&self) -> io::Result<Map> {
        let content = self.content();
        let mut bytes = vec![0; content.bytes.len()];
        content.read(&mut bytes, 0)?;
        Ok(Bytes::from(bytes).into())
    }
}
