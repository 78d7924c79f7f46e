//! Opening an index: which shards are there, whether they are whole, and where the feed goes on.
//!
//! Promises: what it returns covers one contiguous range of entries up to the next index. On any doubt about a shard
//! it and all later ones are deleted, and fed again. Must not know: queries, the log.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use super::files::{self, ShardDir};
use super::reader::ShardReader;
use super::shard::{OpenShard, Shard};
use super::view::Shared;
use super::{IndexError, IndexOptions};
use crate::types::LogId;

/// What a start found.
pub(super) struct Opened {
    pub(super) shared: Arc<Shared>,
    /// The shard that takes documents, when there is one.
    pub(super) newest: Option<Shard>,
    /// `None`: nothing was ever fed.
    pub(super) next_index: Option<u64>,
    pub(super) next_offsets: BTreeMap<LogId, u64>,
}

pub(super) fn open(options: &IndexOptions) -> Result<Opened, IndexError> {
    std::fs::create_dir_all(&options.dir)?;
    let verify = files::is_marked_open(&options.dir);
    files::mark_open(&options.dir)?;
    let mut open = whole_shards(&options.dir, verify)?;
    let last = open.last().map(|shard| shard.payload.clone());
    let gaps = open
        .iter()
        .flat_map(|shard| shard.payload.gaps.clone())
        .collect();
    let newest = open.pop_if(|shard| shard.is_unfinished());
    let mut shards: Vec<ShardReader> = open.into_iter().map(|open| open.shard).collect();
    let newest = match newest {
        Some(open) => {
            let (newest, shard) = Shard::resume(open, options.writer_memory)?;
            shards.push(shard);
            Some(newest)
        }
        None => None,
    };
    let next_index = last.as_ref().map(|payload| payload.next);
    let next_offsets = last.map_or_else(BTreeMap::new, |payload| payload.logs);
    let published: HashMap<LogId, u64> = next_offsets.iter().map(|(&k, &v)| (k, v)).collect();
    let shared = Arc::new(Shared::new(
        shards,
        next_index.unwrap_or(0),
        published,
        gaps,
    ));
    Ok(Opened {
        shared,
        newest,
        next_index,
        next_offsets,
    })
}

/// Deletes the shard that covers the entry `index`, and those behind it: they are fed again after the next open. The index
/// is not open.
pub fn delete_from(index_dir: &Path, index: u64) -> Result<(), IndexError> {
    // The newest first, as with those in doubt.
    for shard in files::shards(index_dir)?.iter().rev() {
        if shard.to.is_some_and(|to| to < index) {
            break;
        }
        files::delete(&shard.path)?;
    }
    Ok(())
}

/// The shards up to the first one in doubt.
fn whole_shards(index_dir: &Path, verify: bool) -> Result<Vec<OpenShard>, IndexError> {
    let mut dirs = files::shards(index_dir)?;
    delete_dropped(index_dir, &mut dirs)?;
    let mut whole: Vec<OpenShard> = Vec::new();
    for (at, dir) in dirs.iter().enumerate() {
        let is_last = at + 1 == dirs.len();
        match whole_shard(index_dir, dir, whole.last(), verify, is_last) {
            Ok(shard) => whole.push(shard),
            Err(full @ (IndexError::Full(_) | IndexError::Gaps(_))) => return Err(full),
            Err(IndexError::Failed(why)) => {
                tracing::warn!(shard = %dir.path.display(), why, "rebuilding the search index from here on");
                // The newest first: were the oldest deleted before a crash, the rest would look like an index that
                // starts later.
                for bad in dirs.iter().skip(at).rev() {
                    files::delete(&bad.path)?;
                }
                break;
            }
        }
    }
    Ok(whole)
}

/// Deletes what [`super::Feeder::drop_below`] left when it was cut short, and everything when it is not known that the
/// first shard is the first.
fn delete_dropped(index_dir: &Path, dirs: &mut Vec<ShardDir>) -> Result<(), IndexError> {
    let first = files::first(index_dir);
    let is_known = dirs.iter().any(|dir| Some(dir.from) == first);
    let (gone, kept) = std::mem::take(dirs)
        .into_iter()
        .partition(|dir| !is_known || Some(dir.from) < first);
    *dirs = kept;
    // The newest first, for the reason below.
    let gone: Vec<ShardDir> = gone;
    for dir in gone.iter().rev() {
        tracing::warn!(shard = %dir.path.display(), "deleting a shard below the search index's first");
        files::delete(&dir.path)?;
    }
    Ok(())
}

fn whole_shard(
    index_dir: &Path,
    dir: &ShardDir,
    before: Option<&OpenShard>,
    verify: bool,
    is_last: bool,
) -> Result<OpenShard, IndexError> {
    let open = OpenShard::open(dir.clone(), verify)?;
    if let Some(OpenShard {
        payload: before, ..
    }) = before
    {
        let goes_on = |(log, next): (&LogId, &u64)| open.payload.logs.get(log) >= Some(next);
        if before.next != open.payload.from || !before.logs.iter().all(goes_on) {
            return Err(IndexError::Failed(
                "it does not go on where the one before ends".into(),
            ));
        }
    }
    // One whose finishing was cut short has all its documents: there is a later one.
    if open.is_unfinished() && !is_last {
        open.seal(index_dir)
    } else {
        Ok(open)
    }
}
