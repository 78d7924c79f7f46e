//! A disk in memory that fails, forgets and rots as a test tells it to.
//!
//! Promises: files are as POSIX has them: a handle outlives its file's name. Every choice is an argument or follows from
//! a seed that is one: no clock, no randomness of its own. Everything that is done is in a [`Journal`], in order, with
//! the test's notes ([`SimDisk::note`]) in between; [`Journal::crash`] gives what may be left when the power fails at any
//! place of it, under a [`Policy`]; what is left is an [`Image`], of which a new disk is made. Calls fail as [`Fault`]s
//! say; stored bytes and what is read of them are damaged by [`Rot`]; a full disk is a matter of
//! [`SimDisk::set_capacity`]. Must not know: what the bytes mean.

mod content;
mod crash;
mod fault;
mod file;
mod gate;
mod image;
mod journal;
mod policy;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard};

use self::content::Content;
pub use self::crash::Crash;
use self::fault::Faults;
pub use self::fault::{Call, Fault};
use self::file::SimFile;
use self::gate::Gate;
pub use self::gate::HeldSync;
pub use self::image::{Image, Rot};
pub use self::journal::{FileId, Journal, Operation};
pub use self::policy::{Names, Policy, Unit, Unsynced};
use super::{Disk, DiskFile};

/// What [`Disk::free_size`] says of a disk without a bound.
const UNBOUNDED: u64 = 1 << 50;

/// A disk in memory. Cheap to clone; all clones are one disk.
#[derive(Debug, Clone, Default)]
pub struct SimDisk {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    gate: Condvar,
}

/// A file, named or still open.
#[derive(Debug)]
struct Stored {
    content: Arc<Content>,
    is_named: bool,
    handles: usize,
}

