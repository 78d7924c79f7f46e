//! What every family of errors becomes: code, reason, effect, retry; read back from the status as a client does.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use inkstone_storage::error::{Damage, ReadError};
use inkstone_storage::search::QueryError;

use super::*;
use crate::raft::Refusal;

fn node() -> NodeInfo {
    NodeInfo {
        id: 7,
        client_address: "c:1".to_owned(),
        peer_address: "p:2".to_owned(),
    }
}

fn detail(status: &Status) -> ErrorDetail {
    assert!(!status.message().is_empty() && !status.message().contains('\n'));
    detail_of(status).expect("every status carries its detail")
}

fn check(status: &Status, code: Code, reason: Reason, effect: Effect, retryable: bool) {
    let detail = detail(status);
    let found = (
        status.code(),
        detail.reason(),
        detail.effect(),
        detail.retryable,
    );
    assert_eq!(
        found,
        (code, reason, effect, retryable),
        "{}",
        status.message()
    );
}

#[test]
fn the_detail_survives_the_wire() {
    let mut headers = tonic::metadata::MetadataMap::new().into_headers();
    offset_out_of_range(9, 5)
        .add_header(&mut headers)
        .expect("headers");
    let received = Status::from_header_map(&headers).expect("a status");
    assert_eq!(received.code(), Code::OutOfRange);
    assert_eq!(detail(&received).next_offset, Some(5));
}

#[test]
fn a_nearly_full_disk_is_a_refusal_that_names_the_mark_and_no_directory() {
    let low = LowSpace {
        dir: PathBuf::from("/data/of/the/operator"),
        free_size: 1_000,
        free_size_min: 2_000,
    };
    let status = propose(ProposeError::DiskFull(low));
    check(
        &status,
        Code::ResourceExhausted,
        Reason::DiskFull,
        Effect::None,
        true,
    );
    let found = detail(&status);
    assert_eq!(
        (&found.bound[..], found.bound_value),
        ("free_size_min", 2_000)
    );
    assert!(found.retry_after_ms > 0);
    assert!(
        status.message().contains("1000 bytes"),
        "{}",
        status.message()
    );
    assert!(!status.message().contains("operator"));
}

#[test]
fn refusals_at_apply_had_no_effect_but_for_a_forgotten_receipt() {
    use Effect::None as NoEffect;
    let mismatch = refused(Refusal::OffsetMismatch { next_offset: 4 }, "a");
    check(
        &mismatch,
        Code::FailedPrecondition,
        Reason::OffsetMismatch,
        NoEffect,
        false,
    );
    assert_eq!(detail(&mismatch).next_offset, Some(4));
    let fenced = refused(Refusal::ProducerFenced { epoch: 3 }, "a");
    check(
        &fenced,
        Code::FailedPrecondition,
        Reason::ProducerFenced,
        NoEffect,
        false,
    );
    assert_eq!(detail(&fenced).expected, Some(3));
    let gap = refused(Refusal::SequenceGap { expected: 8 }, "a");
    check(
        &gap,
        Code::FailedPrecondition,
        Reason::SequenceGap,
        NoEffect,
        false,
    );
    assert_eq!(detail(&gap).expected, Some(8));
    let missing = refused(Refusal::LogNotFound, "app/web");
    check(
        &missing,
        Code::NotFound,
        Reason::LogNotFound,
        NoEffect,
        false,
    );
    assert!(missing.message().contains("ink logs create app/web"));
    let crowded = refused(Refusal::TooManyProducers, "a");
    check(
        &crowded,
        Code::ResourceExhausted,
        Reason::Busy,
        NoEffect,
        false,
    );
    assert_eq!(detail(&crowded).bound, "producers_max");
    let forgotten = refused(Refusal::ReceiptForgotten, "a");
    let code = Code::FailedPrecondition;
    check(
        &forgotten,
        code,
        Reason::ReceiptForgotten,
        Effect::Unknown,
        false,
    );
}

