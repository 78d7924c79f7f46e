//! One bad history per anomaly, made by hand, and a good one.

use super::*;
use crate::history::{End, Gap, Level, Seen};
use crate::payload::PayloadId;

fn id(client: u32) -> PayloadId {
    PayloadId::new(client, 0)
}

/// An operation at times `10 × at` to `10 × at + 9`, so that the order in a test's list is real-time order.
fn operations(list: Vec<(Call, Outcome)>) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (at, (call, outcome)) in (0_u32..).zip(list) {
        let unknown = matches!(outcome, Outcome::Unknown { .. });
        operations.push(Operation {
            client: at,
            node: (call == Call::FinalRead).then_some(usize::try_from(at).unwrap()),
            log: "a".to_owned(),
            invoked: u64::from(at) * 10,
            returned: if unknown {
                u64::MAX
            } else {
                u64::from(at) * 10 + 9
            },
            call,
            outcome,
        });
    }
    operations
}

fn append(ids: &[PayloadId], first_offset: u64) -> (Call, Outcome) {
    (
        Call::Append {
            ids: ids.to_vec(),
            expected_offset: None,
        },
        Outcome::Appended { first_offset },
    )
}

fn append_with(ids: &[PayloadId], outcome: Outcome) -> (Call, Outcome) {
    (
        Call::Append {
            ids: ids.to_vec(),
            expected_offset: None,
        },
        outcome,
    )
}

fn refused() -> Outcome {
    Outcome::Refused {
        why: "busy".to_owned(),
    }
}

fn unknown() -> Outcome {
    Outcome::Unknown {
        why: "timeout".to_owned(),
    }
}

fn tail(next_offset: u64) -> (Call, Outcome) {
    (
        Call::Tail {
            level: Level::Linearizable,
        },
        Outcome::Tail { next_offset },
    )
}

fn records(ids: &[PayloadId]) -> Outcome {
    let records = ids
        .iter()
        .zip(0..)
        .map(|(id, offset)| Seen {
            offset,
            id: Some(*id),
        })
        .collect();
    Outcome::Records {
        records,
        gaps: Vec::new(),
        end: End::Tail,
    }
}

fn final_read(ids: &[PayloadId]) -> (Call, Outcome) {
    (Call::FinalRead, records(ids))
}

fn stale_read(ids: &[PayloadId]) -> (Call, Outcome) {
    (
        Call::Read {
            from: 0,
            level: Level::Stale,
        },
        records(ids),
    )
}

#[track_caller]
fn finds(property: Property, list: Vec<(Call, Outcome)>) {
    let verdict = check(&operations(list));
    assert!(verdict.has(property), "{:#?}", verdict.anomalies);
}

#[track_caller]
fn finds_nothing(list: Vec<(Call, Outcome)>) {
    let verdict = check(&operations(list));
    assert!(verdict.is_valid(), "{:#?}", verdict.anomalies);
}

#[test]
fn a_good_history_is_good() {
    finds_nothing(vec![
        append(&[id(1)], 0),
        append_with(&[id(2)], unknown()),
        append_with(&[id(3)], refused()),
        stale_read(&[]),
        append(&[id(4), id(5)], 2),
        tail(4),
        final_read(&[id(1), id(2), id(4), id(5)]),
        final_read(&[id(1), id(2), id(4), id(5)]),
    ]);
}

#[test]
fn an_acknowledged_record_that_one_node_lacks_is_lost() {
    let verdict = check(&operations(vec![
        append(&[id(1)], 0),
        append(&[id(2)], 1),
        final_read(&[id(1), id(2)]),
        final_read(&[id(1)]),
    ]));
    assert!(verdict.has(Property::Lost));
    assert!(verdict.has(Property::NodesDiffer));
    assert!(verdict.has(Property::NotLinearizable));
}

#[test]
fn a_record_at_two_offsets_is_duplicated() {
    finds(
        Property::Duplicated,
        vec![append(&[id(1)], 0), final_read(&[id(1), id(1)])],
    );
}

#[test]
fn a_retry_that_took_effect_twice_is_duplicated_though_its_outcome_is_unknown() {
    finds(
        Property::Duplicated,
        vec![
            append_with(&[id(1)], unknown()),
            final_read(&[id(1), id(1)]),
        ],
    );
}

#[test]
fn a_record_elsewhere_than_its_receipt_says_is_reordered() {
    finds(
        Property::Reordered,
        vec![
            append(&[id(1)], 0),
            append(&[id(2)], 1),
            final_read(&[id(2), id(1)]),
        ],
    );
}

