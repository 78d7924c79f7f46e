//! Overtrimmed: an answer passes over, as trimmed, what nobody had asked to trim when it was given; a trim removed more
//! than was asked for, or less than it says; or a current read returned what an acknowledged trim had removed before.

use super::observed::Observed;
use super::{Anomaly, Property};
use crate::history::{Call, Level, Operation, Outcome};

pub(super) fn check(observed: &Observed<'_>) -> Vec<Anomaly> {
    let is_trim = |operation: &&&Operation| matches!(operation.call, Call::Trim { .. });
    let trims: Vec<&Operation> = observed
        .operations
        .iter()
        .filter(is_trim)
        .copied()
        .collect();
    let broken = observed.operations.iter().filter_map(|operation| {
        let witness = gone(&trims, operation).or_else(|| still_there(&trims, operation))?;
        Some(observed.anomaly(Property::Overtrimmed, witness))
    });
    broken.collect()
}

/// The offset below which records may be gone when an answer comes at this time: any trim that was asked for until then
/// may have taken effect, unless it was refused.
fn trimmed_at_most(trims: &[&Operation], time: u64) -> u64 {
    let asked = trims.iter().filter_map(|operation| {
        let Call::Trim { before } = operation.call else {
            return None;
        };
        let refused = matches!(operation.outcome, Outcome::Refused { .. });
        (operation.invoked <= time && !refused).then_some(before)
    });
    asked.max().unwrap_or(0)
}

fn gone(trims: &[&Operation], operation: &Operation) -> Option<String> {
    let end = match (&operation.call, &operation.outcome) {
        (_, Outcome::Records { gaps, .. }) => gaps.iter().map(|gap| gap.to).max()?,
        (Call::Trim { before }, Outcome::Trimmed { first_offset }) if first_offset < before => {
            return Some(format!("a trim before {before} left {first_offset}"));
        }
        (_, Outcome::Trimmed { first_offset }) => *first_offset,
        _ => return None,
    };
    let most = trimmed_at_most(trims, operation.returned);
    (end > most).then(|| {
        let Operation { node, call, .. } = operation;
        format!("node {node:?} answers {call:?} with everything below {end} trimmed, and at most {most} was asked for")
    })
}

fn still_there(trims: &[&Operation], operation: &Operation) -> Option<String> {
    let is_current = matches!(
        operation.call,
        Call::FinalRead
            | Call::Read {
                level: Level::Linearizable,
                ..
            }
    );
    let Outcome::Records { records, .. } = &operation.outcome else {
        return None;
    };
    let first = records.first().filter(|_| is_current)?.offset;
    let before = trims
        .iter()
        .filter(|trim| trim.returned < operation.invoked);
    let trimmed = before.filter_map(|trim| match trim.outcome {
        Outcome::Trimmed { first_offset } => Some(first_offset),
        _ => None,
    });
    let trimmed = trimmed.max().filter(|trimmed| first < *trimmed)?;
    let node = operation.node;
    Some(format!(
        "node {node:?} returned the record at {first}, and everything below {trimmed} had been trimmed before"
    ))
}
