//! Unconditional: a conditional append that took effect elsewhere than at its expected offset, or that was refused with
//! just that offset.

use super::observed::Observed;
use super::{Anomaly, Property};
use crate::history::{Call, Outcome};

pub(super) fn check(observed: &Observed<'_>) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    for operation in &observed.operations {
        let Call::Append {
            ids,
            expected_offset: Some(expected),
        } = &operation.call
        else {
            continue;
        };
        let broken = match &operation.outcome {
            Outcome::Appended { first_offset } => first_offset != expected,
            Outcome::Mismatch { next_offset } => next_offset == expected,
            Outcome::Unknown { .. } => observed
                .offset_of(ids[0])
                .is_some_and(|offset| offset != *expected),
            _ => false,
        };
        if broken {
            let witness = format!(
                "{} at expected offset {expected} ended with {:?}, stands at {:?}",
                ids[0],
                operation.outcome,
                observed.offset_of(ids[0]),
            );
            anomalies.push(observed.anomaly(Property::Unconditional, witness));
        }
    }
    anomalies
}