#[test]
fn an_answer_that_skips_an_offset_is_reordered() {
    let seen = |offset, client| Seen {
        offset,
        id: Some(id(client)),
    };
    let records = Outcome::Records {
        gaps: Vec::new(),
        records: vec![seen(0, 1), seen(2, 3)],
        end: End::Tail,
    };
    finds(
        Property::Reordered,
        vec![
            append(&[id(1), id(2), id(3)], 0),
            (Call::FinalRead, records),
        ],
    );
}

#[test]
fn two_records_at_one_offset_are_inconsistent_even_in_a_stale_read() {
    finds(
        Property::InconsistentOffset,
        vec![
            append(&[id(1)], 0),
            append_with(&[id(2)], unknown()),
            stale_read(&[id(2)]),
        ],
    );
}

#[test]
fn a_record_that_nobody_appended_is_a_phantom() {
    finds(
        Property::Phantom,
        vec![append(&[id(1)], 0), final_read(&[id(1), id(9)])],
    );
}

#[test]
fn a_refused_record_that_is_read_is_an_aborted_read() {
    finds(
        Property::AbortedRead,
        vec![append_with(&[id(1)], refused()), stale_read(&[id(1)])],
    );
}

#[test]
fn bytes_that_are_no_payload_are_corrupt() {
    let records = Outcome::Records {
        gaps: Vec::new(),
        records: vec![Seen {
            offset: 0,
            id: None,
        }],
        end: End::Tail,
    };
    finds(
        Property::Corrupt,
        vec![append(&[id(1)], 0), (Call::FinalRead, records)],
    );
}

#[test]
fn a_tail_inside_of_a_batch_is_torn() {
    finds(
        Property::TornBatch,
        vec![append(&[id(1), id(2)], 0), tail(1)],
    );
}

#[test]
fn half_a_batch_of_unknown_outcome_is_torn() {
    finds(
        Property::TornBatch,
        vec![
            append_with(&[id(1), id(2)], unknown()),
            final_read(&[id(1)]),
        ],
    );
}

#[test]
fn a_condition_that_was_ignored_is_found() {
    let call = Call::Append {
        ids: vec![id(2)],
        expected_offset: Some(0),
    };
    finds(
        Property::Unconditional,
        vec![
            append(&[id(1)], 0),
            (call, Outcome::Appended { first_offset: 1 }),
        ],
    );
}

#[test]
fn nodes_that_order_records_differently_differ() {
    finds(
        Property::NodesDiffer,
        vec![
            append_with(&[id(1)], unknown()),
            append_with(&[id(2)], unknown()),
            final_read(&[id(1), id(2)]),
            final_read(&[id(2), id(1)]),
        ],
    );
}

fn again(ids: &[PayloadId], outcome: Outcome) -> (Call, Outcome) {
    (Call::Again { ids: ids.to_vec() }, outcome)
}

#[test]
fn a_retry_that_gets_another_receipt_is_found() {
    let first = append(&[id(1)], 0);
    let same = again(&[id(1)], Outcome::Appended { first_offset: 0 });
    let other = again(&[id(1)], Outcome::Appended { first_offset: 1 });
    finds_nothing(vec![first.clone(), append(&[id(2)], 1), same, tail(2)]);
    finds(Property::ReceiptsDiffer, vec![first, other]);
}

#[test]
fn a_receipt_that_was_forgotten_is_found() {
    let why = "that sequence's receipt is not kept any more".to_owned();
    let forgotten = again(&[id(1)], Outcome::Forgotten { why });
    finds(
        Property::ReceiptsDiffer,
        vec![append(&[id(1)], 0), forgotten],
    );
}

#[test]
fn batches_of_a_session_that_change_places_are_out_of_order() {
    let session = |offsets: [u64; 2]| {
        let mut both = operations(vec![
            append(&[PayloadId::new(1, 0)], offsets[0]),
            append(&[PayloadId::new(1, 1)], offsets[1]),
        ]);
        for operation in &mut both {
            // Under way at once: real time orders nothing.
            (operation.client, operation.invoked, operation.returned) = (1, 0, 9);
        }
        check(&both)
    };
    assert!(session([0, 1]).is_valid());
    assert!(session([1, 0]).has(Property::OutOfOrder));
}

#[test]
fn equal_indexes_with_different_chains_differ() {
    let chain = |index, crc| (Call::Chain, Outcome::Chain { index, crc });
    finds_nothing(vec![chain(7, 1), chain(7, 1), chain(8, 2)]);
    finds(
        Property::ChainsDiffer,
        vec![chain(7, 1), chain(8, 2), chain(7, 3)],
    );
}

#[test]
fn an_offset_that_nothing_can_have_filled_is_a_hole() {
    finds(Property::Hole, vec![append(&[id(1)], 1), tail(2)]);
}

