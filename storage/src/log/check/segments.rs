//! The segments of a group, one behind the other: each by itself, then what one leaves to the next.
//!
//! Promises: every byte of every segment that is not purged is verified; a torn tail is told from damage by the rules of
//! recovery. Must not know: how the files beside them are laid out.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::group::GroupCheck;
use super::slots::check_owner;
use super::{FileKind, FileReport, State};
use crate::format::fields::FormatError;
use crate::format::frame::stamp_seed;
use crate::format::segment_footer::{Footer, TRAILER_SIZE};
use crate::format::segment_header::{SEGMENT_HEADER_SIZE, SegmentHeader};
use crate::io::DiskFile;
use crate::log::scan::{Durable, End, Scan, Scanner, Tail, Window};
use crate::log::segment::segment_path;
use crate::log::verify::{Expected, Fault, Faults, Verification, footer_is_whole};

/// Bytes that are verified between two reports of progress.
const STEP_SIZE: u64 = 1 << 20;

/// What the next segment must go on with.
#[derive(Debug, Clone, Copy)]
struct Link {
    index: u64,
    /// Unknown behind damage.
    chain: Option<u32>,
}

/// A segment's file, open.
struct Opened {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    size: u64,
    base: u64,
    /// Base index of the segment behind it, also of one that was begun and is not there any more.
    following: Option<u64>,
    header: Result<SegmentHeader, FormatError>,
}

impl Opened {
    fn read(&self, position: u64, size: usize) -> Result<Vec<u8>, FormatError> {
        let mut bytes = vec![0; size];
        match self.file.read_at(&mut bytes, position) {
            Ok(()) => Ok(bytes),
            Err(error) => Err(FormatError::bad(
                0,
                format!("the disk does not read it: {error}"),
            )),
        }
    }

    /// The last entry that it must hold, when another segment follows.
    fn last(&self) -> Option<u64> {
        self.following.and_then(|base| base.checked_sub(1))
    }
}

/// What a segment's end says of it.
enum Ending {
    Footer,
    /// It was sealed, and its footer is gone or cannot be told from other bytes.
    NoFooter(FormatError),
    Frames,
}

impl GroupCheck<'_, '_> {
    /// Checks all segments, and that they are all that there must be.
    pub(super) fn check_segments(&mut self) {
        let kept = self.kept_segments();
        let mut link = None;
        let sealed = kept.iter().filter(|(_, path)| self.has_footer(path));
        self.last_sealed = sealed.map(|(base, _)| *base).max();
        if let Some((base, _)) = kept.first()
            && *base > self.first()
            && self.hard_state.is_some()
        {
            let first = self.first();
            let what = format!("the log begins with entry {first}, its first segment with {base}");
            self.missing_segment(what, first..=*base - 1);
        }
        for (number, (base, path)) in kept.iter().enumerate() {
            let following = kept.get(number + 1).map(|(base, _)| *base);
            let mut report = self.check.report(path, FileKind::Segment);
            let end = self.check.done.verified + report.size.unwrap_or_default();
            link = self.segment(&mut report, *base, path, following, link);
            // What is foreign, or could not be read, is done with, too.
            self.check.advance(end - self.check.done.verified);
            self.reports.push(report);
        }
        let next = link.map_or_else(|| self.first(), |link| link.index);
        if link.is_some() || kept.is_empty() {
            self.check_end(next, link.and_then(|link| link.chain));
        }
    }

    /// The segments that hold entries which are not purged; the others are what a purge leaves that a crash interrupts.
    fn kept_segments(&mut self) -> Vec<(u64, PathBuf)> {
        let all: Vec<(u64, PathBuf)> = std::mem::take(&mut self.segments).into_iter().collect();
        let mut kept = Vec::new();
        for (number, (base, path)) in all.iter().enumerate() {
            let following = all.get(number + 1).map(|(base, _)| *base);
            let is_purged = self.hard_state.is_some_and(|state| {
                if state.restarted {
                    *base < state.first
                } else {
                    state.purged.is_some() && following.is_some_and(|base| base <= state.first)
                }
            });
            if is_purged {
                let mut report = self.check.report(path, FileKind::Segment);
                report.set(State::Leftover, "of a purge; deleted at the next start");
                self.check.advance(report.size.unwrap_or_default());
                self.reports.push(report);
            } else {
                kept.push((*base, path.clone()));
            }
        }
        kept
    }

