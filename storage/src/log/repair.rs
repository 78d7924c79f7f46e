//! Writing back what peers still have: damaged entries of a log that is not open, or of a sealed segment of one that is.
//!
//! Promises: an entry takes a damaged one's place only when it is proven to be the same one; a segment is replaced as a
//! whole, so that after a crash it is the old one or the new one. Must not know: peers, or how many of them agree.

mod entries;
mod rewrite;

use std::path::PathBuf;
use std::sync::Arc;
use std::{io, mem};

use self::rewrite::{Plan, Rewrite};
use super::LogOptions;
use super::mutant::Mutation;
use super::open::{Begun, Survey};
use super::queue::Job;
use super::recovery::Recovery;
use super::scan::{End, FaultAt, FaultList, Scanner};
use super::segment::{Sealed, segment_path};
use super::shared::Shared;
use super::watermark::Found;
use super::{Done, Log};
use crate::error::{EntryIdentity, Faults, Known, OpenError, ReadError, RepairError};
use crate::format::frame::{FrameHeader, SyncStamp, stamp_seed};
use crate::format::segment_header::{SEGMENT_HEADER_SIZE, SegmentHeader};
use crate::io::Disk;
use crate::types::Entry;

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
}

impl Repair {
    /// Looks at everything, as [`Log::open`] does. A log without damaged entries has none to repair and is no error;
    /// damage that no peer can mend is.
    pub fn open(disk: Arc<dyn Disk>, options: LogOptions) -> Result<Self, OpenError> {
        let mut repair = Self {
            disk,
            options,
            survey: Survey::default(),
            faults: Faults::default(),
            sync_group: 0,
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
        let entries: Box<dyn Iterator<Item = Entry> + '_> = Box::new(entries.into_iter());
        let mut entries = entries.peekable();
        let faults = mem::take(&mut self.survey.faults.list);
        let written = self.write_segments(&faults, &mut entries);
        self.survey.faults.list = faults;
        let looked = self
            .look()
            .map_err(|error| RepairError::Open(Box::new(error)));
        written.and(looked)
    }

    fn write_segments(
        &self,
        faults: &[FaultAt],
        entries: &mut entries::Peers<'_>,
    ) -> Result<(), RepairError> {
        let mut rest = faults;
        while let Some(index) = entries.peek().map(|entry| entry.id.index) {
            let concerns = |at: &FaultAt| at.fault.first <= index && index <= at.fault.last;
            let Some(at) = rest.iter().find(|at| concerns(at)) else {
                return Err(RepairError::NotFaulty { index });
            };
            let base = at.base;
            let from = rest.partition_point(|at| at.base < base);
            let to = rest.partition_point(|at| at.base <= base);
            let here = rest.get(from..to).unwrap_or_default();
            self.write_segment(base, here, entries)?;
            rest = rest.get(to..).unwrap_or_default();
        }
        Ok(())
    }

    fn write_segment(
        &self,
        base: u64,
        faults: &[FaultAt],
        entries: &mut entries::Peers<'_>,
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
        let rewrite = Rewrite {
            disk: self.disk.as_ref(),
            dir: &dir,
            path: &path,
            old: segment.map(|segment| (segment.file.as_ref(), segment.size)),
            plan: Plan {
                header,
                faults,
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

/// The damaged entries of a sealed segment, each with its identity when the footer's frame rows are whole.
fn survey_sealed(shared: &Shared, sealed: &Sealed) -> io::Result<FaultList> {
    let path = sealed.path();
    let file = shared.disk.open_to_read(path)?;
    let footer = sealed.footer();
    let header = sealed_header(sealed);
    let seed = stamp_seed(shared.options.identity.cluster_id);
    let size = footer.frames_end.min(file.size()?);
    let end = End::Next {
        index: footer.last + 1,
        chain_crc: Some(footer.chain_end),
    };
    let mut faults = Scanner::new(file.as_ref(), path, size, header, seed)
        .run(end)
        .faults;
    if let Some(identities) = identities(shared, sealed) {
        for at in mem::take(&mut faults).list {
            name(&at, &identities, &mut faults);
        }
    }
    Ok(faults)
}

fn sealed_header(sealed: &Sealed) -> SegmentHeader {
    let footer = sealed.footer();
    SegmentHeader {
        group: footer.group,
        cluster_id: footer.cluster_id,
        base: footer.base,
        chain_start: footer.chain_start,
    }
}

/// Gives a fault's entries the identities that the footer has of them.
fn name(at: &FaultAt, identities: &[(u64, EntryIdentity)], faults: &mut FaultList) {
    for index in at.fault.first..=at.fault.last {
        let of = identities.partition_point(|(_, identity)| identity.id.index < index);
        let Some((position, identity)) = identities.get(of) else {
            return;
        };
        let mut at = at.clone();
        at.fault.first = index;
        at.fault.last = index;
        at.fault.position = *position;
        at.fault.known = Known::Identity(vec![*identity]);
        faults.push(at);
    }
}

/// Position and identity of every entry, from the frame rows and the terms: proven by the chain that they lead to.
fn identities(shared: &Shared, sealed: &Sealed) -> Option<Vec<(u64, EntryIdentity)>> {
    let mut chain = sealed.footer().chain_start;
    let mut found = Vec::new();
    for index in sealed.base()..=sealed.last() {
        let row = sealed.frame_row(index)?;
        let run = sealed.terms().take_while(|run| run.index <= index).last()?;
        let (header, _) = FrameHeader {
            group: shared.group,
            id: crate::types::EntryId { index, ..run },
            kind: row.kind,
            payload_size: row.payload_size,
            payload_crc: row.payload_crc,
            chain_crc: 0,
        }
        .encode(chain);
        chain = header.chain_crc;
        found.push((
            row.position,
            EntryIdentity {
                id: header.id,
                kind: header.kind,
                payload_size: header.payload_size,
                payload_crc: header.payload_crc,
                chain_crc: chain,
            },
        ));
    }
    (chain == sealed.footer().chain_end).then_some(found)
}

/// A sealed segment that was written anew, to take the old one's place.
#[derive(Debug)]
pub(super) struct Replacement {
    pub(super) base: u64,
    pub(super) tmp: PathBuf,
}

/// The damaged entries of the sealed segment that holds `index`.
pub(super) fn faulty(shared: &Shared, index: u64) -> Result<Option<Faults>, ReadError> {
    let sealed = shared.state.read().sealed_of(index).cloned();
    let Some(sealed) = sealed else {
        return Ok(None);
    };
    let faults = survey_sealed(shared, &sealed).map_err(|source| ReadError::Io {
        file: sealed.path().to_owned(),
        source,
    })?;
    Ok(Some(faults.faults()))
}

/// Writes a sealed segment anew with peers' entries, and has the writer thread put it in the old one's place.
pub(super) fn repair_sealed(
    log: &Log,
    entries: impl IntoIterator<Item = Entry>,
    done: Done,
) -> Result<(), RepairError> {
    let shared = log.shared();
    // Two repairs of one segment would write the same file.
    let _alone = shared.repairing.lock();
    let entries: Box<dyn Iterator<Item = Entry> + '_> = Box::new(entries.into_iter());
    let mut entries = entries.peekable();
    let Some(index) = entries.peek().map(|entry| entry.id.index) else {
        shared.queue.push([Job::Pass(done)])?;
        return Ok(());
    };
    let sealed = shared.state.read().sealed_of(index).cloned();
    let sealed = sealed.ok_or(RepairError::NotFaulty { index })?;
    let path = sealed.path().to_owned();
    let disk = |source| RepairError::Disk {
        file: path.clone(),
        source,
    };
    let faults = survey_sealed(shared, &sealed).map_err(disk)?;
    let file = shared.disk.open_to_read(&path).map_err(disk)?;
    let size = file.size().map_err(disk)?;
    let dir = shared.options.log_dir();
    let rewrite = Rewrite {
        disk: shared.disk.as_ref(),
        dir: &dir,
        path: &path,
        old: Some((file.as_ref(), size)),
        plan: Plan {
            header: sealed_header(&sealed),
            faults: &faults.list,
            seed: stamp_seed(shared.options.identity.cluster_id),
            sync_group: sealed.footer().sync_group,
        },
    };
    let tmp = rewrite.write(&mut entries)?;
    if let Some(entry) = entries.peek() {
        let index = entry.id.index;
        drop(shared.disk.remove(&tmp));
        return Err(RepairError::NotFaulty { index });
    }
    let base = sealed.base();
    shared
        .queue
        .push([Job::Replace(Replacement { base, tmp }, done)])?;
    Ok(())
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
