//! The walk over all segment files: which are whole, and everything that is not.
//!
//! Promises: changes nothing; goes on behind damage, so that all of it is named. Must not know: how damage is mended.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::mutant::Mutant;
use super::super::scan::{Durable, End, FaultAt, FaultList, Scan, Scanner, Tail};
use super::super::segment::{Sealed, SegmentFile, damage, segment_path};
use super::super::watermark::Found;
use super::begin::Files;
use super::candidate::Candidate;
use super::segments::Opening;
use crate::error::{Damage, FaultyRange, Known, OpenError, Verdict};
use crate::format::fields::FormatError;
use crate::format::segment_header::{SEGMENT_HEADER_SIZE, SegmentHeader};
use crate::io::{Disk, DiskFile};

/// A row of the table that was found, and is made good once it is known that the log can be opened.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) verdict: Verdict,
    pub(super) file: PathBuf,
    pub(super) position: u64,
    pub(super) size: u64,
}

/// A segment file whose header is known, though it may not stand there.
#[derive(Debug)]
pub(in crate::log) struct Segment {
    pub(in crate::log) path: PathBuf,
    held: Option<Arc<dyn DiskFile>>,
    pub(in crate::log) size: u64,
    pub(in crate::log) header: SegmentHeader,
}

impl Segment {
    /// The file, opened again when it is not open.
    pub(in crate::log) fn file(&self, disk: &dyn Disk) -> io::Result<Arc<dyn DiskFile>> {
        match &self.held {
            Some(file) => Ok(Arc::clone(file)),
            None => disk.open(&self.path),
        }
    }
}

/// What is in the log's directory.
#[derive(Debug, Default)]
pub(in crate::log) struct Survey {
    pub(super) sealed: Vec<Sealed>,
    /// Whole up to the first fault.
    pub(super) scanned: Vec<(SegmentFile, Scan)>,
    /// Every file with its header, those of the two lists above.
    pub(in crate::log) segments: Vec<Segment>,
    pub(in crate::log) faults: FaultList,
    /// The first thing that no peer can mend.
    pub(super) damage: Option<Damage>,
    /// Base of the first segment whose footer is lost: from there on all are unsealed.
    pub(super) rebuilt_from: Option<u64>,
    /// Sealed segments of this base and later ones have footers that nothing says are durable.
    pub(super) unproven_from: Option<u64>,
    /// Bases of segments whose header is to be written again.
    pub(super) headers: Vec<u64>,
    /// Files that hold nothing.
    pub(super) removed: Vec<Note>,
    pub(super) notes: Vec<Note>,
    /// How the segment ends that is appended to.
    pub(super) last: Option<Last>,
}

/// How the last segment ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Last {
    /// Position behind the last frame.
    pub(super) end: u64,
    /// Position of the last sync group's first frame.
    pub(super) start: u64,
    /// Whether what stands behind the last frame is cut.
    pub(super) is_cut: bool,
}

impl Survey {
    /// What no peer can mend.
    pub(in crate::log) fn damage(&self) -> Option<Damage> {
        self.damage.clone()
    }

    /// The sealed segment that holds an entry.
    pub(in crate::log) fn sealed_of(&self, index: u64) -> Option<&Sealed> {
        let holds = |sealed: &&Sealed| (sealed.base()..=sealed.last()).contains(&index);
        self.sealed.iter().find(holds)
    }

    /// The last entry that is in a sealed segment, hence committed. The footers of those behind a lost one were written
    /// once, too, but only what is read as sealed counts.
    pub(in crate::log) fn last_sealed(&self) -> Option<u64> {
        self.sealed.last().map(Sealed::last)
    }

    /// The last entry that is known of, damaged or not.
    pub(in crate::log) fn last_index(&self) -> Option<u64> {
        let scanned = self
            .scanned
            .last()
            .and_then(|(_, scan)| scan.next.checked_sub(1));
        let damaged = self.faults.list.last().map(|at| at.fault.last);
        self.last_sealed().max(scanned).max(damaged)
    }

    /// Why the log cannot be opened, if it cannot.
    pub(super) fn refusal(&mut self) -> Option<OpenError> {
        if let Some(damage) = self.damage.take() {
            return Some(damage.into());
        }
        (!self.faults.is_empty()).then(|| OpenError::Faulty(self.faults.faults()))
    }

