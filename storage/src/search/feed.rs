//! The writing side: takes entries in order, makes them searchable at once and durable at a commit.
//!
//! Promises: after a crash at any moment the feed goes on at [`Feeder::next_index`] and every record is in the index
//! exactly once. A failure is final: every later call fails too, and the index is built anew. Must not know: where
//! entries come from, time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::gaps::{self, IndexGap};
use super::open::Opened;
use super::reader::ShardReader;
use super::shard::{Shard, size_of_record};
use super::view::Shared;
use super::{IndexError, IndexOptions, files};
use crate::limits::{SEARCH_TAIL_RECORDS_MAX, SEARCH_TAIL_SIZE_MAX};
use crate::types::{LogId, Record};

/// The writing side. One owner.
///
/// Dropping it closes the index; what was not committed is fed again after the next open.
pub struct Feeder {
    options: IndexOptions,
    shared: Arc<Shared>,
    newest: Option<Shard>,
    finishing: Option<JoinHandle<Result<Option<ShardReader>, IndexError>>>,
    /// Tells the finishing of a shard to leave the rest to the next open.
    stop: Arc<AtomicBool>,
    /// `None` before the first entry.
    next_index: Option<u64>,
    next_offsets: BTreeMap<LogId, u64>,
    gap_count: usize,
    uncommitted: usize,
    uncommitted_size: usize,
    /// `next_index` as of the last commit.
    committed: Option<u64>,
    failed: Option<String>,
}

impl fmt::Debug for Feeder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feeder")
            .field("options", &self.options)
            .field("next_index", &self.next_index)
            .field("uncommitted", &self.uncommitted)
            .finish_non_exhaustive()
    }
}

impl Feeder {
    pub(super) fn new(options: IndexOptions, opened: Opened) -> Self {
        Self {
            options,
            gap_count: opened.shared.gaps().len(),
            shared: opened.shared,
            newest: opened.newest,
            finishing: None,
            stop: Arc::new(AtomicBool::new(false)),
            next_index: opened.next_index,
            next_offsets: opened.next_offsets,
            uncommitted: 0,
            uncommitted_size: 0,
            committed: opened.next_index,
            failed: None,
        }
    }

    /// The Raft index of the entry to feed next; 0: from the log's first.
    pub fn next_index(&self) -> u64 {
        self.next_index.unwrap_or(0)
    }

    /// Takes what entry `index` put into logs: searchable on return. Entries come in order; one without records is
    /// fed too.
    ///
    /// An entry that was fed before is ignored. One that leaves a gap behind the last, in indexes or in a log's
    /// offsets, is an error: the log was purged below it, and the index starts anew. When much is uncommitted, this
    /// commits.
    pub fn feed(&mut self, index: u64, batches: &[(LogId, Vec<Record>)]) -> Result<(), IndexError> {
        self.feed_around(index, batches, &[])
    }

    /// [`Feeder::feed`] for an entry that is damaged: takes the records of it that can be had, and those that are left
    /// out. Every answer over them names these, after a restart too.
    pub fn feed_around(
        &mut self,
        index: u64,
        batches: &[(LogId, Vec<Record>)],
        gaps: &[IndexGap],
    ) -> Result<(), IndexError> {
        self.latched(|feeder| feeder.take_entry(index, batches, gaps))
    }

    /// What was left out, by entry.
    pub fn gaps(&self) -> Vec<IndexGap> {
        self.shared.gaps()
    }

    /// Records fed since the last commit.
    pub fn uncommitted(&self) -> usize {
        self.uncommitted
    }

    /// Makes what was fed survive a restart. After a crash the feed goes on behind the last commit: no gap, no
    /// duplicate.
    pub fn commit(&mut self) -> Result<(), IndexError> {
        self.latched(Self::commit_newest)
    }

    /// Drops the shards all of whose entries are below `index`, but never the newest: what the log no longer has is not
    /// found any more. Records below `index` that share a shard with later ones still are.
    pub fn drop_below(&mut self, index: u64) -> Result<(), IndexError> {
        self.latched(|feeder| feeder.drop_shards(index))
    }

    /// A failed writer has lost documents: nothing may be built on it.
    fn latched(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        if let Some(failed) = &self.failed {
            return Err(IndexError::Failed(failed.clone()));
        }
        let result = act(self);
        if let Err(IndexError::Failed(what) | IndexError::Full(what)) = &result {
            self.failed = Some(what.clone());
        }
        result
    }

