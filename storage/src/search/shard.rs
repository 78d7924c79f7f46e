//! One shard: a directory of tantivy that holds the records of a contiguous range of entries.
//!
//! Promises: documents stand in the order in which they were fed, in every segment and from segment to segment; what
//! opens is whole, or is an error and is rebuilt. Must not know: other shards, the in-memory tail, queries.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use futures::executor::block_on;
use tantivy::index::SegmentMeta;
use tantivy::indexer::{IndexWriterOptions, NoMergePolicy};
use tantivy::{FutureResult, Index, IndexReader, IndexSettings, IndexWriter, ReloadPolicy};

use super::IndexError;
use super::files::{self, ShardDir};
use super::gaps::IndexGap;
use super::merge;
use super::payload::Payload;
use super::reader::ShardReader;
use super::schema::{self, Fields};
use crate::types::{LogId, Record};

/// What tantivy takes as a writer's memory, in bytes.
const WRITER_MEMORY: std::ops::RangeInclusive<usize> = 15_000_000..=4_000_000_000;

/// A shard that was opened and validated.
pub(super) struct OpenShard {
    dir: ShardDir,
    index: Index,
    reader: IndexReader,
    /// As of its last commit.
    pub(super) payload: Payload,
    /// As of its last commit.
    pub(super) shard: ShardReader,
}

impl OpenShard {
    /// Opens a shard. With `verify` every byte is read and its checksum compared, before any of it is used.
    pub(super) fn open(dir: ShardDir, verify: bool) -> Result<Self, IndexError> {
        let index = Index::open_in_dir(&dir.path)?;
        schema::register_tokenizer(&index);
        if index.schema() != schema::schema() {
            return Err(IndexError::failed("the schema is another one"));
        }
        if verify {
            let damaged = index.validate_checksum()?;
            if !damaged.is_empty() {
                return Err(IndexError::failed(format!(
                    "checksums do not match: {damaged:?}"
                )));
            }
        }
        let payload = index
            .load_metas()?
            .payload
            .ok_or_else(|| IndexError::failed("nothing was committed"))?;
        let payload = Payload::decode(&payload).map_err(IndexError::failed)?;
        let named_next = dir.to.map_or(Some(payload.next), |to| to.checked_add(1));
        if payload.from != dir.from || named_next != Some(payload.next) {
            return Err(IndexError::failed(
                "the directory's name and the payload differ",
            ));
        }
        let reader = manual_reader(&index)?;
        let shard = ShardReader::load(payload.from, &reader)?;
        if shard.documents() != payload.documents {
            return Err(IndexError::failed("documents are missing"));
        }
        Ok(Self {
            dir,
            index,
            reader,
            payload,
            shard,
        })
    }

    /// Whether it still takes documents.
    pub(super) fn is_unfinished(&self) -> bool {
        self.dir.to.is_none()
    }

    /// Makes a shard that has its last commit immutable: files that no commit names are deleted, and its directory
    /// gets its final name.
    pub(super) fn seal(self, index_dir: &Path) -> Result<Self, IndexError> {
        let Self {
            dir,
            index,
            reader,
            payload,
            shard,
        } = self;
        let last = payload
            .next
            .checked_sub(1)
            .ok_or_else(|| IndexError::failed("an empty range"))?;
        // A fresh view: readers of earlier commits do not hold the files that merges have replaced.
        drop((index, reader, shard));
        let index = Index::open_in_dir(&dir.path)?;
        let writer = new_writer(&index, *WRITER_MEMORY.start())?;
        writer.garbage_collect_files().wait()?;
        drop((writer, index));
        let sealed = ShardDir::finished(index_dir, payload.from, last);
        files::rename(index_dir, &dir, &sealed)?;
        Self::open(sealed, true)
    }
}

/// The newest shard: the one that takes documents.
pub(super) struct Shard {
    dir: ShardDir,
    fields: Fields,
    writer: IndexWriter,
    reader: IndexReader,
    /// Documents fed.
    documents: u64,
    /// Bytes of bodies and attributes fed.
    size: u64,
    /// What was left out.
    gaps: Vec<IndexGap>,
    merging: Option<FutureResult<Option<SegmentMeta>>>,
}

impl Shard {
    /// Starts an empty shard whose first entry is `from`.
    pub(super) fn create(index_dir: &Path, from: u64, memory: usize) -> Result<Self, IndexError> {
        let dir = ShardDir::unfinished(index_dir, from);
        std::fs::create_dir(&dir.path)?;
        // Nothing is stored, so compressing it wants no thread.
        let settings = IndexSettings {
            docstore_compress_dedicated_thread: false,
            ..Default::default()
        };
        let builder = Index::builder().schema(schema::schema()).settings(settings);
        let index = builder.create_in_dir(&dir.path)?;
        schema::register_tokenizer(&index);
        let reader = manual_reader(&index)?;
        let payload = Payload {
            from,
            next: from,
            documents: 0,
            size: 0,
            logs: BTreeMap::new(),
            gaps: Vec::new(),
        };
        Self::new(dir, &index, reader, payload, memory)
    }

    /// Goes on behind the last commit.
    pub(super) fn resume(
        open: OpenShard,
        memory: usize,
    ) -> Result<(Self, ShardReader), IndexError> {
        let OpenShard {
            dir,
            index,
            reader,
            payload,
            shard,
        } = open;
        let writing = Self::new(dir, &index, reader, payload, memory)?;
        writing.writer.garbage_collect_files().wait()?;
        Ok((writing, shard))
    }

