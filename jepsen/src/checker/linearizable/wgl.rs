//! The oracle: is there any order of the operations that respects real time and that a log could have carried out?
//!
//! Wing and Gong's search with Lowe's pruning, as plain as can be, because it is what the fast checker is judged by.
//! Exponential: for histories of a handful of operations on one log.

use crate::history::{Call, End, Level, Operation, Outcome};
use crate::payload::PayloadId;

pub(super) fn is_linearizable(operations: &[Operation]) -> bool {
    search(operations, &mut Vec::new(), 0)
}

fn search(operations: &[Operation], log: &mut Vec<PayloadId>, done: u32) -> bool {
    let left = |place: &usize| done & (1 << place) == 0;
    let pending: Vec<usize> = (0..operations.len()).filter(left).collect();
    if pending.iter().all(|place| is_optional(&operations[*place])) {
        return true;
    }
    // An operation may come next unless another one, still to come, had returned before it was invoked.
    let earliest = pending
        .iter()
        .filter(|place| !is_optional(&operations[**place]))
        .map(|place| operations[*place].returned)
        .min()
        .unwrap_or(u64::MAX);
    for place in pending {
        let operation = &operations[place];
        if operation.invoked > earliest {
            continue;
        }
        let before = log.len();
        if apply(operation, log) && search(operations, log, done | 1 << place) {
            return true;
        }
        log.truncate(before);
    }
    false
}

/// Whether the history is explained without this operation.
fn is_optional(operation: &Operation) -> bool {
    matches!(
        operation.outcome,
        Outcome::Unknown { .. } | Outcome::Refused { .. }
    )
}

/// Carries the operation out on the log; whether its outcome is what the log would have answered.
fn apply(operation: &Operation, log: &mut Vec<PayloadId>) -> bool {
    let end = u64::try_from(log.len()).expect("usize fits u64");
    match (&operation.call, &operation.outcome) {
        (
            Call::Append {
                ids,
                expected_offset,
            },
            Outcome::Appended { first_offset },
        ) => {
            log.extend(ids);
            *first_offset == end && expected_offset.is_none_or(|expected| expected == end)
        }
        (
            Call::Append {
                ids,
                expected_offset,
            },
            Outcome::Unknown { .. },
        ) => {
            log.extend(ids);
            expected_offset.is_none_or(|expected| expected == end)
        }
        (
            Call::Append {
                expected_offset, ..
            },
            Outcome::Mismatch { next_offset },
        ) => *next_offset == end && *expected_offset != Some(end),
        (
            Call::Tail {
                level: Level::Linearizable,
            },
            Outcome::Tail { next_offset },
        ) => *next_offset == end,
        (Call::Tail { .. }, Outcome::Tail { next_offset }) => *next_offset <= end,
        (
            Call::Read { from, .. },
            Outcome::Records {
                records, end: kind, ..
            },
        ) => {
            let contents = records.iter().zip(*from..).all(|(seen, offset)| {
                let place = usize::try_from(offset).expect("u64 fits usize");
                seen.offset == offset && seen.id.is_some() && log.get(place).copied() == seen.id
            });
            let count = u64::try_from(records.len()).expect("usize fits u64");
            contents && (*kind == End::Bound || from + count == end)
        }
        _ => false,
    }
}
