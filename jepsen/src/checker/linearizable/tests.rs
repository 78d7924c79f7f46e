//! The fast checker against the oracle, on small histories of every kind.

use proptest::prelude::*;

use super::wgl;
use crate::checker;
use crate::history::{Call, End, Level, Operation, Outcome, Seen};
use crate::payload::PayloadId;

/// What a generated operation tries, before anything is broken.
#[derive(Debug, Clone, Copy)]
enum Try {
    Append,
    AppendPair,
    AppendUnknown,
    AppendUnknownWithoutEffect,
    AppendRefused,
    AppendExpecting(u64),
    AppendExpectingUnknown(u64),
    Tail,
    Read(u64),
    ReadOne(u64),
    TailStale,
}

/// One change that may or may not make a history wrong.
#[derive(Debug, Clone, Copy)]
enum Break {
    Nothing,
    /// Offsets of one outcome move by one.
    Offset {
        place: usize,
        up: Direction,
    },
    /// One operation takes the times of another.
    Times {
        place: usize,
        other: usize,
    },
    /// The outcome of one operation is forgotten.
    Forget {
        place: usize,
    },
    /// One record of a read becomes another one.
    Record {
        place: usize,
        client: u32,
    },
    /// An acknowledged append is called refused.
    Refuse {
        place: usize,
    },
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    Up,
    Down,
}

fn any_try() -> impl Strategy<Value = Try> {
    prop_oneof![
        3 => Just(Try::Append),
        1 => Just(Try::AppendUnknown),
        1 => Just(Try::AppendUnknownWithoutEffect),
        1 => Just(Try::AppendRefused),
        1 => (0..4_u64).prop_map(Try::AppendExpecting),
        1 => (0..4_u64).prop_map(Try::AppendExpectingUnknown),
        2 => Just(Try::Tail),
        2 => (0..2_u64).prop_map(Try::Read),
        1 => (0..2_u64).prop_map(Try::ReadOne),
        1 => Just(Try::TailStale),
    ]
}

fn any_break() -> impl Strategy<Value = Break> {
    let up = prop_oneof![Just(Direction::Up), Just(Direction::Down)];
    prop_oneof![
        Just(Break::Nothing),
        (0..7_usize, up).prop_map(|(place, up)| Break::Offset { place, up }),
        (0..7_usize, 0..7_usize).prop_map(|(place, other)| Break::Times { place, other }),
        (0..7_usize).prop_map(|place| Break::Forget { place }),
        (0..7_usize, 0..9_u32).prop_map(|(place, client)| Break::Record { place, client }),
        (0..7_usize).prop_map(|place| Break::Refuse { place }),
    ]
}

/// Carries the tries out on a log, each at some moment within its times, so that the result is linearizable.
fn carry_out(tries: &[(Try, u64, u64, u64)]) -> Vec<Operation> {
    let mut operations: Vec<(u64, Operation)> = Vec::new();
    for (client, (_, start, before, after)) in (0..).zip(tries) {
        let operation = Operation {
            client,
            node: None,
            log: "a".to_owned(),
            invoked: start * 8,
            returned: (start + before + after) * 8 + 7,
            call: Call::Tail {
                level: Level::Linearizable,
            },
            outcome: Outcome::Unknown { why: String::new() },
        };
        operations.push(((start + before) * 8 + u64::from(client), operation));
    }
    let mut order: Vec<usize> = (0..tries.len()).collect();
    order.sort_by_key(|place| operations[*place].0);
    let mut log = Vec::new();
    for place in order {
        take_effect(tries[place].0, &mut operations[place].1, &mut log);
    }
    let mut operations: Vec<Operation> = operations
        .into_iter()
        .map(|(_, operation)| operation)
        .collect();
    tidy(&mut operations);
    operations
}

/// As a history has them: by invocation, and without a return when the outcome is unknown.
fn tidy(operations: &mut [Operation]) {
    for operation in operations.iter_mut() {
        if matches!(operation.outcome, Outcome::Unknown { .. }) {
            operation.returned = u64::MAX;
        }
    }
    operations.sort_by_key(|operation| operation.invoked);
}

