//! A segment written anew: what is good is copied, what was damaged comes from peers.
//!
//! Promises: the file that is there is not touched; the new one is durable, under another name, on return. Must not
//! know: when it takes its place.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use super::entries::{self, Peers};
use super::{FaultAt, stamp_for};
use crate::error::{Known, RepairError};
use crate::format::frame::{
    FRAME_HEADER_SIZE, FrameHeader, FrameHeaderBytes, SyncStamp, frame_size, put_stamp, stamp,
};
use crate::format::segment_footer::TRAILER_SIZE;
use crate::format::segment_header::{SEGMENT_HEADER_SIZE, SEGMENT_SIZE_MAX, SegmentHeader};
use crate::io::{Disk, DiskFile};
use crate::types::Entry;

/// Bytes that are copied at once.
const COPY_SIZE: u64 = 1 << 20;

/// What the new file is to hold.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) header: SegmentHeader,
    /// All damaged entries of the segment, in order.
    pub(super) faults: &'a [FaultAt],
    /// Takes the place of the one that is there.
    pub(super) footer: Option<Footer>,
    pub(super) seed: u32,
    /// The group of frames that nothing says more of.
    pub(super) sync_group: u64,
}

/// A footer that was built again.
#[derive(Debug)]
pub(super) struct Footer {
    pub(super) position: u64,
    pub(super) bytes: Vec<u8>,
}

/// A segment to be written anew.
pub(super) struct Rewrite<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) dir: &'a Path,
    pub(super) path: &'a Path,
    /// The file as it is, and its size; none when it is missing.
    pub(super) old: Option<(&'a dyn DiskFile, u64)>,
    pub(super) plan: Plan<'a>,
}

/// The new file.
struct Copying<'a> {
    old: Option<(&'a dyn DiskFile, u64)>,
    new: &'a dyn DiskFile,
    /// Whether what is left of the old file belongs to the new one.
    goes_on: bool,
    /// Up to where the new file is written.
    position: u64,
}

