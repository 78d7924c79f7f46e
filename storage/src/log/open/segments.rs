//! Loading the segment files at open: sealed ones by their footers, the others frame by frame.
//!
//! Promises: the segments that come out are contiguous and whole; only a file that provably holds nothing is deleted.
//! Must not know: the small state.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::LogOptions;
use super::super::hard_state::{NEW_SEQUENCE, foreign};
use super::super::mutant::{Mutant, Mutation};
use super::super::recovery::{Recovery, Verdict};
use super::super::scan::{End, Scan, Scanner, is_zero_from};
use super::super::segment::{Sealed, SegmentFile, checkpoint_path, damage, segment_path};
use super::super::watermark::Found;
use super::{Files, io_error};
use crate::error::OpenError;
use crate::format::fields::FormatError;
use crate::format::hard_state::HardState;
use crate::format::segment_footer::{Footer, TRAILER_SIZE};
use crate::format::segment_header::{SEGMENT_HEADER_SIZE, SEGMENT_VERSION, SegmentHeader};
use crate::io::{Disk, DiskFile};

/// What opening a log knows before it looks at segments.
#[derive(Debug)]
pub(super) struct Opening<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) options: &'a LogOptions,
    pub(super) group: u32,
    pub(super) seed: u32,
    pub(super) hard_state: HardState,
    pub(super) watermark: Found,
    pub(super) mutation: Mutation,
}

/// The segments of a log, in order.
#[derive(Debug, Default)]
pub(super) struct Segments {
    pub(super) sealed: Vec<Sealed>,
    pub(super) scanned: Vec<(SegmentFile, Scan)>,
}

/// A file with a good header.
struct Candidate {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    size: u64,
    header: SegmentHeader,
}