    /// Whether a whole trailer stands at the end of a segment's file.
    fn has_footer(&self, path: &Path) -> bool {
        let trailer = || {
            let file = self.check.disk.open_to_read(path).ok()?;
            let at = file.size().ok()?.checked_sub(TRAILER_SIZE as u64)?;
            let mut trailer = [0; TRAILER_SIZE];
            file.read_at(&mut trailer, at).ok()?;
            let footer = Footer::decode_trailer(&trailer, at).ok()?;
            Some((footer.base, footer.group, footer.cluster_id))
        };
        let found = trailer();
        found.is_some_and(|(base, group, cluster_id)| {
            (group, cluster_id) == (self.group, self.cluster_id)
                && segment_path(&self.log_dir, base) == path
        })
    }

    /// Checks one segment: what the next one must go on with, if that can be told.
    fn segment(
        &mut self,
        report: &mut FileReport,
        base: u64,
        path: &Path,
        following: Option<u64>,
        link: Option<Link>,
    ) -> Option<Link> {
        let file = match self.check.disk.open_to_read(path) {
            Ok(file) => file,
            Err(error) => {
                report.unreadable(path, &error);
                return None;
            }
        };
        let newest = self.checkpoints.keys().next_back().copied();
        let mut segment = Opened {
            path: path.to_owned(),
            file,
            size: report.size.unwrap_or_default(),
            base,
            following: following.or(newest.filter(|newest| *newest > base)),
            header: Err(FormatError::bad(0, "segment header: cut short")),
        };
        if segment.size >= SEGMENT_HEADER_SIZE as u64 {
            segment.header = segment
                .read(0, SEGMENT_HEADER_SIZE)
                .and_then(|bytes| SegmentHeader::decode(&bytes));
        }
        match &segment.header {
            Ok(header) => {
                let found = (header.cluster_id, header.group);
                if !check_owner(report, (self.cluster_id, self.group), found) {
                    return None;
                }
            }
            Err(FormatError::Version { found }) => {
                report.bad(path, 0, FormatError::Version { found: *found });
                return None;
            }
            Err(FormatError::Bad { .. }) => {
                if self.is_unborn(&segment) {
                    let note = "made and not begun; deleted at the next start";
                    report.set(State::Leftover, note);
                    return link;
                }
            }
        }
        self.check_link(report, &segment, link);
        match self.ending(&segment) {
            Ending::Footer => {
                report.kind = FileKind::SealedSegment;
                self.verify(report, &segment, true)
            }
            Ending::NoFooter(error) => {
                report.bad(path, 0, error);
                self.scan(report, &segment)
            }
            Ending::Frames => self.scan(report, &segment),
        }
    }

    /// Whether it is the last file, whose header a crash kept from becoming durable: then it never held a frame.
    fn is_unborn(&self, segment: &Opened) -> bool {
        let known = self
            .watermark
            .is_some_and(|mark| mark.last.is_none_or(|last| last.index < segment.base));
        let mut window = Window::new(segment.file.as_ref(), segment.size);
        segment.following.is_none() && known && window.is_zero_from(SEGMENT_HEADER_SIZE as u64)
    }

    /// Neighbouring segments must continue each other.
    fn check_link(&mut self, report: &mut FileReport, segment: &Opened, link: Option<Link>) {
        let Some(link) = link else { return };
        let base = segment.base;
        if base > link.index {
            let before = link.index.saturating_sub(1);
            let what = format!("a segment ends with entry {before}, the next begins with {base}");
            self.missing_segment(what, link.index..=base - 1);
            return;
        }
        let error = match &segment.header {
            _ if base < link.index => {
                let before = link.index - 1;
                format!("the segment before ends with entry {before}, this one begins with {base}")
            }
            Ok(header) if link.chain.is_some_and(|chain| chain != header.chain_start) => {
                let (found, chain) = (header.chain_start, link.chain.unwrap_or_default());
                format!(
                    "chain crc {chain:08x} expected, as the segment before ends; {found:08x} found"
                )
            }
            _ => return,
        };
        report.fault(&segment.path, 0, FormatError::bad(0, error), None);
    }

