//! The one thread that writes: it owns every write, sync, rename and deletion of a group's files.
//!
//! Promises: all that waits is written at once and synced once, and answered in order; sync group n + 1 is written only
//! after n is durable, and no sync group spans two files; the first failure stops everything, and nothing is retried,
//! for after a failed fsync the page cache may hold what the disk does not. Must not know: who reads.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::hard_state::HardStateFile;
use super::mutant::Mutant;
use super::queue::{Job, Mark, Purge, Truncate, Write};
use super::segment::{Sealed, SegmentFile, checkpoint_path, segment_path};
use super::shared::Shared;
use super::watermark::WatermarkFile;
use super::{Checkpoint, checkpoint};
use crate::error::WriteError;
use crate::format::checkpoint::CheckpointFile;
use crate::format::frame::{FRAME_HEADER_SIZE, SyncStamp, frame_size, put_stamp, stamp_seed};
use crate::format::segment_footer::FooterContent;
use crate::format::segment_header::SegmentHeader;
use crate::types::Vote;

/// Payloads up to this are copied beside their headers: cheaper than a part of their own in the vectored write.
const COPY_SIZE_MAX: usize = 4096;
/// What the write buffer keeps between groups.
const BUFFER_SIZE_MAX: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) hard_state: HardStateFile,
    pub(super) watermark: WatermarkFile,
    /// The last sync group.
    pub(super) sync_group: u64,
}

fn failed(path: &Path) -> impl Fn(io::Error) -> WriteError {
    move |error| WriteError {
        cause: format!("{}: {error}", path.display()),
    }
}

impl Writer {
    /// Works until the queue is closed and empty, or something fails.
    pub(super) fn run(mut self) {
        let mut jobs = Vec::new();
        let mut buffer = Vec::new();
        while self.shared.queue.take(&mut jobs) {
            let mut waiting: VecDeque<Job> = jobs.drain(..).collect();
            let mut group = Vec::new();
            let worked = self.work(&mut waiting, &mut group, &mut buffer);
            if let Err(error) = worked {
                self.stop(&error, group, waiting);
                return;
            }
        }
        if let Err(error) = self.watermark.sync() {
            tracing::warn!(%error, "the watermark of a clean stop may be an older one");
        }
    }

    /// Latches: everybody who waits is told, in order, and whoever comes is refused.
    fn stop(&self, error: &WriteError, group: Vec<Write>, waiting: VecDeque<Job>) {
        tracing::error!(%error, "the log stops");
        let queued = self.shared.queue.fail(error);
        let answers = group
            .into_iter()
            .map(|write| write.done)
            .chain(waiting.into_iter().chain(queued).map(Job::into_done));
        for done in answers.flatten() {
            done(Err(error.clone()));
        }
    }

    fn work(
        &mut self,
        jobs: &mut VecDeque<Job>,
        group: &mut Vec<Write>,
        buffer: &mut Vec<u8>,
    ) -> Result<(), WriteError> {
        while let Some(job) = jobs.pop_front() {
            match job {
                Job::Write(write) => {
                    let neighbours = group
                        .last()
                        .is_none_or(|last| Arc::ptr_eq(&last.segment, &write.segment));
                    assert!(
                        neighbours,
                        "a segment is created between two segments' frames"
                    );
                    group.push(write);
                }
                other => {
                    // Back in its place while the group is written, so that a failure answers in order.
                    jobs.push_front(other);
                    self.write(group, buffer)?;
                    if let Some(job) = jobs.pop_front() {
                        self.execute(job)?;
                    }
                }
            }
        }
        self.write(group, buffer)
    }

