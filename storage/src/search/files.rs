//! The names in the index's directory, and the few changes of it that tantivy does not make itself.
//!
//! Promises: what it returns from is on disk. Must not know: what a shard holds.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Stands while an index is open: after a crash the shards' checksums are verified.
const OPEN_MARK: &str = "open";
/// Holds the index of the first entry of the first shard: without it, an index whose oldest shard was lost would look
/// like one that starts later.
const FIRST: &str = "first";
/// What [`FIRST`] is written to before it gets its name.
const FIRST_NEW: &str = "first-new";

/// The directory of one shard, as its name tells it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ShardDir {
    /// The index of its first entry.
    pub(super) from: u64,
    /// The index of its last entry, when it is finished.
    pub(super) to: Option<u64>,
    /// Where it is.
    pub(super) path: PathBuf,
}

impl ShardDir {
    /// The directory of a shard that takes documents.
    pub(super) fn unfinished(index_dir: &Path, from: u64) -> Self {
        Self {
            from,
            to: None,
            path: index_dir.join(format!("{from:020}-open")),
        }
    }

    /// The directory of a shard that is immutable.
    pub(super) fn finished(index_dir: &Path, from: u64, to: u64) -> Self {
        Self {
            from,
            to: Some(to),
            path: index_dir.join(format!("{from:020}-{to:020}")),
        }
    }

    fn parse(index_dir: &Path, name: &str) -> Option<Self> {
        let (from, to) = name.split_once('-')?;
        let from = from.parse().ok()?;
        let shard = match to {
            "open" => Self::unfinished(index_dir, from),
            to => Self::finished(index_dir, from, to.parse().ok()?),
        };
        (shard.path == index_dir.join(name)).then_some(shard)
    }
}

/// The shards in a directory by their first index. Whatever else is there is deleted: nobody else may keep files here.
pub(super) fn shards(index_dir: &Path) -> io::Result<Vec<ShardDir>> {
    let mut shards = Vec::new();
    for entry in fs::read_dir(index_dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name == OPEN_MARK || name == FIRST {
            continue;
        }
        match ShardDir::parse(index_dir, &name) {
            Some(shard) if entry.file_type()?.is_dir() => shards.push(shard),
            _ => delete(&entry.path())?,
        }
    }
    shards.sort();
    Ok(shards)
}

/// Deletes a file, or a directory with what is in it.
pub(super) fn delete(path: &Path) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() {
        fs::remove_dir_all(path)
    } else {
        remove_file(path)
    }
}

/// Renames a shard's directory.
#[expect(
    clippy::disallowed_methods,
    reason = "the index's own directories, which a rebuild replaces"
)]
pub(super) fn rename(index_dir: &Path, from: &ShardDir, to: &ShardDir) -> io::Result<()> {
    fs::rename(&from.path, &to.path)?;
    sync(index_dir)
}

/// Notes, durably, the index of the first entry of the first shard. Before that shard is created, or earlier ones are
/// deleted.
#[expect(
    clippy::disallowed_methods,
    reason = "the index's own file, which a rebuild replaces"
)]
pub(super) fn set_first(index_dir: &Path, first: u64) -> io::Result<()> {
    let new = index_dir.join(FIRST_NEW);
    fs::write(&new, first.to_string())?;
    sync(&new)?;
    fs::rename(new, index_dir.join(FIRST))?;
    sync(index_dir)
}

/// What was noted, if it can be read.
pub(super) fn first(index_dir: &Path) -> Option<u64> {
    fs::read_to_string(index_dir.join(FIRST)).ok()?.parse().ok()
}

/// Whether the index was open when its process ended.
pub(super) fn is_marked_open(index_dir: &Path) -> bool {
    index_dir.join(OPEN_MARK).exists()
}

/// Notes, durably, that the index is open.
pub(super) fn mark_open(index_dir: &Path) -> io::Result<()> {
    fs::write(index_dir.join(OPEN_MARK), b"")?;
    sync(index_dir)
}

/// Notes that the index was closed in good order: its shards' directories are durable first.
pub(super) fn mark_closed(index_dir: &Path) -> io::Result<()> {
    for shard in shards(index_dir)? {
        sync(&shard.path)?;
    }
    remove_file(&index_dir.join(OPEN_MARK))?;
    sync(index_dir)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the index's own files, which a rebuild replaces"
)]
fn remove_file(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

#[expect(
    clippy::disallowed_methods,
    reason = "opened to be synced, never read or written"
)]
fn sync(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}
