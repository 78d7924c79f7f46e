//! Writing back what peers still have: damaged entries of a log that is not open, or of a sealed segment of one that is.
//!
//! Promises: an entry takes a damaged one's place only when it is proven to be the same one; a segment is replaced as a
//! whole, so that after a crash it is the old one or the new one. Must not know: peers, or how many of them agree.

mod entries;
mod rewrite;
mod sealed;
mod superseded;
mod turn;
mod whole;

use std::sync::Arc;

use parking_lot::Mutex;

use self::entries::Peers;
use self::rewrite::{Plan, Rewrite};
pub(super) use self::sealed::{Replacement, faulty};
pub use self::superseded::Supersedable;
pub(super) use self::turn::Turns;
use self::whole::Places;
use super::mutant::Mutation;
use super::open::{Begun, Start, Survey};
use super::recovery::Recovery;
use super::scan::FaultAt;
use super::segment::segment_path;
use super::shared::Shared;
use super::watermark::Found;
use super::{Checkpoint, Done, LogOptions};
use crate::error::{Faults, Known, OpenError, RepairError};
use crate::format::frame::{SyncStamp, stamp_seed};
use crate::format::segment_header::{SEGMENT_HEADER_SIZE, SegmentHeader};
use crate::io::Disk;
use crate::types::{Entry, EntryId};

/// A log that is not opened because entries are damaged ([`OpenError::Faulty`]): which ones, and a way to write them
/// back. Nobody else may have the directory open.
#[derive(Debug)]
pub struct Repair {
    disk: Arc<dyn Disk>,
    options: LogOptions,
    survey: Survey,
    faults: Faults,
    /// The last sync group that the watermark knows.
    sync_group: u64,
    purged: Option<EntryId>,
    start: Start,
    group: u32,
    /// The newest boundary between segments that has a checkpoint, whole or not.
    boundary: Option<u64>,
    /// The newest that is whole.
    checkpoint: Option<Checkpoint>,
    places: Mutex<Places>,
}

impl Repair {
    /// Looks at everything, as [`Log::open`](super::Log::open) does. A log without damaged entries has none to repair and is no error;
    /// damage that no peer can mend is.
    pub fn open(disk: Arc<dyn Disk>, options: LogOptions) -> Result<Self, OpenError> {
        let mut repair = Self {
            disk,
            options,
            survey: Survey::default(),
            faults: Faults::default(),
            sync_group: 0,
            purged: None,
            start: Start::default(),
            group: 0,
            boundary: None,
            checkpoint: None,
            places: Mutex::default(),
        };
        repair.look()?;
        Ok(repair)
    }

    fn look(&mut self) -> Result<(), OpenError> {
        let disk = self.disk.as_ref();
        let mutation = Mutation::default();
        let mut recovery = Recovery::default();
        let mut begun = Begun::begin(disk, &self.options, mutation, &mut recovery)?;
        let opening = begun.opening(disk, &self.options, mutation);
        opening.delete_purged(&mut begun.files, &mut recovery)?;
        self.survey = opening.survey(&begun.files)?;
        if let Some(damage) = self.survey.damage() {
            return Err(damage.into());
        }
        self.faults = self.survey.faults.faults();
        self.sync_group = match begun.found {
            Found::Known(mark) => mark.sync_group,
            Found::Bad => 0,
        };
        let hard_state = begun.hard_state.current();
        self.start = Start {
            first: hard_state.first,
            chain_crc: hard_state.chain_start,
        };
        self.purged = hard_state.purged;
        self.group = begun.group;
        self.boundary = begun.files.boundaries.last().copied();
        let boundaries = begun.files.boundaries.iter().copied();
        self.checkpoint = self.find_checkpoint(boundaries, begun.has_snapshot, begun.group)?;
        *self.places.lock() = Places::default();
        Ok(())
    }

    /// The damaged entries, by index. Empty: the log opens.
    pub fn faulty(&self) -> &Faults {
        &self.faults
    }

    /// Takes peers' entries for damaged ones, in the order of their indexes, and writes their segments anew, durably.
    /// Neighbours of which only the chain is known must be given together; others may be left out. Entries are taken
    /// one by one, so that they need not be in memory at once. On return [`Repair::faulty`] says what is left.
    ///
    /// On an error the segment that it concerns is as it was; those before it are mended.
    pub fn write_back(
        &mut self,
        entries: impl IntoIterator<Item = Entry>,
    ) -> Result<(), RepairError> {
        let written = self.write(entries);
        let looked = self
            .look()
            .map_err(|error| RepairError::Open(Box::new(error)));
        written.and(looked)
    }

