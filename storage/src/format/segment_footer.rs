//! What a sealed segment ends with: five sections of rows and a trailer (FORMAT.md, "Segment footer").
//!
//! Promises: the trailer and the small sections (refused, logs, terms) are whole when [`Footer::decode`] succeeds; a
//! log row carries a crc of its own, and a frame row is proven by the frame it points to, so that opening a segment need
//! not read the big sections. Must not know: files; a caller gives it the bytes.

mod order;
mod rows;

use std::cmp::Ordering;

pub use self::rows::{FRAME_ROW_SIZE, FrameRow, LogRow, LogSummary};
use self::rows::{LOG_ROW_SIZE, LOG_SUMMARY_SIZE, REFUSED_ROW_SIZE, TERM_ROW_SIZE};
use super::fields::{
    FormatError, array_at, check_counted, check_envelope, crc_before, i64_at, put, u32_at, u64_at,
};
use super::segment_header::SEGMENT_VERSION;
use crate::types::{EntryId, LogId};

const MAGIC: [u8; 8] = *b"INKFOOTR";

const VERSION_AT: usize = 8;
const GROUP_AT: usize = VERSION_AT + 4;
const CLUSTER_AT: usize = GROUP_AT + 4;
const BASE_AT: usize = CLUSTER_AT + 16;
const LAST_AT: usize = BASE_AT + 8;
const CHAIN_START_AT: usize = LAST_AT + 8;
const CHAIN_END_AT: usize = CHAIN_START_AT + 4;
const SYNC_GROUP_AT: usize = CHAIN_END_AT + 4;
const FRAMES_END_AT: usize = SYNC_GROUP_AT + 8;
const SECTIONS_AT: usize = FRAMES_END_AT + 8;
const SECTION_SIZE: usize = 8;
const SECTIONS: usize = 5;
const CRC_AT: usize = TRAILER_SIZE - 4;

/// Bytes of the trailer: the last of the file.
pub const TRAILER_SIZE: usize = 128;
const _: () = assert!(SECTIONS_AT + SECTIONS * SECTION_SIZE <= CRC_AT);

/// Bytes of a row of each section, in the order in which the sections stand.
const ROW_SIZES: [usize; SECTIONS] = [
    FRAME_ROW_SIZE,
    LOG_ROW_SIZE,
    REFUSED_ROW_SIZE,
    LOG_SUMMARY_SIZE,
    TERM_ROW_SIZE,
];

/// A log's rows, as a footer is built from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRows {
    /// The log, and its totals; `first_row` and `rows` are set by the encoder.
    pub summary: LogSummary,
    /// In offset order.
    pub rows: Vec<LogRow>,
}

/// All that a footer is built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FooterContent {
    /// The Raft group.
    pub group: u32,
    /// The cluster.
    pub cluster_id: [u8; 16],
    /// Index of the first frame's entry.
    pub base: u64,
    /// Chain crc before it.
    pub chain_start: u32,
    /// Chain crc of the last frame.
    pub chain_end: u32,
    /// The last frame's sync group, or a later one.
    pub sync_group: u64,
    /// Position behind the last frame: where the footer begins.
    pub frames_end: u64,
    /// One row for each frame.
    pub frames: Vec<FrameRow>,
    /// By log id, rising.
    pub logs: Vec<LogRows>,
    /// (frame, batch) that apply refused, rising.
    pub refused: Vec<(u32, u32)>,
    /// Each first entry of a term, rising.
    pub terms: Vec<EntryId>,
}

fn count(items: usize) -> u32 {
    u32::try_from(items).expect("a segment of at most 32 GiB has fewer rows")
}

