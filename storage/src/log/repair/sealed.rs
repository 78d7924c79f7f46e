//! Repair of sealed segments while the log runs.
//!
//! Promises: the new file differs from the old one in what was damaged alone; who reads the old one goes on. Must not
//! know: who found the damage.

use std::path::PathBuf;
use std::{io, mem};

use bytes::Bytes;

use super::entries::Peers;
use super::rewrite::{Footer, Plan, Rewrite};
use super::turn::Turn;
use crate::error::{EntryIdentity, Faults, Known, ReadError, RepairError};
use crate::format::batch::Batches;
use crate::format::frame::{FRAME_HEADER_SIZE, FrameHeader, stamp_seed};
use crate::format::segment_footer::{FooterContent, FrameRow, LogRow, LogRows};
use crate::format::segment_header::SegmentHeader;
use crate::io::DiskFile;
use crate::log::Done;
use crate::log::queue::Job;
use crate::log::scan::{End, FaultAt, FaultList, Scan, Scanner};
use crate::log::segment::{FrameMeta, Sealed};
use crate::log::shared::Shared;
use crate::types::{EntryId, EntryKind};

/// A sealed segment that was written anew, to take the old one's place.
#[derive(Debug)]
pub(in crate::log) struct Replacement {
    pub(in crate::log) base: u64,
    pub(in crate::log) tmp: PathBuf,
}

/// The damaged entries of the sealed segment that holds `index`.
pub(in crate::log) fn faulty(shared: &Shared, index: u64) -> Result<Option<Faults>, ReadError> {
    let sealed = shared.state.read().sealed_of(index).cloned();
    let Some(sealed) = sealed else {
        return Ok(None);
    };
    let path = sealed.path();
    let found = shared
        .disk
        .open_to_read(path)
        .and_then(|file| survey(shared, &sealed, file.as_ref()));
    let scan = found.map_err(|source| ReadError::Io {
        file: path.to_owned(),
        source,
    })?;
    Ok(Some(scan.faults.faults()))
}

/// Walks a sealed segment: every damaged entry, with its identity when the footer's frame rows are whole.
fn survey(shared: &Shared, sealed: &Sealed, file: &dyn DiskFile) -> io::Result<Scan> {
    let footer = sealed.footer();
    let seed = stamp_seed(shared.options.identity.cluster_id);
    let size = footer.frames_end.min(file.size()?);
    let end = End::Next {
        index: footer.last + 1,
        chain_crc: Some(footer.chain_end),
    };
    let mut scan = Scanner::new(file, sealed.path(), size, header(sealed), seed).run(end);
    if !scan.faults.is_empty()
        && let Some(identities) = identities(shared, sealed)
    {
        let unlisted = scan.faults.unlisted;
        for at in mem::take(&mut scan.faults).list {
            name(&at, &identities, &mut scan.faults);
        }
        scan.faults.unlisted += unlisted;
    }
    for at in &mut scan.faults.list {
        if let Known::Chain { size, .. } = &mut at.fault.known {
            // The footer says where the frames end.
            let behind = footer.frames_end.saturating_sub(at.fault.position);
            size.get_or_insert(behind);
        }
    }
    Ok(scan)
}

fn header(sealed: &Sealed) -> SegmentHeader {
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
        at.base = identities
            .first()
            .map_or(at.base, |(_, first)| first.id.index);
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
    let mut terms = sealed.terms().peekable();
    let mut run = terms.next()?;
    for index in sealed.base()..=sealed.last() {
        while let Some(next) = terms.next_if(|next| next.index <= index) {
            run = next;
        }
        let row = sealed.frame_row(index)?;
        let (header, _) = FrameHeader {
            group: shared.group,
            id: EntryId { index, ..run },
            kind: row.kind,
            payload_size: row.payload_size,
            payload_crc: row.payload_crc,
            chain_crc: 0,
        }
        .encode(chain);
        chain = header.chain_crc;
        let identity = EntryIdentity {
            id: header.id,
            kind: header.kind,
            payload_size: header.payload_size,
            payload_crc: header.payload_crc,
            chain_crc: chain,
        };
        found.push((row.position, identity));
    }
    (chain == sealed.footer().chain_end).then_some(found)
}