    /// [`Repair::write_back`] without the look at what is left: this view of the log stays as it was, so that what is whole
    /// can be read meanwhile ([`Repair::entry`]); [`Repair::open`] then gives another one. One at a time.
    pub fn write(&self, entries: impl IntoIterator<Item = Entry>) -> Result<(), RepairError> {
        let mut entries = peers(entries);
        let mut rest = self.survey.faults.list.as_slice();
        while let Some(index) = entries.peek().map(|entry| entry.id.index) {
            let concerns = |at: &FaultAt| at.fault.first <= index && index <= at.fault.last;
            let Some(at) = rest.iter().find(|at| concerns(at)) else {
                return Err(RepairError::NotFaulty { index });
            };
            let base = at.base;
            let from = rest.partition_point(|at| at.base < base);
            let to = rest.partition_point(|at| at.base <= base);
            let here = rest.get(from..to).unwrap_or_default();
            self.write_segment(base, here, &mut entries)?;
            rest = rest.get(to..).unwrap_or_default();
        }
        Ok(())
    }

    fn write_segment(
        &self,
        base: u64,
        faults: &[FaultAt],
        entries: &mut Peers<'_>,
    ) -> Result<(), RepairError> {
        let segment = self
            .survey
            .segments
            .iter()
            .find(|segment| segment.header.base == base);
        let dir = self.options.log_dir();
        let path = segment_path(&dir, base);
        let header = match segment {
            Some(segment) => segment.header,
            None => SegmentHeader {
                group: u32::try_from(self.options.group).unwrap_or_default(),
                cluster_id: self.options.identity.cluster_id,
                base,
                chain_start: chain_before(faults)
                    .ok_or(RepairError::Unverifiable { index: base })?,
            },
        };
        let file = segment
            .map(|segment| segment.file(self.disk.as_ref()))
            .transpose()
            .map_err(|source| RepairError::Disk {
                file: path.clone(),
                source,
            })?;
        let size = segment.map_or(0, |segment| segment.size);
        let rewrite = Rewrite {
            disk: self.disk.as_ref(),
            dir: &dir,
            path: &path,
            old: file.as_deref().map(|file| (file, size)),
            plan: Plan {
                header,
                faults,
                footer: None,
                seed: stamp_seed(self.options.identity.cluster_id),
                sync_group: self.sync_group,
            },
        };
        let tmp = rewrite.write(entries)?;
        self.disk
            .rename(&tmp, &path)
            .and_then(|()| self.disk.sync_dir(&dir))
            .map_err(|source| RepairError::Disk { file: path, source })
    }
}

/// Chain crc before the first of the faults.
fn chain_before(faults: &[FaultAt]) -> Option<u32> {
    match faults.first().map(|at| &at.fault.known) {
        Some(Known::Chain { before, .. }) => Some(*before),
        _ => None,
    }
}

/// Entries in the order in which they come, taken one by one.
fn peers<'a>(entries: impl IntoIterator<Item = Entry, IntoIter: 'a>) -> Peers<'a> {
    let entries: Box<dyn Iterator<Item = Entry> + 'a> = Box::new(entries.into_iter());
    entries.peekable()
}

/// See [`Log::repair_sealed`](super::Log::repair_sealed).
pub(super) fn repair_sealed(
    shared: &Shared,
    index: u64,
    entries: impl IntoIterator<Item = Entry>,
    done: Done,
) -> Result<(), RepairError> {
    sealed::repair(shared, index, &mut peers(entries), done)
}

/// The stamp of a frame that takes a lost one's place at `position`: one that the rules of the walk accept there.
pub(super) fn stamp_for(at: &FaultAt, position: u64, sync_group: u64) -> SyncStamp {
    match (at.before, at.after) {
        (_, Some(after)) if after.start <= position => after,
        (Some(before), _) => before,
        (None, after) => SyncStamp {
            group: after.map_or(sync_group, |after| after.group.saturating_sub(1)),
            start: SEGMENT_HEADER_SIZE as u64,
        },
    }
}