    /// Writes, syncs and answers a sync group.
    fn write(&mut self, group: &mut Vec<Write>, buffer: &mut Vec<u8>) -> Result<(), WriteError> {
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
            let error = failed(error);
            return self.go_on_after(group, buffer, error);
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
        for done in group.drain(..).filter_map(|write| write.done) {
            done(Ok(()));
        }
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

    /// A failed write ends the log; only a deliberate bug goes on behind what it left.
    fn go_on_after(
        &self,
        group: &mut Vec<Write>,
        buffer: &mut Vec<u8>,
        error: WriteError,
    ) -> Result<(), WriteError> {
        if !self.shared.mutation.is(Mutant::ShortWriteNotUndone) {
            return Err(error);
        }
        buffer.clear();
        let size = group.iter().map(|write| write.size).sum();
        self.shared.queue.release(size);
        for done in group.drain(..).filter_map(|write| write.done) {
            done(Err(error.clone()));
        }
        Ok(())
    }

    fn execute(&mut self, job: Job) -> Result<(), WriteError> {
        match job {
            Job::Write(_) => unreachable!("writes are gathered"),
            Job::Start(first) => self.hard_state.update(|state| {
                state.first = first;
                state.chain_start = 0;
            }),
            Job::Create(segment) => self.create(&segment),
            Job::Seal(segment, content) => self.seal(&segment, *content),
            Job::Checkpoint(path, file) => {
                let dir = self.shared.options.log_dir();
                self.write_whole(&dir, &path, &file.encode())
                    .map_err(failed(&path))
            }
            Job::Truncate(Truncate {
                cut,
                delete,
                mark,
                done,
            }) => {
                let outcome = self.truncate(cut, &delete, &mark);
                answer(done, outcome)
            }
            Job::Purge(Purge {
                purged,
                chain_start,
                restart,
                delete,
                done,
            }) => {
                if self.shared.mutation.is(Mutant::PurgeBeforeHardState) {
                    self.delete_purged(restart, &delete)?;
                }
                let saved = self.hard_state.update(|state| {
                    state.purged = Some(purged);
                    state.first = state.first.max(purged.index + 1);
                    state.chain_start = chain_start;
                    state.restarted = restart;
                });
                let outcome = saved.and_then(|()| self.delete_purged(restart, &delete));
                answer(done, outcome)
            }
            Job::Vote(vote, done) => {
                let outcome = self.vote(vote);
                answer(done, outcome)
            }
            Job::Snapshot(file, done) => {
                let outcome = self.snapshot(file);
                answer(done, outcome)
            }
            Job::Pass(done) => answer(done, Ok(())),
        }
    }

    /// The header is durable before the first frame is written: a file whose header is bad holds nothing.
    fn create(&self, segment: &SegmentFile) -> Result<(), WriteError> {
        let failed = failed(&segment.path);
        let header = SegmentHeader {
            group: self.shared.group,
            cluster_id: self.shared.options.identity.cluster_id,
            base: segment.base,
            chain_start: segment.chain_start,
        }
        .encode();
        let file = self.shared.disk.create(&segment.path).map_err(&failed)?;
        file.allocate(segment.capacity).map_err(&failed)?;
        file.write_at(&[IoSlice::new(&header)], 0)
            .and_then(|()| file.sync())
            .map_err(&failed)?;
        if !self.shared.mutation.is(Mutant::NoDirSyncAfterRoll) {
            self.sync_log_dir()?;
        }
        segment.set_file(file);
        Ok(())
    }

    fn sync_log_dir(&self) -> Result<(), WriteError> {
        let dir = self.shared.options.log_dir();
        self.shared.disk.sync_dir(&dir).map_err(failed(&dir))
    }

    /// First the watermark goes down, then files go, newest first, then the last one is cut: whatever crash, the log is a
    /// prefix of what it was and nothing that is missing is expected.
    fn truncate(
        &mut self,
        cut: Option<(Arc<SegmentFile>, u64)>,
        delete: &[Arc<SegmentFile>],
        mark: &Mark,
    ) -> Result<(), WriteError> {
        if !self.shared.mutation.is(Mutant::WatermarkNotLowered) {
            self.watermark.set(mark, self.sync_group)?;
        }
        for segment in delete.iter().rev() {
            self.shared
                .disk
                .remove(&segment.path)
                .map_err(failed(&segment.path))?;
            // Each deletion by itself: two that reach the disk in the other order would leave a hole.
            self.sync_log_dir()?;
        }
        if let Some((segment, position)) = cut {
            let file = segment.file();
            file.set_size(position)
                .and_then(|()| file.allocate(segment.capacity))
                .and_then(|()| file.sync())
                .map_err(failed(&segment.path))?;
        }
        self.shared.state.write().cuts.pop_front();
        Ok(())
    }

    fn delete_purged(&self, restart: bool, delete: &[u64]) -> Result<(), WriteError> {
        let dir = self.shared.options.log_dir();
        for base in delete {
            for path in [segment_path(&dir, *base), checkpoint_path(&dir, *base)] {
                match self.shared.disk.remove(&path) {
                    // Most segments' first entries have no checkpoint before them that is still there.
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(failed(&path)(error));
                    }
                    _ => {}
                }
            }
            // Each by itself, oldest first: two that reach the disk in the other order would leave a segment that
            // nothing follows, as if the log had been lost behind it.
            self.sync_log_dir()?;
        }
        if restart {
            self.shared.state.write().cuts.pop_front();
        }
        Ok(())
    }

    fn write_whole(&self, dir: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let disk = self.shared.disk.as_ref();
        if self.shared.mutation.is(Mutant::RenameBeforeSync) {
            return checkpoint::write_unsynced(disk, dir, path, bytes);
        }
        checkpoint::write_whole(disk, dir, path, bytes)
    }

    fn vote(&mut self, vote: Vote) -> Result<(), WriteError> {
        self.hard_state.update(|state| state.vote = Some(vote))?;
        self.shared.state.write().vote = Some(vote);
        Ok(())
    }

    fn snapshot(&self, file: CheckpointFile) -> Result<(), WriteError> {
        let options = &self.shared.options;
        let path = options.snapshot_path();
        self.write_whole(&options.dir, &path, &file.encode())
            .map_err(failed(&path))?;
        self.shared.state.write().snapshot = Some(Checkpoint {
            applied: file.applied,
            body: file.body,
        });
        Ok(())
    }

    /// Cuts off what was reserved and writes the footer behind the frames; from then on the file never changes.
    fn seal(&self, segment: &SegmentFile, content: FooterContent) -> Result<(), WriteError> {
        let failed = failed(&segment.path);
        let end = content.frames_end;
        let footer = FooterContent {
            sync_group: self.sync_group,
            ..content
        }
        .encode();
        let file = segment.file();
        file.set_size(end)
            .and_then(|()| file.write_at(&[IoSlice::new(&footer)], end))
            .and_then(|()| file.sync())
            .map_err(&failed)?;
        let map = file.map().map_err(&failed)?;
        let sealed = Sealed::open(&segment.path, map, self.shared.mutation)
            .map_err(|error| failed(io::Error::other(error.to_string())))?;
        self.shared.state.write().set_sealed(Arc::new(sealed));
        Ok(())
    }
}

fn answer(done: super::Done, outcome: Result<(), WriteError>) -> Result<(), WriteError> {
    done(outcome.clone());
    outcome
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
