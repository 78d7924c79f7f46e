//! Lost: an acknowledged record that a final read, of any node, neither returned nor called trimmed.

use std::collections::HashSet;

use super::observed::Observed;
use super::{Anomaly, Property};
use crate::history::{Call, Outcome};

pub(super) fn check(observed: &Observed<'_>) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    for read in &observed.final_reads {
        let node = read.node;
        let present: HashSet<_> = read.records.iter().filter_map(|seen| seen.id).collect();
        for operation in &observed.operations {
            let (Call::Append { ids, .. }, Outcome::Appended { first_offset }) =
                (&operation.call, &operation.outcome)
            else {
                continue;
            };
            let missing: Vec<String> = ids
                .iter()
                .zip(*first_offset..)
                .filter(|(id, offset)| !present.contains(id) && !read.was_trimmed(*offset))
                .map(|(id, _)| id.to_string())
                .collect();
            if !missing.is_empty() {
                let witness = format!(
                    "append of {} acknowledged at offset {first_offset} is not on node {node:?}",
                    missing.join(", "),
                );
                anomalies.push(observed.anomaly(Property::Lost, witness));
            }
        }
    }
    anomalies
}
