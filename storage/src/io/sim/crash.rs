//! What a crash may leave of a simulated disk: everything that was synced, and any part of the rest.
//!
//! Promises: what FORMAT.md assumes of a disk, and nothing more. A *unit* of a file (a sector or a page) holds what some
//! number of the writes to it since it was last synced have made of it; units are independent of each other. A file's
//! size is what some number of the changes of it have made of it, whichever of its units were written. A name that was
//! created, renamed or removed since its directory was synced may be there or not, whatever became of other names. Every
//! choice follows from the [`Policy`]. Must not know: what the bytes mean.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::mem;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::content::Content;
use super::image::Image;
use super::journal::{FileId, Operation};
use super::policy::{Names, Policy, Seeded, Unsynced};

/// Bytes that a disk writes as a whole or not at all.
const SECTOR_SIZE: u64 = 512;

/// A change of a file that is not durable yet.
#[derive(Debug, Clone)]
enum Change {
    /// Bytes, wherever the file ends.
    Bytes(u64, Bytes),
    /// The file is at least so long: what a write behind its end does beside writing.
    Grow(u64),
    Allocate(u64),
    SetSize(u64),
}

/// A file as it is durable, and what was done since.
#[derive(Debug, Clone, Default)]
struct Unsettled {
    durable: Arc<Content>,
    /// Sectors that a failed sync left marked clean: no sync writes them any more, unless they are written to again.
    lost: Vec<(u64, Bytes)>,
    changes: Vec<Change>,
    /// Its size as its user sees it.
    size: u64,
}

/// A change of names that is not durable yet.
#[derive(Debug, Clone)]
enum NameChange {
    Create(PathBuf, u64),
    Rename(PathBuf, PathBuf, u64),
    Remove(PathBuf),
}

impl NameChange {
    fn paths(&self) -> [&Path; 2] {
        match self {
            Self::Create(path, _) | Self::Remove(path) => [path, path],
            Self::Rename(from, to, _) => [from, to],
        }
    }

    fn is_in(&self, dir: &Path) -> bool {
        self.paths().iter().any(|path| path.parent() == Some(dir))
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Create(path, file) => drop(names.insert(path.clone(), *file)),
            Self::Rename(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
            Self::Remove(path) => drop(names.remove(path)),
        }
    }
}

/// A simulated disk at a moment at which the power may fail.
#[derive(Debug, Clone)]
pub struct Crash {
    dirs: Arc<BTreeSet<PathBuf>>,
    names: BTreeMap<PathBuf, u64>,
    name_changes: Vec<NameChange>,
    files: BTreeMap<u64, Unsettled>,
}

impl Crash {
    pub(super) fn new(image: &Image) -> Self {
        let mut crash = Self {
            dirs: Arc::clone(&image.dirs),
            names: BTreeMap::new(),
            name_changes: Vec::new(),
            files: BTreeMap::new(),
        };
        for (number, (path, content)) in (0..).zip(&image.files) {
            crash.names.insert(path.clone(), number);
            let file = Unsettled {
                durable: Arc::clone(content),
                size: content.size(),
                ..Unsettled::default()
            };
            crash.files.insert(number, file);
        }
        crash
    }

    /// One operation further.
    pub fn advance(&mut self, operation: &Operation) {
        match operation {
            Operation::CreateDir { dir } => {
                Arc::make_mut(&mut self.dirs).extend(dir.ancestors().map(Path::to_owned));
            }
            Operation::Create { file } => {
                let path = file.path().to_owned();
                self.files.insert(file.number, Unsettled::default());
                self.name_changes
                    .push(NameChange::Create(path, file.number));
            }
            Operation::Write {
                file,
                position,
                bytes,
            } => {
                let file = self.file(file);
                let end = *position + bytes.len() as u64;
                file.changes.push(Change::Bytes(*position, bytes.clone()));
                if end > file.size {
                    file.size = end;
                    file.changes.push(Change::Grow(end));
                }
            }
            Operation::Sync { file } => self.file(file).settle(),
            Operation::FailedSync { file } => self.file(file).lose(),
            Operation::Allocate { file, size } => {
                let file = self.file(file);
                file.size = file.size.max(*size);
                file.changes.push(Change::Allocate(*size));
            }
            Operation::SetSize { file, size } => {
                let file = self.file(file);
                file.size = *size;
                file.changes.push(Change::SetSize(*size));
            }
            Operation::Rename { file, from, to } => {
                let change = NameChange::Rename(from.clone(), to.clone(), file.number);
                self.name_changes.push(change);
            }
            Operation::Remove { path } => {
                self.name_changes.push(NameChange::Remove(path.clone()));
            }
            Operation::SyncDir { dir } => {
                let (settled, rest): (Vec<_>, Vec<_>) = mem::take(&mut self.name_changes)
                    .into_iter()
                    .partition(|change| change.is_in(dir));
                for change in settled {
                    change.apply(&mut self.names);
                }
                self.name_changes = rest;
            }
            Operation::Note(_) => {}
        }
    }

