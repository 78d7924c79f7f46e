//! Out of order: a client appended one batch before another, alone or in one session, and they stand the other way round.
//! Real time does not say so of a session, whose batches are all under way at once; its sequences do.

use std::collections::HashMap;

use super::observed::Observed;
use super::{Anomaly, Property};
use crate::history::Call;

pub(super) fn check(observed: &Observed<'_>) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    let mut last = HashMap::new();
    for operation in &observed.operations {
        let Call::Append { ids, .. } = &operation.call else {
            continue;
        };
        let Some(offset) = observed.offset_of(ids[0]) else {
            continue;
        };
        let before = last.insert(operation.client, (offset, ids[0]));
        if let Some((before, id)) = before
            && before >= offset
        {
            let witness = format!("{id} stands at offset {before}, {} at {offset}", ids[0]);
            anomalies.push(observed.anomaly(Property::OutOfOrder, witness));
        }
    }
    anomalies
}
