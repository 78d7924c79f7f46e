//! Linearizable, decided exactly and in the time of a sort.
//!
//! Give each operation a *layer*: an append at offset `o` has layer `2o + 1`, a read that says that the log ended at
//! `L` has layer `2L`. If all contents agree on one record per offset (the other properties), a history is linearizable
//! **exactly when no operation of a higher layer returned before one of a lower layer was invoked**.
//!
//! Why: any legal order is sorted by layer, and reads of one layer commute. A cycle of (layer order ∪ real-time order)
//! has a real-time edge that goes down in layers, and that edge with the layer order is a cycle of two. Conversely,
//! placing each operation at the latest invocation of all that must precede it keeps every deadline. So one scan
//! upwards, with the latest invocation seen below, finds every violation.
//!
//! A read that stopped at its own bound proves that its last offset existed, and nothing about the end: it must not
//! have returned before anything at or below that offset was invoked, and pushes nobody. An append of unknown outcome
//! takes part when a record of it was seen, and never returns; otherwise it may fill a hole: holes upwards are filled
//! by such appends in the order of their invocations (exchange argument: all of them return never).
//!
//! A batch takes one layer, that of its first record: nothing lies between its records (`torn` checks that).
//! Unseen *batches* of more than one record are counted but not placed when they fill holes, which can hide a
//! violation, never invent one; a final read leaves no holes but where it says that something was trimmed.

use std::collections::BTreeSet;

use super::observed::Observed;
use super::{Anomaly, Property};
use crate::history::{Call, End, Level, Operation, Outcome};

/// The log's end that this operation saw, when it is exact and current.
pub(super) fn exact_tail(operation: &Operation) -> Option<u64> {
    match (&operation.call, &operation.outcome) {
        (Call::Append { .. }, Outcome::Mismatch { next_offset })
        | (
            Call::Tail {
                level: Level::Linearizable,
            },
            Outcome::Tail { next_offset },
        ) => Some(*next_offset),
        (
            Call::Read {
                from,
                level: Level::Linearizable,
            },
            outcome,
        ) => end_of(*from, outcome),
        (Call::FinalRead, outcome) => end_of(0, outcome),
        _ => None,
    }
}

fn end_of(from: u64, outcome: &Outcome) -> Option<u64> {
    match outcome {
        Outcome::Records {
            records,
            gaps,
            end: End::Tail,
        } => {
            let read = records.last().map_or(from, |last| last.offset + 1);
            let passed_over = gaps.last().map_or(from, |gap| gap.to);
            Some(read.max(passed_over))
        }
        _ => None,
    }
}

/// The highest offset that this operation proves to have existed when it returned, without saying where the end was.
fn proven_offset(operation: &Operation) -> Option<u64> {
    match (&operation.call, &operation.outcome) {
        (Call::Tail { level }, Outcome::Tail { next_offset }) => {
            if *level == Level::Linearizable {
                None
            } else {
                next_offset.checked_sub(1)
            }
        }
        (_, Outcome::Records { records, .. }) => records.last().map(|last| last.offset),
        (Call::Again { .. }, Outcome::Appended { first_offset }) => Some(*first_offset),
        _ => None,
    }
}

/// An operation in the scan.
#[derive(Debug, Clone, Copy)]
struct Placed<'a> {
    layer: u64,
    /// Whether operations of higher layers must not have returned before this one was invoked.
    pushes: bool,
    operation: &'a Operation,
}

pub(super) fn check(observed: &Observed<'_>) -> Vec<Anomaly> {
    if observed.order.values().any(|ids| ids.len() > 1) {
        // The theorem's condition does not hold, and that is reported as what it is.
        return Vec::new();
    }
    let mut placed: Vec<Placed<'_>> = Vec::new();
    let mut unseen: Vec<&Operation> = Vec::new();
    for &operation in &observed.operations {
        match place(observed, operation) {
            Some(place) => placed.push(place),
            None if may_fill_a_hole(operation) => unseen.push(operation),
            None => {}
        }
    }
    let holes = holes(observed, &placed);
    let mut anomalies = fill(observed, &holes, &unseen, &mut placed);
    anomalies.extend(scan(observed, placed));
    anomalies
}

fn place<'a>(observed: &Observed<'_>, operation: &'a Operation) -> Option<Placed<'a>> {
    if let Some(tail) = exact_tail(operation) {
        return Some(Placed {
            layer: 2 * tail,
            pushes: true,
            operation,
        });
    }
    let took_effect = matches!(
        operation.outcome,
        Outcome::Appended { .. } | Outcome::Unknown { .. }
    );
    if let (Call::Append { ids, .. }, true) = (&operation.call, took_effect) {
        let first = ids.iter().zip(0_u64..).find_map(|(id, place)| {
            observed
                .offset_of(*id)
                .and_then(|offset| offset.checked_sub(place))
        });
        return first.map(|offset| Placed {
            layer: 2 * offset + 1,
            pushes: true,
            operation,
        });
    }
    let offset = proven_offset(operation)?;
    Some(Placed {
        layer: 2 * offset + 2,
        pushes: false,
        operation,
    })
}

