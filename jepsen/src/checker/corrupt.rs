//! Corrupt: bytes were returned as a record that are not the bytes of any record of the run.

use super::observed::Observed;
use super::{Anomaly, Property};
use crate::history::Outcome;

pub(super) fn check(observed: &Observed<'_>) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    for operation in &observed.operations {
        let Outcome::Records { records, .. } = &operation.outcome else {
            continue;
        };
        for seen in records.iter().filter(|seen| seen.id.is_none()) {
            let witness = format!("node {:?} at offset {}", operation.node, seen.offset);
            anomalies.push(observed.anomaly(Property::Corrupt, witness));
        }
    }
    anomalies
}
