//! Appending: entries get their place and their frame's header at once, and their bytes on disk from the writer thread.
//!
//! Promises: on return every reader sees the entries; the order of calls is the order on disk. Must not know: fsync.

use std::sync::Arc;

use super::Done;
use super::queue::{Frame, Job, Write};
use super::segment::{Active, FrameMeta, SegmentFile};
use super::shared::Shared;
use super::state::State;
use crate::error::WriteError;
use crate::format::frame::{FRAME_HEADER_SIZE, FrameHeader, frame_size, payload_crc};
use crate::format::segment_footer::TRAILER_SIZE;
use crate::format::segment_header::SEGMENT_HEADER_SIZE;
use crate::limits::PAYLOAD_SIZE_MAX;
use crate::types::Entry;

/// Places entries behind the last one.
pub(super) fn append(shared: &Shared, entries: Vec<Entry>, done: Done) -> Result<(), WriteError> {
    // Hashing is the expensive part and needs no lock.
    let crcs: Vec<u32> = entries
        .iter()
        .map(|entry| payload_crc(entry.kind, &entry.payload))
        .collect();
    let mut state = shared.state.write();
    if let Some(error) = shared.queue.failure() {
        return Err(error);
    }
    check_order(&state, &entries);
    let mut placing = Placing {
        shared,
        jobs: Vec::with_capacity(2),
        write: None,
    };
    for (entry, crc) in entries.into_iter().zip(crcs) {
        placing.place(&mut state, entry, crc);
    }
    // The lock is held until the jobs are queued: the order of places is the order of writes.
    shared.queue.push(placing.finish(done))
}

fn check_order(state: &State, entries: &[Entry]) {
    let Some(first) = entries.first() else { return };
    let next = if state.is_unstarted() {
        first.id.index
    } else {
        state.next_index()
    };
    for (next, entry) in (next..).zip(entries) {
        let index = entry.id.index;
        assert!(index == next, "entry {next} is next, {index} was appended");
        let size = entry.payload.len();
        assert!(
            size <= PAYLOAD_SIZE_MAX,
            "entry {index} has a payload of {size} bytes"
        );
    }
}

struct Placing<'a> {
    shared: &'a Shared,
    jobs: Vec<Job>,
    write: Option<Write>,
}

impl Placing<'_> {
    fn place(&mut self, state: &mut State, entry: Entry, crc: u32) {
        if state.is_unstarted() && state.first != entry.id.index {
            self.start(state, entry.id.index);
        }
        let payload_size = u32::try_from(entry.payload.len()).expect("checked with the order");
        let size = frame_size(payload_size);
        let sealing = state.sealing;
        let fits = |active: &Active| {
            active.base() >= sealing
                && active.end + size + TRAILER_SIZE as u64 <= active.file.capacity
        };
        if !state.active.back().is_some_and(fits) {
            self.roll(state, entry.id.index, size);
        }
        let (header, bytes) = FrameHeader {
            group: self.shared.group,
            id: entry.id,
            kind: entry.kind,
            payload_size,
            payload_crc: crc,
            chain_crc: 0,
        }
        .encode(state.chain);
        let active = state
            .active
            .back_mut()
            .expect("a segment was made when there was none");
        let position = active.end;
        active.push(FrameMeta {
            position,
            payload_size,
            payload_crc: crc,
            chain_crc: header.chain_crc,
            kind: entry.kind,
        });
        let segment = &active.file;
        let write = self.write.get_or_insert_with(|| Write {
            segment: Arc::clone(segment),
            position,
            frames: Vec::new(),
            end: position,
            last: entry.id,
            chain_crc: 0,
            size: 0,
            done: None,
        });
        write.frames.push(Frame {
            header: bytes,
            payload: entry.payload.clone(),
        });
        write.end = position + size;
        write.last = entry.id;
        write.chain_crc = header.chain_crc;
        write.size += FRAME_HEADER_SIZE + entry.payload.len();
        state.chain = header.chain_crc;
        if state.last.is_none() {
            // Of an empty log nothing is left, the terms of what was purged neither.
            state.runs.clear();
        }
        state.last = Some(entry.id);
        state.push_run(entry.id);
        state.tail.push(entry);
    }

    /// The log's first entry ever says where it begins: kept, so that a lost first segment is noticed.
    fn start(&mut self, state: &mut State, index: u64) {
        state.first = index;
        state.noted = index;
        state.tail.cut(0);
        state.tail.drop_below(index);
        self.jobs.push(Job::Start(index));
    }

    /// Begins a segment at `index` that has room for a frame of `size` bytes, and for the zeros behind it: no record may
    /// stand where a sealed segment has its trailer.
    fn roll(&mut self, state: &mut State, index: u64, size: u64) {
        self.jobs.extend(self.write.take().map(Job::Write));
        let capacity = self
            .shared
            .options
            .segment_size
            .max((SEGMENT_HEADER_SIZE + TRAILER_SIZE) as u64 + size);
        let file =
            SegmentFile::planned(&self.shared.options.log_dir(), index, capacity, state.chain);
        let file = Arc::new(file);
        state.active.push_back(Active::empty(Arc::clone(&file)));
        self.jobs.push(Job::Create(file));
    }

    fn finish(mut self, done: Done) -> Vec<Job> {
        match self.write.take() {
            Some(mut write) => {
                write.done = Some(done);
                self.jobs.push(Job::Write(write));
            }
            None => self.jobs.push(Job::Pass(done)),
        }
        self.jobs
    }
}
