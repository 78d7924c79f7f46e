//! What a search sees: the shards as of the last commit, and the tail that was fed since, as one.
//!
//! # Invariants
//!
//! Under the one lock, every record below a log's next offset is in exactly one of the shards, the tail and the gaps. A search
//! takes shards, tail and next offset under one acquisition, so it never sees a commit half done.
//!
//! Must not know: tantivy's writer, files, queries.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::gaps::IndexGap;
use super::reader::ShardReader;
use crate::types::{LogId, Record};

/// The records of one feed of one log, and those fed before them. Feeding adds a node; a search that holds an older
/// one goes on undisturbed.
pub(super) struct TailNode {
    records: Vec<Record>,
    before: Option<Arc<TailNode>>,
}

impl TailNode {
    /// All records of the tail from here on, newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Record> {
        std::iter::successors(Some(self), |node| node.before.as_deref())
            .flat_map(|node| node.records.iter().rev())
    }
}

impl Drop for TailNode {
    /// One node after another: thousands of nested drops would overflow the stack.
    fn drop(&mut self) {
        let mut before = self.before.take();
        while let Some(mut node) = before.and_then(Arc::into_inner) {
            before = node.before.take();
        }
    }
}

#[derive(Default)]
struct View {
    /// By range, oldest first.
    shards: Arc<Vec<Arc<ShardReader>>>,
    tails: HashMap<LogId, Arc<TailNode>>,
    next_offsets: HashMap<LogId, u64>,
    next_index: u64,
    /// By entry, and so each log's by offset.
    gaps: Vec<IndexGap>,
}

/// Where the feeder publishes and searches look.
#[derive(Default)]
pub(super) struct Shared {
    view: Mutex<View>,
}

/// What one search of one log works on.
pub(super) struct Snapshot {
    /// By range, oldest first.
    pub(super) shards: Arc<Vec<Arc<ShardReader>>>,
    /// What was fed since the last commit.
    pub(super) tail: Option<Arc<TailNode>>,
    /// Every record below it is in the shards, in the tail or in the gaps.
    pub(super) next_offset: u64,
    /// What of the log is in neither, by offset.
    pub(super) gaps: Vec<IndexGap>,
}

impl Shared {
    /// What a start found.
    pub(super) fn new(
        shards: Vec<ShardReader>,
        next_index: u64,
        next_offsets: HashMap<LogId, u64>,
        gaps: Vec<IndexGap>,
    ) -> Self {
        let shards = Arc::new(shards.into_iter().map(Arc::new).collect());
        let view = View {
            shards,
            tails: HashMap::new(),
            next_offsets,
            next_index,
            gaps,
        };
        Self {
            view: Mutex::new(view),
        }
    }

    /// Adds an entry's records to the tail, and what it lacks. They are copied before the lock is taken.
    pub(super) fn append(
        &self,
        next_index: u64,
        batches: &[(LogId, Vec<Record>)],
        next_offsets: &BTreeMap<LogId, u64>,
        gaps: &[IndexGap],
    ) {
        let copies: Vec<(LogId, Vec<Record>)> = batches.to_vec();
        let mut view = self.view.lock();
        for (log, records) in copies {
            if records.is_empty() {
                continue;
            }
            let before = view.tails.remove(&log);
            view.tails
                .insert(log, Arc::new(TailNode { records, before }));
        }
        view.next_offsets.extend(next_offsets);
        view.gaps.extend_from_slice(gaps);
        view.next_index = next_index;
    }

    /// Replaces the whole tail by the shard that now holds it.
    pub(super) fn commit(&self, shard: ShardReader) {
        let tails = {
            let mut view = self.view.lock();
            put(&mut view, shard);
            std::mem::take(&mut view.tails)
        };
        // Outside of the lock: there may be many records.
        drop(tails);
    }

    /// Replaces a shard by one with the same documents.
    pub(super) fn replace(&self, shard: ShardReader) {
        put(&mut self.view.lock(), shard);
    }

    /// Drops the shards that begin below this index.
    pub(super) fn drop_below(&self, from: u64) {
        let mut view = self.view.lock();
        Arc::make_mut(&mut view.shards).retain(|shard| shard.from >= from);
        view.gaps.retain(|gap| gap.index >= from);
    }

    /// See [`super::Searcher::next_offset`].
    pub(super) fn next_offset(&self, log: LogId) -> u64 {
        self.view
            .lock()
            .next_offsets
            .get(&log)
            .copied()
            .unwrap_or(0)
    }

    /// See [`super::Searcher::next_index`].
    pub(super) fn next_index(&self) -> u64 {
        self.view.lock().next_index
    }

    /// What all logs lack.
    pub(super) fn gaps(&self) -> Vec<IndexGap> {
        self.view.lock().gaps.clone()
    }

    /// What a search of a log works on.
    pub(super) fn snapshot(&self, log: LogId) -> Snapshot {
        let view = self.view.lock();
        Snapshot {
            shards: Arc::clone(&view.shards),
            tail: view.tails.get(&log).cloned(),
            next_offset: view.next_offsets.get(&log).copied().unwrap_or(0),
            gaps: view
                .gaps
                .iter()
                .filter(|gap| gap.log == log)
                .copied()
                .collect(),
        }
    }
}

fn put(view: &mut View, shard: ShardReader) {
    let shards = Arc::make_mut(&mut view.shards);
    let shard = Arc::new(shard);
    match shards.iter_mut().find(|old| old.from == shard.from) {
        Some(old) => *old = shard,
        None => shards.push(shard),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record(offset: u64) -> Record {
        Record {
            offset,
            timestamp: 0,
            attributes: Vec::new(),
            body: Bytes::new(),
        }
    }

    fn append(shared: &Shared, offset: u64) {
        let next = BTreeMap::from([(LogId(1), offset + 1)]);
        shared.append(offset + 1, &[(LogId(1), vec![record(offset)])], &next, &[]);
    }

    #[test]
    fn a_long_tail_is_read_newest_first_and_dropped_without_overflow() {
        let shared = Shared::default();
        for offset in 0..200_000 {
            append(&shared, offset);
        }
        let snapshot = shared.snapshot(LogId(1));
        append(&shared, 200_000);
        assert_eq!(
            (snapshot.next_offset, shared.next_offset(LogId(1))),
            (200_000, 200_001)
        );
        let tail = snapshot.tail.unwrap();
        assert!(
            tail.newest_first()
                .map(|record| record.offset)
                .eq((0..200_000).rev())
        );
        drop(shared);
        drop(tail);
    }
}