/// Writes the sealed segment that holds `index` anew with peers' entries, or, without any, with the rows of its footer
/// built again; and has the writer thread put it in the old one's place.
pub(in crate::log) fn repair(
    shared: &Shared,
    index: u64,
    peers: &mut Peers<'_>,
    done: Done,
) -> Result<(), RepairError> {
    let turn = Turn::take(&shared.repairing);
    let sealed = shared.state.read().sealed_of(index).cloned();
    let sealed = sealed.ok_or(RepairError::NotFaulty { index })?;
    let path = sealed.path();
    let failed = |source| RepairError::Disk {
        file: path.to_owned(),
        source,
    };
    let file = shared.disk.open_to_read(path).map_err(failed)?;
    let size = file.size().map_err(failed)?;
    let scan = survey(shared, &sealed, file.as_ref()).map_err(failed)?;
    let footer = if peers.peek().is_none() {
        Some(rebuilt(shared, &sealed, file.as_ref(), &scan)?)
    } else {
        None
    };
    let dir = shared.options.log_dir();
    let rewrite = Rewrite {
        disk: shared.disk.as_ref(),
        dir: &dir,
        path,
        old: Some((file.as_ref(), size)),
        plan: Plan {
            header: header(&sealed),
            faults: &scan.faults.list,
            footer,
            seed: stamp_seed(shared.options.identity.cluster_id),
            sync_group: sealed.footer().sync_group,
        },
    };
    let tmp = rewrite.write(peers)?;
    if let Some(entry) = peers.peek() {
        let index = entry.id.index;
        drop(shared.disk.remove(&tmp));
        return Err(RepairError::NotFaulty { index });
    }
    let base = sealed.base();
    let opened = shared
        .disk
        .open_to_read(&tmp)
        .and_then(|file| file.map())
        .map_err(failed)
        .and_then(|map| {
            Sealed::open(&tmp, map, shared.mutation).map_err(|error| RepairError::Refused {
                index,
                what: error.to_string(),
            })
        });
    if let Err(error) = opened {
        // The writer would stop over it.
        drop(shared.disk.remove(&tmp));
        return Err(error);
    }
    let done: Done = Box::new(move |replaced| {
        drop(turn);
        done(replaced);
    });
    shared
        .queue
        .push([Job::Replace(Replacement { base, tmp }, done)])?;
    Ok(())
}

/// The footer, with frame rows and log rows built from the frames: the same as it was, or none at all.
fn rebuilt(
    shared: &Shared,
    sealed: &Sealed,
    file: &dyn DiskFile,
    scan: &Scan,
) -> Result<Footer, RepairError> {
    if let Some(at) = scan.faults.list.first() {
        let index = at.fault.first;
        return Err(RepairError::Incomplete {
            first: index,
            last: index,
            index,
        });
    }
    let refused = |error: crate::error::Damage| RepairError::Refused {
        index: sealed.base(),
        what: error.to_string(),
    };
    let content = content(shared, sealed, file, scan).map_err(refused)?;
    let bytes = content.encode();
    if !sealed.ends_with_trailer_of(&bytes) {
        let what = "the rows that are built from the frames are not those that the trailer knows";
        return Err(RepairError::Refused {
            index: sealed.base(),
            what: what.to_owned(),
        });
    }
    Ok(Footer {
        position: content.frames_end,
        bytes,
    })
}

fn content(
    shared: &Shared,
    sealed: &Sealed,
    file: &dyn DiskFile,
    scan: &Scan,
) -> Result<FooterContent, crate::error::Damage> {
    let footer = sealed.footer();
    let mut logs: Vec<LogRows> = sealed
        .logs()
        .map(|summary| LogRows {
            summary,
            rows: Vec::new(),
        })
        .collect();
    let mut refused = Vec::new();
    for (number, frame) in (0_u32..).zip(&scan.frames) {
        if frame.kind == EntryKind::Batches {
            let batches = batches(sealed, file, frame)?;
            add_rows(sealed, number, &batches, &mut logs, &mut refused);
        }
    }
    Ok(FooterContent {
        group: shared.group,
        cluster_id: footer.cluster_id,
        base: footer.base,
        chain_start: footer.chain_start,
        chain_end: footer.chain_end,
        sync_group: footer.sync_group,
        frames_end: footer.frames_end,
        frames: scan.frames.iter().map(frame_row).collect(),
        logs,
        refused,
        terms: sealed.terms().collect(),
    })
}

fn frame_row(frame: &FrameMeta) -> FrameRow {
    FrameRow {
        position: frame.position,
        payload_size: frame.payload_size,
        payload_crc: frame.payload_crc,
        kind: frame.kind,
    }
}

fn batches(
    sealed: &Sealed,
    file: &dyn DiskFile,
    frame: &FrameMeta,
) -> Result<Batches, crate::error::Damage> {
    let at = frame.position + FRAME_HEADER_SIZE as u64;
    let damage = |what: String| crate::error::Damage {
        file: sealed.path().to_owned(),
        position: at,
        what,
    };
    let mut payload = vec![0; frame.payload_size as usize];
    file.read_at(&mut payload, at)
        .map_err(|error| damage(error.to_string()))?;
    Batches::parse(Bytes::from(payload)).map_err(|bad| damage(bad.what))
}

/// The rows of one frame. Offsets are dense: a row begins where the one before it ends.
fn add_rows(
    sealed: &Sealed,
    frame: u32,
    batches: &Batches,
    logs: &mut [LogRows],
    refused: &mut Vec<(u32, u32)>,
) {
    for (number, header) in (0_u32..).zip(batches.headers()) {
        if sealed.is_refused(frame, number) {
            refused.push((frame, number));
            continue;
        }
        let Ok(of) = logs.binary_search_by_key(&header.log, |rows| rows.summary.log) else {
            continue;
        };
        let Some(LogRows { summary, rows }) = logs.get_mut(of) else {
            continue;
        };
        let next = rows.last().map_or(summary.first_offset, |row| {
            row.base_offset + u64::from(row.records)
        });
        match rows.last_mut().filter(|row| row.frame == frame) {
            Some(row) => {
                row.records += header.records;
                row.timestamp_max = row.timestamp_max.max(header.timestamp_max);
            }
            None => rows.push(LogRow {
                base_offset: next,
                records: header.records,
                frame,
                timestamp_max: header.timestamp_max,
            }),
        }
    }
}
