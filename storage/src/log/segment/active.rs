//! A segment that is not sealed: its frames are indexed in memory, and read with `pread` when the tail has lost them.
//!
//! Promises: a frame that is handed out is the one that was asked for, verified. Must not know: the tail, durability.

use std::sync::Arc;

use bytes::Bytes;

use super::{Check, SegmentFile, damage};
use crate::error::{Damage, ReadError};
use crate::format::fields::FormatError;
use crate::format::frame::{
    FRAME_HEADER_SIZE, FrameHeader, check_payload, check_payload_crc, frame_size,
};
use crate::format::segment_header::SEGMENT_HEADER_SIZE;
use crate::types::{Entry, EntryId, EntryKind};

/// Where a frame stands and what it must contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log) struct FrameMeta {
    pub(in crate::log) position: u64,
    pub(in crate::log) payload_size: u32,
    pub(in crate::log) payload_crc: u32,
    pub(in crate::log) chain_crc: u32,
    pub(in crate::log) kind: EntryKind,
}

impl FrameMeta {
    /// Position behind the frame.
    pub(in crate::log) fn end(&self) -> u64 {
        self.position + frame_size(self.payload_size)
    }
}

/// An unsealed segment.
///
/// # Invariants
/// Frame number n is the entry `base + n`; frames stand one behind the other; `end` is behind the last.
#[derive(Debug)]
pub(in crate::log) struct Active {
    pub(in crate::log) file: Arc<SegmentFile>,
    pub(in crate::log) frames: Vec<FrameMeta>,
    pub(in crate::log) end: u64,
}

impl Active {
    /// One without frames.
    pub(in crate::log) fn empty(file: Arc<SegmentFile>) -> Self {
        Self {
            file,
            frames: Vec::new(),
            end: SEGMENT_HEADER_SIZE as u64,
        }
    }

    pub(in crate::log) fn base(&self) -> u64 {
        self.file.base
    }

    /// The index behind its last entry.
    pub(in crate::log) fn next_index(&self) -> u64 {
        self.base() + self.frames.len() as u64
    }

    /// The frame of an entry, if it is here.
    pub(in crate::log) fn frame(&self, index: u64) -> Option<&FrameMeta> {
        let number = usize::try_from(index.checked_sub(self.base())?).ok()?;
        self.frames.get(number)
    }

    /// Chain crc before the entry at `index`.
    pub(in crate::log) fn chain_before(&self, index: u64) -> u32 {
        index
            .checked_sub(1)
            .and_then(|before| self.frame(before))
            .map_or(self.file.chain_start, |frame| frame.chain_crc)
    }

    pub(in crate::log) fn push(&mut self, frame: FrameMeta) {
        debug_assert_eq!(
            frame.position, self.end,
            "frames stand one behind the other"
        );
        self.end = frame.end();
        self.frames.push(frame);
    }

    /// Forgets the frames from `index` on.
    pub(in crate::log) fn cut(&mut self, index: u64) {
        let kept = usize::try_from(index.saturating_sub(self.base())).unwrap_or(usize::MAX);
        self.frames.truncate(kept);
        self.end = self
            .frames
            .last()
            .map_or(SEGMENT_HEADER_SIZE as u64, FrameMeta::end);
    }
}

/// Neighbouring frames of one file, to be read at once.
#[derive(Debug)]
pub(in crate::log) struct FrameRun {
    pub(in crate::log) file: Arc<SegmentFile>,
    pub(in crate::log) frames: Vec<(EntryId, FrameMeta)>,
}

impl FrameRun {
    /// Reads and verifies the frames: those before the first that is bad. An error when that is the first of all.
    pub(in crate::log) fn read(&self, check: Check) -> Result<Vec<Entry>, ReadError> {
        let (Some((_, first)), Some((_, last))) = (self.frames.first(), self.frames.last()) else {
            return Ok(Vec::new());
        };
        let size = usize::try_from(last.end() - first.position).expect("a run fits into memory");
        let mut bytes = vec![0; size];
        let read = self.file.file().read_at(&mut bytes, first.position);
        if let Err(source) = read {
            // A bad sector fails the whole read: the entries before it are had one by one.
            if let [one, _, ..] = self.frames.as_slice() {
                let alone = Self {
                    file: Arc::clone(&self.file),
                    frames: vec![*one],
                };
                return alone.read(check);
            }
            let error = FormatError::bad(0, format!("cannot be read: {source}"));
            return Err(damage(&self.file.path, first.position, error).into());
        }
        let bytes = Bytes::from(bytes);
        let mut entries = Vec::with_capacity(self.frames.len());
        for (id, meta) in &self.frames {
            let at = usize::try_from(meta.position - first.position).unwrap_or(usize::MAX);
            match self.entry(&bytes, at, *id, meta, check) {
                Ok(entry) => entries.push(entry),
                Err(_) if !entries.is_empty() => break,
                Err(damage) => return Err(damage.into()),
            }
        }
        Ok(entries)
    }

    fn entry(
        &self,
        bytes: &Bytes,
        at: usize,
        id: EntryId,
        meta: &FrameMeta,
        check: Check,
    ) -> Result<Entry, Damage> {
        let frame = bytes.slice(at.min(bytes.len())..);
        let bad = |error| damage(&self.file.path, meta.position, error);
        let header = frame
            .first_chunk()
            .ok_or_else(|| FormatError::bad(0, "frame: cut short"))
            .and_then(FrameHeader::decode)
            .map_err(bad)?;
        let as_expected = header.id == id
            && header.kind == meta.kind
            && header.payload_size == meta.payload_size
            && header.payload_crc == meta.payload_crc
            && header.chain_crc == meta.chain_crc;
        if !as_expected {
            return Err(bad(FormatError::bad(
                0,
                format!("frame of entry {id:?} expected, {:?} found", header.id),
            )));
        }
        let end = FRAME_HEADER_SIZE + meta.payload_size as usize;
        let payload = frame.slice(FRAME_HEADER_SIZE..end.min(frame.len()));
        match check {
            Check::Payload => check_payload(meta.kind, &payload, meta.payload_crc),
            Check::Headers => check_payload_crc(meta.kind, &payload, meta.payload_crc),
        }
        .map_err(bad)?;
        Ok(Entry {
            id,
            kind: meta.kind,
            payload,
        })
    }
}
