//! What the policy promises, for every kind of request and failure.

use prost::Message;

use super::*;
use crate::types::NodeInfo;
use inkstone_proto::v1;

fn policy() -> RetryPolicy {
    RetryPolicy::default()
}

fn lost() -> Failure {
    Failure::Lost {
        message: "gone".to_owned(),
        detail: None,
    }
}

fn not_sent() -> Failure {
    Failure::NotSent {
        message: "down".to_owned(),
    }
}

fn refused(retryable: bool) -> Failure {
    let detail = Detail {
        reason: Reason::Busy,
        retryable,
        ..Detail::default()
    };
    Failure::Refused {
        message: "no".to_owned(),
        detail: Box::new(detail),
    }
}

fn attempts(safety: Safety) -> (Attempts, Instant) {
    let now = Instant::now();
    (
        Attempts::new(policy(), safety, now + Duration::from_secs(10)),
        now,
    )
}

fn is_again(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Again(_))
}

#[test]
fn waits_double_up_to_the_bound_and_are_spread_over_the_upper_half() {
    let policy = policy();
    let full: Vec<u128> = (1..=8)
        .map(|tries| policy.wait(tries, None, 1.0).as_millis())
        .collect();
    assert_eq!(full, [20, 40, 80, 160, 320, 640, 1_000, 1_000]);
    assert_eq!(policy.wait(3, None, 0.0), Duration::from_millis(40));
    assert_eq!(policy.wait(u32::MAX, None, 1.0), policy.wait_max);
}

#[test]
fn a_wait_is_at_least_what_the_server_advised() {
    let advice = Duration::from_secs(2);
    assert_eq!(policy().wait(1, Some(advice), 1.0), advice);
}

#[test]
fn a_lost_append_without_a_producer_is_unknown_and_not_repeated() {
    let (mut attempts, now) = attempts(Safety::Once);
    let verdict = attempts.judge(lost(), now, 0.5);
    assert!(
        matches!(verdict, Verdict::Answer(Error::Unknown { .. })),
        "{verdict:?}"
    );
}

#[test]
fn a_refused_append_without_a_producer_is_repeated() {
    let (mut attempts, now) = attempts(Safety::Once);
    assert!(is_again(&attempts.judge(refused(true), now, 0.5)));
    assert!(is_again(&attempts.judge(not_sent(), now, 0.5)));
}

#[test]
fn after_a_lost_try_no_refusal_is_definite() {
    let (mut attempts, now) = attempts(Safety::Idempotent);
    assert!(is_again(&attempts.judge(lost(), now, 0.5)));
    assert!(is_again(&attempts.judge(not_sent(), now, 0.5)));
    let verdict = attempts.judge(refused(false), now, 0.5);
    assert!(
        matches!(verdict, Verdict::Answer(Error::Unknown { .. })),
        "{verdict:?}"
    );
}

#[test]
fn a_refusal_without_a_lost_try_is_definite() {
    let (mut attempts, now) = attempts(Safety::Idempotent);
    assert!(is_again(&attempts.judge(refused(true), now, 0.5)));
    let Verdict::Answer(error) = attempts.judge(refused(false), now, 0.5) else {
        panic!("a refusal that does not pass was repeated");
    };
    assert_eq!(error.reason(), Some(Reason::Busy));
}

#[test]
fn a_request_that_never_left_is_unavailable() {
    let (mut attempts, now) = attempts(Safety::Idempotent);
    let verdict = attempts.judge(not_sent(), now + Duration::from_secs(11), 0.5);
    assert!(
        matches!(verdict, Verdict::Answer(Error::Unavailable { .. })),
        "{verdict:?}"
    );
}

#[test]
fn a_read_is_never_unknown() {
    let (mut attempts, now) = attempts(Safety::Read);
    assert!(is_again(&attempts.judge(lost(), now, 0.5)));
    let verdict = attempts.judge(lost(), now + Duration::from_secs(11), 0.5);
    assert!(
        matches!(verdict, Verdict::Answer(Error::Unavailable { .. })),
        "{verdict:?}"
    );
}