impl Opening<'_> {
    /// Loads all segments; files that are purged or hold nothing are deleted.
    pub(super) fn load(
        &self,
        files: &mut Files,
        recovery: &mut Recovery,
    ) -> Result<Segments, OpenError> {
        self.delete_purged(files, recovery)?;
        let mut candidates = self.candidates(files, recovery)?;
        self.check_first(&candidates)?;
        let mut segments = Segments::default();
        let mut next: Option<(u64, u32)> = None;
        for number in 0..candidates.len() {
            let following = candidates.get(number + 1).map(|next| next.header);
            let Some(candidate) = candidates.get_mut(number) else {
                break;
            };
            if let Some((index, chain)) = next {
                candidate.check_follows(index, chain)?;
            }
            let sealed = candidate.open_sealed(files, self.mutation, recovery)?;
            next = match sealed {
                Some(sealed) => {
                    if let Some((before, _)) = segments.scanned.last() {
                        let error =
                            FormatError::bad(0, "unsealed, with a sealed segment behind it");
                        return Err(damage(&before.path, 0, error).into());
                    }
                    let next = (sealed.last() + 1, sealed.footer().chain_end);
                    segments.sealed.push(sealed);
                    Some(next)
                }
                None => self.scan(candidate, following, &mut segments, recovery)?,
            };
        }
        self.delete_purged_end(&mut segments, recovery)?;
        // The last one is appended to, also when it is the last because those behind it held nothing.
        if let Some((file, scan)) = segments.scanned.last_mut() {
            file.capacity = self
                .options
                .segment_size
                .max(scan.end + TRAILER_SIZE as u64);
        }
        Ok(segments)
    }

    fn remove(&self, path: &Path) -> Result<(), OpenError> {
        let dir = self.options.log_dir();
        self.disk
            .remove(path)
            .and_then(|()| self.disk.sync_dir(&dir))
            .map_err(io_error(path))
    }

    /// A purge that a crash interrupted goes on: its id was durable before the first file went.
    fn delete_purged(&self, files: &mut Files, recovery: &mut Recovery) -> Result<(), OpenError> {
        let dir = self.options.log_dir();
        let first = self.hard_state.first;
        let bases: Vec<u64> = files.segments.iter().copied().collect();
        let followers = bases.iter().skip(1).map(|base| Some(*base)).chain([None]);
        for (base, follower) in bases.iter().zip(followers) {
            let is_purged = if self.hard_state.restarted {
                *base < first
            } else {
                self.hard_state.purged.is_some() && follower.is_some_and(|base| base <= first)
            };
            if is_purged {
                let path = segment_path(&dir, *base);
                self.remove(&path)?;
                recovery.note(Verdict::PurgedFile, &path, 0, 0);
                files.segments.remove(base);
            }
        }
        let kept = files.boundaries.split_off(&first);
        for boundary in std::mem::replace(&mut files.boundaries, kept) {
            let path = checkpoint_path(&dir, boundary);
            self.remove(&path)?;
            recovery.note(Verdict::PurgedFile, &path, 0, 0);
        }
        Ok(())
    }

    /// The last segment goes too, when all that it holds is purged.
    fn delete_purged_end(
        &self,
        segments: &mut Segments,
        recovery: &mut Recovery,
    ) -> Result<(), OpenError> {
        let first = self.hard_state.first;
        let scanned_end = |(file, scan): &(SegmentFile, Scan)| file.base + scan.frames.len() as u64;
        if segments
            .scanned
            .last()
            .is_some_and(|last| scanned_end(last) <= first)
        {
            for (file, _) in segments.scanned.drain(..) {
                self.remove(&file.path)?;
                recovery.note(Verdict::PurgedFile, &file.path, 0, 0);
            }
        }
        if segments.scanned.is_empty()
            && segments
                .sealed
                .last()
                .is_some_and(|last| last.last() < first)
        {
            for sealed in segments.sealed.drain(..) {
                self.remove(sealed.path())?;
                recovery.note(Verdict::PurgedFile, sealed.path(), 0, 0);
            }
        }
        Ok(())
    }

    fn candidates(
        &self,
        files: &Files,
        recovery: &mut Recovery,
    ) -> Result<Vec<Candidate>, OpenError> {
        let mut candidates = Vec::new();
        for base in &files.segments {
            let is_last = files.segments.last() == Some(base);
            candidates.extend(self.candidate(*base, is_last, recovery)?);
        }
        Ok(candidates)
    }

    /// Opens a file and checks its header. `None` when it was deleted: the last one, whose header a crash kept from
    /// becoming durable, and which therefore never held a frame.
    fn candidate(
        &self,
        base: u64,
        is_last: bool,
        recovery: &mut Recovery,
    ) -> Result<Option<Candidate>, OpenError> {
        let path = segment_path(&self.options.log_dir(), base);
        let failed = io_error(&path);
        let file = self.disk.open(&path).map_err(&failed)?;
        let size = file.size().map_err(&failed)?;
        let mut bytes = vec![0; SEGMENT_HEADER_SIZE];
        let decoded = if size < SEGMENT_HEADER_SIZE as u64 {
            Err(FormatError::bad(0, "segment header: cut short"))
        } else {
            file.read_at(&mut bytes, 0).map_err(&failed)?;
            SegmentHeader::decode(&bytes)
        };
        let header = match decoded {
            Ok(header) => header,
            Err(FormatError::Version { found }) => {
                return Err(OpenError::Version {
                    file: path.clone(),
                    found,
                    known: SEGMENT_VERSION,
                });
            }
            Err(error) => {
                let may_be_new = is_last
                    && self.watermark != Found::Bad
                    && self.watermark.index().is_none_or(|durable| durable < base);
                let frames = SEGMENT_HEADER_SIZE as u64;
                if may_be_new && is_zero_from(file.as_ref(), &path, size, frames)? {
                    self.remove(&path)?;
                    recovery.note(Verdict::UnbornSegment, &path, 0, size);
                    return Ok(None);
                }
                return Err(damage(&path, 0, error).into());
            }
        };
        let candidate = Candidate {
            path: path.clone(),
            file,
            size,
            header,
        };
        self.check_header(&candidate, base)?;
        Ok(Some(candidate))
    }

    fn check_header(&self, candidate: &Candidate, base: u64) -> Result<(), OpenError> {
        let header = &candidate.header;
        let cluster_id = self.options.identity.cluster_id;
        if (header.cluster_id, header.group) != (cluster_id, self.group) {
            return Err(foreign(
                &candidate.path,
                format!("cluster {cluster_id:02x?}, group {}", self.group),
                format!("cluster {:02x?}, group {}", header.cluster_id, header.group),
            ));
        }
        if header.base != base {
            let found = header.base;
            let error = FormatError::bad(0, format!("segment {base} expected, {found} found"));
            return Err(damage(&candidate.path, 0, error).into());
        }
        Ok(())
    }

    fn check_first(&self, candidates: &[Candidate]) -> Result<(), OpenError> {
        let first = self.hard_state.first;
        let Some(candidate) = candidates.first() else {
            return self.check_empty();
        };
        if candidate.header.base > first {
            let base = candidate.header.base;
            let path = segment_path(&self.options.log_dir(), first);
            let error = FormatError::bad(
                0,
                format!(
                    "the log begins with entry {first}, its first segment with {base}: one is missing"
                ),
            );
            return Err(damage(&path, 0, error).into());
        }
        Ok(())
    }

    /// A log without a segment is empty when the watermark says so, or when nothing was ever kept: the hard state, which
    /// a node changes before its first entry, is as it was created. Else its directory may have been lost.
    fn check_empty(&self) -> Result<(), OpenError> {
        if self.watermark != Found::Bad || self.hard_state.sequence <= NEW_SEQUENCE {
            return Ok(());
        }
        let what = "no slot is good, and there is no segment: how much was durable is not known";
        let error = FormatError::bad(0, what);
        Err(damage(&self.options.watermark_path(), 0, error).into())
    }

    /// Walks an unsealed segment: where the next one must begin. The last one is dropped when it has no frame.
    fn scan(
        &self,
        candidate: &Candidate,
        following: Option<SegmentHeader>,
        segments: &mut Segments,
        recovery: &mut Recovery,
    ) -> Result<Option<(u64, u32)>, OpenError> {
        let end = match following {
            Some(next) => End::Next {
                index: next.base,
                chain_crc: next.chain_start,
            },
            None => End::Open {
                // What is purged need not be there.
                durable: self
                    .watermark
                    .index()
                    .filter(|durable| *durable >= self.hard_state.first),
                watermark_is_bad: self.watermark == Found::Bad,
                cut_always: self.mutation.is(Mutant::CutOnAnyBadCrc),
            },
        };
        let scan = Scanner::new(
            candidate.file.as_ref(),
            &candidate.path,
            candidate.size,
            candidate.header,
            self.seed,
        )
        .run(end)?;
        if scan.frames.is_empty() && following.is_none() {
            self.remove(&candidate.path)?;
            let at = SEGMENT_HEADER_SIZE as u64;
            let verdict = if scan.is_torn {
                Verdict::TornTail
            } else {
                Verdict::EmptySegment
            };
            recovery.note(
                verdict,
                &candidate.path,
                at,
                candidate.size.saturating_sub(at),
            );
            return Ok(None);
        }
        let next = (
            candidate.header.base + scan.frames.len() as u64,
            scan.chain_crc,
        );
        let file = SegmentFile::planned(
            &self.options.log_dir(),
            candidate.header.base,
            candidate.size,
            candidate.header.chain_start,
        );
        file.set_file(Arc::clone(&candidate.file));
        segments.scanned.push((file, scan));
        Ok(Some(next))
    }
}

