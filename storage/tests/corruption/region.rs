//! Every place of every file by what stands there: each field of each structure of FORMAT.md.
//!
//! Promises: the regions of a file cover all of it. Must not know: how they will be damaged.

use std::ops::Range;
use std::path::{Path, PathBuf};

use inkstone_storage::format::batch::Batches;
use inkstone_storage::format::frame::{FRAME_HEADER_SIZE, FrameHeader};
use inkstone_storage::format::segment_footer::{Footer, TRAILER_SIZE};
use inkstone_storage::types::EntryKind;

use super::workload::Workload;

/// What stands in a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Class {
    SegmentHeader,
    FrameIdentity,
    SyncStamp,
    Preamble,
    BatchHeader,
    Records,
    OtherPayload,
    Padding,
    ZerosBehind,
    FrameRows,
    LogRows,
    RefusedRows,
    Logs,
    Terms,
    Trailer,
    HardStateSlot,
    HardStateBetween,
    WatermarkSlot,
    WatermarkBetween,
    CheckpointHeader,
    CheckpointBody,
    SnapshotHeader,
    SnapshotBody,
    WholeFile,
    Pair,
}

#[derive(Debug, Clone)]
pub(crate) struct Region {
    pub(crate) class: Class,
    pub(crate) file: PathBuf,
    pub(crate) place: Range<usize>,
}

/// A frame and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) file: PathBuf,
    pub(crate) place: Range<usize>,
    pub(crate) index: u64,
    /// Where a sealed segment's log rows of this entry stand, and its frame row.
    pub(crate) rows: Vec<Range<usize>>,
}

const SEGMENT_HEADER: &[usize] = &[8, 4, 4, 16, 8, 4, 4048, 4];
const FRAME_IDENTITY: &[usize] = &[2, 1, 1, 4, 4, 4, 8, 8, 8, 4, 4];
const SYNC_STAMP: &[usize] = &[8, 4, 4];
const PREAMBLE: &[usize] = &[4, 4];
const BATCH_HEADER: &[usize] = &[8, 8, 8, 8, 8, 8, 8, 4, 4, 4, 4, 4, 1, 1, 2];
const FRAME_ROW: &[usize] = &[4, 4, 4, 1, 3];
const LOG_ROW: &[usize] = &[8, 8, 4, 4, 4, 4];
const REFUSED_ROW: &[usize] = &[4, 4];
const LOG: &[usize] = &[8, 8, 8, 8, 8, 8, 4, 4, 8];
const TERM: &[usize] = &[8, 8, 8];
const TRAILER: &[usize] = &[
    8, 4, 4, 16, 8, 8, 4, 4, 8, 8, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 12, 4,
];
const HARD_STATE: &[usize] = &[8, 4, 4, 16, 8, 8, 8, 8, 8, 8, 8, 8, 4, 4, 20, 4];
const WATERMARK: &[usize] = &[8, 4, 4, 16, 8, 8, 8, 8, 8, 8, 8, 4, 4, 28, 4];
const CHECKPOINT: &[usize] = &[8, 4, 4, 16, 8, 8, 8, 8, 4, 4];

/// Lays regions one behind the other.
struct Laying<'a> {
    file: &'a Path,
    at: usize,
    regions: Vec<Region>,
}

impl Laying<'_> {
    fn lay(&mut self, class: Class, size: usize) {
        let place = self.at..self.at + size;
        self.at = place.end;
        if size > 0 {
            self.regions.push(Region {
                class,
                file: self.file.to_owned(),
                place,
            });
        }
    }

    fn fields(&mut self, class: Class, sizes: &[usize]) {
        for size in sizes {
            self.lay(class, *size);
        }
    }

    fn rows(&mut self, class: Class, end: usize, sizes: &[usize]) {
        while self.at < end {
            self.fields(class, sizes);
        }
    }
}