#[test]
fn a_proposal_without_an_outcome_is_unknown_and_one_never_made_is_not() {
    use Effect::None as NoEffect;
    let elsewhere = propose(ProposeError::NotLeader {
        leader: Some(node()),
    });
    check(
        &elsewhere,
        Code::Unavailable,
        Reason::NotLeader,
        NoEffect,
        true,
    );
    assert_eq!(detail(&elsewhere).leader, Some(node()));
    let nobody = propose(ProposeError::NotLeader { leader: None });
    check(&nobody, Code::Unavailable, Reason::NoLeader, NoEffect, true);
    let full = propose(ProposeError::Busy { bound: 99 });
    check(&full, Code::ResourceExhausted, Reason::Busy, NoEffect, true);
    assert_eq!(detail(&full).bound_value, 99);
    assert!(detail(&full).retry_after_ms > 0);
    let stopping = propose(ProposeError::Stopping);
    check(
        &stopping,
        Code::Unavailable,
        Reason::ShuttingDown,
        NoEffect,
        true,
    );
    let lost = propose(ProposeError::Unknown {
        why: "the leader was lost".to_owned(),
    });
    check(
        &lost,
        Code::Unknown,
        Reason::NoLeader,
        Effect::Unknown,
        true,
    );
    check(
        &write_timeout(),
        Code::DeadlineExceeded,
        Reason::Timeout,
        Effect::Unknown,
        true,
    );
}

#[test]
fn reads_never_have_an_effect() {
    use Effect::None as NoEffect;
    let leaderless = read_index(ReadIndexError::NoLeader {
        leader: Some(node()),
    });
    check(
        &leaderless,
        Code::Unavailable,
        Reason::NoLeader,
        NoEffect,
        true,
    );
    assert_eq!(detail(&leaderless).leader, Some(node()));
    let late = read_index(ReadIndexError::Timeout);
    check(
        &late,
        Code::DeadlineExceeded,
        Reason::Timeout,
        NoEffect,
        true,
    );
    let stopping = read_index(ReadIndexError::Stopping);
    check(
        &stopping,
        Code::Unavailable,
        Reason::ShuttingDown,
        NoEffect,
        true,
    );
    for (full, bound) in [
        (pool_busy(Busy { waiting: 5 }), "reads_waiting_max"),
        (searches_busy(Busy { waiting: 5 }), "searches_waiting_max"),
    ] {
        check(&full, Code::ResourceExhausted, Reason::Busy, NoEffect, true);
        assert_eq!(
            (&detail(&full).bound[..], detail(&full).bound_value),
            (bound, 5)
        );
    }
    check(
        &no_index(),
        Code::Unavailable,
        Reason::NoIndex,
        NoEffect,
        true,
    );
    check(
        &timeout("x"),
        Code::DeadlineExceeded,
        Reason::Timeout,
        NoEffect,
        true,
    );
}

#[test]
fn damage_names_the_file_within_the_data_directory_and_the_position() {
    let file = PathBuf::from("/data/group-1/log/00000000000000000001.seg");
    let damage = Damage {
        file,
        position: 4_096,
        what: "crc 1, expected 2".to_owned(),
    };
    let status = read(&ReadError::Damaged(damage), Path::new("/data"));
    check(
        &status,
        Code::DataLoss,
        Reason::Damaged,
        Effect::None,
        false,
    );
    let detail = detail(&status);
    assert_eq!(detail.file, "group-1/log/00000000000000000001.seg");
    assert_eq!(detail.position, Some(4_096));
    assert!(!status.message().contains("/data/"), "{}", status.message());
}

#[test]
fn other_failures_of_the_log_are_told_apart() {
    let purged = read(&ReadError::Purged { at: 1, first: 9 }, Path::new("/data"));
    check(
        &purged,
        Code::OutOfRange,
        Reason::OffsetOutOfRange,
        Effect::None,
        false,
    );
    let source = io::Error::other("EIO");
    let failed = read(
        &ReadError::Io {
            file: PathBuf::from("/data/x"),
            source,
        },
        Path::new("/data"),
    );
    check(
        &failed,
        Code::Internal,
        Reason::Internal,
        Effect::None,
        false,
    );
}