    fn file(&mut self, file: &FileId) -> &mut Unsettled {
        self.files.entry(file.number).or_default()
    }

    /// Changes of files' bytes and sizes that are not durable: [`Unsynced::Only`] chooses among these.
    pub fn unsynced(&self) -> usize {
        self.files.values().map(Unsettled::count).sum()
    }

    /// Changes of names that are not durable: [`Names::Only`] chooses among these.
    pub fn unsynced_names(&self) -> usize {
        self.name_changes.len()
    }

    /// What the disk holds after a crash here.
    pub fn image(&self, policy: &Policy) -> Image {
        let mut names = self.names.clone();
        let kept = self.kept_names(&policy.names);
        for change in kept {
            change.apply(&mut names);
        }
        let mut contents = BTreeMap::new();
        let mut before = 0;
        for (number, file) in &self.files {
            contents.insert(*number, file.content(*number, before, policy));
            before += file.count();
        }
        let files = names
            .into_iter()
            .filter_map(|(path, number)| Some((path, Arc::clone(contents.get(&number)?))))
            .collect();
        Image {
            dirs: Arc::clone(&self.dirs),
            files,
        }
    }

    /// Those that are kept, and with each the earlier ones of its names: a name's history has no gap.
    fn kept_names(&self, policy: &Names) -> Vec<&NameChange> {
        let mut seeded = match policy {
            Names::Random(seed) => Seeded(*seed),
            _ => Seeded(0),
        };
        let mut kept: Vec<bool> = (self.name_changes.iter().enumerate())
            .map(|(number, change)| match policy {
                Names::Kept => true,
                Names::Lost => false,
                Names::KeptIn(dir) => change.is_in(dir),
                Names::Only(only) => number == *only,
                Names::Random(_) => seeded.below(2) == 0,
            })
            .collect();
        for later in (0..kept.len()).rev() {
            if kept.get(later) != Some(&true) {
                continue;
            }
            let paths = self.name_changes.get(later).map(NameChange::paths);
            let earlier = self.name_changes.iter().zip(&mut kept).take(later);
            for (change, kept) in earlier {
                let shared = |path: &&Path| paths.is_some_and(|paths| paths.contains(path));
                *kept |= change.paths().iter().any(shared);
            }
        }
        let changes = self.name_changes.iter().zip(kept);
        changes
            .filter_map(|(change, kept)| kept.then_some(change))
            .collect()
    }
}

impl Unsettled {
    fn count(&self) -> usize {
        self.lost.len() + self.changes.len()
    }