impl FooterContent {
    /// The footer's bytes, to stand at `frames_end`. The file ends behind them.
    pub fn encode(&self) -> Vec<u8> {
        let mut sections: [Vec<u8>; SECTIONS] = Default::default();
        let [frames, rows, refused, logs, terms] = &mut sections;
        for row in &self.frames {
            frames.extend_from_slice(&row.encode());
        }
        let mut first_row = 0;
        for log in &self.logs {
            let summary = LogSummary {
                first_row,
                rows: count(log.rows.len()),
                ..log.summary
            };
            logs.extend_from_slice(&summary.encode());
            for row in &log.rows {
                rows.extend_from_slice(&row.encode(summary.log));
            }
            first_row += summary.rows;
        }
        for (frame, batch) in &self.refused {
            refused.extend_from_slice(&frame.to_le_bytes());
            refused.extend_from_slice(&batch.to_le_bytes());
        }
        for id in &self.terms {
            terms.extend_from_slice(&id.index.to_le_bytes());
            terms.extend_from_slice(&id.term.to_le_bytes());
            terms.extend_from_slice(&id.node.to_le_bytes());
        }
        let trailer = self.trailer(&sections);
        let mut bytes = sections.concat();
        bytes.extend_from_slice(&trailer);
        bytes
    }

    fn trailer(&self, sections: &[Vec<u8>; SECTIONS]) -> [u8; TRAILER_SIZE] {
        let mut bytes = [0; TRAILER_SIZE];
        let last = (self.base + self.frames.len() as u64).saturating_sub(1);
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, VERSION_AT, &SEGMENT_VERSION.to_le_bytes());
        put(&mut bytes, GROUP_AT, &self.group.to_le_bytes());
        put(&mut bytes, CLUSTER_AT, &self.cluster_id);
        put(&mut bytes, BASE_AT, &self.base.to_le_bytes());
        put(&mut bytes, LAST_AT, &last.to_le_bytes());
        put(&mut bytes, CHAIN_START_AT, &self.chain_start.to_le_bytes());
        put(&mut bytes, CHAIN_END_AT, &self.chain_end.to_le_bytes());
        put(&mut bytes, SYNC_GROUP_AT, &self.sync_group.to_le_bytes());
        put(&mut bytes, FRAMES_END_AT, &self.frames_end.to_le_bytes());
        for ((number, section), size) in sections.iter().enumerate().zip(ROW_SIZES) {
            let at = SECTIONS_AT + number * SECTION_SIZE;
            put(&mut bytes, at, &count(section.len() / size).to_le_bytes());
            put(&mut bytes, at + 4, &crc32fast::hash(section).to_le_bytes());
        }
        let crc = crc_before(&bytes, CRC_AT);
        put(&mut bytes, CRC_AT, &crc.to_le_bytes());
        bytes
    }
}

/// A place in the file and how many rows stand there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Section {
    position: u64,
    rows: u32,
    row_size: usize,
    crc: u32,
}

impl Section {
    fn end(&self) -> u64 {
        // Saturating: a forged position is refused because the sections do not fill the footer.
        self.position
            .saturating_add(u64::from(self.rows) * self.row_size as u64)
    }

    fn bytes<'a>(&self, file: &'a [u8]) -> &'a [u8] {
        usize::try_from(self.position)
            .ok()
            .zip(usize::try_from(self.end()).ok())
            .and_then(|(from, to)| file.get(from..to))
            .unwrap_or_default()
    }

    fn row<'a>(&self, file: &'a [u8], number: u32) -> Option<&'a [u8]> {
        self.bytes(file)
            .chunks_exact(self.row_size)
            .nth(number as usize)
    }

    fn check(&self, file: &[u8], of: &str) -> Result<(), FormatError> {
        let found = crc32fast::hash(self.bytes(file));
        if found == self.crc {
            return Ok(());
        }
        let (position, expected) = (self.position, self.crc);
        Err(FormatError::Bad {
            position,
            what: format!("footer, {of}: crc {expected:08x} expected, {found:08x} found"),
        })
    }
}

