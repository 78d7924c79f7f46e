//! A sync group: what waits is laid out, written with one call, made durable with one, and answered.
//!
//! Promises: the watermark is raised after the fsync and before the first callback; callbacks come in order. Must not know:
//! other jobs.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;

use super::{Writer, failed};
use crate::error::{WriteError, is_full};
use crate::format::frame::{FRAME_HEADER_SIZE, SyncStamp, frame_size, put_stamp, stamp_seed};
use crate::log::mutant::Mutant;
use crate::log::queue::{Mark, Write};
use crate::log::segment::SegmentFile;

/// Payloads up to this are copied beside their headers: cheaper than a part of their own in the vectored write.
const COPY_SIZE_MAX: usize = 4096;
/// What the write buffer keeps between groups.
const BUFFER_SIZE_MAX: usize = 1 << 20;

impl Writer {
    /// Writes, syncs and answers a sync group.
    pub(super) fn write(
        &mut self,
        group: &mut Vec<Write>,
        buffer: &mut Vec<u8>,
    ) -> Result<(), WriteError> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            return Ok(());
        };
        let segment = Arc::clone(&first.segment);
        let mark = Mark {
            last: Some(last.last),
            base: segment.base,
            position: last.end,
            chain_crc: last.chain_crc,
        };
        let position = first.position;
        self.sync_group += 1;
        let stamp = SyncStamp {
            group: self.sync_group,
            start: position,
        };
        let seed = stamp_seed(self.shared.options.identity.cluster_id);
        let failed = failed(&segment.path);
        let parts = gather(group, stamp, seed, buffer);
        let written = segment.file().write_at(&slices(&parts, buffer), position);
        if let Err(error) = written {
            return self.undo(group, buffer, &error);
        }
        if self.shared.mutation.is(Mutant::AckBeforeSync) {
            for done in group.iter_mut().filter_map(|write| write.done.take()) {
                done(Ok(()));
            }
        }
        self.sync(&segment).map_err(&failed)?;
        buffer.clear();
        buffer.shrink_to(BUFFER_SIZE_MAX);
        self.watermark.raise(&mark, self.sync_group)?;
        let size = group.iter().map(|write| write.size).sum();
        if let Some(last) = mark.last {
            self.shared.state.write().set_durable(last.index);
        }
        self.shared.queue.release(size);
        // Each is taken out only when it is called: should one panic, the others are still there to be told.
        for done in group.iter_mut().filter_map(|write| write.done.take()) {
            done(Ok(()));
        }
        group.clear();
        self.spare.advance(mark.position, segment.capacity);
        Ok(())
    }

    fn sync(&self, segment: &SegmentFile) -> io::Result<()> {
        let mutation = self.shared.mutation;
        if mutation.is(Mutant::SyncIsNoOp) {
            return Ok(());
        }
        let synced = segment.file().sync();
        if synced.is_err() && mutation.is(Mutant::RetryFailedSync) {
            return segment.file().sync();
        }
        synced
    }

    /// A failed write ends the log. One that found no room may have left a part of its frames in the page cache, from where
    /// it reaches the disk sooner or later: the file is cut back to what is durable, so that the next open finds the end
    /// of the log there. If that does not succeed, or the disk itself failed and had better be left alone, the open finds
    /// a torn write behind the watermark, and cuts it then.
    fn undo(
        &self,
        group: &mut Vec<Write>,
        buffer: &mut Vec<u8>,
        error: &io::Error,
    ) -> Result<(), WriteError> {
        let Some(first) = group.first() else {
            return Ok(());
        };
        let segment = &first.segment;
        let failure = failed(&segment.path)(io::Error::new(error.kind(), error.to_string()));
        if self.shared.mutation.is(Mutant::ShortWriteNotUndone) {
            buffer.clear();
            let size = group.iter().map(|write| write.size).sum();
            self.shared.queue.release(size);
            for done in group.iter_mut().filter_map(|write| write.done.take()) {
                done(Err(failure.clone()));
            }
            group.clear();
            return Ok(());
        }
        if is_full(error)
            && let Err(error) = segment.file().set_size(first.position)
        {
            tracing::warn!(%error, "what was written of the last frames stays until the next open");
        }
        Err(failure)
    }
}

/// A part of the vectored write.
enum Part<'a> {
    Buffer(Range<usize>),
    Payload(&'a [u8]),
}

/// Stamps the frames and lays them out: headers, small payloads and padding in the buffer, large payloads where they are.
fn gather<'a>(
    group: &'a mut [Write],
    stamp: SyncStamp,
    seed: u32,
    buffer: &mut Vec<u8>,
) -> Vec<Part<'a>> {
    let mut parts = Vec::new();
    let mut from = 0;
    for frame in group.iter_mut().flat_map(|write| &mut write.frames) {
        put_stamp(&mut frame.header, stamp, seed);
        buffer.extend_from_slice(&frame.header);
        let payload: &'a [u8] = &frame.payload;
        if payload.len() <= COPY_SIZE_MAX {
            buffer.extend_from_slice(payload);
        } else {
            parts.push(Part::Buffer(from..buffer.len()));
            parts.push(Part::Payload(payload));
            from = buffer.len();
        }
        let size = u32::try_from(payload.len()).expect("checked at append");
        let padding = frame_size(size) - (FRAME_HEADER_SIZE + payload.len()) as u64;
        buffer.extend((0..padding).map(|_| 0));
    }
    parts.push(Part::Buffer(from..buffer.len()));
    parts
}

fn slices<'a>(parts: &'a [Part<'a>], buffer: &'a [u8]) -> Vec<IoSlice<'a>> {
    parts
        .iter()
        .map(|part| match part {
            Part::Buffer(range) => IoSlice::new(buffer.get(range.clone()).unwrap_or_default()),
            Part::Payload(payload) => IoSlice::new(payload),
        })
        .collect()
}