    fn ending(&self, segment: &Opened) -> Ending {
        // A checkpoint, and the footer of a later segment, is written after the footers of all segments before it.
        let behind = segment.base.saturating_add(1);
        let was_sealed = self.checkpoints.range(behind..).next().is_some()
            || self.last_sealed > Some(segment.base);
        let at = segment.size.saturating_sub(TRAILER_SIZE as u64);
        let trailer = if at < SEGMENT_HEADER_SIZE as u64 {
            Err(FormatError::bad(0, "the file ends before its footer"))
        } else {
            segment.read(at, TRAILER_SIZE)
        };
        let footer = trailer.and_then(|trailer| {
            if !Footer::is_present(&trailer) {
                let what = "the footer of a sealed segment is gone";
                return Err(FormatError::Bad {
                    position: at,
                    what: what.to_owned(),
                });
            }
            let trailer = trailer.first_chunk().copied().unwrap_or([0; TRAILER_SIZE]);
            Footer::decode_trailer(&trailer, at)
        });
        match footer {
            Err(error) if was_sealed => Ending::NoFooter(error),
            Ok(_) if was_sealed => Ending::Footer,
            Err(error @ FormatError::Version { .. }) => Ending::NoFooter(error),
            // The end of a record can look like the footer of some segment, and a crash may have left a part of a footer.
            Ok(footer) if footer.base == segment.base => {
                let mut window = Window::new(segment.file.as_ref(), segment.size);
                if footer_is_whole(&mut window, &footer) {
                    Ending::Footer
                } else {
                    Ending::Frames
                }
            }
            Ok(_) | Err(FormatError::Bad { .. }) => Ending::Frames,
        }
    }

    fn verification(&self, segment: &Opened, is_sealed: bool) -> Verification {
        let expected = Expected {
            cluster_id: self.cluster_id,
            group: self.group,
            base: segment.base,
            size: segment.size,
            is_sealed,
            footer: None,
            last: segment.last(),
            durable: self.durable().map(|durable| durable.index),
        };
        Verification::new(&segment.path, Arc::clone(&segment.file), expected)
    }

    /// The last entry that the watermark vouches for, when it is not purged.
    fn durable(&self) -> Option<Durable> {
        let mark = self.watermark?;
        let last = mark.last.filter(|last| last.index >= self.first())?;
        Some(Durable {
            index: last.index,
            chain_crc: mark.chain_crc,
            base: mark.base,
            position: mark.position,
        })
    }

    /// Verifies a segment whose frames were all durable.
    fn verify(
        &mut self,
        report: &mut FileReport,
        segment: &Opened,
        is_sealed: bool,
    ) -> Option<Link> {
        let mut verification = self.verification(segment, is_sealed);
        let mut verified = 0;
        while !verification.is_done() {
            verification.step(STEP_SIZE);
            self.check.advance(verification.verified() - verified);
            verified = verification.verified();
        }
        let of_footer = verification.footer().map(|footer| footer.last);
        let last = of_footer.or(segment.last());
        let counted = segment.base.checked_add(verification.entries());
        let next = last
            .and_then(|last| last.checked_add(1))
            .or(counted.filter(|_| verification.faults().count == 0));
        report.entries = entries(segment.base, next);
        report.add(verification.faults().clone());
        let durable = self.durable().map(|durable| durable.index);
        if let Some(durable) = durable.filter(|durable| *durable >= segment.base)
            && last.is_none()
            && verification.entries() == 0
            && segment.size <= SEGMENT_HEADER_SIZE as u64
        {
            // The header's fault names no entry, and there is no frame that could.
            let what = format!("the log was durable up to entry {durable}, which is gone");
            let error = FormatError::bad(0, what);
            report.fault(
                &segment.path,
                segment.size,
                error,
                Some(segment.base..=durable),
            );
        }
        next.map(|index| Link {
            index,
            chain: verification.chain_end(),
        })
    }

