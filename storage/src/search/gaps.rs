//! Records that the index lacks, because their entries were damaged when they were to be fed.
//!
//! Promises: what a feed leaves out stands here until the shard that lacks it is built again; a log's offsets are dense
//! over records and gaps taken together. Must not know: what is damaged elsewhere, files.

use std::collections::BTreeMap;

use super::IndexError;
use crate::limits::SEARCH_GAPS_MAX;
use crate::types::{LogId, Record};

/// Records of one entry and one log that the index does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexGap {
    /// The entry that they are in.
    pub index: u64,
    /// Their log.
    pub log: LogId,
    /// The first offset.
    pub from: u64,
    /// The offset behind the last.
    pub to: u64,
}

/// The next offsets of the logs that an entry touches, if its records and its gaps go on where these logs end, and do so
/// without a hole.
pub(super) fn next_offsets(
    known: &BTreeMap<LogId, u64>,
    batches: &[(LogId, Vec<Record>)],
    gaps: &[IndexGap],
) -> Result<BTreeMap<LogId, u64>, IndexError> {
    let batches = batches.iter();
    let runs = batches.flat_map(|(log, records)| {
        let offsets = records.iter().map(|record| record.offset);
        offsets.map(|offset| (*log, offset, offset.saturating_add(1)))
    });
    let mut runs: Vec<(LogId, u64, u64)> = runs.collect();
    runs.extend(gaps.iter().map(|gap| (gap.log, gap.from, gap.to)));
    if !gaps.is_empty() {
        // Only these stand apart from where they belong.
        runs.sort_unstable();
    }
    let mut after = BTreeMap::new();
    for (log, from, to) in runs {
        let next = after.get(&log).or_else(|| known.get(&log));
        let expected = next.copied().unwrap_or(from);
        if from != expected || to <= from {
            return Err(IndexError::failed(format!(
                "log {}: offset {from} was fed where {expected} was expected",
                log.0
            )));
        }
        after.insert(log, to);
    }
    Ok(after)
}

/// Refuses more gaps than an index keeps.
pub(super) fn check_count(kept: usize, more: usize) -> Result<(), IndexError> {
    if more > 0 && kept + more > SEARCH_GAPS_MAX {
        return Err(IndexError::Gaps(SEARCH_GAPS_MAX));
    }
    Ok(())
}