/// A section, for one who reads it bit by bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectionPlace {
    /// What it holds.
    pub name: &'static str,
    /// Where it begins in the file.
    pub position: u64,
    /// Bytes.
    pub size: u64,
    /// crc32 of its bytes.
    pub crc: u32,
}

/// A sealed segment's trailer: where its sections are. Small; the rows stay in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// The Raft group.
    pub group: u32,
    /// The cluster.
    pub cluster_id: [u8; 16],
    /// Index of the first frame's entry.
    pub base: u64,
    /// Index of the last frame's entry.
    pub last: u64,
    /// Chain crc before the first frame.
    pub chain_start: u32,
    /// Chain crc of the last frame.
    pub chain_end: u32,
    /// The last frame's sync group, or a later one.
    pub sync_group: u64,
    /// Position behind the last frame.
    pub frames_end: u64,
    frames: Section,
    rows: Section,
    refused: Section,
    logs: Section,
    terms: Section,
}

impl Footer {
    /// Whether the file ends with something that was a trailer: a sealed file, perhaps a damaged one.
    pub fn is_present(file: &[u8]) -> bool {
        file.len()
            .checked_sub(TRAILER_SIZE)
            .is_some_and(|at| array_at::<8>(file, at) == MAGIC)
    }

    /// Bytes of the small sections, which stand right before the trailer, as far as it says.
    pub fn small_size(trailer: &[u8; TRAILER_SIZE]) -> u64 {
        ROW_SIZES
            .iter()
            .enumerate()
            .skip(2)
            .map(|(number, size)| {
                let rows = u32_at(trailer, SECTIONS_AT + number * SECTION_SIZE);
                u64::from(rows) * *size as u64
            })
            .sum()
    }

    /// Decodes the trailer at the end of a whole file, and checks the small sections. Positions are the file's.
    pub fn decode(file: &[u8]) -> Result<Self, FormatError> {
        let at = file.len().saturating_sub(TRAILER_SIZE);
        let footer = Self::decode_trailer(&array_at(file, at), at as u64)?;
        footer.refused.check(file, "refused batches")?;
        footer.logs.check(file, "logs")?;
        footer.terms.check(file, "terms")?;
        footer.check_order(file)?;
        Ok(footer)
    }

    /// Decodes a trailer that stands at `at`, for one who reads the sections bit by bit: no section is checked.
    pub fn decode_trailer(trailer: &[u8; TRAILER_SIZE], at: u64) -> Result<Self, FormatError> {
        check_envelope(trailer, MAGIC, SEGMENT_VERSION, CRC_AT, "segment footer").map_err(
            |error| match error {
                FormatError::Bad { position, what } => FormatError::Bad {
                    position: position + at,
                    what,
                },
                version @ FormatError::Version { .. } => version,
            },
        )?;
        let counted = [LAST_AT, SYNC_GROUP_AT].map(|at| u64_at(trailer, at));
        check_counted(counted, "segment footer")?;
        let mut position = u64_at(trailer, FRAMES_END_AT);
        let [frames, rows, refused, logs, terms] = std::array::from_fn(|number| {
            let section_at = SECTIONS_AT + number * SECTION_SIZE;
            let section = Section {
                position,
                rows: u32_at(trailer, section_at),
                row_size: ROW_SIZES.get(number).copied().unwrap_or_default(),
                crc: u32_at(trailer, section_at + 4),
            };
            position = section.end();
            section
        });
        let footer = Self {
            group: u32_at(trailer, GROUP_AT),
            cluster_id: array_at(trailer, CLUSTER_AT),
            base: u64_at(trailer, BASE_AT),
            last: u64_at(trailer, LAST_AT),
            chain_start: u32_at(trailer, CHAIN_START_AT),
            chain_end: u32_at(trailer, CHAIN_END_AT),
            sync_group: u64_at(trailer, SYNC_GROUP_AT),
            frames_end: u64_at(trailer, FRAMES_END_AT),
            frames,
            rows,
            refused,
            logs,
            terms,
        };
        let counted = footer
            .last
            .checked_add(1)
            .and_then(|next| next.checked_sub(footer.base));
        if position != at || counted != Some(u64::from(frames.rows)) {
            return Err(FormatError::Bad {
                position: at,
                what: "segment footer: its sections do not fill it".to_owned(),
            });
        }
        Ok(footer)
    }

