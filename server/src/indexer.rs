//! Feeds the search index from applied entries, off the append path, on nodes that index: followers, and the only node
//! of a cluster of one.
//!
//! Promises: entries are fed in order, each once; what was fed is searchable before [`Indexer::wait_for`] says so; an
//! index that fails is deleted and built anew from the log, and log reads never notice; on a disk that is nearly full
//! indexing stops, and leaves what is free to the log, until there is room; what is damaged is left out, and named. Must not
//! know: Raft, gRPC.

mod around;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures::FutureExt;
use inkstone_storage::error::ReadError;
use inkstone_storage::log::Log;
use inkstone_storage::search::{self, Feeder, IndexError, IndexOptions, Searcher};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep};

use crate::blocking::{Blocking, Busy};
use crate::tail::Applied;

use self::around::Tries;
pub use self::around::{Harm, Mender, Met, Verdict};

/// Bytes of payload that are read from the log and fed at a time.
const FEED_SIZE: usize = 1 << 20;
/// Before an index that failed, or a log that could not be read, is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How a node indexes.
#[derive(Debug, Clone)]
pub struct IndexerOptions {
    /// `<data>/group-1/search`.
    pub dir: PathBuf,
    /// Bytes of memory for tantivy's writer.
    pub writer_memory: usize,
    /// What was fed becomes durable in the index at least this often.
    pub commit_interval: Duration,
    /// Bytes of records that one shard covers.
    pub shard_size: u64,
    /// Nothing is indexed while fewer bytes than this are free on the disk.
    pub free_size_min: u64,
}

/// The search side of this node, as the grpc layer sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Indexer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// There while this node indexes.
    searcher: ArcSwapOption<Searcher>,
    /// The last searchable entry's index; 0 while this node does not index.
    progress: watch::Sender<u64>,
}

/// What stopped a turn of the feed.
#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Busy(#[from] Busy),
}

impl Indexer {
    /// A node that never indexes: search is switched off.
    pub fn off() -> Self {
        let shared = Shared {
            searcher: ArcSwapOption::empty(),
            progress: watch::Sender::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Starts the task that feeds while `wanted` says so. It ends, with what was fed committed, when the sender of `wanted` is
    /// gone, whatever that said last.
    pub fn start(
        options: IndexerOptions,
        (log, mender): (Log, Mender),
        applied: Applied,
        wanted: watch::Receiver<bool>,
    ) -> (Self, JoinHandle<()>) {
        let indexer = Self::off();
        let feed = Feed {
            shared: Arc::clone(&indexer.shared),
            options,
            log,
            mender,
            applied,
            wanted,
            blocking: Blocking::new(1, 1),
            is_short: false,
            tries: Tries::default(),
            looked: 0,
            stands_at: None,
        };
        let task = tokio::spawn(feed.run());
        (indexer, task)
    }

    /// The index, when this node is one that indexes and has it open; `None` on a leader that has followers.
    pub fn searcher(&self) -> Option<Searcher> {
        self.shared.searcher.load().as_deref().cloned()
    }

    /// Returns once every entry up to `index` is searchable here. Wrap it in a timeout: it never returns while this
    /// node does not index.
    pub async fn wait_for(&self, index: u64) {
        let mut progress = self.shared.progress.subscribe();
        progress
            .wait_for(|searchable| *searchable >= index)
            .await
            .expect("the sender lives in self");
    }

    /// Sees every change of how far the index reaches.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.progress.subscribe()
    }

    /// The last searchable entry's index; 0: none.
    pub fn index(&self) -> u64 {
        *self.shared.progress.borrow()
    }
}

/// The feeding task.
struct Feed {
    shared: Arc<Shared>,
    options: IndexerOptions,
    log: Log,
    mender: Mender,
    applied: Applied,
    wanted: watch::Receiver<bool>,
    blocking: Blocking,
    /// Whether indexing stands still for want of room, which is said once.
    is_short: bool,
    /// For the damaged entry that the index has come to.
    tries: Tries,
    /// The number of the gap to look at next.
    looked: usize,
    /// The entry in front of which the index stands, which is said once.
    stands_at: Option<u64>,
}

impl Feed {
    async fn run(mut self) {
        while self.wanted.wait_for(|wanted| *wanted).await.is_ok() {
            // A sender that is gone after it said yes leaves that standing.
            if self.wanted.has_changed().is_err() {
                return;
            }
            if let Err(error) = self.index_while_wanted().await {
                tracing::warn!(%error, "indexing stopped; it is tried again");
                self.withdraw();
                if self.is_useless(&error).await {
                    self.delete().await;
                }
                sleep(RETRY_AFTER).await;
            }
        }
    }

    /// Bytes that are free on the log's disk; without end when it does not say.
    async fn free_size(&self) -> Result<u64, Busy> {
        let log = self.log.clone();
        let free = self.blocking.run(move || log.free_size()).await?;
        Ok(free.unwrap_or(u64::MAX))
    }

