//! The frames of a segment, one by one: by the footer's rows while those are intact, else by the frames' own headers.
//!
//! Promises: a damaged frame is named and the walk goes on behind it. Must not know: windows, steps.

use bytes::Bytes;

use super::{Phase, Verification, unreadable};
use crate::format::fields::FormatError;
use crate::format::frame::{
    ALIGNMENT, FRAME_HEADER_SIZE, FrameHeader, FrameHeaderBytes, chain_crc, check_payload,
    frame_size, stamp,
};
use crate::format::segment_footer::{FRAME_ROW_SIZE, FrameRow};
use crate::format::segment_header::SEGMENT_HEADER_SIZE;
use crate::limits::PAYLOAD_SIZE_MAX;

/// Where an unreadable place may end.
const SECTOR_SIZE: u64 = 4096;

/// How far the frames were verified.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk {
    next: u64,
    position: u64,
    /// Chain crc before the next frame; `None` behind a frame whose header is lost.
    chain: Option<u32>,
}

impl Walk {
    pub(super) fn new(base: u64, chain_start: Option<u32>) -> Self {
        Self {
            next: base,
            position: SEGMENT_HEADER_SIZE as u64,
            chain: chain_start,
        }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Behind a frame of so many bytes.
    fn behind(self, size: u64, chain: Option<u32>) -> Self {
        Self {
            next: self.next + 1,
            position: self.position + size,
            chain,
        }
    }
}

impl Verification {
    /// Verifies the next frame.
    pub(super) fn frame(&mut self, walk: Walk) -> Phase {
        let last = match (&self.expected.footer, self.expected.last) {
            (Some(footer), _) => footer.last,
            (None, Some(last)) => last,
            (None, None) => u64::MAX,
        };
        if walk.next > last || walk.position >= self.frames_end() {
            return self.end(walk, last);
        }
        let next = if self.rows_are_good {
            match self.row(walk) {
                Ok(row) => self.frame_of_row(walk, row),
                Err(error) => {
                    self.rows_are_good = false;
                    self.fault(0, error, None);
                    walk
                }
            }
        } else {
            self.frame_of_header(walk, last)
        };
        self.verified += next.position.saturating_sub(walk.position);
        Phase::Frames(next)
    }

    fn frames_end(&self) -> u64 {
        self.footer()
            .map_or(self.expected.size, |footer| footer.frames_end)
    }

    /// All that there is was walked: it must be all that there was.
    fn end(&mut self, walk: Walk, last: u64) -> Phase {
        let error = |what: &str| FormatError::bad(0, what);
        if walk.next <= last && last != u64::MAX {
            let entries = Some(walk.next..=last);
            self.fault(walk.position, error("the frames end too early"), entries);
        } else if let Some(footer) = self.footer() {
            let is_last = footer.frames_end == walk.position
                && walk.chain.is_none_or(|chain| chain == footer.chain_end);
            if !is_last {
                let what = "the last frame is not the footer's last";
                self.fault(walk.position, error(what), None);
            }
        }
        self.chain_end = walk.chain;
        Phase::Done
    }

    /// What the footer says of the next frame: rows whose section is intact still have to agree with each other.
    fn row(&mut self, walk: Walk) -> Result<FrameRow, FormatError> {
        let number = walk.next - self.expected.base;
        let place = self.footer().map(|footer| footer.sections()[0].position);
        let at = place.unwrap_or_default() + number * FRAME_ROW_SIZE as u64;
        let frames_end = self.frames_end();
        let file = self.file.as_ref();
        let bytes = self
            .rows
            .get(file, self.expected.size, at, FRAME_ROW_SIZE)
            .map_err(|error| unreadable(&error))?;
        FrameRow::decode(bytes)
            .filter(|row| {
                row.position == walk.position
                    && row.payload_size as usize <= PAYLOAD_SIZE_MAX
                    && row.position + frame_size(row.payload_size) <= frames_end
            })
            .ok_or_else(|| FormatError::Bad {
                position: at,
                what: format!("footer: the row of entry {} is not a frame's", walk.next),
            })
    }

    /// Verifies the frame that a row points to.
    fn frame_of_row(&mut self, walk: Walk, row: FrameRow) -> Walk {
        let size = frame_size(row.payload_size);
        let header = match self.frame_header(walk.position) {
            Ok((_, header)) => header,
            Err(error) => {
                self.fault(walk.position, error, Some(walk.next..=walk.next));
                return walk.behind(size, None);
            }
        };
        let as_expected = header.id.index == walk.next
            && header.payload_size == row.payload_size
            && header.payload_crc == row.payload_crc
            && header.kind == row.kind;
        if !as_expected {
            let what = format!(
                "frame of entry {} expected, of entry {} found",
                walk.next, header.id.index
            );
            let error = FormatError::bad(0, what);
            self.fault(walk.position, error, Some(walk.next..=walk.next));
            return walk.behind(size, None);
        }
        self.check_frame(walk, &header);
        walk.behind(size, Some(header.chain_crc))
    }

