//! Cutting off a damaged entry that was never committed, and never will be.
//!
//! Promises: what is cut was not committed; after a crash at any step the log is as it was, or one that ends in front of the
//! damaged entry and lacks a part of what stood behind. Must not know: who has committed what, or how that was found out.
//!
//! Why it is safe, though this node may have acknowledged the entry to the leader of its term. At one index one entry is
//! ever committed. When the group has committed another one there, of another leader, this one was on no majority that
//! committed it, so no client was told that it is durable; and nothing behind it in this log was committed either, for the
//! log of whoever committed that would have this entry in front of it (Log Matching). What is cut is therefore what Raft
//! itself has a follower cut as soon as a leader's entries meet it. A vote that the node gives afterwards, with a log that
//! ends earlier, is as safe as before: a candidate must be as new as every entry that was committed with this node's
//! help, and those all stand in front of the cut, whole. The term and the vote are kept elsewhere and stay.
//!
//! Only an entry that is told from the committed one is cut: by its own header, or, where that is lost, by the chain crcs
//! before and behind it. Of several whose headers are lost the first may be committed ones and only the last not: nothing
//! tells which.

use std::path::Path;

use super::{Repair, entries};
use crate::error::{Known, RepairError};
use crate::log::open::Whole;
use crate::log::watermark::WatermarkFile;
use crate::types::{Entry, EntryId};

/// A damaged entry that another may have superseded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Supersedable {
    /// Its index.
    pub index: u64,
    /// Chain crc behind it.
    pub chain_crc: u32,
    known: Told,
}

/// What tells a damaged entry from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    ById(EntryId),
    /// Chain crc before it.
    ByChain(u32),
}

impl Supersedable {
    /// Whether this entry is another one at its index. Entries of one leader, term and index are one, as that leader made it;
    /// a term may have two leaders, of which the second has the higher node id.
    fn is_other(&self, committed: &Entry, group: u32) -> Result<bool, RepairError> {
        if committed.id.index != self.index {
            return Ok(false);
        }
        match self.known {
            Told::ById(id) => Ok((committed.id.term, committed.id.node) != (id.term, id.node)),
            Told::ByChain(before) => {
                let header = entries::chained(group, committed, before)?;
                Ok(header.chain_crc != self.chain_crc)
            }
        }
    }
}

impl Repair {
    /// The first damaged entry, when it is one that another may have superseded: everything in front of it is whole, it can
    /// be told from another one, and nothing here says that it was committed.
    pub fn supersedable(&self) -> Option<Supersedable> {
        self.cuttable().map(|(_, damaged)| damaged)
    }

    fn cuttable(&self) -> Option<(Whole<'_>, Supersedable)> {
        let whole = self.survey.whole(self.start)?;
        let fault = whole.fault;
        let (chain_crc, known) = match &fault.known {
            Known::Identity(known) => {
                let known = known.first()?;
                (known.chain_crc, Told::ById(known.id))
            }
            Known::Chain { before, after, .. } if fault.first == fault.last => {
                (*after, Told::ByChain(*before))
            }
            Known::Chain { .. } | Known::Nothing => return None,
        };
        let index = fault.first;
        let damaged = Supersedable {
            index,
            chain_crc,
            known,
        };
        (Some(index) > self.known_committed()).then_some((whole, damaged))
    }

    /// The last entry that anything here says is committed. A checkpoint vouches by its name alone.
    fn known_committed(&self) -> Option<u64> {
        let boundary = self.boundary.and_then(|boundary| boundary.checked_sub(1));
        let purged = self.purged.map(|purged| purged.index);
        let checkpoint = self.checkpoint().map(|found| found.applied.index);
        self.committed_index()
            .max(boundary)
            .max(purged)
            .max(checkpoint)
    }

    /// Cuts off the entry that [`Repair::supersedable`] names, and everything behind it, durably, if `committed` is another
    /// one at its index; whether it was. The caller has proof that the group has committed that one. One at a time; this
    /// view of the log stays as it was, and [`Repair::open`] gives another one.
    pub fn cut_superseded(&self, committed: &Entry) -> Result<bool, RepairError> {
        let Some((whole, damaged)) = self.cuttable() else {
            return Ok(false);
        };
        if !damaged.is_other(committed, self.group)? {
            return Ok(false);
        }
        self.cut(&whole)?;
        Ok(true)
    }

    /// As a truncation does: the watermark goes down first, then files go, newest first, then the last one is cut.
    fn cut(&self, whole: &Whole<'_>) -> Result<(), RepairError> {
        let (disk, options) = (self.disk.as_ref(), &self.options);
        let opened = WatermarkFile::open(disk, options, self.group, true);
        let (mut watermark, _) = opened.map_err(|error| RepairError::Open(Box::new(error)))?;
        let sync_group = whole.sync_group.max(self.sync_group);
        watermark
            .set(&whole.end, sync_group)
            .map_err(RepairError::Stopped)?;
        let dir = options.log_dir();
        let failed = |file: &Path| {
            let file = file.to_owned();
            move |source| RepairError::Disk { file, source }
        };
        for path in whole.behind.iter().rev() {
            disk.remove(path)
                .and_then(|()| disk.sync_dir(&dir))
                .map_err(failed(path))?;
        }
        if let Some(path) = &whole.cut {
            disk.open(path)
                .and_then(|file| {
                    file.set_size(whole.end.position)?;
                    file.sync()
                })
                .map_err(failed(path))?;
        }
        Ok(())
    }
}
