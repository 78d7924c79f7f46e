//! What the parts share: a log in a directory of its own, entries that do not compress, and sealed segments.

use std::fmt;
use std::path::Path;
use std::sync::mpsc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use inkstone_storage::format::batch::{EncodedBatch, join};
use inkstone_storage::log::{Checkpoint, Log, LogOptions, Spare};
use inkstone_storage::types::{
    BatchOutcome, Entry, EntryId, EntryKind, Identity, LogId, NewRecord,
};
use tempfile::TempDir;

/// The one log that records go to.
pub(crate) const LOG: LogId = LogId(1);

/// A directory on the disk that the build is on: the system's temporary files may be in memory.
pub(crate) fn directory() -> Result<TempDir> {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).context("a directory to measure in")
}

/// A log with the server's defaults, in `dir`.
pub(crate) fn open(dir: &Path) -> Result<Log> {
    let options = LogOptions {
        dir: dir.join("group-1"),
        identity: Identity {
            cluster_id: [1; 16],
            node_id: 1,
        },
        group: 1,
        segment_size: 128 << 20,
        tail_size: 32 << 20,
        queue_size: 16 << 20,
        free_size_min: 0,
        spare: Spare::default(),
    };
    Log::open(options).context("opening the log")
}

/// So many bytes that no codec makes smaller, the same in every run.
pub(crate) fn noise(size: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    std::iter::repeat_with(next)
        .flat_map(u64::to_le_bytes)
        .take(size)
        .collect()
}

pub(crate) fn id(index: u64) -> EntryId {
    EntryId {
        term: 1,
        node: 1,
        index,
    }
}

/// An entry whose frame's payload has that many bytes.
pub(crate) fn command(index: u64, payload: &Bytes) -> Entry {
    Entry {
        id: id(index),
        kind: EntryKind::Command,
        payload: payload.clone(),
    }
}

/// What one entry carries: batches of records of one size.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) batches: usize,
    pub(crate) records: usize,
    pub(crate) size: usize,
}

impl fmt::Display for Shape {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            batches,
            records,
            size,
        } = self;
        if *batches > 1 {
            write!(
                out,
                "{batches} batches in one entry, each of {records} x {size} B"
            )
        } else {
            write!(out, "batches of {records} x {size} B")
        }
    }
}

impl Shape {
    /// Records of one entry.
    pub(crate) fn total(self) -> u64 {
        (self.batches * self.records) as u64
    }

    pub(crate) fn payload(self) -> Bytes {
        join(&vec![batch(self.records, self.size); self.batches], 0)
    }
}

fn batch(records: usize, size: usize) -> EncodedBatch {
    let bytes = noise(records * size);
    let records: Vec<NewRecord> = (0..records)
        .map(|number| NewRecord {
            timestamp: 1_795_000_000_000_000_000,
            attributes: Vec::new(),
            body: bytes.slice(number * size..(number + 1) * size),
        })
        .collect();
    EncodedBatch::encode(LOG, None, None, &records)
}

/// Appends `count` entries of that shape, applies them, and seals every segment but the last; the number of records.
pub(crate) fn fill(log: &Log, shape: Shape, count: u64) -> Result<()> {
    let payload = shape.payload();
    for index in 0..count {
        log.wait_for_room();
        let entry = Entry {
            id: id(index),
            kind: EntryKind::Batches,
            payload: payload.clone(),
        };
        log.append(vec![entry], Box::new(|_| ()))?;
        if log.is_boundary(index) {
            let checkpoint = Checkpoint {
                applied: id(index - 1),
                body: Bytes::new(),
            };
            log.seal(index, checkpoint);
        }
        let outcomes: Vec<BatchOutcome> = (0..shape.batches as u64)
            .map(|batch| BatchOutcome::Taken {
                base_offset: index * shape.total() + batch * shape.records as u64,
            })
            .collect();
        log.note_applied(index, &outcomes)?;
    }
    settle(log)
}

/// Waits until the writer has done all that was asked of it.
pub(crate) fn settle(log: &Log) -> Result<()> {
    let (answer, answered) = mpsc::sync_channel(1);
    log.append(
        Vec::new(),
        Box::new(move |result| drop(answer.send(result))),
    )?;
    answered.recv()??;
    Ok(())
}