    fn note(&mut self, verdict: Verdict, file: &Path, position: u64, size: u64) {
        self.notes.push(Note {
            verdict,
            file: file.to_owned(),
            position,
            size,
        });
    }
}

/// What follows a segment: the index behind its last entry, and the chain crc there if that is known.
type Next = (u64, Option<u32>);

struct Walk<'a> {
    opening: &'a Opening<'a>,
    survey: Survey,
    /// The entry that must come next, and the chain crc before it.
    next: u64,
    chain: Option<u32>,
    is_first: bool,
}

impl Opening<'_> {
    /// Looks at everything.
    pub(in crate::log) fn survey(&self, files: &Files) -> Result<Survey, OpenError> {
        let mut candidates = Vec::new();
        for base in &files.segments {
            candidates.push(Candidate::open(self, *base)?);
        }
        let mut survey = Survey::default();
        if let Some(unborn) = candidates.pop_if(|last| self.is_unborn(last)) {
            survey.removed.push(Note {
                verdict: Verdict::UnbornSegment,
                file: unborn.path,
                position: 0,
                size: unborn.size,
            });
        }
        if candidates.is_empty() {
            self.check_empty()?;
        }
        let newest = files.boundaries.last().copied();
        let last_sealed = candidates
            .iter()
            .rfind(|candidate| candidate.sealed.is_ok())
            .map(|candidate| candidate.base);
        let starts: Vec<(u64, Option<u32>)> = candidates
            .iter()
            .map(|candidate| (candidate.base, candidate.chain_start()))
            .collect();
        let mut walk = Walk {
            opening: self,
            survey,
            next: self.hard_state.first,
            chain: Some(self.hard_state.chain_start),
            is_first: true,
        };
        for (number, candidate) in candidates.into_iter().enumerate() {
            let base = candidate.base;
            let was_sealed = newest.max(last_sealed).is_some_and(|sealed| sealed > base);
            let following = starts.get(number + 1).copied();
            // The segment at the newest boundary was begun, though it may have been truncated away since.
            let begun = || {
                newest
                    .filter(|newest| *newest > base)
                    .map(|newest| (newest, None))
            };
            let is_last = following.is_none();
            walk.take(candidate, following.or_else(begun), was_sealed, is_last)?;
        }
        walk.check_watermark();
        walk.drop_purged();
        Ok(walk.survey)
    }

    /// Whether it is the file of a segment whose header a crash kept from becoming durable, and which therefore never
    /// held a frame.
    fn is_unborn(&self, last: &Candidate) -> bool {
        last.header.is_err()
            && self.watermark_is_sure
            && self
                .watermark
                .index()
                .is_none_or(|durable| durable < last.base)
            && last.is_bare()
    }

    /// What the watermark vouches for and is not purged.
    fn durable(&self) -> Option<Durable> {
        let Found::Known(mark) = self.watermark else {
            return None;
        };
        let last = mark
            .last
            .filter(|last| last.index >= self.hard_state.first)?;
        Some(Durable {
            index: last.index,
            chain_crc: mark.chain_crc,
            base: mark.base,
            position: mark.position,
        })
    }
}