    /// Verifies the frame that stands at the walk's position, or finds the next one that does stand somewhere.
    fn frame_of_header(&mut self, walk: Walk, last: u64) -> Walk {
        let wrong = match self.frame_header(walk.position) {
            Ok((_, header)) if header.id.index == walk.next => {
                self.check_frame(walk, &header);
                return walk.behind(header.frame_size(), Some(header.chain_crc));
            }
            Ok((_, header)) => {
                let (next, found) = (walk.next, header.id.index);
                FormatError::bad(
                    0,
                    format!("frame of entry {next} expected, of {found} found"),
                )
            }
            Err(error) => error,
        };
        let found = self.find_frame(walk, last);
        let lost = match found {
            Some(found) => Some(walk.next..=found.next - 1),
            None if last == u64::MAX => self
                .expected
                .durable
                .filter(|durable| *durable >= walk.next)
                .map(|durable| walk.next..=durable),
            None => Some(walk.next..=last),
        };
        // Where nothing says how many frames there are, zeros are the end.
        let is_end = lost.is_none()
            && self
                .header_bytes(walk.position)
                .is_ok_and(|bytes| bytes == [0; FRAME_HEADER_SIZE]);
        if !is_end {
            self.fault(walk.position, wrong, lost);
        }
        found.unwrap_or(Walk {
            next: last.saturating_add(1),
            position: self.frames_end(),
            chain: None,
        })
    }

    /// A frame of this segment behind the walk's position. A record may hold anything, also a copy of a frame: so it is
    /// taken for one only where a sync group of this file can have begun.
    fn find_frame(&mut self, walk: Walk, last: u64) -> Option<Walk> {
        let frames_end = self.frames_end();
        let mut at = walk.position + ALIGNMENT;
        while at + FRAME_HEADER_SIZE as u64 <= frames_end {
            let seed = self.seed;
            let index_max = walk.next + (at - walk.position) / FRAME_HEADER_SIZE as u64;
            match self.header_bytes(at) {
                Ok(bytes) => {
                    let found = FrameHeader::decode(&bytes)
                        .and_then(|header| Ok((header, stamp(&bytes, seed)?)));
                    if let Ok((header, stamped)) = found
                        && header.group == self.expected.group
                        && (walk.next + 1..=last.min(index_max)).contains(&header.id.index)
                        && stamped.start <= at
                        && at + header.frame_size() <= frames_end
                    {
                        return Some(Walk {
                            next: header.id.index,
                            position: at,
                            chain: None,
                        });
                    }
                    at += ALIGNMENT;
                }
                // The next sector may be readable.
                Err(_) => at = (at + 1).next_multiple_of(SECTOR_SIZE),
            }
        }
        None
    }

    fn header_bytes(&mut self, position: u64) -> Result<FrameHeaderBytes, FormatError> {
        let bytes = self.bytes(position, FRAME_HEADER_SIZE)?;
        bytes
            .first_chunk()
            .copied()
            .ok_or_else(|| FormatError::bad(0, "frame: cut short"))
    }

    /// The header at a position, checked by itself.
    fn frame_header(
        &mut self,
        position: u64,
    ) -> Result<(FrameHeaderBytes, FrameHeader), FormatError> {
        let bytes = self.header_bytes(position)?;
        let header = FrameHeader::decode(&bytes)?;
        let (expected, found) = (self.expected.group, header.group);
        if found != expected {
            let what = format!("frame of group {expected} expected, of group {found} found");
            return Err(FormatError::bad(0, what));
        }
        Ok((bytes, header))
    }

    /// Everything of a frame whose header is intact and in its place.
    fn check_frame(&mut self, walk: Walk, header: &FrameHeader) {
        match self.frame_error(walk, header) {
            None => self.entries += 1,
            Some(error) => self.fault(walk.position, error, Some(walk.next..=walk.next)),
        }
    }

    fn frame_error(&mut self, walk: Walk, header: &FrameHeader) -> Option<FormatError> {
        let seed = self.seed;
        let size = usize::try_from(header.frame_size()).unwrap_or(usize::MAX);
        let frame = match self.bytes(walk.position, size) {
            Ok(frame) => frame,
            Err(error) => return Some(error),
        };
        let bytes: FrameHeaderBytes = frame.first_chunk().copied()?;
        if let Some(chain) = walk.chain.map(|before| chain_crc(before, &bytes))
            && chain != header.chain_crc
        {
            let found = header.chain_crc;
            let what = format!("frame: chain crc {chain:08x} expected, {found:08x} found");
            return Some(FormatError::bad(0, what));
        }
        if let Err(error) = stamp(&bytes, seed) {
            return Some(error);
        }
        let payload_end = FRAME_HEADER_SIZE + header.payload_size as usize;
        let padding = frame.get(payload_end..).unwrap_or_default();
        if padding.iter().any(|byte| *byte != 0) {
            return Some(FormatError::bad(payload_end, "frame: padding is not zero"));
        }
        let payload = frame
            .get(FRAME_HEADER_SIZE..payload_end)
            .unwrap_or_default();
        let payload = Bytes::copy_from_slice(payload);
        check_payload(header.kind, &payload, header.payload_crc).err()
    }
}
