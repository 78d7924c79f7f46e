//! Walks the frames of an unsealed segment, and tells a torn write from damage (FORMAT.md, "Recovery").
//!
//! Promises: reads, never writes; every damaged entry is found, not the first alone; what is called torn cannot have
//! been acknowledged. Must not know: other segments, but for where the next one begins.

mod fault;
mod search;
mod window;

use std::path::Path;

use bytes::Bytes;

use self::fault::Bad;
pub(super) use self::fault::{FaultAt, FaultList};
pub(super) use self::window::Window;
use super::segment::{FrameMeta, damage};
use crate::error::{EntryIdentity, FaultyRange, Known, Verdict};
use crate::format::fields::FormatError;
use crate::format::frame::{
    FRAME_HEADER_SIZE, FrameHeader, FrameHeaderBytes, SyncStamp, chain_crc, check_payload, stamp,
};
use crate::format::segment_header::{SEGMENT_HEADER_SIZE, SegmentHeader};
use crate::io::DiskFile;
use crate::types::EntryId;

/// The last entry that is known to have been durable.
#[derive(Debug, Clone, Copy)]
pub(super) struct Durable {
    pub(super) index: u64,
    pub(super) chain_crc: u32,
    /// Base index of the segment that held it.
    pub(super) base: u64,
    /// Position behind its frame.
    pub(super) position: u64,
}

/// What is known of a segment's end before it is scanned.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// The next segment begins with this index, behind this chain crc if that is known: all frames were durable before it
    /// was created.
    Next { index: u64, chain_crc: Option<u32> },
    /// It is the last segment.
    Open {
        /// What the watermark vouches for.
        durable: Option<Durable>,
        /// Whether more may have been durable than anything here tells.
        is_unknown: bool,
        /// A deliberate bug: what is bad counts as torn, whatever vouches for it.
        cut_always: bool,
    },
}

/// How the last segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// With a frame, and zeros.
    Clean,
    /// A write that was never acknowledged stands behind the frames.
    Torn,
    /// A part of a footer stands behind the frames.
    Footer,
}

/// What a segment holds: all of it, or all that is in front of the first fault.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) frames: Vec<FrameMeta>,
    pub(super) ids: Vec<EntryId>,
    /// Position behind the last frame.
    pub(super) end: u64,
    pub(super) chain_crc: u32,
    /// The last frame's.
    pub(super) stamp: Option<SyncStamp>,
    pub(super) tail: Tail,
    pub(super) faults: FaultList,
    /// The index behind the last entry that is here, damaged ones included.
    pub(super) next: u64,
    /// Chain crc behind the last frame, if it is known.
    pub(super) chain_after: Option<u32>,
    /// The frames lead to another chain crc than the next segment continues.
    pub(super) contradiction: Option<FormatError>,
}

/// Where the walk is.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    position: u64,
    index: u64,
    chain_crc: u32,
    /// Of the last frame before whose stamp could be read.
    stamp: Option<SyncStamp>,
    /// Whether that is the frame right before.
    is_stamped: bool,
}

/// Why a frame is not good.
struct Stop {
    error: FormatError,
    /// An intact header that does not belong there: no crash leaves that.
    is_wrong: bool,
    /// The header, when it is whole and in its place.
    header: Option<(FrameHeader, Option<SyncStamp>)>,
}

impl Stop {
    fn lost(error: FormatError) -> Self {
        Self {
            error,
            is_wrong: false,
            header: None,
        }
    }
}

