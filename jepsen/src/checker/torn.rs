//! Torn batch: the records of one append that do not stand at neighbouring offsets, a final read with some of them and
//! not the others, or a tail inside of them.

use std::collections::HashSet;

use super::linearizable::exact_tail;
use super::observed::{FinalRead, Observed};
use super::{Anomaly, Property};
use crate::history::Call;
use crate::payload::PayloadId;

pub(super) fn check(observed: &Observed<'_>) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    let finals: Vec<(&FinalRead<'_>, HashSet<_>)> = observed
        .final_reads
        .iter()
        .map(|read| {
            (
                read,
                read.records.iter().filter_map(|seen| seen.id).collect(),
            )
        })
        .collect();
    let mut inner = HashSet::new();
    for operation in &observed.operations {
        let Call::Append { ids, .. } = &operation.call else {
            continue;
        };
        if ids.len() < 2 {
            continue;
        }
        for (answer, present) in &finals {
            let read = ids.iter().filter(|id| present.contains(id)).count();
            // A trim may cut through a batch, but only what it removed may be missing.
            let trimmed = ids.iter().zip(0_u64..).filter(|(id, place)| {
                let offset = start_of(observed, ids).map(|start| start + place);
                !present.contains(id) && offset.is_some_and(|offset| answer.was_trimmed(offset))
            });
            if read != 0 && read + trimmed.count() != ids.len() {
                let witness = format!(
                    "{read} of the {} records of the batch from {}",
                    ids.len(),
                    ids[0]
                );
                anomalies.push(observed.anomaly(Property::TornBatch, witness));
            }
        }
        let seen = ids
            .iter()
            .zip(0_u64..)
            .filter_map(|(id, place)| observed.offset_of(*id).map(|offset| (place, offset)));
        let starts: HashSet<Option<u64>> = seen
            .map(|(place, offset)| offset.checked_sub(place))
            .collect();
        if starts.len() > 1 || starts.contains(&None) {
            let witness = format!("the records from {} do not stand side by side", ids[0]);
            anomalies.push(observed.anomaly(Property::TornBatch, witness));
        } else if let Some(Some(start)) = starts.into_iter().next() {
            let count = u64::try_from(ids.len()).expect("usize fits u64");
            inner.extend(start + 1..start + count);
        }
    }
    for operation in &observed.operations {
        if let Some(tail) = exact_tail(operation).filter(|tail| inner.contains(tail)) {
            let witness = format!("a tail of {tail}, inside of a batch");
            anomalies.push(observed.anomaly(Property::TornBatch, witness));
        }
    }
    anomalies
}

/// Where the batch begins, as far as any of its records tells.
fn start_of(observed: &Observed<'_>, ids: &[PayloadId]) -> Option<u64> {
    let mut seen = ids.iter().zip(0_u64..);
    seen.find_map(|(id, place)| observed.offset_of(*id)?.checked_sub(place))
}