#[test]
fn an_append_of_unknown_outcome_explains_a_hole() {
    finds_nothing(vec![
        append_with(&[id(1)], unknown()),
        append(&[id(2)], 1),
        tail(2),
    ]);
}

#[test]
fn a_tail_that_misses_an_acknowledged_record_is_stale() {
    finds(
        Property::NotLinearizable,
        vec![append(&[id(1)], 0), tail(0)],
    );
}

#[test]
fn a_tail_that_goes_back_is_stale() {
    finds(
        Property::NotLinearizable,
        vec![append_with(&[id(1)], unknown()), tail(1), tail(0)],
    );
}

#[test]
fn an_append_ordered_before_one_that_had_returned_is_found() {
    finds(
        Property::NotLinearizable,
        vec![append(&[id(1)], 1), append(&[id(2)], 0)],
    );
}

#[test]
fn a_stale_read_may_lag() {
    finds_nothing(vec![append(&[id(1)], 0), stale_read(&[]), tail(1)]);
}

#[test]
fn logs_are_checked_apart() {
    let mut both = operations(vec![append(&[id(1)], 0), append(&[id(2)], 0)]);
    assert!(!check(&both).is_valid());
    both[1].log = "b".to_owned();
    assert!(check(&both).is_valid());
}

fn trim(before: u64, outcome: Outcome) -> (Call, Outcome) {
    (Call::Trim { before }, outcome)
}

/// A final read that says that everything below the offset of its first record was trimmed.
fn read_behind(first: u64, ids: &[PayloadId]) -> (Call, Outcome) {
    let records = ids.iter().zip(first..).map(|(id, offset)| Seen {
        offset,
        id: Some(*id),
    });
    let outcome = Outcome::Records {
        records: records.collect(),
        gaps: vec![Gap { from: 0, to: first }],
        end: End::Tail,
    };
    (Call::FinalRead, outcome)
}

#[test]
fn what_was_trimmed_need_not_be_there() {
    let trimmed = Outcome::Trimmed { first_offset: 2 };
    for outcome in [trimmed, unknown()] {
        finds_nothing(vec![
            append(&[id(1)], 0),
            append(&[id(2), id(3)], 1),
            trim(2, outcome),
            tail(3),
            read_behind(2, &[id(3)]),
            read_behind(2, &[id(3)]),
        ]);
    }
}

#[test]
fn a_record_above_the_trim_that_is_not_there_is_lost() {
    let trimmed = Outcome::Trimmed { first_offset: 1 };
    let appends = [
        append(&[id(1)], 0),
        append(&[id(2)], 1),
        append(&[id(3)], 2),
    ];
    let lost = [trim(1, trimmed.clone()), read_behind(1, &[id(3)])];
    finds(Property::Lost, [&appends[..], &lost[..]].concat());
    let passed_over = [trim(1, trimmed), read_behind(2, &[id(3)])];
    finds(
        Property::Overtrimmed,
        [&appends[..], &passed_over[..]].concat(),
    );
}

#[test]
fn only_what_was_asked_for_in_time_and_not_refused_is_trimmed() {
    let appends = [append(&[id(1)], 0), append(&[id(2)], 1)];
    let read = read_behind(1, &[id(2)]);
    let late = [read.clone(), trim(1, Outcome::Trimmed { first_offset: 1 })];
    finds(Property::Overtrimmed, [&appends[..], &late[..]].concat());
    let refused = [trim(1, refused()), read];
    finds(Property::Overtrimmed, [&appends[..], &refused[..]].concat());
    let more = [trim(1, Outcome::Trimmed { first_offset: 2 })];
    finds(Property::Overtrimmed, [&appends[..], &more[..]].concat());
}

#[test]
fn what_was_trimmed_is_gone_from_the_old_end_and_nowhere_else() {
    let hole = Outcome::Records {
        records: [(0, 1), (2, 3)]
            .map(|(offset, of)| Seen {
                offset,
                id: Some(id(of)),
            })
            .into(),
        gaps: vec![Gap { from: 1, to: 2 }],
        end: End::Tail,
    };
    let operations = vec![
        append(&[id(1)], 0),
        append(&[id(2)], 1),
        append(&[id(3)], 2),
        // It may have taken effect, but then the first record is gone as well.
        trim(2, unknown()),
        (Call::FinalRead, hole),
    ];
    finds(Property::Reordered, operations);
}

#[test]
fn what_was_trimmed_does_not_come_back() {
    let trimmed = Outcome::Trimmed { first_offset: 1 };
    finds(
        Property::Overtrimmed,
        vec![append(&[id(1)], 0), trim(1, trimmed), final_read(&[id(1)])],
    );
}