pub(super) struct Scanner<'a> {
    window: Window<'a>,
    path: &'a Path,
    header: SegmentHeader,
    seed: u32,
    at: Cursor,
    scan: Scan,
    bad: Vec<Bad>,
    /// Bad spots that did not fit into `bad`.
    unlisted: u64,
    /// Everything before this position was durable when a frame behind it was written.
    proven: u64,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(
        file: &'a dyn DiskFile,
        path: &'a Path,
        size: u64,
        header: SegmentHeader,
        seed: u32,
    ) -> Self {
        let first = SEGMENT_HEADER_SIZE as u64;
        Self {
            window: Window::new(file, size),
            path,
            header,
            seed,
            at: Cursor {
                position: first,
                index: header.base,
                chain_crc: header.chain_start,
                stamp: None,
                is_stamped: true,
            },
            scan: Scan {
                frames: Vec::new(),
                ids: Vec::new(),
                end: first,
                chain_crc: header.chain_start,
                stamp: None,
                tail: Tail::Clean,
                faults: FaultList::default(),
                next: header.base,
                chain_after: None,
                contradiction: None,
            },
            bad: Vec::new(),
            unlisted: 0,
            proven: 0,
        }
    }

    /// Walks to the end, and decides what stands there.
    pub(super) fn run(mut self, end: End) -> Scan {
        let first_index = |end: &End| match end {
            End::Next { index, .. } => *index,
            End::Open { .. } => u64::MAX,
        };
        while self.at.index < first_index(&end) {
            let Some(stop) = self.step() else { continue };
            if let Some((header, stamped)) = stop.header {
                self.skip(stop, &header, stamped);
            } else if !self.look_behind(stop, end) {
                break;
            }
        }
        self.judge(end);
        self.scan.next = match self.scan.tail {
            Tail::Torn => self.header.base + self.scan.frames.len() as u64,
            Tail::Clean | Tail::Footer => self.at.index,
        };
        match end {
            End::Next { index, chain_crc } if self.at.index == index => self.check_end(chain_crc),
            End::Next { chain_crc, .. } => self.scan.chain_after = chain_crc,
            End::Open { .. } => self.scan.chain_after = Some(self.scan.chain_crc),
        }
        self.scan
    }

    fn check_end(&mut self, chain_crc: Option<u32>) {
        let found = self.at.chain_crc;
        self.scan.chain_after = Some(found);
        if chain_crc.is_some_and(|expected| expected != found) {
            let what = "the next segment continues another chain";
            self.scan.contradiction = Some(FormatError::bad(0, what));
        }
        // What stands behind is a footer, whole or not: unwanted if this is the last again.
        if self.scan.faults.is_empty() && !self.window.is_zero_from(self.at.position) {
            self.scan.tail = Tail::Footer;
        }
    }

    /// Takes the frame at the cursor, or says why not.
    fn step(&mut self) -> Option<Stop> {
        let position = self.at.position;
        let decoded = self
            .header_at(position)
            .and_then(|bytes| Ok((bytes, FrameHeader::decode(&bytes)?)));
        let (bytes, header) = match decoded {
            Ok(decoded) => decoded,
            Err(error) => return Some(Stop::lost(error)),
        };
        if let Some(wrong) = self.misplaced(&bytes, &header) {
            return Some(Stop {
                is_wrong: true,
                ..Stop::lost(FormatError::bad(0, wrong))
            });
        }
        let bad = |error, stamped, is_wrong| {
            Some(Stop {
                error,
                is_wrong,
                header: Some((header, stamped)),
            })
        };
        let stamped = match stamp(&bytes, self.seed) {
            Ok(stamped) => stamped,
            Err(error) => return bad(error, None, false),
        };
        if !self.continues(stamped) {
            let error =
                FormatError::bad(0, "frame: its sync group does not continue the one before");
            return bad(error, Some(stamped), true);
        }
        if let Err(error) = self.check_rest(position, &header) {
            return bad(error, Some(stamped), false);
        }
        self.pass(&header, Some(stamped));
        if self.bad.is_empty() {
            self.scan.end = self.at.position;
            self.scan.chain_crc = header.chain_crc;
            self.scan.stamp = Some(stamped);
            self.scan.ids.push(header.id);
            self.scan.frames.push(FrameMeta {
                position,
                payload_size: header.payload_size,
                payload_crc: header.payload_crc,
                chain_crc: header.chain_crc,
                kind: header.kind,
            });
        }
        None
    }

    fn header_at(&mut self, position: u64) -> Result<FrameHeaderBytes, FormatError> {
        let bytes = self.window.get(position, FRAME_HEADER_SIZE)?;
        Ok(bytes.first_chunk().copied().expect("as asked for"))
    }

    /// Checks what stands behind a frame's header.
    fn check_rest(&mut self, position: u64, header: &FrameHeader) -> Result<(), FormatError> {
        let size = usize::try_from(header.frame_size()).expect("a frame fits into memory");
        let frame = self.window.get(position, size)?;
        let payload_end = FRAME_HEADER_SIZE + header.payload_size as usize;
        let payload = frame.get(FRAME_HEADER_SIZE..payload_end);
        let payload = Bytes::copy_from_slice(payload.unwrap_or_default());
        let padding = frame.get(payload_end..).unwrap_or_default();
        if padding.iter().any(|byte| *byte != 0) {
            let what = "frame: padding is not zero";
            return Err(FormatError::bad(payload_end, what));
        }
        check_payload(header.kind, &payload, header.payload_crc)
    }

    fn misplaced(&self, bytes: &FrameHeaderBytes, header: &FrameHeader) -> Option<String> {
        let next = self.at.index;
        if header.id.index != next || header.group != self.header.group {
            return Some(format!(
                "frame of entry {next}, group {} expected, of entry {}, group {} found",
                self.header.group, header.id.index, header.group
            ));
        }
        let chain = chain_crc(self.at.chain_crc, bytes);
        (chain != header.chain_crc).then(|| {
            format!(
                "frame: chain crc {chain:08x} expected, {:08x} found",
                header.chain_crc
            )
        })
    }

    fn continues(&self, stamped: SyncStamp) -> bool {
        let position = self.at.position;
        match self.at.stamp {
            Some(before) if before.group == stamped.group => before.start == stamped.start,
            Some(before) if self.at.is_stamped => {
                before.group < stamped.group && stamped.start == position
            }
            Some(before) => before.group < stamped.group && stamped.start <= position,
            None if self.at.is_stamped => stamped.start == position,
            None => stamped.start <= position,
        }
    }

    /// Goes behind a frame whose header is whole.
    fn pass(&mut self, header: &FrameHeader, stamped: Option<SyncStamp>) {
        self.at.position += header.frame_size();
        self.at.index = header.id.index + 1;
        self.at.chain_crc = header.chain_crc;
        self.at.stamp = stamped.or(self.at.stamp);
        self.at.is_stamped = stamped.is_some();
        if let Some(stamped) = stamped {
            self.proven = self.proven.max(stamped.start);
            self.bad
                .iter_mut()
                .rev()
                .map_while(Bad::unanswered)
                .for_each(|after| {
                    *after = Some(stamped);
                });
        }
    }

    /// Notes a frame whose header is whole, and goes behind it.
    fn skip(&mut self, stop: Stop, header: &FrameHeader, stamped: Option<SyncStamp>) {
        let known = Known::Identity(vec![EntryIdentity {
            id: header.id,
            kind: header.kind,
            payload_size: header.payload_size,
            payload_crc: header.payload_crc,
            chain_crc: header.chain_crc,
        }]);
        self.note(Verdict::RottenFrame, header.id.index, known, stop);
        self.pass(header, stamped);
    }

    /// Notes what stands at the cursor, up to the entry `last`.
    fn note(&mut self, verdict: Verdict, last: u64, known: Known, stop: Stop) {
        let first = self.at.index;
        if self.bad.len() >= crate::limits::FAULTS_MAX {
            self.unlisted += last + 1 - first;
            return;
        }
        let at = FaultAt {
            fault: FaultyRange {
                verdict,
                first,
                last,
                position: self.at.position,
                damage: damage(self.path, self.at.position, stop.error),
                known,
            },
            base: self.header.base,
            before: self.at.stamp,
            after: None,
        };
        self.bad.push(Bad {
            at,
            is_wrong: stop.is_wrong,
        });
    }

    /// Tells damage from a torn write, in the order in which they stand.
    fn judge(&mut self, end: End) {
        let mut faults = FaultList::default();
        for bad in std::mem::take(&mut self.bad) {
            let fault = &bad.at.fault;
            let was_durable = match end {
                End::Next { .. } => true,
                End::Open { durable, .. } => {
                    bad.is_wrong
                        || fault.position < self.proven
                        || durable.is_some_and(|durable| durable.index >= fault.first)
                }
            };
            let (is_unknown, cut_always) = match end {
                End::Next { .. } => (false, false),
                End::Open {
                    is_unknown,
                    cut_always,
                    ..
                } => (is_unknown, cut_always),
            };
            if cut_always || !(was_durable || is_unknown) {
                // What follows was written with it, or after it was written and before it was durable.
                if faults.is_empty() {
                    self.scan.tail = Tail::Torn;
                }
                self.scan.faults = faults;
                return;
            }
            faults.push(if was_durable {
                bad.at
            } else {
                bad.at.into_unknown()
            });
        }
        faults.unlisted += self.unlisted;
        self.scan.faults = faults;
    }
}
