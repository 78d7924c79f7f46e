//! Verifying every byte of a segment file that has all its frames, step by step: for the scrubber and for `check`.
//!
//! Promises: header, footer and every frame are read from the disk and checked, each damaged entry is named as far as
//! its index can be told, and damage in one place does not keep the rest from being verified. A step reads a bounded
//! number of bytes, and memory holds a window, never the file. Must not know: pace, other segments, how damage is
//! repaired.

mod frames;
mod window;

use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crc32fast::Hasher;

use self::frames::Walk;
use self::window::{DiskWindow, WINDOW_SIZE};
use super::scan::Window;
use super::segment::damage;
use crate::error::Damage;
use crate::format::fields::FormatError;
use crate::format::frame::stamp_seed;
use crate::format::segment_footer::{Footer, TRAILER_SIZE};
use crate::format::segment_header::{SEGMENT_HEADER_SIZE, SegmentHeader};
use crate::io::DiskFile;

/// Damaged places of one file that are kept one by one; more are counted.
const FAULTS_MAX: usize = 64;
/// Bytes of a footer's section that are checked at once.
const SECTION_PART_SIZE: u64 = 64 << 10;

/// A damaged place of a file, and the entries that it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where, and what is wrong there. Of neighbouring entries that are damaged, the first one's place.
    pub damage: Damage,
    /// The entries that cannot be read because of it; `None` when there are none (a footer), or when they cannot be told.
    pub entries: Option<RangeInclusive<u64>>,
}

/// The damaged places of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Faults {
    pub(super) list: Vec<Fault>,
    /// All of them, also those that are not in the list.
    pub(super) count: u64,
}

impl Faults {
    pub(super) fn push(&mut self, fault: Fault) {
        if let (Some(before), Some(entries)) = (self.list.last_mut(), &fault.entries)
            && let Some(known) = &mut before.entries
            && known.end().checked_add(1) == Some(*entries.start())
        {
            *known = *known.start()..=*entries.end();
            return;
        }
        self.count += 1;
        if self.list.len() < FAULTS_MAX {
            self.list.push(fault);
        }
    }
}

/// What a segment file must be.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) cluster_id: [u8; 16],
    pub(super) group: u32,
    pub(super) base: u64,
    /// Bytes of the file.
    pub(super) size: u64,
    /// Whether it ends with a footer.
    pub(super) is_sealed: bool,
    /// The footer, as it was found good before; `None` when what stands in the file has to do.
    pub(super) footer: Option<Footer>,
    /// The last entry, when there is no footer that says so.
    pub(super) last: Option<u64>,
    /// When the last entry is not known: one that was here, or before.
    pub(super) durable: Option<u64>,
}

/// What is verified next.
#[derive(Debug)]
enum Phase {
    Header,
    Trailer,
    /// A section of the footer, from a position on.
    Section {
        number: usize,
        position: u64,
        crc: Hasher,
    },
    Frames(Walk),
    Done,
}

/// A segment file that is being verified.
#[derive(Debug)]
pub(super) struct Verification {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    expected: Expected,
    seed: u32,
    window: DiskWindow,
    /// Frame rows are read beside the frames.
    rows: DiskWindow,
    phase: Phase,
    /// Chain crc before the first frame, as far as it is known.
    chain_start: Option<u32>,
    /// Whether the footer's frame rows are intact.
    rows_are_good: bool,
    verified: u64,
    entries: u64,
    chain_end: Option<u32>,
    faults: Faults,
}

impl Verification {
    pub(super) fn new(path: &Path, file: Arc<dyn DiskFile>, expected: Expected) -> Self {
        Self {
            path: path.to_owned(),
            file,
            seed: stamp_seed(expected.cluster_id),
            chain_start: expected.footer.as_ref().map(|footer| footer.chain_start),
            expected,
            window: DiskWindow::default(),
            rows: DiskWindow::default(),
            phase: Phase::Header,
            rows_are_good: false,
            verified: 0,
            entries: 0,
            chain_end: None,
            faults: Faults::default(),
        }
    }

    /// Bytes of the file that were verified so far.
    pub(super) fn verified(&self) -> u64 {
        self.verified.min(self.expected.size)
    }