    /// Whether there is enough room to index.
    async fn has_room(&mut self) -> Result<bool, Busy> {
        let free = self.free_size().await?;
        let is_short = free < self.options.free_size_min;
        if is_short != self.is_short {
            let (free_size_min, dir) = (self.options.free_size_min, self.options.dir.display());
            if is_short {
                tracing::warn!(free, free_size_min, %dir, "the disk is nearly full: indexing stops until there is room");
            } else {
                tracing::info!(free, free_size_min, %dir, "there is room again: indexing goes on");
            }
            self.is_short = is_short;
        }
        Ok(!is_short)
    }

    /// Whether an index that failed must go. One for which there was no room is whole up to its last commit; built anew it
    /// would need the same room. tantivy does not always say that this was it.
    async fn is_useless(&self, error: &FeedError) -> bool {
        let room = 2 * self.options.writer_memory as u64;
        match error {
            FeedError::Index(IndexError::Failed(_)) => {
                self.free_size().await.is_ok_and(|free| free >= room)
            }
            FeedError::Index(IndexError::Full(_) | IndexError::Gaps(_))
            | FeedError::Read(_)
            | FeedError::Busy(_) => false,
        }
    }

    /// Opens the index and feeds it until this node should not index any more.
    async fn index_while_wanted(&mut self) -> Result<(), FeedError> {
        if !self.has_room().await? {
            sleep(RETRY_AFTER).await;
            return Ok(());
        }
        let options = IndexOptions {
            dir: self.options.dir.clone(),
            writer_memory: self.options.writer_memory,
            shard_size: self.options.shard_size,
        };
        let (mut feeder, searcher) = self.blocking.run(move || search::open(options)).await??;
        let mut applied = self.applied.subscribe();
        // Until the index has caught up with what there was when it was opened, and the log with the index (after a
        // restart it gives records only once their entries are applied again), another member answers better.
        let caught_up = (*applied.borrow()).max(feeder.next_index().saturating_sub(1));
        let mut commit_due = interval(self.options.commit_interval);
        let mut dropped_below = 0;
        let mut is_to_look = true;
        while *self.wanted.borrow() {
            if std::mem::take(&mut is_to_look)
                && let Some(index) = self.mended(feeder.gaps()).await?
            {
                return self.give_up_from(feeder, index).await;
            }
            let first = self.log.state().first_index;
            if first > dropped_below {
                feeder = self.drop_below(feeder, first).await?;
                dropped_below = first;
            }
            let last = *applied.borrow_and_update();
            let next = feeder.next_index();
            if last >= caught_up && next > caught_up && self.shared.searcher.load().is_none() {
                self.offer(&searcher);
            }
            if !self.has_room().await? {
                // What is indexed can still be searched.
                tokio::select! {
                    changed = self.wanted.changed() => if changed.is_err() { break },
                    () = sleep(RETRY_AFTER) => {}
                }
                continue;
            }
            if next.max(self.log.state().first_index) <= last {
                let met;
                (feeder, met) = self.feed(feeder, next, last).await?;
                if let Some(met) = met {
                    feeder = self.go_around(feeder, met, &searcher).await?;
                }
                if self.shared.searcher.load().is_some() {
                    self.publish(&searcher);
                }
                if commit_due.tick().now_or_never().is_some() {
                    is_to_look = true;
                    feeder = self.commit(feeder).await?;
                }
                if feeder.next_index() > next {
                    continue;
                }
            }
            tokio::select! {
                changed = applied.changed() => if changed.is_err() { break },
                changed = self.wanted.changed() => if changed.is_err() { break },
                // And looks whether something was purged, or mended.
                _ = commit_due.tick() => {
                    is_to_look = true;
                    feeder = self.commit(feeder).await?;
                }
            }
        }
        self.withdraw();
        self.commit(feeder).await?;
        Ok(())
    }

    /// What was purged goes from the index, too, a shard at a time.
    async fn drop_below(&self, mut feeder: Feeder, first: u64) -> Result<Feeder, FeedError> {
        let turn = move || feeder.drop_below(first).map(|()| feeder);
        Ok(self.blocking.run(turn).await??)
    }

    async fn commit(&self, mut feeder: Feeder) -> Result<Feeder, FeedError> {
        if feeder.uncommitted() == 0 {
            return Ok(feeder);
        }
        let turn = move || feeder.commit().map(|()| feeder);
        Ok(self.blocking.run(turn).await??)
    }

    /// There is no index to be searched now.
    fn withdraw(&self) {
        self.shared.searcher.store(None);
        self.shared.progress.send_replace(0);
    }

    /// The index can be searched from now on.
    fn offer(&self, searcher: &Searcher) {
        // Before it is said how far it reaches: who hears of that asks for it.
        self.shared.searcher.store(Some(Arc::new(searcher.clone())));
        self.publish(searcher);
    }

    fn publish(&self, searcher: &Searcher) {
        self.shared
            .progress
            .send_replace(searcher.next_index().saturating_sub(1));
    }

    /// The index is a cache: what is wrong with it goes away with it.
    async fn delete(&self) {
        let dir = self.options.dir.clone();
        let deleted = self
            .blocking
            .run(move || std::fs::remove_dir_all(dir))
            .await;
        if let Ok(Err(error)) = deleted {
            tracing::warn!(%error, "the failed index could not be deleted");
        }
    }
}

#[cfg(test)]
mod tests;
