//! What apply decided, and sealing: a segment whose entries are all applied becomes immutable, with a footer that says
//! where everything is, and with the small state as of its end beside it.
//!
//! Promises: records are seen from [`note_applied`] on; the footer is durable before the checkpoint that relies on it.
//! Must not know: how apply decides.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Checkpoint;
use super::queue::Job;
use super::read::{fetch_one, parse};
use super::segment::{Active, Check, checkpoint_path};
use super::shared::Shared;
use super::state::{LiveRow, State};
use crate::error::ReadError;
use crate::format::batch::Batches;
use crate::format::segment_footer::{FooterContent, FrameRow, LogRow, LogRows, LogSummary};
use crate::types::{BatchOutcome, EntryId, EntryKind, LogId};

/// Keeps the outcomes of an entry's batches.
///
/// An entry that cannot be read is an error: without its rows its segment would be sealed as if it held no records, and
/// they would be gone instead of damaged.
pub(super) fn note_applied(
    shared: &Shared,
    index: u64,
    outcomes: &[BatchOutcome],
) -> Result<(), ReadError> {
    if index < shared.state.read().noted {
        return Ok(());
    }
    let entry = match fetch_one(shared, index, Check::Headers)? {
        Some(entry) if entry.kind == EntryKind::Batches => entry,
        _ => return Ok(()),
    };
    let id = entry.id;
    let batches = parse(shared, entry)?;
    note(shared, index, Some(id), &batches, outcomes);
    Ok(())
}

/// [`note_applied`] for an entry that the caller has read and parsed.
pub(super) fn note_batches(
    shared: &Shared,
    index: u64,
    batches: &Batches,
    outcomes: &[BatchOutcome],
) {
    let id = shared.state.read().id(index);
    note(shared, index, id, batches, outcomes);
}

fn note(
    shared: &Shared,
    index: u64,
    id: Option<EntryId>,
    batches: &Batches,
    outcomes: &[BatchOutcome],
) {
    assert!(
        batches.headers().len() == outcomes.len(),
        "entry {index} has {} batches, {} outcomes were noted",
        batches.headers().len(),
        outcomes.len()
    );
    let (rows, refused) = rows(index, batches, outcomes);
    let mut state = shared.state.write();
    // One that is gone by now was read from a log that was cut or restarted meanwhile.
    if index < state.noted || id.is_none() || state.id(index) != id {
        return;
    }
    state.noted = index + 1;
    state.refused.extend(refused);
    for (log, row) in rows {
        state.live.entry(log).or_default().push_back(row);
    }
}

type Rows = BTreeMap<LogId, LiveRow>;

/// One row for each log that took batches, and the refused batches.
fn rows(index: u64, batches: &Batches, outcomes: &[BatchOutcome]) -> (Rows, Vec<(u64, u32)>) {
    let mut rows = Rows::new();
    let mut refused = Vec::new();
    for (number, (header, outcome)) in (0_u32..).zip(batches.headers().iter().zip(outcomes)) {
        let BatchOutcome::Taken { base_offset } = *outcome else {
            refused.push((index, number));
            continue;
        };
        let row = rows.entry(header.log).or_insert(LiveRow {
            index,
            base_offset,
            records: 0,
            timestamp_min: header.timestamp_min,
            timestamp_max: header.timestamp_max,
            size: 0,
        });
        assert!(
            row.end_offset() == base_offset,
            "the batches of an entry get neighbouring offsets"
        );
        row.records += header.records;
        row.timestamp_min = row.timestamp_min.min(header.timestamp_min);
        row.timestamp_max = row.timestamp_max.max(header.timestamp_max);
        row.size += u64::from(header.plain_size);
    }
    (rows, refused)
}

/// Seals the segments before `boundary` and keeps the checkpoint as of it, in the background.
pub(super) fn seal(shared: &Shared, boundary: u64, checkpoint: Checkpoint) {
    let mut state = shared.state.write();
    if !state.is_boundary(boundary) {
        return;
    }
    let mut jobs: Vec<Job> = state
        .active
        .iter()
        .filter(|active| active.base() < boundary && active.base() >= state.sealing)
        .map(|active| {
            let content = Box::new(footer(shared, &state, active));
            Job::Seal(Arc::clone(&active.file), content)
        })
        .collect();
    state.sealing = state.sealing.max(boundary);
    if state.boundaries.insert(boundary) {
        let path = checkpoint_path(&shared.options.log_dir(), boundary);
        let file = shared.checkpoint_file(checkpoint);
        jobs.push(Job::Checkpoint(path, file));
    }
    // A stopped log seals nothing; whoever appends to it is told.
    drop(shared.queue.push(jobs));
}

fn footer(shared: &Shared, state: &State, active: &Active) -> FooterContent {
    let base = active.base();
    let last = active.next_index().saturating_sub(1);
    let number = |index: u64| u32::try_from(index - base).expect("frames of a segment");
    let mut logs: Vec<LogRows> = state
        .live
        .iter()
        .filter_map(|(log, rows)| {
            let from = rows.partition_point(|row| row.index < base);
            let to = rows.partition_point(|row| row.index <= last);
            log_rows(*log, rows.range(from..to), number)
        })
        .collect();
    logs.sort_unstable_by_key(|rows| rows.summary.log);
    let refused = state
        .refused
        .iter()
        .filter(|(index, _)| (base..=last).contains(index))
        .map(|(index, batch)| (number(*index), *batch))
        .collect();
    // Entries below the first are purged, and their terms with them: perhaps all of the segment's.
    let first = base.max(state.first);
    let later = state
        .runs
        .iter()
        .filter(|run| run.index > first && run.index <= last)
        .copied();
    let terms = state
        .id(first)
        .filter(|_| first <= last)
        .into_iter()
        .chain(later)
        .collect();
    FooterContent {
        group: shared.group,
        cluster_id: shared.options.identity.cluster_id,
        base,
        chain_start: active.file.chain_start,
        chain_end: active.chain_before(last + 1),
        sync_group: 0,
        frames_end: active.end,
        frames: active
            .frames
            .iter()
            .map(|frame| FrameRow {
                position: frame.position,
                payload_size: frame.payload_size,
                payload_crc: frame.payload_crc,
                kind: frame.kind,
            })
            .collect(),
        logs,
        refused,
        terms,
    }
}

fn log_rows<'a>(
    log: LogId,
    rows: impl Iterator<Item = &'a LiveRow>,
    number: impl Fn(u64) -> u32,
) -> Option<LogRows> {
    let mut summary: Option<LogSummary> = None;
    let rows = rows
        .map(|row| {
            let summary = summary.get_or_insert(LogSummary {
                log,
                first_offset: row.base_offset,
                end_offset: row.base_offset,
                size: 0,
                timestamp_min: row.timestamp_min,
                timestamp_max: row.timestamp_max,
                first_row: 0,
                rows: 0,
            });
            summary.end_offset = row.end_offset();
            summary.size += row.size;
            summary.timestamp_min = summary.timestamp_min.min(row.timestamp_min);
            summary.timestamp_max = summary.timestamp_max.max(row.timestamp_max);
            LogRow {
                base_offset: row.base_offset,
                records: row.records,
                frame: number(row.index),
                timestamp_max: row.timestamp_max,
            }
        })
        .collect();
    summary.map(|summary| LogRows { summary, rows })
}