    /// Where a step of so many bytes begins to read, and how many bytes it reads on from there.
    pub(super) fn ahead(&self, size_max: u64) -> (u64, u64) {
        let position = match &self.phase {
            Phase::Header => 0,
            Phase::Trailer | Phase::Done => self.expected.size,
            Phase::Section { position, .. } => *position,
            Phase::Frames(walk) => walk.position(),
        };
        (position, size_max.saturating_add(WINDOW_SIZE))
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    /// What was found: complete when it is done.
    pub(super) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Whole entries so far.
    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    /// Chain crc behind the last frame, when that is whole.
    pub(super) fn chain_end(&self) -> Option<u32> {
        self.chain_end
    }

    /// The footer, as far as it can be read.
    pub(super) fn footer(&self) -> Option<&Footer> {
        self.expected.footer.as_ref()
    }

    /// Goes on until `size_max` bytes were read, at least by one frame or a part of the footer: how many were read.
    pub(super) fn step(&mut self, size_max: u64) -> u64 {
        let mut read = 0;
        while !self.is_done() {
            self.phase = match std::mem::replace(&mut self.phase, Phase::Done) {
                Phase::Header => self.header(),
                Phase::Trailer => self.trailer(),
                Phase::Section {
                    number,
                    position,
                    crc,
                } => self.section(number, position, crc),
                Phase::Frames(walk) => self.frame(walk),
                Phase::Done => Phase::Done,
            };
            read += self.window.take_read() + self.rows.take_read();
            if read >= size_max {
                break;
            }
        }
        read
    }

    fn bytes(&mut self, position: u64, size: usize) -> Result<&[u8], FormatError> {
        let file = self.file.as_ref();
        self.window
            .get(file, self.expected.size, position, size)
            .map_err(|error| unreadable(&error))
    }

    fn fault(&mut self, position: u64, error: FormatError, entries: Option<RangeInclusive<u64>>) {
        let damage = damage(&self.path, position, error);
        self.faults.push(Fault { damage, entries });
    }

    fn header(&mut self) -> Phase {
        let expected = self.expected.clone();
        self.verified += SEGMENT_HEADER_SIZE as u64;
        let decoded = self
            .bytes(0, SEGMENT_HEADER_SIZE)
            .and_then(SegmentHeader::decode);
        let chain_start = self.chain_start;
        match decoded {
            Ok(header) => {
                self.chain_start.get_or_insert(header.chain_start);
                let owner = (header.cluster_id, header.group);
                let in_place = header.base == expected.base
                    && owner == (expected.cluster_id, expected.group)
                    && chain_start.is_none_or(|chain| chain == header.chain_start);
                if !in_place {
                    let error = FormatError::bad(0, "segment header: another segment's");
                    self.fault(0, error, None);
                }
            }
            Err(error) => self.fault(0, error, None),
        }
        if expected.is_sealed {
            return Phase::Trailer;
        }
        self.next_section(0)
    }

    fn trailer(&mut self) -> Phase {
        self.verified += TRAILER_SIZE as u64;
        let at = self.expected.size.saturating_sub(TRAILER_SIZE as u64);
        let found = self.bytes(at, TRAILER_SIZE).and_then(|bytes| {
            let trailer = bytes.first_chunk().copied().unwrap_or([0; TRAILER_SIZE]);
            Footer::decode_trailer(&trailer, at)
        });
        let found = found.and_then(|found| match &self.expected.footer {
            Some(footer) if *footer != found => Err(FormatError::Bad {
                position: at,
                what: "segment footer: not the one that was there when it was opened".to_owned(),
            }),
            _ => Ok(found),
        });
        match found {
            Ok(footer) => {
                let owner = (footer.cluster_id, footer.group, footer.base);
                let expected = &self.expected;
                if owner == (expected.cluster_id, expected.group, expected.base) {
                    self.expected.footer = Some(footer);
                } else {
                    let what = "segment footer: another segment's";
                    self.fault(at, FormatError::bad(0, what), None);
                }
            }
            Err(error) => self.fault(0, error, None),
        }
        self.next_section(0)
    }

    /// The section of that number, or the frames when there is none.
    fn next_section(&mut self, number: usize) -> Phase {
        let place = self
            .footer()
            .and_then(|footer| footer.sections().get(number).copied());
        match place {
            Some(place) => Phase::Section {
                number,
                position: place.position,
                crc: Hasher::new(),
            },
            None => Phase::Frames(Walk::new(self.expected.base, self.chain_start)),
        }
    }

    fn section(&mut self, number: usize, position: u64, mut crc: Hasher) -> Phase {
        let place = self
            .footer()
            .and_then(|footer| footer.sections().get(number).copied());
        let Some(place) = place else {
            return self.next_section(usize::MAX);
        };
        let end = place.position.saturating_add(place.size);
        let size = SECTION_PART_SIZE.min(end.saturating_sub(position));
        if size > 0 {
            match self.bytes(position, usize::try_from(size).unwrap_or_default()) {
                Ok(bytes) => crc.update(bytes),
                Err(error) => {
                    self.verified += end - position;
                    self.fault(position, error, None);
                    return self.next_section(number + 1);
                }
            }
            self.verified += size;
            return Phase::Section {
                number,
                position: position + size,
                crc,
            };
        }
        let found = crc.finalize();
        if found == place.crc {
            self.rows_are_good |= number == 0;
        } else {
            let error = FormatError::bad(
                0,
                format!(
                    "footer, {}: crc {:08x} expected, {found:08x} found",
                    place.name, place.crc
                ),
            );
            self.fault(place.position, error, None);
        }
        self.next_section(number + 1)
    }
}

/// Whether all sections of a footer are whole.
pub(super) fn footer_is_whole(window: &mut Window<'_>, footer: &Footer) -> bool {
    footer.sections().iter().all(|place| {
        let end = place.position.saturating_add(place.size);
        let mut crc = Hasher::new();
        let mut position = place.position;
        while position < end {
            let size = SECTION_PART_SIZE.min(end - position);
            let part = usize::try_from(size).map(|size| window.get(position, size));
            let Ok(Ok(bytes)) = part else { return false };
            crc.update(bytes);
            position += size;
        }
        crc.finalize() == place.crc
    })
}

/// Bytes that the disk does not give are damaged like bytes that are wrong.
fn unreadable(error: &io::Error) -> FormatError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return FormatError::bad(0, "the file ends too early");
    }
    FormatError::bad(0, format!("the disk does not read it: {error}"))
}