/// All regions of all files, and all frames.
pub(crate) fn regions(work: &Workload) -> (Vec<Region>, Vec<Frame>) {
    let mut frames = Vec::new();
    let mut regions = Vec::new();
    for (path, bytes) in &work.files {
        let mut laying = Laying {
            file: path,
            at: 0,
            regions: Vec::new(),
        };
        let name = path.file_name().and_then(|name| name.to_str());
        match name.expect("named") {
            "hard-state" => slots(
                &mut laying,
                Class::HardStateSlot,
                Class::HardStateBetween,
                HARD_STATE,
            ),
            "watermark" => slots(
                &mut laying,
                Class::WatermarkSlot,
                Class::WatermarkBetween,
                WATERMARK,
            ),
            "snapshot" => {
                laying.fields(Class::SnapshotHeader, CHECKPOINT);
                laying.lay(Class::SnapshotBody, bytes.len() - laying.at);
            }
            _ if path.extension().is_some_and(|kind| kind == "ckpt") => {
                laying.fields(Class::CheckpointHeader, CHECKPOINT);
                laying.lay(Class::CheckpointBody, bytes.len() - laying.at);
            }
            _ => segment(&mut laying, bytes, &mut frames),
        }
        assert_eq!(laying.at, bytes.len(), "{}", path.display());
        regions.append(&mut laying.regions);
    }
    (regions, frames)
}

fn slots(laying: &mut Laying<'_>, slot: Class, between: Class, fields: &[usize]) {
    for _ in 0..2 {
        laying.fields(slot, fields);
        laying.lay(between, 4096 - 128);
    }
}

fn segment(laying: &mut Laying<'_>, bytes: &[u8], frames: &mut Vec<Frame>) {
    laying.fields(Class::SegmentHeader, SEGMENT_HEADER);
    let footer = Footer::decode(bytes).ok();
    let end = footer.as_ref().map_or(bytes.len(), |footer| {
        usize::try_from(footer.frames_end).expect("small")
    });
    let first = frames.len();
    while laying.at < end {
        let header = bytes[laying.at..].first_chunk().expect("zeros behind");
        let Ok(header) = FrameHeader::decode(header) else {
            break;
        };
        let from = laying.at;
        frame(laying, bytes, &header);
        frames.push(Frame {
            file: laying.file.to_owned(),
            place: from..laying.at,
            index: header.id.index,
            rows: Vec::new(),
        });
    }
    match footer {
        Some(footer) => sections(laying, bytes, &footer, &mut frames[first..]),
        None => laying.lay(Class::ZerosBehind, end - laying.at),
    }
}

fn frame(laying: &mut Laying<'_>, bytes: &[u8], header: &FrameHeader) {
    let end = laying.at + usize::try_from(header.frame_size()).expect("small");
    laying.fields(Class::FrameIdentity, FRAME_IDENTITY);
    laying.fields(Class::SyncStamp, SYNC_STAMP);
    let size = header.payload_size as usize;
    if header.kind == EntryKind::Batches {
        let payload = bytes[laying.at..laying.at + size].to_vec();
        let batches = Batches::parse(payload.into()).expect("valid");
        laying.fields(Class::Preamble, PREAMBLE);
        for _ in batches.headers() {
            laying.fields(Class::BatchHeader, BATCH_HEADER);
        }
        for header in batches.headers() {
            laying.lay(Class::Records, header.encoded_size as usize);
        }
    } else {
        laying.lay(Class::OtherPayload, size);
    }
    laying.lay(Class::Padding, end - laying.at);
    debug_assert!(end >= FRAME_HEADER_SIZE);
}

fn sections(laying: &mut Laying<'_>, bytes: &[u8], footer: &Footer, frames: &mut [Frame]) {
    let trailer = bytes.len() - TRAILER_SIZE;
    let count = |section: usize| {
        let at = trailer + 72 + 8 * section;
        let rows = bytes[at..].first_chunk().expect("a trailer");
        u32::from_le_bytes(*rows) as usize
    };
    for frame in frames.iter_mut() {
        frame.rows.push(laying.at..laying.at + 16);
        laying.fields(Class::FrameRows, FRAME_ROW);
    }
    let log_rows = laying.at;
    for log in footer.logs(bytes) {
        for number in 0..log.rows {
            let row = footer.row(bytes, &log, number).expect("valid");
            let at = log_rows + 32 * (log.first_row + number) as usize;
            frames[row.frame as usize].rows.push(at..at + 32);
        }
    }
    laying.rows(Class::LogRows, log_rows + 32 * count(1), LOG_ROW);
    laying.rows(Class::RefusedRows, laying.at + 8 * count(2), REFUSED_ROW);
    laying.rows(Class::Logs, laying.at + 64 * count(3), LOG);
    laying.rows(Class::Terms, laying.at + 24 * count(4), TERM);
    laying.fields(Class::Trailer, TRAILER);
}
