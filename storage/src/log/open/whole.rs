//! Where a damaged log ends in front of its first damaged entry.
//!
//! Promises: everything before that end was verified. Must not know: what is done with what stands behind it.

use std::path::PathBuf;

use super::survey::Survey;
use crate::error::FaultyRange;
use crate::format::segment_header::SEGMENT_HEADER_SIZE;
use crate::log::queue::Mark;
use crate::log::scan::{FaultAt, Scan};
use crate::log::segment::{Sealed, SegmentFile};
use crate::types::EntryId;

/// Where a log begins.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::log) struct Start {
    /// The lowest index that it can hold.
    pub(in crate::log) first: u64,
    /// Chain crc before that.
    pub(in crate::log) chain_crc: u32,
}

/// The whole part of a log whose first damaged entry is in an unsealed segment.
#[derive(Debug)]
pub(in crate::log) struct Whole<'a> {
    /// The first damaged entries.
    pub(in crate::log) fault: &'a FaultyRange,
    /// The end of what is whole.
    pub(in crate::log) end: Mark,
    /// The last sync group of all frames that are there, damaged ones included.
    pub(in crate::log) sync_group: u64,
    /// The segment that ends there; none when the damaged entry is its first, so that all of it goes.
    pub(in crate::log) cut: Option<PathBuf>,
    /// The segments behind, oldest first.
    pub(in crate::log) behind: Vec<PathBuf>,
}

impl Survey {
    /// `None` when nothing is damaged, or the first damaged entry is in no file, or in one that had a footer: that one
    /// is committed.
    pub(in crate::log) fn whole(&self, start: Start) -> Option<Whole<'_>> {
        let at = self.faults.list.first()?;
        let number = self
            .scanned
            .iter()
            .position(|(file, _)| file.base == at.base)?;
        if self.rebuilt_from.is_some() {
            return None;
        }
        let (before, from) = self.scanned.split_at(number);
        let (file, scan) = from.first()?;
        let is_first = at.fault.first == file.base || at.fault.first <= start.first;
        let end = if is_first {
            self.end_before(before, start)
        } else {
            end_of(file, scan)
        };
        let paths = from.iter().map(|(file, _)| file.path.clone());
        Some(Whole {
            fault: &at.fault,
            end,
            sync_group: self.last_sync_group(at),
            cut: (!is_first).then(|| file.path.clone()),
            behind: paths.skip(usize::from(!is_first)).collect(),
        })
    }

    /// The end of the segments in front of one.
    fn end_before(&self, scanned: &[(SegmentFile, Scan)], start: Start) -> Mark {
        let nearest = scanned.last();
        let mut end = match (nearest, self.sealed.last()) {
            (Some((file, scan)), _) => end_of(file, scan),
            (None, Some(sealed)) => end_of_sealed(sealed),
            (None, None) => Mark {
                last: None,
                base: start.first,
                position: SEGMENT_HEADER_SIZE as u64,
                chain_crc: start.chain_crc,
            },
        };
        end.last = end.last.filter(|last| last.index >= start.first);
        end
    }

    fn last_sync_group(&self, first: &FaultAt) -> u64 {
        let scanned = self.scanned.iter().filter_map(|(_, scan)| scan.stamp);
        let around = self.faults.list.iter().flat_map(|at| [at.before, at.after]);
        let stamps = scanned.chain(around.flatten()).chain(first.before);
        let sealed = self.sealed.last().map(|sealed| sealed.footer().sync_group);
        stamps
            .map(|stamp| stamp.group)
            .max()
            .max(sealed)
            .unwrap_or(0)
    }
}

fn end_of(file: &SegmentFile, scan: &Scan) -> Mark {
    Mark {
        last: scan.ids.last().copied(),
        base: file.base,
        position: scan.end,
        chain_crc: scan.chain_crc,
    }
}

fn end_of_sealed(sealed: &Sealed) -> Mark {
    let run = sealed.terms().last();
    let index = sealed.last();
    Mark {
        last: run.map(|run| EntryId { index, ..run }),
        base: sealed.base(),
        position: sealed.footer().frames_end,
        chain_crc: sealed.footer().chain_end,
    }
}
