//! Chains differ: two nodes that are equally far and whose chain crcs are not equal. What they hold is not the same, even
//! if every read of it was.

use std::collections::HashMap;

use super::observed::Observed;
use super::{Anomaly, Property};
use crate::history::Outcome;

pub(super) fn check(observed: &Observed<'_>) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    let mut first = HashMap::new();
    for operation in &observed.operations {
        let Outcome::Chain { index, crc } = operation.outcome else {
            continue;
        };
        let (node, expected) = *first.entry(index).or_insert((operation.node, crc));
        if crc != expected {
            let witness = format!(
                "behind entry {index} node {node:?} has chain crc {expected:08x}, node {:?} {crc:08x}",
                operation.node,
            );
            anomalies.push(observed.anomaly(Property::ChainsDiffer, witness));
        }
    }
    anomalies
}