    fn new(
        dir: ShardDir,
        index: &Index,
        reader: IndexReader,
        as_of: Payload,
        memory: usize,
    ) -> Result<Self, IndexError> {
        let writer = new_writer(index, memory)?;
        Ok(Self {
            dir,
            fields: schema::fields(),
            writer,
            reader,
            documents: as_of.documents,
            size: as_of.size,
            gaps: as_of.gaps,
            merging: None,
        })
    }

    /// Bytes fed.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Adds a record behind those added before.
    pub(super) fn add(&mut self, log: LogId, record: &Record) -> Result<(), IndexError> {
        let document = schema::document(self.fields, log, self.documents, record);
        self.writer.add_document(document)?;
        self.documents += 1;
        self.size += size_of_record(record) as u64;
        Ok(())
    }

    /// Notes what an entry lacks.
    pub(super) fn leave_out(&mut self, gaps: &[IndexGap]) {
        self.gaps.extend_from_slice(gaps);
    }

    /// Makes what was added durable and readable, with how far the feed has come.
    pub(super) fn commit(
        &mut self,
        next: u64,
        logs: &BTreeMap<LogId, u64>,
    ) -> Result<ShardReader, IndexError> {
        let payload = Payload {
            from: self.dir.from,
            next,
            documents: self.documents,
            size: self.size,
            logs: logs.clone(),
            gaps: self.gaps.clone(),
        };
        let mut commit = self.writer.prepare_commit()?;
        commit.set_payload(&payload.encode());
        commit.commit()?;
        let shard = self.reload()?;
        self.merge_neighbours(&shard)?;
        Ok(shard)
    }

    fn reload(&self) -> Result<ShardReader, IndexError> {
        self.reader.reload()?;
        let shard = ShardReader::load(self.dir.from, &self.reader)?;
        if shard.documents() != self.documents {
            return Err(IndexError::failed("the index lost documents"));
        }
        Ok(shard)
    }

    /// Starts a merge when one is due and none is under way. It goes on behind the feed.
    fn merge_neighbours(&mut self, shard: &ShardReader) -> Result<(), IndexError> {
        if let Some(merging) = &mut self.merging {
            match Pin::new(merging).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => return Ok(()),
                Poll::Ready(merged) => drop(merged?),
            }
            self.merging = None;
            // It may have ended after `shard` was loaded, whose segments would then be gone: the next commit sees.
            return Ok(());
        }
        if let Some(run) = merge::next_run(&shard.sizes()) {
            self.merging = Some(self.writer.merge(&shard.ids(run)));
        }
        Ok(())
    }

    fn wait_for_merge(&mut self) -> Result<(), IndexError> {
        match self.merging.take() {
            // Not its own `wait`, which panics once it was polled.
            Some(merging) => Ok(block_on(merging).map(drop)?),
            None => Ok(()),
        }
    }

    /// Merges a shard that is full and committed, and makes it immutable. `None` when `stop` asked to leave it as it
    /// is: the next open goes on with it.
    pub(super) fn finish(
        mut self,
        index_dir: &Path,
        stop: &AtomicBool,
    ) -> Result<Option<ShardReader>, IndexError> {
        loop {
            self.wait_for_merge()?;
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let shard = self.reload()?;
            let Some(run) = merge::final_run(&shard.sizes()) else {
                break;
            };
            self.merging = Some(self.writer.merge(&shard.ids(run)));
        }
        let Self {
            dir,
            writer,
            reader,
            ..
        } = self;
        writer.wait_merging_threads()?;
        drop(reader);
        Ok(Some(OpenShard::open(dir, false)?.seal(index_dir)?.shard))
    }

    /// Ends the writer and what it has under way. What was not committed is lost.
    pub(super) fn close(mut self) -> Result<(), IndexError> {
        self.wait_for_merge()
    }
}

/// Bytes of a record's body and attributes.
pub(super) fn size_of_record(record: &Record) -> usize {
    let attributes = record
        .attributes
        .iter()
        .map(|(key, value)| key.len() + value.len());
    record.body.len() + attributes.sum::<usize>()
}

fn manual_reader(index: &Index) -> Result<IndexReader, IndexError> {
    // Any other policy is a thread that polls a file.
    Ok(index
        .reader_builder()
        .reload_policy(ReloadPolicy::Manual)
        .try_into()?)
}

/// One thread writes, so that document order is feed order; merges are chosen here.
fn new_writer(index: &Index, memory: usize) -> Result<IndexWriter, IndexError> {
    let options = IndexWriterOptions::builder()
        .memory_budget_per_thread(memory.clamp(*WRITER_MEMORY.start(), *WRITER_MEMORY.end()))
        .num_worker_threads(1)
        .num_merge_threads(1)
        .build();
    let writer = index.writer_with_options(options)?;
    writer.set_merge_policy(Box::new(NoMergePolicy));
    Ok(writer)
}

impl From<tantivy::TantivyError> for IndexError {
    fn from(error: tantivy::TantivyError) -> Self {
        IndexError::of(&error)
    }
}

impl From<std::io::Error> for IndexError {
    fn from(error: std::io::Error) -> Self {
        IndexError::of(&error)
    }
}
