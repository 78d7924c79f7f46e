//! Which neighbouring segments of a shard are merged: the policy that keeps document order = feed order.
//!
//! tantivy's own policy sorts by size and merges segments that are not neighbours, after which walking backwards is
//! no longer newest first. Must not know: tantivy, what a segment holds.

use std::ops::Range;

/// So many neighbours make a merge worth while.
const RUN_MIN: usize = 8;
/// A merge takes no more than this many documents: it holds one core for about 10 s per million.
pub(super) const MERGED_DOCUMENTS_MAX: u64 = 1 << 20;
/// Segments below this many documents are of the lowest level.
const LEVEL_0_DOCUMENTS: u64 = 1 << 10;

/// The neighbours to merge now, as a range of the segments' order; their sizes are given in that order.
///
/// A segment of level n has about 8^n times 1024 documents. A run is of segments up to one level, so a large segment
/// is not written again for the sake of a few small ones.
pub(super) fn next_run(documents: &[u64]) -> Option<Range<usize>> {
    let top = documents.iter().map(|&count| level(count)).max()?;
    (0..=top).find_map(|limit| {
        let below = |count: u64| level(count) <= limit;
        runs(documents, below)
            .into_iter()
            .find(|run| is_worth_while(documents, run))
    })
}

/// Whether a merge makes few segments of many without writing mostly what one large segment holds already.
fn is_worth_while(documents: &[u64], run: &Range<usize>) -> bool {
    let sizes = documents.get(run.clone()).unwrap_or_default();
    let largest = sizes.iter().max().copied().unwrap_or(0);
    sizes.len() >= RUN_MIN && sizes.iter().sum::<u64>() >= 3 * largest
}

/// The next neighbours to merge in a shard that takes no more documents, so that as few segments as possible remain.
pub(super) fn final_run(documents: &[u64]) -> Option<Range<usize>> {
    runs(documents, |count| count < MERGED_DOCUMENTS_MAX)
        .into_iter()
        .find(|run| run.len() > 1)
}

fn level(documents: u64) -> u32 {
    (documents / LEVEL_0_DOCUMENTS)
        .checked_ilog2()
        .map_or(0, |log| log / 3 + 1)
}

/// Maximal runs of neighbours that all qualify and together stay within the bound.
fn runs(documents: &[u64], qualifies: impl Fn(u64) -> bool) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let (mut start, mut sum) = (0, 0);
    for (at, &count) in documents.iter().enumerate() {
        let fits = sum + count <= MERGED_DOCUMENTS_MAX;
        if qualifies(count) && fits {
            sum += count;
            continue;
        }
        runs.push(start..at);
        (start, sum) = if qualifies(count) {
            (at, count)
        } else {
            (at + 1, 0)
        };
    }
    runs.push(start..documents.len());
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_neighbours_are_merged_and_large_ones_left_alone() {
        assert_eq!(next_run(&[]), None);
        assert_eq!(next_run(&[10; 7]), None);
        assert_eq!(next_run(&[10; 8]), Some(0..8));
        assert_eq!(next_run(&[500_000, 10, 10, 10, 10, 10, 10, 10]), None);
        let mut sizes = vec![500_000];
        sizes.extend([10; 9]);
        assert_eq!(next_run(&sizes), Some(1..10));
        sizes.insert(4, 500_000);
        assert_eq!(
            next_run(&sizes),
            None,
            "the neighbours of a large one are not each other's"
        );
    }

    #[test]
    fn feeding_for_long_leaves_few_segments() {
        let mut sizes: Vec<u64> = Vec::new();
        for _ in 0..3_000 {
            sizes.push(1_000);
            while let Some(run) = next_run(&sizes) {
                let sum = sizes[run.clone()].iter().sum();
                sizes.splice(run, [sum]);
            }
            assert!(sizes.len() <= 30, "{sizes:?}");
        }
    }

    #[test]
    fn a_finished_shard_has_segments_of_the_largest_size() {
        let mut sizes = vec![700_000, 100_000, 5, 5, MERGED_DOCUMENTS_MAX, 6, 7];
        let all: u64 = sizes.iter().sum();
        while let Some(run) = final_run(&sizes) {
            let sum = sizes[run.clone()].iter().sum();
            sizes.splice(run, [sum]);
        }
        assert_eq!(sizes, [800_010, MERGED_DOCUMENTS_MAX, 13]);
        assert_eq!(sizes.iter().sum::<u64>(), all);
    }
}