#[test]
fn queries_say_where_they_are_wrong_and_which_bound_they_hit() {
    let syntax = query(&QueryError::Syntax {
        position: 12,
        what: "expected `)`".to_owned(),
    });
    check(
        &syntax,
        Code::InvalidArgument,
        Reason::BadQuery,
        Effect::None,
        false,
    );
    assert_eq!(detail(&syntax).position, Some(12));
    let limit = query(&QueryError::Limit {
        bound: "query_depth_max",
        value: 32,
    });
    check(
        &limit,
        Code::InvalidArgument,
        Reason::QueryLimit,
        Effect::None,
        false,
    );
    assert_eq!(
        (detail(&limit).bound.as_str(), detail(&limit).bound_value),
        ("query_depth_max", 32)
    );
    let failed = query(&QueryError::Failed("shard".to_owned()));
    check(
        &failed,
        Code::Unavailable,
        Reason::NoIndex,
        Effect::None,
        true,
    );
}

#[test]
fn the_leader_s_own_answer_passes_through_a_forward() {
    let answer = refused(Refusal::OffsetMismatch { next_offset: 4 }, "a");
    let passed = forwarded_write(answer, &node());
    let code = Code::FailedPrecondition;
    check(&passed, code, Reason::OffsetMismatch, Effect::None, false);
}

#[test]
fn a_message_that_is_too_large_names_the_bound_and_other_failures_stay_what_they_are() {
    let large = unreadable(Status::out_of_range(
        "found 9000000 bytes, the limit is 8388608",
    ));
    check(
        &large,
        Code::InvalidArgument,
        Reason::TooLarge,
        Effect::None,
        false,
    );
    assert_eq!(detail(&large).bound, "message_size_max");
    assert_eq!(detail(&large).bound_value, 8 << 20);
    let reset = unreadable(Status::cancelled("reset"));
    assert!(reset.code() == Code::Cancelled && detail_of(&reset).is_none());
}

#[test]
fn a_forward_that_was_never_sent_had_no_effect() {
    let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    let mut status = Status::unavailable("tcp connect error");
    status.set_source(Arc::new(ConnectError(refused.into())));
    let passed = forwarded_write(status, &node());
    check(
        &passed,
        Code::Unavailable,
        Reason::NotLeader,
        Effect::None,
        true,
    );
    assert_eq!(detail(&passed).leader, Some(node()));
}

#[test]
fn a_forward_to_an_address_that_is_another_node_s_now_had_no_effect() {
    let status = Status::failed_precondition("this is node 8, not 7");
    let passed = forwarded_write(status, &node());
    let (code, reason) = (Code::Unavailable, Reason::NotLeader);
    check(&passed, code, reason, Effect::None, true);
}

#[test]
fn a_forward_whose_connection_was_lost_is_unknown() {
    for status in [
        Status::unavailable("connection reset"),
        Status::cancelled("Timeout expired"),
        Status::deadline_exceeded(""),
        Status::internal("h2 protocol error"),
        Status::unimplemented(""),
    ] {
        let passed = forwarded_write(status, &node());
        check(
            &passed,
            Code::Unknown,
            Reason::NoLeader,
            Effect::Unknown,
            true,
        );
    }
}

/// With a real connection: what tonic makes of a port where nobody listens is recognised.
#[tokio::test]
async fn a_refused_connection_is_known_not_to_have_carried_anything() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))
        .expect("an address")
        .connect_lazy();
    let mut peer = inkstone_proto::peer_v1::peer_client::PeerClient::new(channel);
    let request = inkstone_proto::peer_v1::ForwardAppendRequest::default();
    let failed = peer
        .forward_append(request)
        .await
        .expect_err("nobody listens");
    let passed = forwarded_write(failed, &node());
    check(
        &passed,
        Code::Unavailable,
        Reason::NotLeader,
        Effect::None,
        true,
    );
}