impl Candidate {
    /// The segment as a sealed one, if its footer is there. A footer that is not whole is what an interrupted sealing
    /// leaves, unless a checkpoint that is written after it is there.
    fn open_sealed(
        &self,
        files: &Files,
        mutation: Mutation,
        recovery: &mut Recovery,
    ) -> Result<Option<Sealed>, OpenError> {
        let behind = self.header.base.saturating_add(1);
        let was_sealed = files.boundaries.range(behind..).next().is_some();
        let unsealed = |error: FormatError| {
            if was_sealed {
                return Err(damage(&self.path, 0, error).into());
            }
            Ok(None)
        };
        let failed = io_error(&self.path);
        let mut trailer = vec![0; TRAILER_SIZE];
        let frames = (SEGMENT_HEADER_SIZE + TRAILER_SIZE) as u64;
        if self.size >= frames {
            let at = self.size - TRAILER_SIZE as u64;
            self.file.read_at(&mut trailer, at).map_err(&failed)?;
        }
        if !Footer::is_present(&trailer) {
            return unsealed(FormatError::bad(
                0,
                "the footer of a sealed segment is gone",
            ));
        }
        let map = self.file.map().map_err(&failed)?;
        let sealed = match Sealed::open(&self.path, map, mutation) {
            Ok(sealed) => sealed,
            Err(FormatError::Version { found }) => {
                return Err(OpenError::Version {
                    file: self.path.clone(),
                    found,
                    known: SEGMENT_VERSION,
                });
            }
            Err(error) => return unsealed(error),
        };
        let (header, footer) = (&self.header, sealed.footer());
        let same = (footer.base, footer.chain_start) == (header.base, header.chain_start)
            && (footer.group, footer.cluster_id) == (header.group, header.cluster_id);
        if !same {
            // Of a file that was not sealed: the end of a record, where a crash cut off the zeros behind it.
            return unsealed(FormatError::bad(0, "the footer is another segment's"));
        }
        if was_sealed {
            return Ok(Some(sealed));
        }
        let end = footer.frames_end;
        // Nothing may be written while it is mapped.
        drop(sealed);
        recovery.note(
            Verdict::UnprovenFooter,
            &self.path,
            end,
            self.size.saturating_sub(end),
        );
        self.make_footer_durable(end).map_err(&failed)?;
        let map = self.file.map().map_err(&failed)?;
        match Sealed::open(&self.path, map, mutation) {
            Ok(sealed) => Ok(Some(sealed)),
            Err(error) => Err(damage(&self.path, 0, error).into()),
        }
    }

    /// Nothing tells that the footer's fsync returned: the process may have been killed before it, or the fsync failed
    /// and left the bytes in the page cache alone, marked clean. Trusted as it is, the footer would get its checkpoint,
    /// and a power loss that takes it away would look like damage.
    fn make_footer_durable(&self, end: u64) -> io::Result<()> {
        let size = usize::try_from(self.size.saturating_sub(end)).map_err(io::Error::other)?;
        let mut footer = vec![0; size];
        self.file.read_at(&mut footer, end)?;
        self.file.write_at(&[IoSlice::new(&footer)], end)?;
        self.file.sync()
    }

    fn check_follows(&self, index: u64, chain: u32) -> Result<(), OpenError> {
        let found = (self.header.base, self.header.chain_start);
        if found == (index, chain) {
            return Ok(());
        }
        let error = FormatError::bad(
            0,
            format!(
                "the segment before ends before entry {index} (chain crc {chain:08x}), this one begins with entry {} \
                 (chain crc {:08x})",
                found.0, found.1
            ),
        );
        Err(damage(&self.path, 0, error).into())
    }
}
