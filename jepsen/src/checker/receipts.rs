//! Receipts differ: an append that was sent again, under the same producer and sequence, after it had been acknowledged,
//! was answered with another place than it stands at, or was not known any more.

use super::observed::Observed;
use super::{Anomaly, Property};
use crate::history::{Call, Outcome};

pub(super) fn check(observed: &Observed<'_>) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    for operation in &observed.operations {
        let Call::Again { ids } = &operation.call else {
            continue;
        };
        let stands = observed.offset_of(ids[0]);
        let broken = match &operation.outcome {
            Outcome::Appended { first_offset } => stands != Some(*first_offset),
            Outcome::Forgotten { .. } | Outcome::Mismatch { .. } => true,
            _ => false,
        };
        if broken {
            let witness = format!(
                "the append of {}, which stands at {stands:?}, was sent again and answered with {:?}",
                ids[0], operation.outcome,
            );
            anomalies.push(observed.anomaly(Property::ReceiptsDiffer, witness));
        }
    }
    anomalies
}