impl Rewrite<'_> {
    /// Writes the new file, durably: its name. What is not to be had leaves nothing behind.
    pub(super) fn write(&self, peers: &mut Peers<'_>) -> Result<PathBuf, RepairError> {
        let tmp = self.path.with_extension("seg.tmp");
        let failed = |source| RepairError::Disk {
            file: tmp.clone(),
            source,
        };
        let new = self.disk.create(&tmp).map_err(failed)?;
        let written = self
            .fill(new.as_ref(), peers, &failed)
            .and_then(|()| new.sync().map_err(failed));
        if let Err(error) = written {
            // A leftover is deleted at open, too.
            drop(self.disk.remove(&tmp));
            drop(self.disk.sync_dir(self.dir));
            return Err(error);
        }
        Ok(tmp)
    }

    fn fill(
        &self,
        new: &dyn DiskFile,
        peers: &mut Peers<'_>,
        failed: &impl Fn(io::Error) -> RepairError,
    ) -> Result<(), RepairError> {
        let first = SEGMENT_HEADER_SIZE as u64;
        new.write_at(&[IoSlice::new(&self.plan.header.encode())], 0)
            .map_err(failed)?;
        let mut copying = Copying {
            old: self.old,
            new,
            goes_on: true,
            position: first,
        };
        for at in self.plan.faults {
            match peers.peek().map(|entry| entry.id.index) {
                Some(index) if index < at.fault.first => {
                    return Err(RepairError::NotFaulty { index });
                }
                Some(index) if index <= at.fault.last => {}
                // Not given: it stays as it is.
                _ => continue,
            }
            copying.copy_until(at.fault.position).map_err(failed)?;
            self.mend(&mut copying, at, peers, failed)?;
        }
        let size = self.old.map_or(0, |(_, size)| size);
        if let Some(footer) = &self.plan.footer {
            copying.copy_until(footer.position).map_err(failed)?;
            return new
                .write_at(&[IoSlice::new(&footer.bytes)], footer.position)
                .map_err(failed);
        }
        copying.copy_until(size).map_err(failed)?;
        let size = if copying.goes_on {
            size.max(copying.position)
        } else {
            size.max(copying.position + TRAILER_SIZE as u64)
        };
        new.allocate(size).map_err(failed)
    }

    /// Writes peers' entries in the place of a fault.
    fn mend(
        &self,
        copying: &mut Copying<'_>,
        at: &FaultAt,
        peers: &mut Peers<'_>,
        failed: &impl Fn(io::Error) -> RepairError,
    ) -> Result<(), RepairError> {
        let fault = &at.fault;
        let group = self.plan.header.group;
        let mut chain = match fault.known {
            Known::Chain { before, .. } => before,
            Known::Identity(_) => 0,
            Known::Nothing => return Err(RepairError::Unverifiable { index: fault.first }),
        };
        for index in fault.first..=fault.last {
            let entry = entries::next(peers, fault, index)?;
            let header = match &fault.known {
                Known::Identity(known) => {
                    let known = known.iter().find(|known| known.id.index == index);
                    let known = known.ok_or(RepairError::Unverifiable { index })?;
                    entries::identical(group, known, &entry)?
                }
                _ => entries::chained(group, &entry, chain)?,
            };
            chain = header.chain_crc;
            let stamped = self
                .kept_stamp(&header, copying.position)
                .unwrap_or_else(|| stamp_for(at, copying.position, self.plan.sync_group));
            if copying.position + header.frame_size() > SEGMENT_SIZE_MAX {
                let what = "a segment cannot hold as much".to_owned();
                return Err(RepairError::Refused { index, what });
            }
            copying
                .write_frame(&header, &entry, stamped, self.plan.seed)
                .map_err(failed)?;
        }
        entries::arrived(fault, chain, copying.position - fault.position)?;
        if let Known::Chain { size: None, .. } = fault.known {
            copying.goes_on = false;
        }
        Ok(())
    }

    /// The stamp that stands there, when the header that it belongs to does.
    fn kept_stamp(&self, header: &FrameHeader, position: u64) -> Option<SyncStamp> {
        let (old, _) = self.old?;
        let mut bytes: FrameHeaderBytes = [0; FRAME_HEADER_SIZE];
        old.read_at(&mut bytes, position).ok()?;
        let is_same = FrameHeader::decode(&bytes).is_ok_and(|found| found == *header);
        stamp(&bytes, self.plan.seed).ok().filter(|_| is_same)
    }
}

impl Copying<'_> {
    /// Copies from where the last frame was written, or the copy ended, up to `until`.
    fn copy_until(&mut self, until: u64) -> io::Result<()> {
        let (Some((old, size)), true) = (self.old, self.goes_on) else {
            return Ok(());
        };
        let until = until.min(size);
        while self.position < until {
            let part = COPY_SIZE.min(until - self.position);
            let mut bytes = vec![0; usize::try_from(part).map_err(io::Error::other)?];
            old.read_at(&mut bytes, self.position)?;
            if bytes.iter().any(|byte| *byte != 0) {
                self.new.write_at(&[IoSlice::new(&bytes)], self.position)?;
            }
            self.position += part;
        }
        Ok(())
    }

    fn write_frame(
        &mut self,
        header: &FrameHeader,
        entry: &Entry,
        stamped: SyncStamp,
        seed: u32,
    ) -> io::Result<()> {
        let mut bytes = header.to_bytes();
        put_stamp(&mut bytes, stamped, seed);
        let padding = [0; 8];
        let written = FRAME_HEADER_SIZE + entry.payload.len();
        let size = frame_size(header.payload_size);
        let rest = usize::try_from(size).map_err(io::Error::other)? - written;
        let padding = padding.get(..rest).unwrap_or_default();
        let parts = [bytes.as_slice(), &entry.payload, padding].map(IoSlice::new);
        self.new.write_at(&parts, self.position)?;
        self.position += size;
        Ok(())
    }
}