#[test]
fn a_read_is_not_repeated_when_the_server_says_that_it_does_not_help() {
    let (mut attempts, now) = attempts(Safety::Read);
    let detail = Detail {
        reason: Reason::BadQuery,
        ..Detail::default()
    };
    let failure = Failure::Lost {
        message: "bad".to_owned(),
        detail: Some(Box::new(detail)),
    };
    let Verdict::Answer(error) = attempts.judge(failure, now, 0.5) else {
        panic!("repeated");
    };
    assert_eq!(error.reason(), Some(Reason::BadQuery));
}

#[test]
fn a_forgotten_receipt_is_unknown_at_once() {
    let (mut attempts, now) = attempts(Safety::Idempotent);
    let detail = Detail {
        reason: Reason::ReceiptForgotten,
        ..Detail::default()
    };
    let failure = Failure::Lost {
        message: "old".to_owned(),
        detail: Some(Box::new(detail)),
    };
    let verdict = attempts.judge(failure, now, 0.5);
    assert!(
        matches!(verdict, Verdict::Answer(Error::Unknown { .. })),
        "{verdict:?}"
    );
}

#[test]
fn no_try_begins_at_or_behind_the_deadline() {
    let (mut attempts, now) = attempts(Safety::Idempotent);
    let late = now + Duration::from_millis(9_990);
    assert!(!is_again(&attempts.judge(refused(true), late, 1.0)));
}

#[test]
fn tries_are_bounded() {
    let now = Instant::now();
    let deadline = now + Duration::from_secs(10);
    let mut attempts = Attempts::new(RetryPolicy::never(), Safety::Idempotent, deadline);
    assert!(!is_again(&attempts.judge(refused(true), now, 0.5)));
}

fn status(effect: v1::Effect, reason: v1::Reason) -> tonic::Status {
    let leader = v1::NodeInfo {
        id: 3,
        client_address: "c:1".to_owned(),
        ..v1::NodeInfo::default()
    };
    let detail = v1::ErrorDetail {
        reason: reason.into(),
        effect: effect.into(),
        retryable: true,
        retry_after_ms: 250,
        leader: Some(leader),
        ..v1::ErrorDetail::default()
    };
    let any = prost_types::Any {
        type_url: "type.googleapis.com/inkstone.v1.ErrorDetail".to_owned(),
        value: detail.encode_to_vec(),
    };
    let packed = tonic_types::pb::Status {
        code: 14,
        message: "m".to_owned(),
        details: vec![any],
    };
    tonic::Status::with_details(tonic::Code::Unavailable, "m", packed.encode_to_vec().into())
}

#[test]
fn only_effect_none_is_a_refusal() {
    let refused = Failure::classify(&status(v1::Effect::None, v1::Reason::NotLeader), "a:1");
    let Failure::Refused { detail, message } = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(message, "m");
    assert_eq!(detail.reason, Reason::NotLeader);
    assert_eq!(detail.retry_after, Some(Duration::from_millis(250)));
    let leader = NodeInfo {
        id: 3,
        client_address: "c:1".to_owned(),
        peer_address: String::new(),
    };
    assert_eq!(detail.leader, Some(leader));

    let unknown = Failure::classify(&status(v1::Effect::Unknown, v1::Reason::Timeout), "a:1");
    assert!(
        matches!(
            unknown,
            Failure::Lost {
                detail: Some(_),
                ..
            }
        ),
        "{unknown:?}"
    );
}

#[test]
fn a_status_without_a_detail_is_lost_whatever_its_code() {
    for code in [
        tonic::Code::Unavailable,
        tonic::Code::InvalidArgument,
        tonic::Code::NotFound,
    ] {
        let failure = Failure::classify(&tonic::Status::new(code, "x"), "a:1");
        assert!(
            matches!(failure, Failure::Lost { detail: None, .. }),
            "{failure:?}"
        );
    }
    let garbage = tonic::Status::with_details(tonic::Code::Aborted, "x", vec![0xff; 7].into());
    assert!(matches!(
        Failure::classify(&garbage, "a:1"),
        Failure::Lost { detail: None, .. }
    ));
}
