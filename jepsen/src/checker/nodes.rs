//! Nodes differ: two final reads, of two nodes or of one node twice, that are not the same records at the same offsets.

use super::observed::Observed;
use super::{Anomaly, Property};

pub(super) fn check(observed: &Observed<'_>) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    for pair in observed.final_reads.windows(2) {
        let (one, other) = (pair[0].node, pair[1].node);
        let (left, right) = (pair[0].records, pair[1].records);
        if pair[0].gaps != pair[1].gaps {
            let witness = format!(
                "node {one:?} says that {:?} was trimmed, node {other:?} {:?}",
                pair[0].gaps, pair[1].gaps
            );
            anomalies.push(observed.anomaly(Property::NodesDiffer, witness));
        }
        if left == right {
            continue;
        }
        let place = left
            .iter()
            .zip(right)
            .position(|(left, right)| left != right);
        let place = place.unwrap_or(left.len().min(right.len()));
        let witness = format!(
            "node {one:?} has {} records, node {other:?} has {}; at place {place}: {:?} and {:?}",
            left.len(),
            right.len(),
            left.get(place),
            right.get(place),
        );
        anomalies.push(observed.anomaly(Property::NodesDiffer, witness));
    }
    anomalies
}
