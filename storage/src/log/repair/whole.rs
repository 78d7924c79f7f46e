//! What is whole in a log that is not opened: peers that lack it may have it.
//!
//! Promises: an entry that is returned was verified on this read; what is damaged is not returned. Must not know: who
//! asks.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Repair;
use crate::error::{Known, OpenError, ReadError};
use crate::format::frame::{
    FRAME_HEADER_SIZE, FrameHeader, FrameHeaderBytes, check_payload, frame_size,
};
use crate::format::segment_header::SEGMENT_HEADER_SIZE;
use crate::io::DiskFile;
use crate::log::Checkpoint;
use crate::log::checkpoint;
use crate::log::open::Segment;
use crate::log::segment::Check;
use crate::types::{Entry, EntryId};

/// Where the frames of the unsealed segment that was asked for last stand, by index.
#[derive(Debug, Default)]
pub(super) struct Places {
    base: u64,
    frames: BTreeMap<u64, (u64, FrameHeader)>,
}

impl Repair {
    /// The entry at `index`, verified; `None` when it is damaged, or not here.
    pub fn entry(&self, index: u64) -> Result<Option<Entry>, ReadError> {
        if let Some(sealed) = self.survey.sealed_of(index) {
            // Damaged: it is not had from here.
            return Ok(sealed.entry(index, Check::Payload).ok());
        }
        self.in_unsealed(index, |file, position, header| {
            let mut payload = vec![0; header.payload_size as usize];
            let read = file.read_at(&mut payload, position + FRAME_HEADER_SIZE as u64);
            let payload = Bytes::from(payload);
            let is_whole =
                read.is_ok() && check_payload(header.kind, &payload, header.payload_crc).is_ok();
            is_whole.then_some(Entry {
                id: header.id,
                kind: header.kind,
                payload,
            })
        })
    }

    /// Chain crc behind the entry at `index`; `None` when its frame's header is damaged or not here.
    pub fn chain_crc(&self, index: u64) -> Result<Option<u32>, ReadError> {
        if let Some(sealed) = self.survey.sealed_of(index) {
            return Ok(sealed.chain_crc(index).ok());
        }
        self.in_unsealed(index, |_, _, header| Some(header.chain_crc))
    }

    /// The last entry that is certainly committed as it stands here: that of the newest sealed segment. A checkpoint says no
    /// more: a snapshot that has come from a leader may be kept before the entries of another history below it are gone.
    pub fn committed_index(&self) -> Option<u64> {
        self.survey.last_sealed()
    }

    /// The last entry that is known of, damaged or not.
    pub fn last_index(&self) -> Option<u64> {
        self.survey.last_index()
    }

    /// The last entry that was purged: everything up to it is gone.
    pub fn purged(&self) -> Option<EntryId> {
        self.purged
    }

    /// The newest checkpoint or snapshot that is whole.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// Hands the file, the position and the header of an entry's frame to `take`, if they are there.
    fn in_unsealed<T>(
        &self,
        index: u64,
        take: impl FnOnce(&dyn DiskFile, u64, &FrameHeader) -> Option<T>,
    ) -> Result<Option<T>, ReadError> {
        let segments = &self.survey.segments;
        let Some(segment) = segments
            .iter()
            .rfind(|segment| segment.header.base <= index)
        else {
            return Ok(None);
        };
        let failed = |source| ReadError::Io {
            file: segment.path.clone(),
            source,
        };
        let file = segment.file(self.disk.as_ref()).map_err(failed)?;
        let mut places = self.places.lock();
        if places.base != segment.header.base || places.frames.is_empty() {
            *places = self.find_frames(segment, file.as_ref());
        }
        let found = places.frames.get(&index).copied();
        drop(places);
        Ok(found.and_then(|(position, header)| take(file.as_ref(), position, &header)))
    }

    /// Walks the headers of an unsealed segment, over what is damaged as far as it is known how much that is.
    fn find_frames(&self, segment: &Segment, file: &dyn DiskFile) -> Places {
        let base = segment.header.base;
        let faults = &self.survey.faults.list;
        let mut faults = faults.iter().filter(|at| at.base == base).peekable();
        let mut places = Places {
            base,
            frames: BTreeMap::new(),
        };
        let mut position = SEGMENT_HEADER_SIZE as u64;
        let mut index = base;
        loop {
            if let Some(at) = faults.next_if(|at| at.fault.first <= index) {
                let fault = &at.fault;
                let size = match &fault.known {
                    Known::Identity(known) => {
                        let sizes = known.iter().map(|known| frame_size(known.payload_size));
                        // The header of a rotten frame is whole.
                        if let Some(header) = read_header(file, fault.position, index) {
                            places.frames.insert(index, (fault.position, header));
                        }
                        Some(sizes.sum())
                    }
                    Known::Chain { size, .. } => *size,
                    Known::Nothing => None,
                };
                let Some(size) = size else { return places };
                position = fault.position + size;
                index = fault.last + 1;
                continue;
            }
            let Some(header) = read_header(file, position, index) else {
                return places;
            };
            places.frames.insert(index, (position, header));
            position += header.frame_size();
            index += 1;
        }
    }

    /// The newest whole one of the checkpoints and the snapshot. What is wrong with others is the next open's business.
    pub(super) fn find_checkpoint(
        &self,
        boundaries: impl DoubleEndedIterator<Item = u64>,
        has_snapshot: bool,
        group: u32,
    ) -> Result<Option<Checkpoint>, OpenError> {
        let (disk, options) = (self.disk.as_ref(), &self.options);
        let mut found = None;
        for boundary in boundaries.rev() {
            match checkpoint::read_boundary(disk, boundary, options, group) {
                Ok(checkpoint) => {
                    found = Some(checkpoint);
                    break;
                }
                Err(OpenError::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        if has_snapshot {
            match checkpoint::read(disk, &options.snapshot_path(), options, group) {
                Ok(snapshot) => {
                    let found_index = found.as_ref().map(|found| found.applied.index);
                    if found_index < Some(snapshot.applied.index) {
                        found = Some(snapshot);
                    }
                }
                Err(OpenError::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

fn read_header(file: &dyn DiskFile, position: u64, index: u64) -> Option<FrameHeader> {
    let mut bytes: FrameHeaderBytes = [0; FRAME_HEADER_SIZE];
    file.read_at(&mut bytes, position).ok()?;
    let header = FrameHeader::decode(&bytes).ok()?;
    (header.id.index == index).then_some(header)
}
