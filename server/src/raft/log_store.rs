//! openraft's log storage over the segment store: the Raft log *is* the store, nothing is kept twice.
//!
//! Promises: entries are readable when `append` returns and reported durable only after their fsync, in order (the
//! store's writer thread calls back in order); a vote, a truncation and a purge are durable when they return; no file
//! is touched on a runtime thread. Must not know: what entries mean.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds, RangeInclusive};

use futures::stream::{self, Stream};
use inkstone_storage::error::{ReadError, WriteError};
use inkstone_storage::limits::REPLICATION_SIZE_MAX;
use inkstone_storage::log::{Done, Log};
use inkstone_storage::types::Entry;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::{LogState, OptionalSend};
use tokio::sync::oneshot;

use crate::blocking::Blocking;
use crate::raft::repair::{Reader, Repairer};
use crate::raft::types::{
    RaftEntry, RaftLogId, RaftVote, TypeConfig, entry_id, raft_log_id, raft_vote, store_vote,
};
use crate::raft::wire;

/// Bytes of payload that apply and start-up read at a time.
const READ_SIZE: usize = 4 << 20;

/// The store as openraft's log. Cheap to clone: every clone reads and writes the same log.
#[derive(Debug, Clone)]
pub(crate) struct LogStore {
    log: Log,
    reads: Blocking,
    repairer: Option<Repairer>,
}

impl LogStore {
    /// Over an open log; reads that miss its tail run on `reads`, which must have a place for every reader: one for
    /// each peer, and apply.
    pub(crate) fn new(log: Log, reads: Blocking) -> Self {
        Self {
            log,
            reads,
            repairer: None,
        }
    }

    /// What it meets damaged in a sealed segment is repaired before anybody hears of it.
    pub(crate) fn repaired_by(self, repairer: Repairer) -> Self {
        Self {
            repairer: Some(repairer),
            ..self
        }
    }

    /// Entries from memory when they are recent, else from disk on the pool.
    async fn read(
        &self,
        from: u64,
        to: u64,
        size_max: usize,
        reader: Reader,
    ) -> io::Result<Vec<RaftEntry>> {
        let entries = match self.log.entries_in_tail(from, to, size_max) {
            Some(entries) => entries,
            None => self.read_disk(from, to, size_max, reader).await?,
        };
        let convert = |entry| wire::entry_from_store(entry).map_err(io::Error::other);
        entries.into_iter().map(convert).collect()
    }

    async fn read_disk(
        &self,
        from: u64,
        to: u64,
        size_max: usize,
        reader: Reader,
    ) -> io::Result<Vec<Entry>> {
        loop {
            let log = self.log.clone();
            let read = self.reads.run(move || log.entries(from, to, size_max));
            let damage = match read.await.map_err(io::Error::other)? {
                Ok(entries) => return Ok(entries),
                Err(ReadError::Damaged(damage)) => damage,
                Err(error) => return Err(io::Error::other(error)),
            };
            let Some(repairer) = &self.repairer else {
                return Err(io::Error::other(damage));
            };
            let repaired = repairer.repair_for_raft(&damage, reader).await;
            if !repaired.map_err(io::Error::other)? && reader == Reader::Replication {
                return Ok(Vec::new());
            }
        }
    }

    /// Waits, off the runtime's threads, until the writer's queue has room: back-pressure of a slow disk.
    async fn wait_for_room(&self) -> io::Result<()> {
        if self.log.has_room() {
            return Ok(());
        }
        let log = self.log.clone();
        self.reads
            .run(move || log.wait_for_room())
            .await
            .map_err(io::Error::other)
    }
}

/// The half-open range of indexes that `range` means.
fn indexes(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(index) => *index,
        Bound::Excluded(index) => index.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(index) => index.saturating_add(1),
        Bound::Excluded(index) => *index,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

/// Hands a change to the writer thread and waits until it is durable.
pub(crate) async fn durably(change: impl FnOnce(Done) -> Result<(), WriteError>) -> io::Result<()> {
    let (done, outcome) = oneshot::channel();
    // Nobody is left to tell when the receiver is gone: openraft has stopped.
    change(Box::new(move |result| drop(done.send(result)))).map_err(io::Error::other)?;
    outcome
        .await
        .map_err(io::Error::other)?
        .map_err(io::Error::other)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<RaftEntry>> {
        let (from, to) = indexes(&range);
        // What is purged is not there to give: the contract allows a short head, and a short tail.
        let mut next = from.max(self.log.state().first_index);
        let mut entries = Vec::new();
        while next < to {
            let chunk = self.read(next, to, READ_SIZE, Reader::Apply).await?;
            if chunk.is_empty() {
                break;
            }
            next += chunk.len() as u64;
            entries.extend(chunk);
        }
        Ok(entries)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> io::Result<Vec<RaftEntry>> {
        self.read(start, end, REPLICATION_SIZE_MAX, Reader::Replication)
            .await
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<RaftEntry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = indexes(&range);
        let chunks = stream::try_unfold((self.clone(), from), move |(store, from)| async move {
            if from >= to {
                return Ok::<_, io::Error>(None);
            }
            let chunk = store.read(from, to, READ_SIZE, Reader::Apply).await?;
            let next = from + chunk.len() as u64;
            Ok((next > from).then_some((stream::iter(chunk.into_iter().map(Ok)), (store, next))))
        });
        Box::pin(futures::TryStreamExt::try_flatten(chunks))
    }

    async fn read_vote(&mut self) -> io::Result<Option<RaftVote>> {
        Ok(self.log.vote().map(raft_vote))
    }

    /// The last entry of every leader in the range, from the term runs that the store keeps: start-up reads no entries.
    async fn get_key_log_ids(
        &mut self,
        range: RangeInclusive<RaftLogId>,
    ) -> io::Result<Vec<RaftLogId>> {
        let (start, end) = (entry_id(range.start()), entry_id(range.end()));
        let runs = self.log.terms();
        let lasts = runs.iter().enumerate().filter_map(|(position, first)| {
            let next = runs.get(position + 1).map_or(u64::MAX, |run| run.index);
            let last = end.index.min(next - 1);
            let inside = last >= start.index && first.index <= end.index;
            inside.then(|| {
                raft_log_id(inkstone_storage::types::EntryId {
                    index: last,
                    ..*first
                })
            })
        });
        Ok(lasts.collect())
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let state = self.log.state();
        Ok(LogState {
            last_purged_log_id: state.purged.map(raft_log_id),
            last_log_id: state.last.map(raft_log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> io::Result<()> {
        durably(|done| self.log.save_vote(store_vote(vote), done)).await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().map(wire::entry_to_store).collect();
        self.wait_for_room().await?;
        let done = move |result: Result<(), WriteError>| {
            callback.io_completed(result.map_err(io::Error::other));
        };
        self.log
            .append(entries, Box::new(done))
            .map_err(io::Error::other)
    }

    async fn truncate_after(&mut self, last_log_id: Option<RaftLogId>) -> io::Result<()> {
        let index = last_log_id.map(|id| id.index());
        durably(|done| self.log.truncate_after(index, done)).await
    }

    async fn purge(&mut self, log_id: RaftLogId) -> io::Result<()> {
        durably(|done| self.log.purge(entry_id(&log_id), done)).await
    }
}

#[cfg(test)]
mod tests;