    /// Where the sections stand, in the order of the file, and what their bytes must give.
    pub fn sections(&self) -> [SectionPlace; SECTIONS] {
        let of = |name, section: &Section| SectionPlace {
            name,
            position: section.position,
            size: section.end().saturating_sub(section.position),
            crc: section.crc,
        };
        [
            of("frames", &self.frames),
            of("log rows", &self.rows),
            of("refused batches", &self.refused),
            of("logs", &self.logs),
            of("terms", &self.terms),
        ]
    }

    /// Checks the big sections too.
    pub fn check_rows(&self, file: &[u8]) -> Result<(), FormatError> {
        self.frames.check(file, "frames")?;
        self.rows.check(file, "log rows")
    }

    /// The row of frame number `frame`. Not proven: the frame that it points to proves it.
    pub fn frame(&self, file: &[u8], frame: u32) -> Option<FrameRow> {
        FrameRow::decode(self.frames.row(file, frame)?)
    }

    /// Where row number `frame` of the frames stands in the file.
    pub fn frame_row_position(&self, frame: u32) -> u64 {
        self.frames.position + u64::from(frame) * FRAME_ROW_SIZE as u64
    }

    /// Every log that has records here, by log id.
    pub fn logs<'a>(&self, file: &'a [u8]) -> impl Iterator<Item = LogSummary> + use<'a> {
        self.logs
            .bytes(file)
            .chunks_exact(LOG_SUMMARY_SIZE)
            .map(LogSummary::decode)
    }

    /// A log's part, if it has one.
    pub fn log(&self, file: &[u8], log: LogId) -> Option<LogSummary> {
        let (mut from, mut to) = (0, self.logs.rows);
        while from < to {
            let middle = from.midpoint(to);
            let summary = LogSummary::decode(self.logs.row(file, middle)?);
            match summary.log.cmp(&log) {
                Ordering::Equal => return Some(summary),
                Ordering::Less => from = middle + 1,
                Ordering::Greater => to = middle,
            }
        }
        None
    }

    /// Where row number `number` of a log's rows stands in the file.
    pub fn row_position(&self, log: &LogSummary, number: u32) -> u64 {
        let at = u64::from(log.first_row) + u64::from(number);
        self.rows.position.saturating_add(at * LOG_ROW_SIZE as u64)
    }

    /// Row number `number` of a log's rows, checked. Its crc does not say which segment it is of: its offsets do.
    pub fn row(&self, file: &[u8], log: &LogSummary, number: u32) -> Result<LogRow, FormatError> {
        let at = log.first_row.saturating_add(number);
        let bad = |what: &str| FormatError::Bad {
            position: self.row_position(log, number),
            what: format!("footer, log rows: {what}"),
        };
        let bytes = self
            .rows
            .row(file, at)
            .filter(|_| number < log.rows)
            .ok_or_else(|| bad("no such row"))?;
        if u32_at(bytes, 24) != LogRow::crc(bytes, log.log) {
            return Err(bad("the row's crc does not match"));
        }
        let row = LogRow {
            base_offset: u64_at(bytes, 0),
            timestamp_max: i64_at(bytes, 8),
            records: u32_at(bytes, 16),
            frame: u32_at(bytes, 20),
        };
        let is_here = row.base_offset >= log.first_offset
            && row.end_offset() <= log.end_offset
            && row.frame < self.frames.rows;
        is_here
            .then_some(row)
            .ok_or_else(|| bad("a row of another segment"))
    }

    /// The number of the row that `compare` says is equal, else of the first that is greater, of a log's rows, which
    /// rise by `compare`.
    ///
    /// A damaged row must not hide the others: when the search meets one, all are looked at, and it is an error only if
    /// what is searched for may be in the damaged one.
    pub fn find_row(
        &self,
        file: &[u8],
        log: &LogSummary,
        compare: impl Fn(&LogRow) -> Ordering,
    ) -> Result<u32, FormatError> {
        let (mut from, mut to) = (0, log.rows);
        while from < to {
            let middle = from.midpoint(to);
            let Ok(row) = self.row(file, log, middle) else {
                return self.find_row_beside_damage(file, log, compare);
            };
            match compare(&row) {
                Ordering::Equal => return Ok(middle),
                Ordering::Less => from = middle + 1,
                Ordering::Greater => to = middle,
            }
        }
        Ok(from)
    }

    fn find_row_beside_damage(
        &self,
        file: &[u8],
        log: &LogSummary,
        compare: impl Fn(&LogRow) -> Ordering,
    ) -> Result<u32, FormatError> {
        let mut damaged = None;
        for number in 0..log.rows {
            match self.row(file, log, number).map(|row| compare(&row)) {
                Ok(Ordering::Less) => damaged = None,
                Ok(Ordering::Equal) => return Ok(number),
                Ok(Ordering::Greater) => return damaged.map_or(Ok(number), Err),
                Err(error) => damaged = Some(error),
            }
        }
        damaged.map_or(Ok(log.rows), Err)
    }

    /// Whether apply refused batch number `batch` of frame number `frame`.
    pub fn is_refused(&self, file: &[u8], frame: u32, batch: u32) -> bool {
        let (mut from, mut to) = (0, self.refused.rows);
        while from < to {
            let middle = from.midpoint(to);
            let Some(row) = self.refused.row(file, middle) else {
                return false;
            };
            match (u32_at(row, 0), u32_at(row, 4)).cmp(&(frame, batch)) {
                Ordering::Equal => return true,
                Ordering::Less => from = middle + 1,
                Ordering::Greater => to = middle,
            }
        }
        false
    }

    /// Each first entry of a term, rising.
    pub fn terms<'a>(&self, file: &'a [u8]) -> impl Iterator<Item = EntryId> + use<'a> {
        self.terms.bytes(file).chunks_exact(TERM_ROW_SIZE).map(term)
    }

    /// The identity of the entry at `index`; `None` when it was purged before the segment was sealed.
    pub fn id(&self, file: &[u8], index: u64) -> Option<EntryId> {
        let (mut from, mut to) = (0, self.terms.rows);
        while from < to {
            let middle = from.midpoint(to);
            if term(self.terms.row(file, middle)?).index <= index {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        let run = term(self.terms.row(file, from.checked_sub(1)?)?);
        Some(EntryId { index, ..run })
    }
}

fn term(row: &[u8]) -> EntryId {
    EntryId {
        index: u64_at(row, 0),
        term: u64_at(row, 8),
        node: u64_at(row, 16),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::EntryKind;

    const FRAMES_END: usize = 400;

    fn summary(log: u64, first_offset: u64, end_offset: u64) -> LogSummary {
        LogSummary {
            log: LogId(log),
            first_offset,
            end_offset,
            size: 100,
            timestamp_min: -5,
            timestamp_max: 50,
            first_row: 0,
            rows: 0,
        }
    }

    fn row(base_offset: u64, records: u32, frame: u32) -> LogRow {
        LogRow {
            base_offset,
            records,
            frame,
            timestamp_max: 50,
        }
    }

    fn sample() -> FooterContent {
        FooterContent {
            group: 1,
            cluster_id: [9; 16],
            base: 10,
            chain_start: 1,
            chain_end: 2,
            sync_group: 3,
            frames_end: FRAMES_END as u64,
            frames: (0..4)
                .map(|frame| FrameRow {
                    position: 8 * frame,
                    payload_size: 5,
                    payload_crc: 6,
                    kind: EntryKind::Batches,
                })
                .collect(),
            logs: vec![
                LogRows {
                    summary: summary(2, 7, 10),
                    rows: vec![row(7, 1, 0), row(8, 2, 3)],
                },
                LogRows {
                    summary: summary(5, 0, 3),
                    rows: vec![row(0, 3, 1)],
                },
            ],
            refused: vec![(1, 2), (3, 0)],
            terms: vec![EntryId {
                term: 4,
                node: 1,
                index: 10,
            }],
        }
    }

    fn file() -> Vec<u8> {
        let mut file = vec![0; FRAMES_END];
        file.extend(sample().encode());
        file
    }

    #[test]
    fn rows_are_found_in_the_file() {
        let file = file();
        let footer = Footer::decode(&file).unwrap();
        footer.check_rows(&file).unwrap();
        assert_eq!((footer.base, footer.last), (10, 13));
        assert_eq!(footer.frame(&file, 3).unwrap().position, 24);
        assert!(footer.frame(&file, 4).is_none());
        assert!(footer.log(&file, LogId(3)).is_none());
        let log = footer.log(&file, LogId(2)).unwrap();
        let found = footer
            .find_row(&file, &log, |row| row.compare_offset(9))
            .unwrap();
        assert_eq!(footer.row(&file, &log, found), Ok(row(8, 2, 3)));
        assert!(footer.is_refused(&file, 3, 0));
        assert!(!footer.is_refused(&file, 3, 1));
        assert_eq!(footer.terms(&file).collect::<Vec<_>>(), sample().terms);
    }

    #[test]
    fn a_forged_trailer_is_refused_whatever_its_numbers() {
        for (at, count) in [(FRAMES_END_AT, 1), (BASE_AT, 1), (LAST_AT, 1), (BASE_AT, 2)] {
            let mut file = file();
            let trailer = file.len() - TRAILER_SIZE;
            for field in 0..count {
                let number = if field == 0 && count == 2 {
                    0
                } else {
                    u64::MAX
                };
                put(&mut file, trailer + at + 8 * field, &number.to_le_bytes());
            }
            let crc = crc32fast::hash(&file[trailer..trailer + CRC_AT]);
            put(&mut file, trailer + CRC_AT, &crc.to_le_bytes());
            assert!(Footer::decode(&file).is_err(), "field at {at}");
        }
    }

    #[test]
    fn every_flipped_bit_is_detected() {
        let file = file();
        for bit in FRAMES_END * 8..file.len() * 8 {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let intact = Footer::decode(&flipped).and_then(|footer| footer.check_rows(&flipped));
            assert!(intact.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_damaged_log_row_does_not_hide_the_others() {
        let mut content = sample();
        content.logs = vec![LogRows {
            summary: summary(2, 0, 9),
            rows: (0..9).map(|number| row(number, 1, 0)).collect(),
        }];
        let mut file = vec![0; FRAMES_END];
        file.extend(content.encode());
        let rows = FRAMES_END + 4 * FRAME_ROW_SIZE;
        file[rows + 4 * LOG_ROW_SIZE] ^= 1;
        let footer = Footer::decode(&file).unwrap();
        let log = footer.log(&file, LogId(2)).unwrap();
        for offset in 0..10 {
            let found = footer.find_row(&file, &log, |row| row.compare_offset(offset));
            match offset {
                4 => assert!(found.is_err()),
                _ => assert_eq!(found, Ok(u32::try_from(offset).unwrap())),
            }
        }
    }

    #[test]
    fn a_log_row_of_another_log_is_refused() {
        let file = file();
        let footer = Footer::decode(&file).unwrap();
        let mut log = footer.log(&file, LogId(2)).unwrap();
        log.first_row += 2;
        assert!(footer.row(&file, &log, 0).is_err());
    }
}
