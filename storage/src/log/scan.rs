//! Walks the frames of an unsealed segment at open, and tells a torn write from damage (FORMAT.md, "Recovery").
//!
//! Promises: cuts only what cannot have been acknowledged; reads, never writes. Must not know: other segments, but for
//! where the next one begins.

use std::path::Path;

use bytes::Bytes;

use super::segment::{FrameMeta, damage};
use crate::error::{Damage, OpenError};
use crate::format::fields::FormatError;
use crate::format::frame::{
    ALIGNMENT, FRAME_HEADER_SIZE, FrameHeader, FrameHeaderBytes, SyncStamp, chain_crc,
    check_payload, stamp,
};
use crate::format::segment_header::{SEGMENT_HEADER_SIZE, SegmentHeader};
use crate::io::DiskFile;
use crate::types::EntryId;

/// Bytes that are read at once.
const WINDOW_SIZE: u64 = 1 << 20;

/// What is known of a segment's end before it is scanned.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// The next segment begins with this index, behind this chain crc: all frames were durable before it was created.
    Next { index: u64, chain_crc: u32 },
    /// It is the last segment.
    Open {
        /// The last entry that the watermark vouches for.
        durable: Option<u64>,
        /// Whether the watermark can be relied on to be the highest that there was, crashes aside.
        watermark_is_bad: bool,
        /// A deliberate bug: what is bad counts as torn, whatever vouches for it.
        cut_always: bool,
    },
}

/// What a segment holds.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) frames: Vec<FrameMeta>,
    pub(super) ids: Vec<EntryId>,
    /// Position behind the last frame.
    pub(super) end: u64,
    pub(super) chain_crc: u32,
    /// The last frame's.
    pub(super) stamp: Option<SyncStamp>,
    /// Bytes behind the last frame that were written and are not wanted.
    pub(super) is_torn: bool,
}

/// A file, read through a window.
struct Window<'a> {
    file: &'a dyn DiskFile,
    path: &'a Path,
    size: u64,
    bytes: Vec<u8>,
    position: u64,
}

impl Window<'_> {
    /// The bytes at `position`, `None` when the file ends before.
    fn get(&mut self, position: u64, size: usize) -> Result<Option<&[u8]>, OpenError> {
        let end = position + size as u64;
        if end > self.size {
            return Ok(None);
        }
        let held = position >= self.position && end <= self.position + self.bytes.len() as u64;
        if !held {
            let wanted = (size as u64).max(WINDOW_SIZE).min(self.size - position);
            self.bytes.resize(
                usize::try_from(wanted).expect("a window fits into memory"),
                0,
            );
            self.position = position;
            self.file
                .read_at(&mut self.bytes, position)
                .map_err(|source| OpenError::Io {
                    file: self.path.to_owned(),
                    source,
                })?;
        }
        let at = usize::try_from(position - self.position).expect("inside of the window");
        Ok(self.bytes.get(at..at + size))
    }

    /// Whether there is nothing but zeros from `position` on.
    fn is_zero_from(&mut self, position: u64) -> Result<bool, OpenError> {
        let mut position = position;
        while position < self.size {
            let size = WINDOW_SIZE.min(self.size - position);
            let bytes = self.get(position, usize::try_from(size).expect("a window"))?;
            if bytes.is_some_and(|bytes| bytes.iter().any(|byte| *byte != 0)) {
                return Ok(false);
            }
            position += size;
        }
        Ok(true)
    }
}

/// Why the walk stopped.
enum Stop {
    /// What stands there is not a whole frame.
    Bad(FormatError),
    /// An intact frame that does not belong there: no crash leaves that.
    Wrong(FormatError),
}

