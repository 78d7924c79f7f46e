//! Phantom: a whole record that was read and that nobody appended to this log.

use super::observed::Observed;
use super::{Anomaly, Property};

pub(super) fn check(observed: &Observed<'_>) -> Vec<Anomaly> {
    let mut found: Vec<_> = observed
        .read_at
        .iter()
        .filter(|(id, _)| !observed.writers.contains_key(id))
        .collect();
    found.sort();
    found
        .into_iter()
        .map(|(id, offsets)| {
            let witness = format!("{id} was read at {offsets:?}, and nobody appended it");
            observed.anomaly(Property::Phantom, witness)
        })
        .collect()
}
