//! The table of what is refused, and with which bound.

use bytes::Bytes;
use inkstone_proto::v1::{Effect, Reason};
use tonic::Code;

use super::*;

fn attribute(key: usize, value: usize) -> Attribute {
    Attribute {
        key: "k".repeat(key),
        value: "v".repeat(value),
    }
}

fn record(body: usize, attributes: Vec<Attribute>) -> v1::NewRecord {
    v1::NewRecord {
        timestamp: None,
        attributes,
        body: Bytes::from(vec![b'x'; body]),
    }
}

fn append(records: Vec<v1::NewRecord>) -> AppendRequest {
    AppendRequest {
        log: "a".to_owned(),
        records,
        expected_offset: None,
        producer: None,
    }
}

#[test]
fn names_within_the_rules_are_taken() {
    let longest = "a".repeat(255);
    for name in ["a", "0", "a.b_c-d/e", "-", "..", "a//b", longest.as_str()] {
        assert!(check_log_name(name).is_ok(), "{name}");
    }
}

#[test]
fn names_outside_the_rules_are_refused() {
    for name in [
        "", "/", "/a", "a/", "A", "a b", "é", "a\n", "a\0", "a:b", "%41",
    ] {
        let refused = check_log_name(name).expect_err(name);
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(
            error::reason_of(&refused),
            Some(Reason::Invalid),
            "{name:?}"
        );
        assert!(!refused.message().contains('\n'), "{}", refused.message());
    }
    let refused = check_log_name(&"a".repeat(256)).expect_err("too long");
    let detail = error::detail_of(&refused).expect("a detail");
    assert_eq!(
        (detail.reason(), detail.bound_value),
        (Reason::TooLarge, 255)
    );
    assert!(
        refused.message().contains("256 bytes"),
        "{}",
        refused.message()
    );
}

#[test]
fn batches_at_their_bounds_are_taken() {
    let full_attributes = (0..64).map(|_| attribute(1, 16_383)).collect();
    for records in [
        vec![record(0, vec![])],
        vec![record(0, vec![]); 10_000],
        vec![record(1 << 20, vec![])],
        vec![record(1 << 20, vec![]); 4],
        vec![record(0, full_attributes)],
        vec![record(0, vec![attribute(255, 65_535)])],
    ] {
        assert!(CheckedAppend::check(append(records)).is_ok());
    }
}

#[test]
fn every_bound_of_a_batch_is_named_with_its_value_and_what_was_found() {
    for (records, bound, value, found) in [
        (
            vec![record(0, vec![]); 10_001],
            "batch_records_max",
            10_000,
            "10001 records",
        ),
        (
            vec![record((1 << 20) + 1, vec![])],
            "record_size_max",
            1 << 20,
            "1048577 bytes",
        ),
        (
            vec![record(1 << 20, vec![attribute(1, 0)])],
            "record_size_max",
            1 << 20,
            "1048577 bytes",
        ),
        (
            [vec![record(1 << 20, vec![]); 4], vec![record(1, vec![])]].concat(),
            "batch_size_max",
            4 << 20,
            "4194305 bytes",
        ),
        (
            vec![record(0, vec![attribute(1, 1); 65])],
            "attributes_max",
            64,
            "65 attributes",
        ),
        (
            vec![record(0, vec![attribute(256, 1)])],
            "attribute_key_size_max",
            255,
            "key of 256 bytes",
        ),
        (
            vec![record(0, vec![attribute(1, 65_536)])],
            "attribute_value_size_max",
            65_535,
            "65536 bytes",
        ),
    ] {
        let refused = CheckedAppend::check(append(records)).expect_err(bound);
        let detail = error::detail_of(&refused).expect("a detail");
        assert_eq!(
            (detail.reason(), detail.effect()),
            (Reason::TooLarge, Effect::None)
        );
        assert_eq!((detail.bound.as_str(), detail.bound_value), (bound, value));
        assert!(refused.message().contains(found), "{}", refused.message());
        assert!(!detail.retryable);
    }
}

#[test]
fn what_is_missing_or_malformed_is_refused() {
    let empty = append(vec![]);
    let unnamed = append(vec![record(0, vec![attribute(0, 1)])]);
    let mut nobody = append(vec![record(0, vec![])]);
    nobody.producer = Some(v1::Producer {
        id: 0,
        epoch: 0,
        sequence: 0,
    });
    for request in [empty, unnamed, nobody] {
        let refused = CheckedAppend::check(request).expect_err("malformed");
        assert_eq!(
            error::reason_of(&refused),
            Some(Reason::Invalid),
            "{}",
            refused.message()
        );
    }
}

#[test]
fn a_record_without_an_event_time_gets_the_clock_s() {
    let mut given = record(1, vec![attribute(1, 1)]);
    assert_eq!(new_record(&given, 7).timestamp, 7);
    given.timestamp = Some(-3);
    let taken = new_record(&given, 7);
    assert_eq!((taken.timestamp, taken.attributes.len()), (-3, 1));
}

#[test]
fn an_unset_consistency_is_linearizable_and_an_unknown_one_is_refused() {
    assert_eq!(
        consistency(0).expect("unset"),
        v1::Consistency::Linearizable
    );
    assert_eq!(consistency(1).expect("known"), v1::Consistency::Stale);
    assert_eq!(
        error::reason_of(&consistency(9).expect_err("unknown")),
        Some(Reason::Invalid)
    );
}
