//! The tail of a sealed segment: five sections of rows, and the trailer. The input is a whole file, or its end.
//!
//! Claims: what decodes is encoded back to the same bytes, but for reserved ones; a lookup never leaves the file and finds
//! what a walk over the rows finds; nothing is allocated but for messages.

use inkstone_storage::format::segment_footer::{
    Footer, FooterContent, FrameRow, LogRow, LogRows, LogSummary, TRAILER_SIZE,
};
use inkstone_storage::types::LogId;

use super::{set_crc, u32_at};
use crate::memory::within;

const FRAMES_END_AT: usize = 64;
const SECTIONS_AT: usize = 72;
const CRC_AT: usize = TRAILER_SIZE - 4;
/// Bytes of a row of frames, log rows, refused, logs, terms.
const ROW_SIZES: [usize; 5] = [16, 32, 8, 64, 24];
/// Messages of errors.
const MEMORY: usize = 4096;

/// Looks at any bytes as the end of a sealed segment: as they are, and with their crcs set right.
pub(crate) fn run(input: &[u8]) {
    check(input);
    let forged = forge(input);
    check(&forged);
    check(&forge_rows(forged));
}

/// The bytes with a trailer that begins and ends as one does, has its sections where they can be, and their crcs.
pub(crate) fn forge(input: &[u8]) -> Vec<u8> {
    let mut file = input.to_vec();
    let Some(trailer) = file.len().checked_sub(TRAILER_SIZE) else {
        return file;
    };
    file[trailer..trailer + 8].copy_from_slice(b"INKFOOTR");
    let mut counts = [0; 5];
    let mut room = trailer;
    for (number, size) in ROW_SIZES.iter().enumerate() {
        let at = trailer + SECTIONS_AT + number * 8;
        counts[number] = u32_at(&file, at).min(room / size);
        room -= counts[number] * size;
        let count = u32::try_from(counts[number]).unwrap_or(u32::MAX);
        file[at..at + 4].copy_from_slice(&count.to_le_bytes());
    }
    let mut position = room;
    let at = trailer + FRAMES_END_AT;
    file[at..at + 8].copy_from_slice(&(position as u64).to_le_bytes());
    let base = u64::from_le_bytes(
        file[trailer + 32..trailer + 40]
            .try_into()
            .expect("8 bytes"),
    );
    let last = base.wrapping_add(counts[0] as u64).wrapping_sub(1);
    file[trailer + 40..trailer + 48].copy_from_slice(&last.to_le_bytes());
    for (number, size) in ROW_SIZES.iter().enumerate() {
        let end = position + counts[number] * size;
        let crc = crc32fast::hash(&file[position..end]);
        let at = trailer + SECTIONS_AT + number * 8 + 4;
        file[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        position = end;
    }
    set_crc_within(&mut file, trailer);
    file
}

fn set_crc_within(file: &mut [u8], trailer: usize) {
    if let Some(trailer) = file.get_mut(trailer..) {
        set_crc(trailer, 0, CRC_AT);
    }
}

/// The file with the crc of every log row that a log has made right, and the section's and trailer's after them.
pub(crate) fn forge_rows(mut file: Vec<u8>) -> Vec<u8> {
    let Ok(footer) = Footer::decode(&file) else {
        return file;
    };
    let trailer = file.len() - TRAILER_SIZE;
    let rows_at = place(footer.frames_end) + u32_at(&file, trailer + SECTIONS_AT) * ROW_SIZES[0];
    let count = u32_at(&file, trailer + SECTIONS_AT + 8);
    let logs: Vec<LogSummary> = footer.logs(&file).collect();
    for log in logs {
        let first = log.first_row as usize;
        for number in first..first.saturating_add(log.rows as usize).min(count) {
            let row = rows_at + number * ROW_SIZES[1];
            let covered = [&log.log.0.to_le_bytes()[..], &file[row..row + 24]].concat();
            let crc = crc32fast::hash(&covered);
            file[row + 24..row + 28].copy_from_slice(&crc.to_le_bytes());
        }
    }
    forge(&file)
}

fn place(position: u64) -> usize {
    usize::try_from(position).expect("a position inside of the file")
}

fn check(file: &[u8]) {
    let decoded = within(MEMORY, || Footer::decode(file));
    let Ok(footer) = decoded else {
        return;
    };
    assert!(Footer::is_present(file));
    let trailer = file.len() - TRAILER_SIZE;
    assert!(place(footer.frames_end) <= trailer);
    let frames = frames(&footer, file);
    let logs: Vec<LogSummary> = footer.logs(file).collect();
    check_logs(&footer, file, &logs);
    let refused = check_refused(&footer, file, frames.len());
    let whole = within(MEMORY, || footer.check_rows(file)).is_ok();
    let Some(frames) = frames.into_iter().collect::<Option<Vec<FrameRow>>>() else {
        return;
    };
    let rows: Option<Vec<LogRows>> = logs
        .iter()
        .map(|log| all_rows(&footer, file, log))
        .collect();
    let (true, Some(logs)) = (whole, rows) else {
        return;
    };
    let content = FooterContent {
        group: footer.group,
        cluster_id: footer.cluster_id,
        base: footer.base,
        chain_start: footer.chain_start,
        chain_end: footer.chain_end,
        sync_group: footer.sync_group,
        frames_end: footer.frames_end,
        frames,
        logs,
        refused,
        terms: footer.terms(file).collect(),
    };
    check_encoded_again(&footer, file, &content);
}

/// Every frame's row, and none behind the last.
fn frames(footer: &Footer, file: &[u8]) -> Vec<Option<FrameRow>> {
    let count = u32::try_from(footer.last + 1 - footer.base).expect("a section's rows");
    let trailer = file.len() - TRAILER_SIZE;
    assert!(place(footer.frame_row_position(count)) <= trailer);
    assert_eq!(footer.frame(file, count), None);
    assert_eq!(footer.frame(file, u32::MAX), None);
    (0..count)
        .map(|number| footer.frame(file, number))
        .collect()
}

fn check_logs(footer: &Footer, file: &[u8], logs: &[LogSummary]) {
    let rows = u32_at(file, file.len() - TRAILER_SIZE + SECTIONS_AT + 8);
    let rising = logs.is_sorted_by(|one, two| one.log < two.log);
    assert!(rising, "a search by log id goes by their order");
    for log in logs {
        assert_eq!(footer.log(file, log.log), Some(*log));
        assert!(
            log.first_row as usize + log.rows as usize <= rows,
            "a log's rows are in the section"
        );
        check_rows(footer, file, log);
    }
    for absent in [0, 1, u64::MAX].map(LogId) {
        let expected = logs.iter().find(|log| log.log == absent).copied();
        assert_eq!(footer.log(file, absent), expected);
    }
}

fn check_rows(footer: &Footer, file: &[u8], log: &LogSummary) {
    let rows: Vec<Option<LogRow>> = (0..log.rows)
        .map(|number| within(MEMORY, || footer.row(file, log, number)).ok())
        .collect();
    let offsets = rows
        .iter()
        .flatten()
        .flat_map(|row| [row.base_offset, row.end_offset()])
        .chain([0, log.first_offset, log.end_offset, u64::MAX]);
    for offset in offsets.take(64) {
        let found = within(MEMORY, || {
            footer.find_row(file, log, |row| row.compare_offset(offset))
        });
        let rises = rows.iter().flatten().is_sorted_by(|one, two| {
            one.end_offset() <= two.base_offset && one.base_offset < two.base_offset
        });
        if let Ok(number) = found {
            assert!(number <= log.rows);
            let Some(Some(row)) = rows.get(number as usize).filter(|_| rises) else {
                continue;
            };
            assert!(row.end_offset() > offset || row.records == 0);
            let before = rows[..number as usize].iter().flatten();
            assert!(rises && before.into_iter().all(|row| row.end_offset() <= offset));
        } else {
            assert!(rows.contains(&None), "only a damaged row is an error");
        }
    }
}

/// All rows of a log, when each is whole.
fn all_rows(footer: &Footer, file: &[u8], log: &LogSummary) -> Option<LogRows> {
    let rows = (0..log.rows).map(|number| footer.row(file, log, number).ok());
    Some(LogRows {
        summary: *log,
        rows: rows.collect::<Option<Vec<LogRow>>>()?,
    })
}

/// The refused batches as they stand; each is found, when they rise as they must.
fn check_refused(footer: &Footer, file: &[u8], frames: usize) -> Vec<(u32, u32)> {
    let trailer = file.len() - TRAILER_SIZE;
    let number = |at| u32::try_from(u32_at(file, at)).expect("read as 32 bits");
    let counts = |section: usize| u32_at(file, trailer + SECTIONS_AT + section * 8);
    let at = place(footer.frames_end) + frames * ROW_SIZES[0] + counts(1) * ROW_SIZES[1];
    let refused: Vec<(u32, u32)> = (0..counts(2))
        .map(|row| at + row * ROW_SIZES[2])
        .map(|at| (number(at), number(at + 4)))
        .collect();
    if refused.is_sorted_by(|one, two| one < two) {
        for (frame, batch) in &refused {
            assert!(footer.is_refused(file, *frame, *batch));
            let next = (*frame, batch.wrapping_add(1));
            let expected = refused.contains(&next);
            assert_eq!(footer.is_refused(file, next.0, next.1), expected);
        }
    }
    refused
}

fn check_encoded_again(footer: &Footer, file: &[u8], content: &FooterContent) {
    let encoded = content.encode();
    let from = place(footer.frames_end);
    let mut next_row = 0;
    for log in &content.logs {
        if log.summary.first_row != next_row {
            // Rows of no log, or of two.
            return;
        }
        next_row += log.summary.rows;
    }
    let trailer = file.len() - TRAILER_SIZE;
    if next_row as usize != u32_at(file, trailer + SECTIONS_AT + 8) {
        return;
    }
    let mut expected = file[..from].to_vec();
    expected.extend_from_slice(&encoded);
    assert_eq!(expected.len(), file.len());
    // Reserved bytes may hold anything; everything else is the same, and so are the crcs once those are zeros.
    assert_eq!(forge(&without_reserved(file.to_vec(), footer)), expected);
}

/// The file with zeros in what is reserved.
fn without_reserved(mut file: Vec<u8>, footer: &Footer) -> Vec<u8> {
    let trailer = file.len() - TRAILER_SIZE;
    let reserved = [13..16, 28..32, 0..0, 56..64, 0..0];
    let mut at = place(footer.frames_end);
    for (number, size) in ROW_SIZES.into_iter().enumerate() {
        for _ in 0..u32_at(&file, trailer + SECTIONS_AT + number * 8) {
            let range = reserved[number].clone();
            file[at + range.start..at + range.end].fill(0);
            at += size;
        }
    }
    file[trailer + 112..trailer + CRC_AT].fill(0);
    file
}