impl Walk<'_> {
    fn refuse(&mut self, file: &Path, what: String) {
        let damage = damage(file, 0, FormatError::bad(0, what));
        self.survey.damage.get_or_insert(damage);
    }

    fn take(
        &mut self,
        candidate: Candidate,
        next: Option<Next>,
        was_sealed: bool,
        is_last: bool,
    ) -> Result<(), OpenError> {
        let start = candidate.chain_start();
        if candidate.base > self.next {
            self.miss(&candidate, start);
        } else if candidate.base < self.next && !self.is_first {
            let (next, base) = (self.next, candidate.base);
            let what =
                format!("the segment before ends before entry {next}, this one begins with {base}");
            self.refuse(&candidate.path, what);
        } else if let (false, Some(chain), Some(start)) = (self.is_first, self.chain, start)
            && chain != start
        {
            let index = self.next;
            let what = format!(
                "the segment before ends before entry {index} with chain crc {chain:08x}, this one begins with {start:08x}"
            );
            self.refuse(&candidate.path, what);
        }
        // What stands before the log's first entry is purged, and the chain up to there may have been cut off.
        let known = if candidate.base < self.opening.hard_state.first {
            start
        } else {
            start.or(self.chain)
        };
        self.is_first = false;
        let Some(header) = self.header(&candidate, known) else {
            return Ok(());
        };
        let sealed = self.survey.rebuilt_from.is_none()
            && candidate
                .sealed
                .as_ref()
                .is_ok_and(|sealed| sealed.footer().chain_start == header.chain_start)
            && (was_sealed || candidate.has_all_rows(self.opening.disk)?);
        if sealed {
            self.take_sealed(candidate, header, was_sealed);
            return Ok(());
        }
        self.take_unsealed(candidate, header, next, was_sealed, is_last)
    }

    /// Entries that are in no file.
    fn miss(&mut self, candidate: &Candidate, start: Option<u32>) {
        let (first, base) = (self.next, candidate.base);
        let what = if self.is_first {
            format!(
                "the log begins with entry {first}, its first segment with {base}: one is missing"
            )
        } else {
            format!("the segment is missing; the next one begins with entry {base}")
        };
        let known = self.known(start, None);
        self.push(Verdict::MissingSegment, base - 1, known, what);
        self.next = base;
        self.chain = start;
    }

    fn known(&self, after: Option<u32>, size: Option<u64>) -> Known {
        match (self.chain, after) {
            (Some(before), Some(after)) => Known::Chain {
                before,
                after,
                size,
            },
            _ => Known::Nothing,
        }
    }

    /// Notes a fault of entries that are in no file, from the next one on.
    fn push(&mut self, verdict: Verdict, last: u64, known: Known, what: String) {
        let first = self.next;
        let path = segment_path(&self.opening.options.log_dir(), first);
        let position = SEGMENT_HEADER_SIZE as u64;
        self.survey.faults.push(FaultAt {
            fault: FaultyRange {
                verdict,
                first,
                last,
                position,
                damage: damage(&path, 0, FormatError::bad(0, what)),
                known,
            },
            base: first,
            before: None,
            after: None,
        });
    }

    /// The header that stands there, or must.
    fn header(&mut self, candidate: &Candidate, chain_start: Option<u32>) -> Option<SegmentHeader> {
        let error = match &candidate.header {
            Ok(header) => return Some(*header),
            Err(error) => error.clone(),
        };
        let Some(chain_start) = chain_start else {
            let damage = damage(&candidate.path, 0, error);
            self.survey.damage.get_or_insert(damage);
            self.chain = None;
            return None;
        };
        let size = SEGMENT_HEADER_SIZE as u64;
        self.survey
            .note(Verdict::LostHeader, &candidate.path, 0, size);
        self.survey.headers.push(candidate.base);
        Some(SegmentHeader {
            group: self.opening.group,
            cluster_id: self.opening.options.identity.cluster_id,
            base: candidate.base,
            chain_start,
        })
    }

    fn keep(&mut self, candidate: &Candidate, header: SegmentHeader) {
        self.survey.segments.push(Segment {
            path: candidate.path.clone(),
            held: candidate.held.clone(),
            size: candidate.size,
            header,
        });
    }

    fn take_sealed(&mut self, candidate: Candidate, header: SegmentHeader, was_sealed: bool) {
        self.keep(&candidate, header);
        let Ok(sealed) = candidate.sealed else { return };
        self.next = sealed.last() + 1;
        self.chain = Some(sealed.footer().chain_end);
        if !was_sealed {
            let end = sealed.footer().frames_end;
            let size = candidate.size.saturating_sub(end);
            let path = &candidate.path;
            self.survey.note(Verdict::UnprovenFooter, path, end, size);
            self.survey.unproven_from.get_or_insert(candidate.base);
        }
        self.survey.sealed.push(sealed);
    }

    fn take_unsealed(
        &mut self,
        candidate: Candidate,
        header: SegmentHeader,
        next: Option<Next>,
        was_sealed: bool,
        is_last: bool,
    ) -> Result<(), OpenError> {
        let end = self.end(&candidate, &header, next);
        let path = candidate.path.as_path();
        let held = candidate.file(self.opening.disk)?;
        let scanner = Scanner::new(
            held.as_ref(),
            path,
            candidate.size,
            header,
            self.opening.seed,
        );
        let mut scan = scanner.run(end);
        let behind = candidate.size.saturating_sub(scan.end);
        if let Some(error) = scan.contradiction.take() {
            let damage = damage(path, scan.end, error);
            self.survey.damage.get_or_insert(damage);
        }
        if was_sealed && self.survey.rebuilt_from.is_none() {
            self.survey.rebuilt_from = Some(candidate.base);
            self.survey
                .note(Verdict::LostFooter, path, scan.end, behind);
        } else if scan.tail == Tail::Footer && self.survey.rebuilt_from.is_none() {
            self.survey
                .note(Verdict::UnfinishedSealing, path, scan.end, behind);
        } else if scan.tail == Tail::Torn {
            self.survey.note(Verdict::TornTail, path, scan.end, behind);
        }
        self.next = next.map_or(scan.next, |(index, _)| index);
        self.chain = scan.chain_after;
        self.survey.faults.append(std::mem::take(&mut scan.faults));
        self.keep(&candidate, header);
        if let Err(error) = &candidate.header
            && scan.frames.is_empty()
            && self.survey.faults.is_empty()
        {
            // Nothing confirms the header, and it was durable before there was a frame.
            let damage = damage(&candidate.path, 0, error.clone());
            self.survey.damage.get_or_insert(damage);
        }
        if is_last && scan.frames.is_empty() && self.survey.faults.is_empty() {
            let verdict = Verdict::EmptySegment;
            self.survey.removed.push(Note {
                verdict,
                file: candidate.path,
                position: SEGMENT_HEADER_SIZE as u64,
                size: behind,
            });
            return Ok(());
        }
        let dir = self.opening.options.log_dir();
        let file = SegmentFile::planned(&dir, header.base, candidate.size, header.chain_start);
        file.set_file(held);
        self.survey.scanned.push((file, scan));
        Ok(())
    }

    fn end(&self, candidate: &Candidate, header: &SegmentHeader, next: Option<Next>) -> End {
        let durable = self.opening.durable();
        let Some((index, chain_crc)) = next else {
            let is_confirmed = candidate.header.is_ok() || candidate.confirms(header);
            return End::Open {
                durable,
                is_unknown: !self.opening.watermark_is_sure || !is_confirmed,
                cut_always: self.opening.mutation.is(Mutant::CutOnAnyBadCrc),
            };
        };
        let mark = durable.filter(|durable| durable.index + 1 == index);
        End::Next {
            index,
            chain_crc: chain_crc.or(mark.map(|mark| mark.chain_crc)),
        }
    }

    /// What was durable behind the last file that is there.
    fn check_watermark(&mut self) {
        let Some(durable) = self.opening.durable() else {
            return;
        };
        // A file that was walked to its end without one behind it has named what it lacks.
        let named = self.survey.faults.list.last().map(|at| at.fault.last);
        if self.survey.faults.unlisted > 0
            || durable.index < self.next
            || named.is_some_and(|named| named >= durable.index)
        {
            return;
        }
        let here = durable.base == self.next;
        let size = here.then(|| durable.position.saturating_sub(SEGMENT_HEADER_SIZE as u64));
        let known = self.known(Some(durable.chain_crc), size);
        let index = durable.index;
        let what = format!("the log was durable up to entry {index}, which is gone");
        self.push(Verdict::LostTail, index, known, what);
        self.next = index + 1;
    }

    /// The last segments go too, when all that they hold is purged; damage of what is purged with them.
    fn drop_purged(&mut self) {
        let first = self.opening.hard_state.first;
        let survey = &mut self.survey;
        let named = survey.faults.list.last().map(|at| at.fault.last + 1);
        if named.max(Some(self.next)) > Some(first) {
            return;
        }
        survey.faults = FaultList::default();
        for segment in survey.segments.drain(..) {
            if survey.removed.iter().any(|note| note.file == segment.path) {
                continue;
            }
            survey.removed.push(Note {
                verdict: Verdict::PurgedFile,
                file: segment.path,
                position: 0,
                size: segment.size,
            });
        }
        survey.sealed.clear();
        survey.scanned.clear();
        survey.headers.clear();
        survey.notes.clear();
    }
}