pub(super) struct Scanner<'a> {
    window: Window<'a>,
    header: SegmentHeader,
    seed: u32,
    scan: Scan,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(
        file: &'a dyn DiskFile,
        path: &'a Path,
        size: u64,
        header: SegmentHeader,
        seed: u32,
    ) -> Self {
        Self {
            window: Window {
                file,
                path,
                size,
                bytes: Vec::new(),
                position: 0,
            },
            header,
            seed,
            scan: Scan {
                frames: Vec::new(),
                ids: Vec::new(),
                end: SEGMENT_HEADER_SIZE as u64,
                chain_crc: header.chain_start,
                stamp: None,
                is_torn: false,
            },
        }
    }

    fn next_index(&self) -> u64 {
        self.header.base + self.scan.frames.len() as u64
    }

    fn damage(&self, error: FormatError) -> Damage {
        damage(self.window.path, self.scan.end, error)
    }

    /// Walks to the end, and decides what stands there.
    pub(super) fn run(mut self, end: End) -> Result<Scan, OpenError> {
        let stop = loop {
            if let End::Next { index, chain_crc } = end
                && self.next_index() == index
            {
                if self.scan.chain_crc != chain_crc {
                    let error = FormatError::bad(0, "the next segment continues another chain");
                    return Err(self.damage(error).into());
                }
                // What stands behind is a footer whose sealing was interrupted: unwanted if this is the last again.
                self.scan.is_torn = !self.window.is_zero_from(self.scan.end)?;
                return Ok(self.scan);
            }
            if let Some(stop) = self.step()? {
                break stop;
            }
        };
        match (stop, end) {
            (Stop::Wrong(error), _) | (Stop::Bad(error), End::Next { .. }) => {
                Err(self.damage(error).into())
            }
            (
                Stop::Bad(error),
                End::Open {
                    durable,
                    watermark_is_bad,
                    cut_always,
                },
            ) => self.torn_or_damaged(error, durable, watermark_is_bad, cut_always),
        }
    }

    /// Takes the frame at the end, or says why not.
    fn step(&mut self) -> Result<Option<Stop>, OpenError> {
        let position = self.scan.end;
        let Some(bytes) = self.window.get(position, FRAME_HEADER_SIZE)? else {
            let error = FormatError::bad(0, "frame: the file ends");
            return Ok(Some(Stop::Bad(error)));
        };
        let bytes: FrameHeaderBytes = bytes.first_chunk().copied().expect("as asked for");
        let header = match FrameHeader::decode(&bytes) {
            Ok(header) => header,
            Err(error) => return Ok(Some(Stop::Bad(error))),
        };
        if let Some(wrong) = self.misplaced(&bytes, &header) {
            return Ok(Some(Stop::Wrong(FormatError::bad(0, wrong))));
        }
        let stamped = match stamp(&bytes, self.seed) {
            Ok(stamped) => stamped,
            Err(error) => return Ok(Some(Stop::Bad(error))),
        };
        if !self.continues(stamped) {
            let error =
                FormatError::bad(0, "frame: its sync group does not continue the one before");
            return Ok(Some(Stop::Wrong(error)));
        }
        let size = usize::try_from(header.frame_size()).expect("a frame fits into memory");
        let Some(frame) = self.window.get(position, size)? else {
            let error = FormatError::bad(0, "frame: the file ends in its payload");
            return Ok(Some(Stop::Bad(error)));
        };
        let payload_end = FRAME_HEADER_SIZE + header.payload_size as usize;
        let payload = frame.get(FRAME_HEADER_SIZE..payload_end);
        let payload = Bytes::copy_from_slice(payload.unwrap_or_default());
        let padding = frame.get(payload_end..).unwrap_or_default();
        if padding.iter().any(|byte| *byte != 0) {
            let error = FormatError::bad(payload_end, "frame: padding is not zero");
            return Ok(Some(Stop::Bad(error)));
        }
        if let Err(error) = check_payload(header.kind, &payload, header.payload_crc) {
            return Ok(Some(Stop::Bad(error)));
        }
        self.scan.end += header.frame_size();
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
        Ok(None)
    }

    fn misplaced(&self, bytes: &FrameHeaderBytes, header: &FrameHeader) -> Option<String> {
        let next = self.next_index();
        if header.id.index != next || header.group != self.header.group {
            return Some(format!(
                "frame of entry {next}, group {} expected, of entry {}, group {} found",
                self.header.group, header.id.index, header.group
            ));
        }
        let chain = chain_crc(self.scan.chain_crc, bytes);
        (chain != header.chain_crc).then(|| {
            format!(
                "frame: chain crc {chain:08x} expected, {:08x} found",
                header.chain_crc
            )
        })
    }

    fn continues(&self, stamped: SyncStamp) -> bool {
        match self.scan.stamp {
            Some(before) if before.group == stamped.group => before.start == stamped.start,
            Some(before) => before.group < stamped.group && stamped.start == self.scan.end,
            None => stamped.start == self.scan.end,
        }
    }

    /// At the end of the last segment: zeros, a write that a crash tore, or damage.
    fn torn_or_damaged(
        mut self,
        error: FormatError,
        durable: Option<u64>,
        watermark_is_bad: bool,
        cut_always: bool,
    ) -> Result<Scan, OpenError> {
        let position = self.scan.end;
        if cut_always {
            self.scan.is_torn = true;
            return Ok(self.scan);
        }
        if durable.is_some_and(|durable| durable >= self.next_index()) {
            return Err(self.damage(error).into());
        }
        if self.window.is_zero_from(position)? {
            return Ok(self.scan);
        }
        if watermark_is_bad {
            let what = format!("{error}; and how far the log was durable is not known");
            return Err(self.damage(FormatError::bad(0, what)).into());
        }
        if let Some(later) = self.later_group(position)? {
            let what =
                format!("{error}; but the frame at {later} was written after it was durable");
            return Err(self.damage(FormatError::bad(0, what)).into());
        }
        self.scan.is_torn = true;
        Ok(self.scan)
    }

    /// A frame behind `position` whose sync group began behind it too: that group was written only after what stands at
    /// `position` had been synced. Frames of the same group prove nothing: their blocks reach the disk in any order.
    fn later_group(&mut self, position: u64) -> Result<Option<u64>, OpenError> {
        let mut at = self.search_start(position)?;
        while at + FRAME_HEADER_SIZE as u64 <= self.window.size {
            let Some(bytes) = self.window.get(at, FRAME_HEADER_SIZE)? else {
                break;
            };
            let bytes: FrameHeaderBytes = bytes.first_chunk().copied().expect("as asked for");
            let stamped = FrameHeader::decode(&bytes)
                .and_then(|header| Ok((header, stamp(&bytes, self.seed)?)));
            if let Ok((header, stamped)) = stamped
                && header.group == self.header.group
                && header.id.index >= self.next_index()
                && stamped.start > position
                && stamped.start <= at
            {
                return Ok(Some(at));
            }
            at += ALIGNMENT;
        }
        Ok(None)
    }

    /// Behind the bad frame's payload when its header is intact: a record may contain anything, frames too.
    fn search_start(&mut self, position: u64) -> Result<u64, OpenError> {
        let bytes = self.window.get(position, FRAME_HEADER_SIZE)?;
        let header = bytes
            .and_then(<[u8]>::first_chunk)
            .and_then(|bytes| FrameHeader::decode(bytes).ok());
        let size = header.map_or(ALIGNMENT, |header| header.frame_size());
        Ok(position + size)
    }
}

/// Whether a file holds nothing but zeros from `position` on.
pub(super) fn is_zero_from(
    file: &dyn DiskFile,
    path: &Path,
    size: u64,
    position: u64,
) -> Result<bool, OpenError> {
    Window {
        file,
        path,
        size,
        bytes: Vec::new(),
        position: 0,
    }
    .is_zero_from(position)
}