#[derive(Debug, Default)]
struct State {
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, u64>,
    files: HashMap<u64, Stored>,
    next_file: u64,
    journal: Journal,
    faults: Faults,
    capacity: Option<u64>,
    rot: Vec<(PathBuf, Rot)>,
    gate: Gate,
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk that holds what an image does, all of it durable, with an empty journal.
    pub fn from_image(image: &Image) -> Self {
        let mut state = State {
            dirs: BTreeSet::clone(&image.dirs),
            journal: Journal {
                start: image.clone(),
                operations: Vec::new(),
            },
            ..State::default()
        };
        for (path, content) in &image.files {
            let number = state.add(Arc::clone(content));
            state.names.insert(path.clone(), number);
        }
        let shared = Shared {
            state: Mutex::new(state),
            gate: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// What the disk holds as its user sees it, durable or not.
    pub fn image(&self) -> Image {
        let state = self.state();
        let names = state.names.iter();
        let files = names
            .filter_map(|(path, number)| {
                let stored = state.files.get(number)?;
                Some((path.clone(), Arc::clone(&stored.content)))
            })
            .collect();
        Image {
            dirs: Arc::new(state.dirs.clone()),
            files,
        }
    }

    /// What was done so far.
    pub fn journal(&self) -> Journal {
        self.state().journal.clone()
    }

    /// Puts a note into the journal: its place there.
    pub fn note(&self, text: impl Into<String>) -> usize {
        let operations = &mut self.state().journal.operations;
        operations.push(Operation::Note(text.into()));
        operations.len() - 1
    }

    /// Plans a fault, beside those that are planned.
    pub fn plan(&self, fault: Fault) {
        self.state().faults.plan(fault);
    }

    /// Takes back every planned fault.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// How many calls of a kind there were, failed ones included.
    pub fn calls(&self, call: Call) -> u64 {
        self.state().faults.count(call)
    }

    /// How many calls met a planned fault.
    pub fn failed_calls(&self) -> u64 {
        self.state().faults.met()
    }

    /// Bounds the bytes that files can take, in blocks of 4096; `None`: no bound. What is there already stays.
    pub fn set_capacity(&self, size: Option<u64>) {
        self.state().capacity = size;
    }

    /// Damages what is read of a file from here on; what is stored stays as it is.
    pub fn rot_reads(&self, path: &Path, rot: Rot) {
        self.state().rot.push((path.to_owned(), rot));
    }

    /// Reads are what is stored again.
    pub fn clear_rot(&self) {
        self.state().rot.clear();
    }

    /// Holds the next sync of a file until it is released: whoever calls it waits, and what comes meanwhile can be
    /// merged behind it.
    pub fn hold_next_sync(&self) -> HeldSync {
        HeldSync::arm(self.clone())
    }

    /// Lets a held sync go on, and none be held any more: what a test does that learns that none will come.
    pub fn release_sync(&self) {
        self.state().gate = Gate::Open;
        self.shared.gate.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock()
    }

    fn handle(&self, state: &mut State, number: u64, path: &Path) -> Arc<dyn DiskFile> {
        if let Some(stored) = state.files.get_mut(&number) {
            stored.handles += 1;
        }
        Arc::new(SimFile {
            disk: self.clone(),
            id: FileId {
                number,
                path: path.into(),
            },
        })
    }
}

impl State {
    fn add(&mut self, content: Arc<Content>) -> u64 {
        let number = self.next_file;
        self.next_file += 1;
        let stored = Stored {
            content,
            is_named: true,
            handles: 0,
        };
        self.files.insert(number, stored);
        number
    }

    /// Counts a call; an error when it is to fail without any effect.
    fn call(&mut self, call: Call) -> io::Result<()> {
        self.faults
            .meet(call)
            .map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn log(&mut self, operation: Operation) {
        self.journal.operations.push(operation);
    }

    /// Whether there is such a directory. The root, and the one where the process is, always are.
    fn has_dir(&self, dir: &Path) -> bool {
        dir.parent().is_none() || dir == Path::new(".") || self.dirs.contains(dir)
    }

    fn check_dir(&self, dir: &Path) -> io::Result<()> {
        if self.has_dir(dir) {
            return Ok(());
        }
        let is_file = self.names.contains_key(dir);
        Err(if is_file {
            io::ErrorKind::NotADirectory.into()
        } else {
            io::ErrorKind::NotFound.into()
        })
    }

    fn number(&self, path: &Path) -> io::Result<u64> {
        if self.has_dir(path) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let number = self.names.get(path).copied();
        number.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// A name is gone: the file too, when nobody has it open.
    fn unname(&mut self, number: u64) {
        if let Some(stored) = self.files.get_mut(&number) {
            stored.is_named = false;
        }
        self.forget_unused(number);
    }

    fn forget_unused(&mut self, number: u64) {
        let unused = |stored: &Stored| !stored.is_named && stored.handles == 0;
        if self.files.get(&number).is_some_and(unused) {
            self.files.remove(&number);
        }
    }

    fn free(&self) -> u64 {
        let Some(capacity) = self.capacity else {
            return UNBOUNDED;
        };
        let used: u64 = self.files.values().map(|file| file.content.used()).sum();
        capacity.saturating_sub(used)
    }

    fn content(&mut self, number: u64) -> io::Result<&mut Arc<Content>> {
        let stored = self.files.get_mut(&number);
        stored
            .map(|stored| &mut stored.content)
            .ok_or_else(|| io::Error::other("a file that is open is there"))
    }

    /// A file's content as it is read.
    fn rotten(&mut self, id: &FileId) -> io::Result<Arc<Content>> {
        let mut content = Arc::clone(self.content(id.number)?);
        for (path, rot) in &self.rot {
            if self.names.get(path) != Some(&id.number) {
                continue;
            }
            let from = match rot {
                Rot::Misdirected { from, .. } => self.names.get(from),
                _ => None,
            };
            let from = from.and_then(|number| self.files.get(number));
            let from = from.map(|stored| stored.content.as_ref());
            rot.apply(path, Arc::make_mut(&mut content), from);
        }
        Ok(content)
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        let above: Vec<PathBuf> = dir.ancestors().map(Path::to_owned).collect();
        if above.iter().any(|dir| state.names.contains_key(dir)) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.dirs.extend(above);
        let dir = dir.to_owned();
        state.log(Operation::CreateDir { dir });
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        state.check_dir(dir)?;
        let paths = state.names.keys().chain(&state.dirs);
        let names = paths
            .filter(|path| path.parent() == Some(dir))
            .filter_map(|path| path.file_name()?.to_str())
            .map(str::to_owned);
        Ok(names.collect())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let number = state.number(path)?;
        Ok(self.handle(&mut state, number, path))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.call(Call::Create)?;
        match state.number(path) {
            Ok(number) => {
                Arc::make_mut(state.content(number)?).set_size(0);
                let file = self.handle(&mut state, number, path);
                let path = path.into();
                let file_id = FileId { number, path };
                state.log(Operation::SetSize {
                    file: file_id,
                    size: 0,
                });
                Ok(file)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                state.check_dir(path.parent().unwrap_or(path))?;
                let number = state.add(Arc::default());
                state.names.insert(path.to_owned(), number);
                let file = FileId {
                    number,
                    path: path.into(),
                };
                state.log(Operation::Create { file });
                Ok(self.handle(&mut state, number, path))
            }
            Err(error) => Err(error),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call(Call::Rename)?;
        let number = state.number(from)?;
        if state.has_dir(to) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        state.check_dir(to.parent().unwrap_or(to))?;
        if from == to {
            return Ok(());
        }
        state.names.remove(from);
        if let Some(replaced) = state.names.insert(to.to_owned(), number) {
            state.unname(replaced);
        }
        let path = from.into();
        state.log(Operation::Rename {
            file: FileId { number, path },
            from: from.to_owned(),
            to: to.to_owned(),
        });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call(Call::Remove)?;
        let number = state.number(path)?;
        state.names.remove(path);
        state.unname(number);
        let path = path.to_owned();
        state.log(Operation::Remove { path });
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call(Call::SyncDir)?;
        state.check_dir(dir)?;
        let dir = dir.to_owned();
        state.log(Operation::SyncDir { dir });
        Ok(())
    }

    fn free_size(&self, dir: &Path) -> io::Result<u64> {
        let state = self.state();
        state.check_dir(dir)?;
        Ok(state.free())
    }
}