    fn take_entry(
        &mut self,
        index: u64,
        batches: &[(LogId, Vec<Record>)],
        gaps: &[IndexGap],
    ) -> Result<(), IndexError> {
        let next = self.next_index.unwrap_or(index);
        if index < next {
            return Ok(());
        }
        if index > next {
            return Err(IndexError::failed(format!(
                "entry {index} was fed where {next} was expected"
            )));
        }
        gaps::check_count(self.gap_count, gaps.len())?;
        let next_offsets = gaps::next_offsets(&self.next_offsets, batches, gaps)?;
        self.collect_finished(Wait::No)?;
        if self
            .newest
            .as_ref()
            .is_some_and(|shard| shard.size() >= self.options.shard_size)
        {
            self.commit_newest()?;
            self.finish_newest()?;
        }
        self.add_to_newest(index, batches, gaps)?;
        self.shared.append(index + 1, batches, &next_offsets, gaps);
        self.next_offsets.extend(next_offsets);
        self.next_index = Some(index + 1);
        self.gap_count += gaps.len();
        if self.uncommitted >= SEARCH_TAIL_RECORDS_MAX
            || self.uncommitted_size >= SEARCH_TAIL_SIZE_MAX
        {
            self.commit_newest()?;
        }
        Ok(())
    }

    fn add_to_newest(
        &mut self,
        index: u64,
        batches: &[(LogId, Vec<Record>)],
        gaps: &[IndexGap],
    ) -> Result<(), IndexError> {
        let shard = match &mut self.newest {
            Some(shard) => shard,
            none => {
                if self.next_index.is_none() {
                    files::set_first(&self.options.dir, index)?;
                }
                let options = &self.options;
                none.insert(Shard::create(&options.dir, index, options.writer_memory)?)
            }
        };
        shard.leave_out(gaps);
        for (log, records) in batches {
            for record in records {
                shard.add(*log, record)?;
                self.uncommitted += 1;
                self.uncommitted_size += size_of_record(record);
            }
        }
        Ok(())
    }

    fn commit_newest(&mut self) -> Result<(), IndexError> {
        self.collect_finished(Wait::No)?;
        let (Some(shard), Some(next)) = (&mut self.newest, self.next_index) else {
            return Ok(());
        };
        if self.committed == self.next_index {
            return Ok(());
        }
        let committed = shard.commit(next, &self.next_offsets)?;
        self.shared.commit(committed);
        self.committed = Some(next);
        self.uncommitted = 0;
        self.uncommitted_size = 0;
        Ok(())
    }

    /// Hands the newest shard, which is committed, to a thread that merges it and makes it immutable. One at a time:
    /// a feed that is faster waits here.
    fn finish_newest(&mut self) -> Result<(), IndexError> {
        self.collect_finished(Wait::Yes)?;
        let Some(shard) = self.newest.take() else {
            return Ok(());
        };
        let (dir, stop) = (self.options.dir.clone(), Arc::clone(&self.stop));
        let finish = move || shard.finish(&dir, &stop);
        let thread = thread::Builder::new()
            .name("search-finish".to_owned())
            .spawn(finish)?;
        self.finishing = Some(thread);
        Ok(())
    }

    /// Publishes the shard that was finished meanwhile.
    fn collect_finished(&mut self, wait: Wait) -> Result<(), IndexError> {
        let is_ready = |thread: &mut JoinHandle<_>| wait == Wait::Yes || thread.is_finished();
        let Some(thread) = self.finishing.take_if(is_ready) else {
            return Ok(());
        };
        let finished = thread
            .join()
            .map_err(|_| IndexError::failed("finishing a shard panicked"))??;
        if let Some(shard) = finished {
            self.shared.replace(shard);
        }
        Ok(())
    }

    fn drop_shards(&mut self, index: u64) -> Result<(), IndexError> {
        self.collect_finished(Wait::No)?;
        let dirs = files::shards(&self.options.dir)?;
        let dropped = dirs
            .iter()
            .zip(dirs.iter().skip(1))
            .take_while(|(dir, _)| dir.to.is_some_and(|to| to < index));
        let Some((_, first)) = dropped.clone().last() else {
            return Ok(());
        };
        files::set_first(&self.options.dir, first.from)?;
        self.shared.drop_below(first.from);
        self.gap_count = self.shared.gaps().len();
        for (dir, _) in dropped {
            files::delete(&dir.path)?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), IndexError> {
        self.stop.store(true, Ordering::Relaxed);
        let finished = self.collect_finished(Wait::Yes);
        let closed = self.newest.take().map_or(Ok(()), Shard::close);
        finished.and(closed)?;
        match &self.failed {
            None => Ok(files::mark_closed(&self.options.dir)?),
            Some(failed) => Err(IndexError::Failed(failed.clone())),
        }
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            // The mark of an open index stays, and so the next open verifies every byte.
            tracing::warn!(%error, "the search index was not closed in good order");
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Yes,
    No,
}
