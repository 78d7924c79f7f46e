//! Aborted read: a record was read although its append was refused, which says that it never takes effect.

use super::observed::Observed;
use super::{Anomaly, Property};
use crate::history::{Call, Outcome};

pub(super) fn check(observed: &Observed<'_>) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    for operation in &observed.operations {
        let (Call::Append { ids, .. }, Outcome::Refused { .. } | Outcome::Mismatch { .. }) =
            (&operation.call, &operation.outcome)
        else {
            continue;
        };
        for id in ids {
            if let Some(offsets) = observed.read_at.get(id) {
                let witness = format!(
                    "{id} was read at {offsets:?}, and its append had ended with {:?}",
                    operation.outcome,
                );
                anomalies.push(observed.anomaly(Property::AbortedRead, witness));
            }
        }
    }
    anomalies
}