fn take_effect(what: Try, operation: &mut Operation, log: &mut Vec<PayloadId>) {
    let end = log.len() as u64;
    let id = PayloadId::new(operation.client, 0);
    let mut ids = vec![id];
    if matches!(what, Try::AppendPair) {
        ids.push(PayloadId::new(operation.client, 1));
    }
    let unknown = Outcome::Unknown { why: String::new() };
    let expected_offset = match what {
        Try::AppendExpecting(expected) | Try::AppendExpectingUnknown(expected) => Some(expected),
        _ => None,
    };
    let append = Call::Append {
        ids: ids.clone(),
        expected_offset,
    };
    let appended = Outcome::Appended { first_offset: end };
    let matches = expected_offset.is_none_or(|expected| expected == end);
    (operation.call, operation.outcome) = match what {
        Try::Append | Try::AppendPair => (append, appended),
        Try::AppendExpecting(_) if matches => (append, appended),
        Try::AppendExpecting(_) => (append, Outcome::Mismatch { next_offset: end }),
        Try::AppendUnknown | Try::AppendUnknownWithoutEffect | Try::AppendExpectingUnknown(_) => {
            (append, unknown)
        }
        Try::AppendRefused => (append, Outcome::Refused { why: String::new() }),
        Try::Tail => (
            Call::Tail {
                level: Level::Linearizable,
            },
            Outcome::Tail { next_offset: end },
        ),
        Try::TailStale => {
            let next_offset = end.saturating_sub(1);
            (
                Call::Tail {
                    level: Level::Stale,
                },
                Outcome::Tail { next_offset },
            )
        }
        Try::Read(from) => read(log, from.min(end), End::Tail),
        Try::ReadOne(from) => read(log, from.min(end), End::Bound),
    };
    let takes_effect = match what {
        Try::Append | Try::AppendPair | Try::AppendUnknown => true,
        Try::AppendExpecting(_) | Try::AppendExpectingUnknown(_) => matches,
        _ => false,
    };
    if takes_effect {
        log.extend(ids);
    }
}

fn read(log: &[PayloadId], from: u64, end: End) -> (Call, Outcome) {
    let count = if end == End::Bound { 1 } else { log.len() };
    let records = (0..).zip(log).map(|(offset, id)| Seen {
        offset,
        id: Some(*id),
    });
    let records = records
        .skip(usize::try_from(from).unwrap())
        .take(count)
        .collect();
    (
        Call::Read {
            from,
            level: Level::Linearizable,
        },
        Outcome::Records {
            records,
            gaps: Vec::new(),
            end,
        },
    )
}

fn shifted(offset: u64, up: Direction) -> u64 {
    match up {
        Direction::Up => offset + 1,
        Direction::Down => offset.saturating_sub(1),
    }
}

fn break_it(operations: &mut [Operation], how: Break) {
    let count = operations.len();
    match how {
        Break::Nothing => {}
        Break::Offset { place, up } => match &mut operations[place % count].outcome {
            Outcome::Appended {
                first_offset: offset,
            }
            | Outcome::Mismatch {
                next_offset: offset,
            }
            | Outcome::Tail {
                next_offset: offset,
            } => *offset = shifted(*offset, up),
            Outcome::Records { records, .. } => {
                records.pop();
            }
            _ => {}
        },
        Break::Times { place, other } => {
            let times = (
                operations[other % count].invoked,
                operations[other % count].returned,
            );
            let operation = &mut operations[place % count];
            (operation.invoked, operation.returned) = times;
        }
        Break::Forget { place } => {
            operations[place % count].outcome = Outcome::Unknown { why: String::new() };
        }
        Break::Record { place, client } => {
            if let Outcome::Records { records, .. } = &mut operations[place % count].outcome
                && let Some(seen) = records.last_mut()
            {
                seen.id = Some(PayloadId::new(client, 0));
            }
        }
        Break::Refuse { place } => {
            let operation = &mut operations[place % count];
            if matches!(operation.call, Call::Append { .. }) {
                operation.outcome = Outcome::Refused { why: String::new() };
            }
        }
    }
    tidy(operations);
}

fn any_tries(what: impl Strategy<Value = Try>) -> impl Strategy<Value = Vec<(Try, u64, u64, u64)>> {
    prop::collection::vec((what, 0..9_u64, 0..3_u64, 0..3_u64), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn the_scan_and_the_search_agree(
        tries in any_tries(any_try()),
        breaks in prop::collection::vec(any_break(), 0..3),
    ) {
        let mut operations = carry_out(&tries);
        for how in breaks {
            break_it(&mut operations, how);
        }
        let verdict = checker::check(&operations);
        let expected = wgl::is_linearizable(&operations);
        prop_assert_eq!(verdict.is_valid(), expected, "{:#?}\n{:#?}", operations, verdict.anomalies);
    }

    #[test]
    fn batches_are_never_a_false_alarm(
        tries in any_tries(prop_oneof![any_try(), Just(Try::AppendPair)]),
        forgotten in prop::option::of(0..7_usize),
    ) {
        let mut operations = carry_out(&tries);
        if let Some(place) = forgotten {
            break_it(&mut operations, Break::Forget { place });
        }
        let verdict = checker::check(&operations);
        prop_assert!(verdict.is_valid(), "{:#?}\n{:#?}", operations, verdict.anomalies);
    }
}

#[test]
fn the_generator_makes_good_and_bad_histories_in_fair_shares() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let strategy = (
        any_tries(any_try()),
        prop::collection::vec(any_break(), 1..3),
    );
    let mut good = 0;
    for _ in 0..1_000 {
        let (tries, breaks) = strategy.new_tree(&mut runner).unwrap().current();
        let mut operations = carry_out(&tries);
        for how in breaks {
            break_it(&mut operations, how);
        }
        good += usize::from(wgl::is_linearizable(&operations));
    }
    assert!(
        (250..900).contains(&good),
        "{good} of 1,000 are linearizable"
    );
}
