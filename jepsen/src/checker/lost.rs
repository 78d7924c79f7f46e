//! Lost: an acknowledged record that a final read, of any node, did not return.

use std::collections::HashSet;

use super::observed::Observed;
use super::{Anomaly, Property};
use crate::history::{Call, Outcome};

pub(super) fn check(observed: &Observed<'_>) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    for (node, records) in &observed.final_reads {
        let present: HashSet<_> = records.iter().filter_map(|seen| seen.id).collect();
        for operation in &observed.operations {
            let (Call::Append { ids, .. }, Outcome::Appended { first_offset }) =
                (&operation.call, &operation.outcome)
            else {
                continue;
            };
            let missing: Vec<String> = ids
                .iter()
                .filter(|id| !present.contains(id))
                .map(ToString::to_string)
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