    fn all(&self) -> impl Iterator<Item = Change> + '_ {
        let lost = self.lost.iter();
        lost.map(|(position, bytes)| Change::Bytes(*position, bytes.clone()))
            .chain(self.changes.iter().cloned())
    }

    /// A sync: whole sectors are written, what else was in them in memory too.
    fn settle(&mut self) {
        let touched = |at: u64| {
            self.changes.iter().any(|change| match change {
                Change::Bytes(position, bytes) => {
                    at / SECTOR_SIZE >= position / SECTOR_SIZE && at < position + bytes.len() as u64
                }
                _ => false,
            })
        };
        let (written, lost): (Vec<_>, Vec<_>) = mem::take(&mut self.lost)
            .into_iter()
            .partition(|(position, _)| touched(*position));
        let durable = Arc::make_mut(&mut self.durable);
        for (position, bytes) in &written {
            durable.overlay(bytes, *position);
        }
        let mut size = durable.size();
        for change in self.changes.drain(..) {
            change.apply(durable, &mut size);
        }
        durable.set_size(size);
        self.lost = lost;
        self.lost.retain(|(position, _)| *position < size);
    }

    /// A failed sync: the bytes are never written, the size still may be.
    fn lose(&mut self) {
        let (bytes, sizes): (Vec<_>, Vec<_>) = mem::take(&mut self.changes)
            .into_iter()
            .partition(|change| matches!(change, Change::Bytes(..)));
        self.changes = sizes;
        for change in bytes {
            if let Change::Bytes(position, bytes) = change {
                self.lost.extend(units(position, &bytes, SECTOR_SIZE));
            }
        }
    }

    /// The content after a crash. `before`: changes of the files before this one.
    fn content(&self, number: u64, before: usize, policy: &Policy) -> Arc<Content> {
        let count = self.count();
        if count == 0 {
            return Arc::clone(&self.durable);
        }
        match policy.data {
            Unsynced::None => Arc::clone(&self.durable),
            Unsynced::All => self.choose(policy, |_, versions| versions, usize::MAX),
            Unsynced::Only(only) => self.only(policy, only.checked_sub(before), None),
            Unsynced::OnlyUnit(only, unit) => {
                self.only(policy, only.checked_sub(before), Some(unit))
            }
            Unsynced::Random(seed) => {
                let mut seeded = Seeded(seed ^ number.wrapping_mul(0x9e37_79b9));
                let sizes = self.all().filter(|change| !change.is_bytes()).count();
                let sizes = seeded.below(sizes + 1);
                let mut pattern = seeded.pattern();
                let keep = |unit, versions| pattern.keep(&mut seeded, unit, versions);
                self.choose(policy, keep, sizes)
            }
        }
    }

    /// With one change alone, or one unit of it.
    fn only(&self, policy: &Policy, only: Option<usize>, unit: Option<usize>) -> Arc<Content> {
        let Some((only, chosen)) = only.and_then(|only| Some((only, self.all().nth(only)?))) else {
            return Arc::clone(&self.durable);
        };
        let sizes_before = self.all().take(only + 1);
        let sizes = sizes_before.filter(|change| !change.is_bytes()).count();
        let Change::Bytes(position, bytes) = chosen else {
            return self.choose(policy, |_, _| 0, sizes);
        };
        let wanted: Vec<u64> = units(position, &bytes, policy.unit.size())
            .map(|(position, _)| position / policy.unit.size())
            .collect();
        let wanted = match unit {
            Some(unit) => wanted.get(unit).copied().into_iter().collect(),
            None => wanted,
        };
        // How many versions of each unit there are up to this change.
        let mut versions: BTreeMap<u64, usize> = BTreeMap::new();
        for change in self.all().take(only + 1) {
            for unit in change.units(policy.unit.size()) {
                *versions.entry(unit).or_default() += 1;
            }
        }
        let keep = |unit: u64, _| {
            let versions = versions.get(&unit).copied().unwrap_or_default();
            if wanted.contains(&unit) { versions } else { 0 }
        };
        // With the growth of the file that it brought.
        let grew = matches!(self.all().nth(only + 1), Some(Change::Grow(_)));
        self.choose(policy, keep, sizes + usize::from(grew))
    }

    /// The durable bytes, with the first versions of each unit (as many as `keep` says of how many there are), and the
    /// first `sizes` changes of the size.
    fn choose(
        &self,
        policy: &Policy,
        mut keep: impl FnMut(u64, usize) -> usize,
        sizes: usize,
    ) -> Arc<Content> {
        let unit_size = policy.unit.size();
        let mut versions: BTreeMap<u64, usize> = BTreeMap::new();
        for change in self.all() {
            for unit in change.units(unit_size) {
                *versions.entry(unit).or_default() += 1;
            }
        }
        for (unit, versions) in &mut versions {
            *versions = keep(*unit, *versions);
        }
        let mut content = Content::clone(&self.durable);
        let mut size = content.size();
        let mut sizes = sizes;
        for change in self.all() {
            match change {
                Change::Bytes(position, bytes) => {
                    for (position, bytes) in units(position, &bytes, unit_size) {
                        if let Some(left) = versions.get_mut(&(position / unit_size))
                            && *left > 0
                        {
                            *left -= 1;
                            content.overlay(&bytes, position);
                        }
                    }
                }
                change => {
                    if let Some(left) = sizes.checked_sub(1) {
                        sizes = left;
                        change.apply(&mut content, &mut size);
                    }
                }
            }
        }
        // What lies behind the end is not there when the file grows again.
        content.set_size(size);
        Arc::new(content)
    }
}

impl Change {
    fn is_bytes(&self) -> bool {
        matches!(self, Self::Bytes(..))
    }

    fn apply(&self, content: &mut Content, size: &mut u64) {
        match self {
            Self::Bytes(position, bytes) => content.overlay(bytes, *position),
            Self::Grow(to) => *size = (*size).max(*to),
            Self::Allocate(to) => {
                content.reserve(*to);
                *size = (*size).max(*to);
            }
            Self::SetSize(to) => {
                content.clear_from(*to);
                *size = *to;
            }
        }
    }

    /// The units that it writes to.
    fn units(&self, unit_size: u64) -> Range<u64> {
        match self {
            Self::Bytes(position, bytes) => {
                let end = position + bytes.len() as u64;
                position / unit_size..end.div_ceil(unit_size)
            }
            _ => 0..0,
        }
    }
}

/// The parts of a write that lie in one unit each.
fn units(position: u64, bytes: &Bytes, unit_size: u64) -> impl Iterator<Item = (u64, Bytes)> {
    let mut position = position;
    let mut rest = bytes.clone();
    iter::from_fn(move || {
        let room = unit_size - position % unit_size;
        let size = usize::try_from(room).map_or(rest.len(), |room| room.min(rest.len()));
        let part = (position, rest.split_to(size));
        position += size as u64;
        (size > 0).then_some(part)
    })
}
