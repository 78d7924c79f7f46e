//! Inconsistent offset: two records that were seen at one offset, in receipts or in reads of any level.

use super::observed::Observed;
use super::{Anomaly, Property};

pub(super) fn check(observed: &Observed<'_>) -> Vec<Anomaly> {
    observed
        .order
        .iter()
        .filter(|(_, ids)| ids.len() > 1)
        .map(|(offset, ids)| {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            let witness = format!("offset {offset} holds {}", ids.join(" and "));
            observed.anomaly(Property::InconsistentOffset, witness)
        })
        .collect()
}
