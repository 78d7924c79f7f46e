//! Where the walk goes on when a frame's header is lost: with the next frame that can be one, the watermark's entry, or
//! not at all.
//!
//! Promises: an entry that is skipped is named. Must not know: which spots are damage.

use super::{Cursor, Durable, End, Scanner, Stop};
use crate::error::{Known, Verdict};
use crate::format::fields::FormatError;
use crate::format::frame::{
    ALIGNMENT, FRAME_HEADER_SIZE, FrameHeader, SyncStamp, chain_before, frame_size, stamp,
};
use crate::format::segment_header::SEGMENT_HEADER_SIZE;
use crate::limits::PAYLOAD_SIZE_MAX;

/// A frame behind lost ones.
struct Anchor {
    position: u64,
    index: u64,
    /// Chain crc before it.
    chain_crc: u32,
    stamp: SyncStamp,
}

impl Scanner<'_> {
    /// Notes the entries whose headers are lost, and goes on behind them: `false` when nothing follows.
    pub(super) fn look_behind(&mut self, stop: Stop, end: End) -> bool {
        let position = self.at.position;
        let durable = match end {
            End::Open { durable, .. } => durable.filter(|durable| durable.index >= self.at.index),
            End::Next { .. } => None,
        };
        let is_end = self.window.is_zero_from(position);
        if is_end && let End::Next { index, chain_crc } = end {
            self.miss(stop, index, chain_crc);
            return false;
        }
        if is_end && durable.is_none() {
            return false;
        }
        let anchor = if is_end { None } else { self.next_frame(end) };
        let here = durable.filter(|durable| {
            durable.base == self.header.base
                && fits(
                    durable.index + 1 - self.at.index,
                    position,
                    durable.position,
                )
                && anchor
                    .as_ref()
                    .is_none_or(|anchor| durable.position <= anchor.position)
        });
        match (here, anchor, end) {
            (Some(durable), ..) => self.go_to_watermark(stop, durable),
            (None, Some(anchor), _) => self.go_to_frame(stop, &anchor),
            (None, None, End::Next { index, chain_crc }) => {
                let known = chain_crc.map_or(Known::Nothing, |after| self.chain(after, None));
                self.note(Verdict::LostFrames, index - 1, known, stop);
                false
            }
            (None, None, End::Open { .. }) => {
                self.lost_end(stop, durable, is_end);
                false
            }
        }
    }

    fn chain(&self, after: u32, size: Option<u64>) -> Known {
        Known::Chain {
            before: self.at.chain_crc,
            after,
            size,
        }
    }

    /// The segment ends here, and the next one does not begin here: what lies between had a file of its own, or was in
    /// this one; it gets one.
    fn miss(&mut self, stop: Stop, next: u64, chain_crc: Option<u32>) {
        let known = chain_crc.map_or(Known::Nothing, |after| self.chain(after, None));
        if self.at.index == self.header.base {
            self.note(Verdict::LostFrames, next - 1, known, stop);
            return;
        }
        let what = format!("nothing follows; the next segment begins with entry {next}");
        let stop = Stop::lost(FormatError::bad(0, what));
        self.note(Verdict::MissingSegment, next - 1, known, stop);
        self.move_out();
    }

    /// What was noted last belongs into a file of its own.
    fn move_out(&mut self) {
        if let Some(missing) = self.bad.last_mut().filter(|_| self.unlisted == 0) {
            missing.at.base = missing.at.fault.first;
            missing.at.fault.position = SEGMENT_HEADER_SIZE as u64;
            missing.at.before = None;
        }
    }

    /// The entries up to the watermark's were durable, and it says where they end.
    fn go_to_watermark(&mut self, stop: Stop, durable: Durable) -> bool {
        let size = durable.position - self.at.position;
        let known = self.chain(durable.chain_crc, Some(size));
        self.note(Verdict::LostTail, durable.index, known, stop);
        self.at = Cursor {
            position: durable.position,
            index: durable.index + 1,
            chain_crc: durable.chain_crc,
            is_stamped: false,
            ..self.at
        };
        true
    }

    fn go_to_frame(&mut self, stop: Stop, anchor: &Anchor) -> bool {
        let size = anchor.position - self.at.position;
        let known = self.chain(anchor.chain_crc, Some(size));
        self.note(Verdict::LostFrames, anchor.index - 1, known, stop);
        self.proven = self.proven.max(anchor.stamp.start);
        self.at = Cursor {
            position: anchor.position,
            index: anchor.index,
            chain_crc: anchor.chain_crc,
            is_stamped: false,
            ..self.at
        };
        true
    }

    /// Nothing follows: what the watermark vouches for is lost, and of anything else nothing is known.
    fn lost_end(&mut self, stop: Stop, durable: Option<Durable>, is_end: bool) {
        let first = self.at.index;
        match durable {
            Some(durable)
                if is_end && durable.base > self.header.base && first > self.header.base =>
            {
                let size = durable
                    .position
                    .checked_sub(SEGMENT_HEADER_SIZE as u64)
                    .filter(|_| durable.base == first);
                let known = self.chain(durable.chain_crc, size);
                self.note(Verdict::LostTail, durable.index, known, stop);
                self.move_out();
            }
            Some(durable) => {
                let known = self.chain(durable.chain_crc, None);
                self.note(Verdict::LostTail, durable.index, known, stop);
            }
            None => self.note(Verdict::UnknownTail, self.at.index, Known::Nothing, stop),
        }
    }

    /// The next frame behind the cursor whose header and stamp are whole, and that can stand there. Frames inside of a
    /// record that somebody appended have been in this log before: their indexes are too low.
    fn next_frame(&mut self, end: End) -> Option<Anchor> {
        let from = self.at.position;
        let mut position = from + ALIGNMENT;
        while position + FRAME_HEADER_SIZE as u64 <= self.window.size() {
            if let Some(anchor) = self.frame_at(position, end) {
                return Some(anchor);
            }
            position += ALIGNMENT;
        }
        None
    }

    fn frame_at(&mut self, position: u64, end: End) -> Option<Anchor> {
        let bytes = self.header_at(position).ok()?;
        if !FrameHeader::is_present(&bytes) {
            return None;
        }
        let header = FrameHeader::decode(&bytes).ok()?;
        let stamped = stamp(&bytes, self.seed).ok()?;
        let index = header.id.index;
        let lost = index.checked_sub(self.at.index).filter(|lost| *lost > 0)?;
        let in_range = match end {
            End::Next { index: next, .. } => index < next,
            End::Open { .. } => true,
        };
        let later = self.at.stamp.is_none_or(|before| {
            before.group < stamped.group
                || (before.group == stamped.group && before.start == stamped.start)
        });
        let belongs = header.group == self.header.group
            && in_range
            && later
            && stamped.start <= position
            && fits(lost, self.at.position, position);
        belongs.then(|| Anchor {
            position,
            index,
            chain_crc: chain_before(&bytes),
            stamp: stamped,
        })
    }
}

/// Whether so many frames can stand between two positions.
fn fits(entries: u64, from: u64, to: u64) -> bool {
    let largest = frame_size(u32::try_from(PAYLOAD_SIZE_MAX).expect("8 MiB"));
    to.checked_sub(from).is_some_and(|size| {
        entries.saturating_mul(FRAME_HEADER_SIZE as u64) <= size
            && size <= entries.saturating_mul(largest)
    })
}
