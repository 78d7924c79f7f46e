//! Duplicated: a record that reads returned at two offsets.

use super::observed::Observed;
use super::{Anomaly, Property};

pub(super) fn check(observed: &Observed<'_>) -> Vec<Anomaly> {
    let mut found: Vec<_> = observed
        .read_at
        .iter()
        .filter(|(_, offsets)| offsets.len() > 1)
        .collect();
    found.sort();
    found
        .into_iter()
        .map(|(id, offsets)| {
            observed.anomaly(
                Property::Duplicated,
                format!("{id} was read at offsets {offsets:?}"),
            )
        })
        .collect()
}
