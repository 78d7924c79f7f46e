//! Reordered: a record that was read, but not at the offset of its receipt; or an answer whose offsets do not rise by
//! one, but for those that it calls trimmed.

use super::observed::{Observed, acked_offsets};
use super::{Anomaly, Property};
use crate::history::{Call, Outcome};

pub(super) fn check(observed: &Observed<'_>) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    for operation in &observed.operations {
        if let Call::Append { ids, .. } = &operation.call {
            for (offset, id) in acked_offsets(operation).zip(ids) {
                let Some(read) = observed.read_at.get(id) else {
                    continue;
                };
                if !read.contains(&offset) {
                    let witness =
                        format!("{id}: acknowledged at offset {offset}, read at {read:?}");
                    anomalies.push(observed.anomaly(Property::Reordered, witness));
                }
            }
        }
        if let Outcome::Records { records, gaps, .. } = &operation.outcome {
            let follows = |next: u64, offset: u64| {
                let gap = gaps.iter().find(|gap| gap.from == next);
                offset == gap.map_or(next, |gap| gap.to)
            };
            for pair in records.windows(2) {
                if !follows(pair[0].offset + 1, pair[1].offset) {
                    let witness = format!(
                        "one answer of node {:?} has offset {} behind offset {}",
                        operation.node, pair[1].offset, pair[0].offset,
                    );
                    anomalies.push(observed.anomaly(Property::Reordered, witness));
                }
            }
            let from = match operation.call {
                Call::Read { from, .. } => Some(from),
                Call::FinalRead => Some(0),
                _ => None,
            };
            if let (Some(from), Some(first)) = (from, records.first())
                && !follows(from, first.offset)
            {
                let witness = format!("a read from {from} starts at {}", first.offset);
                anomalies.push(observed.anomaly(Property::Reordered, witness));
            }
            // What is trimmed goes from the old end.
            if let (Call::FinalRead, Some(hole)) =
                (&operation.call, gaps.iter().find(|gap| gap.from > 0))
            {
                let witness = format!("a read of all of the log has the hole {hole:?}");
                anomalies.push(observed.anomaly(Property::Reordered, witness));
            }
        }
    }
    anomalies
}