fn may_fill_a_hole(operation: &Operation) -> bool {
    matches!(
        (&operation.call, &operation.outcome),
        (Call::Append { .. }, Outcome::Unknown { .. })
    )
}

/// Offsets below the highest that is proven to exist at which no record was seen, nor one of the same batch, rising.
fn holes(observed: &Observed<'_>, placed: &[Placed<'_>]) -> Vec<u64> {
    let mut filled: BTreeSet<u64> = observed.order.keys().copied().collect();
    let mut end = filled.last().map_or(0, |offset| offset + 1);
    for Placed {
        layer, operation, ..
    } in placed
    {
        let first = layer / 2;
        let size = u64::try_from(size(operation)).expect("usize fits u64");
        filled.extend(first..first + size);
        end = end.max(first + size);
    }
    let mut holes = Vec::new();
    let mut next = 0;
    for offset in filled.into_iter().chain([end]) {
        holes.extend(next..offset);
        next = offset + 1;
    }
    holes
}

/// Records of an append that took effect; nothing otherwise.
fn size(operation: &Operation) -> usize {
    match (&operation.call, &operation.outcome) {
        (Call::Append { ids, .. }, Outcome::Appended { .. } | Outcome::Unknown { .. }) => ids.len(),
        _ => 0,
    }
}

fn fill<'a>(
    observed: &Observed<'_>,
    holes: &[u64],
    unseen: &[&'a Operation],
    placed: &mut Vec<Placed<'a>>,
) -> Vec<Anomaly> {
    let unseen_records: usize = unseen.iter().map(|operation| size(operation)).sum();
    if holes.len() > unseen_records {
        let witness = format!(
            "{} offsets below the tail, the first of them {}, were never seen, and only {unseen_records} records of \
             unknown outcome could fill them",
            holes.len(),
            holes[0],
        );
        return vec![observed.anomaly(Property::Hole, witness)];
    }
    if unseen_records > unseen.len() {
        return Vec::new();
    }
    // Operations come by invocation, holes by offset: the i-th fills the i-th. A condition pins an append to its place,
    // where it is used if it is in time, because it can be used nowhere else.
    let (pinned, free): (Vec<&Operation>, Vec<&Operation>) = unseen
        .iter()
        .partition(|operation| expected_offset(operation).is_some());
    let mut free = free.into_iter();
    let mut anomalies = Vec::new();
    for hole in holes {
        let deadline = deadline(placed, 2 * hole + 1);
        let exact = pinned.iter().find(|operation| {
            expected_offset(operation) == Some(*hole) && operation.invoked <= deadline
        });
        let Some(operation) = exact.copied().or_else(|| free.next()) else {
            let witness = format!("nothing can have filled offset {hole}");
            anomalies.push(observed.anomaly(Property::Hole, witness));
            break;
        };
        placed.push(Placed {
            layer: 2 * hole + 1,
            pushes: true,
            operation,
        });
    }
    anomalies
}

/// When the first operation above this layer had returned.
fn deadline(placed: &[Placed<'_>], layer: u64) -> u64 {
    let above = placed.iter().filter(|placed| placed.layer > layer);
    above
        .map(|placed| placed.operation.returned)
        .min()
        .unwrap_or(u64::MAX)
}

fn expected_offset(operation: &Operation) -> Option<u64> {
    match &operation.call {
        Call::Append {
            expected_offset, ..
        } => *expected_offset,
        _ => None,
    }
}

fn scan(observed: &Observed<'_>, mut placed: Vec<Placed<'_>>) -> Vec<Anomaly> {
    placed.sort_by_key(|placed| placed.layer);
    let mut anomalies = Vec::new();
    // The operation of a strictly lower layer that was invoked last.
    let mut latest: Option<Placed<'_>> = None;
    for layer in placed.chunk_by(|left, right| left.layer == right.layer) {
        for higher in layer {
            let Some(lower) = latest else { continue };
            if higher.operation.returned < lower.operation.invoked {
                let witness = format!(
                    "{} had returned before {} was invoked",
                    describe(higher.operation),
                    describe(lower.operation),
                );
                anomalies.push(observed.anomaly(Property::NotLinearizable, witness));
            }
        }
        for higher in layer.iter().filter(|placed| placed.pushes) {
            if latest.is_none_or(|lower| lower.operation.invoked < higher.operation.invoked) {
                latest = Some(*higher);
            }
        }
    }
    anomalies
}

fn describe(operation: &Operation) -> String {
    let call = match &operation.call {
        Call::Append { ids, .. } => format!("append of {} ({} records)", ids[0], ids.len()),
        call => format!("{call:?}"),
    };
    let outcome = match &operation.outcome {
        Outcome::Records { records, end, .. } => format!(
            "{} records up to offset {:?}, ended at {end:?}",
            records.len(),
            records.last().map(|last| last.offset),
        ),
        outcome => format!("{outcome:?}"),
    };
    format!(
        "[client {}, node {:?}, {}..{} ns: {call} -> {outcome}]",
        operation.client, operation.node, operation.invoked, operation.returned,
    )
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod wgl;