    /// A segment without a footer, by the rules of recovery: at the end of the last one may stand what a crash left.
    fn scan(&mut self, report: &mut FileReport, segment: &Opened) -> Option<Link> {
        let header = match &segment.header {
            Ok(header) if header.base == segment.base => *header,
            _ => return self.verify(report, segment, false),
        };
        let end = match segment.following {
            Some(index) => End::Next {
                index,
                chain_crc: None,
            },
            None => End::Open {
                durable: self.durable(),
                is_unknown: self.watermark_is_bad,
                cut_always: false,
            },
        };
        let (file, seed) = (segment.file.as_ref(), stamp_seed(self.cluster_id));
        let scan = Scanner::new(file, &segment.path, segment.size, header, seed).run(end);
        report.entries = entries(segment.base, Some(scan.next));
        report.note(match segment.following {
            Some(_) => "not sealed yet",
            None => "not sealed: entries are appended to it",
        });
        let named = scan.faults.faults();
        let mut faults = Faults::default();
        for range in named.list {
            faults.push(Fault {
                damage: range.damage,
                entries: Some(range.first..=range.last),
            });
        }
        faults.count += named.unlisted;
        report.add(faults);
        if let Some(error) = scan.contradiction.clone() {
            report.fault(&segment.path, scan.end, error, None);
        }
        if scan.tail == Tail::Torn {
            let note = format!(
                "what stands from byte {} on was never acknowledged, and is cut at the next start",
                scan.end
            );
            report.set(State::Torn, note);
        }
        self.check_mark(report, segment, &scan);
        Some(Link {
            index: scan.next,
            chain: scan.chain_after.filter(|_| scan.faults.is_empty()),
        })
    }

    /// The entry that the watermark vouches for must be the one that stands there.
    fn check_mark(&self, report: &mut FileReport, segment: &Opened, scan: &Scan) {
        let Some((mark, last)) = self.watermark.and_then(|mark| Some((mark, mark.last?))) else {
            return;
        };
        let number = last.index.checked_sub(segment.base);
        let number = number.and_then(|number| usize::try_from(number).ok());
        let there =
            number.and_then(|number| Some((scan.frames.get(number)?, scan.ids.get(number)?)));
        if let Some((frame, id)) = there
            && (frame.chain_crc, *id) != (mark.chain_crc, last)
        {
            let what = format!("another entry {} was durable", last.index);
            let entry = Some(last.index..=last.index);
            report.fault(
                &segment.path,
                frame.position,
                FormatError::bad(0, what),
                entry,
            );
        }
    }

    /// The log must reach to where it was known to be durable.
    fn check_end(&mut self, next: u64, chain: Option<u32>) {
        let (Some(mark), Some(durable)) = (self.watermark, self.durable()) else {
            return;
        };
        let index = durable.index;
        if index < next {
            let is_other = index + 1 == next && chain.is_some_and(|chain| chain != mark.chain_crc);
            let is_new = self.reports.iter().all(|report| report.state.is_good());
            if is_other && is_new {
                let what = format!("another entry {index} was durable");
                self.fault_at_mark(mark.base, mark.position, what, index..=index);
            }
            return;
        }
        let what = format!("the log was durable up to entry {index}, and ends before {next}");
        self.fault_at_mark(mark.base, mark.position, what, next..=index);
    }

    /// Damage where the watermark says that something stood.
    fn fault_at_mark(
        &mut self,
        base: u64,
        position: u64,
        what: String,
        entries: RangeInclusive<u64>,
    ) {
        let path = segment_path(&self.log_dir, base);
        let file = self.check.relative(&path);
        let there = self.reports.iter_mut().find(|report| report.file == file);
        match there {
            Some(report) => {
                report.fault(&path, position, FormatError::bad(0, what), Some(entries));
            }
            None => self.missing_segment(what, entries),
        }
    }
}

fn entries(base: u64, next: Option<u64>) -> Option<RangeInclusive<u64>> {
    next.and_then(|next| next.checked_sub(1))
        .filter(|last| *last >= base)
        .map(|last| base..=last)
}
