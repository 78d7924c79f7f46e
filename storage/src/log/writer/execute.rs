//! What the writer does beside writing frames: files come and go, votes and snapshots are kept, segments are sealed.
//!
//! Promises: each job is durable before it is answered; every name is synced before anything relies on it. Must not know:
//! sync groups.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Writer, failed};
use crate::error::{WriteError, is_full};
use crate::format::checkpoint::CheckpointFile;
use crate::format::segment_footer::FooterContent;
use crate::format::segment_header::SegmentHeader;
use crate::io::DiskFile;
use crate::log::checkpoint::{self, TMP};
use crate::log::mutant::Mutant;
use crate::log::queue::{Job, Mark, Purge, Truncate};
use crate::log::repair::Replacement;
use crate::log::segment::{Sealed, SegmentFile, checkpoint_path, segment_path};
use crate::log::{Checkpoint, Done};
use crate::types::Vote;

impl Writer {
    /// Carries out a job that is no write. Who waits for it is put where the caller finds him, whatever becomes of it.
    pub(super) fn execute(&mut self, job: Job, waits: &mut Option<Done>) -> Result<(), WriteError> {
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
                *waits = Some(done);
                self.truncate(cut, &delete, &mark)
            }
            Job::Purge(Purge {
                purged,
                chain_start,
                restart,
                delete,
                checkpoints,
                done,
            }) => {
                *waits = Some(done);
                if self.shared.mutation.is(Mutant::PurgeBeforeHardState) {
                    self.delete_purged(restart, &delete)?;
                }
                self.hard_state.update(|state| {
                    state.purged = Some(purged);
                    state.first = state.first.max(purged.index + 1);
                    state.chain_start = chain_start;
                    state.restarted = restart;
                })?;
                self.delete_purged(restart, &delete)?;
                self.delete_checkpoints(&checkpoints)
            }
            Job::Vote(vote, done) => {
                *waits = Some(done);
                self.vote(vote)
            }
            Job::Snapshot(file, done) => {
                *waits = Some(done);
                self.snapshot(file)
            }
            Job::Replace(replacement, done) => {
                *waits = Some(done);
                self.replace(&replacement)
            }
            Job::Pass(done) => {
                *waits = Some(done);
                Ok(())
            }
        }
    }

    /// Who reads the damaged segment's map goes on with it; whoever comes next gets the new one.
    fn replace(&self, replacement: &Replacement) -> Result<(), WriteError> {
        let disk = self.shared.disk.as_ref();
        let path = segment_path(&self.shared.options.log_dir(), replacement.base);
        let failed = failed(&path);
        if !self.shared.state.read().is_sealed(replacement.base) {
            // Purged in the meantime.
            return disk.remove(&replacement.tmp).map_err(&failed);
        }
        disk.rename(&replacement.tmp, &path).map_err(&failed)?;
        self.sync_log_dir()?;
        let map = disk
            .open_to_read(&path)
            .and_then(|file| file.map())
            .map_err(&failed)?;
        let sealed = Sealed::open(&path, map, self.shared.mutation)
            .map_err(|error| failed(io::Error::other(error.to_string())))?;
        self.shared.state.write().replace_sealed(Arc::new(sealed));
        Ok(())
    }

    /// The header is durable before the file has its name, and the name before the first frame is written: a segment
    /// whose header is bad was damaged.
    fn create(&self, segment: &SegmentFile) -> Result<(), WriteError> {
        let failed = failed(&segment.path);
        let header = SegmentHeader {
            group: self.shared.group,
            cluster_id: self.shared.options.identity.cluster_id,
            base: segment.base,
            chain_start: segment.chain_start,
        }
        .encode();
        let (file, tmp) = match self.spare.take(segment.capacity) {
            Some(spare) => (spare.file, spare.path),
            None => self.create_unprepared(segment)?,
        };
        file.write_at(&[IoSlice::new(&header)], 0)
            .and_then(|()| file.sync())
            .and_then(|()| self.shared.disk.rename(&tmp, &segment.path))
            .map_err(&failed)?;
        if !self.shared.mutation.is(Mutant::NoDirSyncAfterRoll) {
            self.sync_log_dir()?;
        }
        segment.set_file(file);
        Ok(())
    }

    /// A file of its own, when there is no spare or it is too small. Space that was not to be had is given back.
    fn create_unprepared(
        &self,
        segment: &SegmentFile,
    ) -> Result<(Arc<dyn DiskFile>, PathBuf), WriteError> {
        let disk = &self.shared.disk;
        let tmp = segment.path.with_extension(TMP);
        let file = disk.create(&tmp).map_err(failed(&tmp))?;
        if let Err(error) = file.allocate(segment.capacity) {
            if is_full(&error)
                && let Err(error) = disk.remove(&tmp)
            {
                tracing::warn!(%error, "an empty file stays until the next open");
            }
            return Err(failed(&segment.path)(error));
        }
        Ok((file, tmp))
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
                .and_then(|()| segment.reserve())
                .and_then(|()| file.sync())
                .map_err(failed(&segment.path))?;
        }
        self.shared.state.write().cuts.pop_front();
        Ok(())
    }

    fn delete_purged(&self, restart: bool, delete: &[u64]) -> Result<(), WriteError> {
        let dir = self.shared.options.log_dir();
        for base in delete {
            self.remove_if_there(&segment_path(&dir, *base))?;
            self.remove_if_there(&checkpoint_path(&dir, *base))?;
            // Each by itself, oldest first: two that reach the disk in the other order would leave a segment that
            // nothing follows, as if the log had been lost behind it.
            self.sync_log_dir()?;
        }
        if restart {
            self.shared.state.write().cuts.pop_front();
        }
        Ok(())
    }

    /// Those of deleted segments are gone by now. In any order: every open deletes what is left of them.
    fn delete_checkpoints(&self, boundaries: &[u64]) -> Result<(), WriteError> {
        let dir = self.shared.options.log_dir();
        for boundary in boundaries {
            self.remove_if_there(&checkpoint_path(&dir, *boundary))?;
        }
        if boundaries.is_empty() {
            return Ok(());
        }
        self.sync_log_dir()
    }

    fn remove_if_there(&self, path: &Path) -> Result<(), WriteError> {
        match self.shared.disk.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path)(error)),
            _ => Ok(()),
        }
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
        let kept = self
            .shared
            .state
            .read()
            .snapshot
            .as_ref()
            .map(|kept| kept.applied.index);
        if kept > Some(file.applied.index) {
            // One that was built here while a newer one came from the leader: what that one replaced may be purged already.
            return Ok(());
        }
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
