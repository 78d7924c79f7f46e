//! The one place where errors become gRPC statuses: a code, one line that says what happened, and an [`ErrorDetail`].
//!
//! Promises: every status made here carries its detail in `google.rpc.Status`; `EFFECT_NONE` is said only where the
//! request certainly had no effect and never will (a read never has one). Everything else is `EFFECT_UNKNOWN`.

mod members;
mod reads;
mod refusals;

use std::error::Error;

use bytes::Bytes;
use inkstone_proto::v1::{Effect, ErrorDetail, NodeInfo, Reason};
use inkstone_storage::error::LowSpace;
use prost::Message;
use tonic::{Code, ConnectError, Status};
use tonic_types::pb;

use crate::blocking::Busy;
use crate::grpc::limits::MESSAGE_SIZE_MAX;
use crate::raft::{ProposeError, ReadIndexError};

pub(crate) use self::members::members;
pub(crate) use self::reads::{internal_read, query, read, read_unsure, relative};
pub(crate) use self::refusals::{log_refused, refused};

/// The `Any` type of the detail.
const DETAIL_TYPE: &str = "type.googleapis.com/inkstone.v1.ErrorDetail";

/// Advice for a caller that met a full queue, in milliseconds.
const BUSY_RETRY_MS: u32 = 50;
/// Advice for a caller that met a full disk, in milliseconds: somebody has to make room first.
const DISK_FULL_RETRY_MS: u32 = 1_000;
/// Advice for a caller that met no leader: about an election, in milliseconds.
const NO_LEADER_RETRY_MS: u32 = 500;

/// A status with its detail.
fn status(code: Code, message: impl Into<String>, detail: &ErrorDetail) -> Status {
    let message = message.into();
    let any = prost_types::Any {
        type_url: DETAIL_TYPE.to_owned(),
        value: detail.encode_to_vec(),
    };
    let rich = pb::Status {
        code: code.into(),
        message: message.clone(),
        details: vec![any],
    };
    Status::with_details(code, message, Bytes::from(rich.encode_to_vec()))
}

/// A detail of a request that had no effect.
fn no_effect(reason: Reason) -> ErrorDetail {
    ErrorDetail {
        reason: reason.into(),
        effect: Effect::None.into(),
        ..ErrorDetail::default()
    }
}

/// A detail of a request that may have taken effect.
fn unknown_effect(reason: Reason) -> ErrorDetail {
    ErrorDetail {
        reason: reason.into(),
        effect: Effect::Unknown.into(),
        ..ErrorDetail::default()
    }
}

/// The detail of a status, if one of our nodes made it.
pub(crate) fn detail_of(status: &Status) -> Option<ErrorDetail> {
    let rich = pb::Status::decode(status.details()).ok()?;
    let any = rich
        .details
        .into_iter()
        .find(|any| any.type_url == DETAIL_TYPE)?;
    ErrorDetail::decode(any.value.as_slice()).ok()
}

/// The reason of a status, if one of our nodes made it.
pub(crate) fn reason_of(status: &Status) -> Option<Reason> {
    detail_of(status).map(|detail| detail.reason())
}

/// The request itself is wrong; the message says which field, what was found and what is allowed.
pub(crate) fn invalid(message: impl Into<String>) -> Status {
    status(Code::InvalidArgument, message, &no_effect(Reason::Invalid))
}

/// Over a bound of the request's shape: the very same request never succeeds.
pub(crate) fn too_large(bound: &str, value: usize, message: impl Into<String>) -> Status {
    let detail = ErrorDetail {
        bound: bound.to_owned(),
        bound_value: value as u64,
        ..no_effect(Reason::TooLarge)
    };
    status(Code::InvalidArgument, message, &detail)
}

/// A message of a stream that could not be read, and was not carried out. The library says only by its code that it was
/// too large.
pub(crate) fn unreadable(found: Status) -> Status {
    if detail_of(&found).is_some() || found.code() != Code::OutOfRange {
        return found;
    }
    let message = format!("{}; send smaller batches", found.message());
    too_large("message_size_max", MESSAGE_SIZE_MAX, message)
}

/// No log of that name, said by a node that knows all there are.
pub(crate) fn log_not_found(name: &str) -> Status {
    let message = format!("no log is named `{name}`; create it with `ink logs create {name}`");
    status(Code::NotFound, message, &no_effect(Reason::LogNotFound))
}

/// The name is taken.
pub(crate) fn log_exists(name: &str) -> Status {
    let message = format!("a log named `{name}` exists; set if_not_exists, or choose another name");
    status(Code::AlreadyExists, message, &no_effect(Reason::LogExists))
}

/// A read starts beyond the log's end.
pub(crate) fn offset_out_of_range(offset: u64, next_offset: u64) -> Status {
    let detail = ErrorDetail {
        next_offset: Some(next_offset),
        ..no_effect(Reason::OffsetOutOfRange)
    };
    let message = format!(
        "offset {offset} is above the log's next offset {next_offset}; read from {next_offset} or below"
    );
    status(Code::OutOfRange, message, &detail)
}

/// A bound on what the node holds for all its callers: nothing was done.
pub(crate) fn busy(bound: &str, value: usize) -> Status {
    let detail = ErrorDetail {
        retryable: true,
        retry_after_ms: BUSY_RETRY_MS,
        bound: bound.to_owned(),
        bound_value: value as u64,
        ..no_effect(Reason::Busy)
    };
    let message = format!("busy: {bound} ({value}) is reached");
    status(Code::ResourceExhausted, message, &detail)
}

/// The leader's disk is nearly full: nothing was done. Where the disk is, is for its operator's log.
fn disk_full(low: &LowSpace) -> Status {
    let detail = ErrorDetail {
        retryable: true,
        retry_after_ms: DISK_FULL_RETRY_MS,
        bound: "free_size_min".to_owned(),
        bound_value: low.free_size_min,
        ..no_effect(Reason::DiskFull)
    };
    let message = format!(
        "the leader's disk is nearly full: {} bytes are free, and it takes appends from {} on (log.free_size_min); \
         make room on it, then retry",
        low.free_size, low.free_size_min
    );
    status(Code::ResourceExhausted, message, &detail)
}

/// The pool that reads the log is full.
pub(crate) fn pool_busy(error: Busy) -> Status {
    busy("reads_waiting_max", error.waiting)
}

/// The pool that searches is full.
pub(crate) fn searches_busy(error: Busy) -> Status {
    busy("searches_waiting_max", error.waiting)
}

/// A read, or a wait before anything was done, ran into its deadline.
pub(crate) fn timeout(what: &str) -> Status {
    let detail = ErrorDetail {
        retryable: true,
        ..no_effect(Reason::Timeout)
    };
    status(
        Code::DeadlineExceeded,
        format!("timed out: {what}"),
        &detail,
    )
}

/// A write's deadline passed before its outcome was known.
pub(crate) fn write_timeout() -> Status {
    let detail = ErrorDetail {
        retryable: true,
        ..unknown_effect(Reason::Timeout)
    };
    let message = "the deadline passed before the request was confirmed";
    status(Code::DeadlineExceeded, message, &detail)
}

/// Nobody leads, as far as this node knows.
pub(crate) fn no_leader(leader: Option<NodeInfo>) -> Status {
    let detail = ErrorDetail {
        retryable: true,
        retry_after_ms: NO_LEADER_RETRY_MS,
        leader,
        ..no_effect(Reason::NoLeader)
    };
    let message = "no node leads at the moment, or the one that does can't reach a majority";
    status(Code::Unavailable, message, &detail)
}

/// The node's log is damaged and not yet repaired: nothing was done.
pub(crate) fn quarantined(waits_for: &str) -> Status {
    let detail = ErrorDetail {
        retryable: true,
        retry_after_ms: NO_LEADER_RETRY_MS,
        ..no_effect(Reason::Quarantined)
    };
    let mut message = "this node is in quarantine: entries of its log are damaged, and it waits until they are \
                       written back from other nodes; ask another node, and see `ink cluster status`"
        .to_owned();
    if !waits_for.is_empty() {
        message += "; it waits for ";
        message += waits_for;
    }
    status(Code::Unavailable, message, &detail)
}

/// The node is stopping: nothing was done, or what was done had no effect.
pub(crate) fn shutting_down() -> Status {
    let detail = ErrorDetail {
        retryable: true,
        ..no_effect(Reason::ShuttingDown)
    };
    status(Code::Unavailable, "this node is stopping", &detail)
}

/// No node that could be asked has an index.
pub(crate) fn no_index() -> Status {
    without_index("no node that could be reached has a search index now")
}

/// The index here lacks records that were damaged when it came to them and can be read again.
pub(crate) fn index_behind_repair() -> Status {
    without_index(
        "the search index here does not have the records yet that were repaired in the log",
    )
}

fn without_index(message: &str) -> Status {
    let detail = ErrorDetail {
        retryable: true,
        retry_after_ms: NO_LEADER_RETRY_MS,
        ..no_effect(Reason::NoIndex)
    };
    status(Code::Unavailable, message, &detail)
}

/// A proposal without an outcome.
pub(crate) fn propose(error: ProposeError) -> Status {
    match error {
        ProposeError::NotLeader { leader: None } => no_leader(None),
        ProposeError::NotLeader {
            leader: Some(leader),
        } => {
            let message = format!(
                "this node does not lead; node {} at {} does",
                leader.id, leader.client_address
            );
            let detail = ErrorDetail {
                retryable: true,
                leader: Some(leader),
                ..no_effect(Reason::NotLeader)
            };
            status(Code::Unavailable, message, &detail)
        }
        ProposeError::Busy { bound } => busy("appends_in_flight_size_max", bound),
        ProposeError::DiskFull(low) => disk_full(&low),
        ProposeError::TooOld(old) => status(
            Code::FailedPrecondition,
            old.to_string(),
            &no_effect(Reason::Unsupported),
        ),
        // The code says what is known: UNAVAILABLE would invite a blind retry.
        ProposeError::Unknown { why } => {
            let detail = ErrorDetail {
                retryable: true,
                ..unknown_effect(Reason::NoLeader)
            };
            status(
                Code::Unknown,
                format!("proposed, not confirmed: {why}"),
                &detail,
            )
        }
        ProposeError::Stopping => shutting_down(),
    }
}

/// A linearizable read that was not confirmed.
pub(crate) fn read_index(error: ReadIndexError) -> Status {
    match error {
        ReadIndexError::NoLeader { leader } => no_leader(leader),
        ReadIndexError::Timeout => timeout("no majority confirmed the read"),
        ReadIndexError::Stopping => shutting_down(),
    }
}

/// What became of a forwarded write that was not answered with success: the other node's own answer passes through; a
/// connection that was never made, or that led to another node, had no effect; anything else may have.
pub(crate) fn forwarded_write(answer: Status, leader: &NodeInfo) -> Status {
    if detail_of(&answer).is_some() {
        return answer;
    }
    // The peer service refuses what is not meant for it before it looks into it; nothing else gives that code.
    if never_connected(&answer) || answer.code() == Code::FailedPrecondition {
        let detail = ErrorDetail {
            retryable: true,
            retry_after_ms: NO_LEADER_RETRY_MS,
            leader: Some(leader.clone()),
            ..no_effect(Reason::NotLeader)
        };
        let message = format!(
            "this node does not lead and can't connect to node {} at {}, which did",
            leader.id, leader.peer_address
        );
        return status(Code::Unavailable, message, &detail);
    }
    let detail = ErrorDetail {
        retryable: true,
        leader: Some(leader.clone()),
        ..unknown_effect(Reason::NoLeader)
    };
    let message = format!(
        "the leader, node {}, was asked and did not answer: {}",
        leader.id,
        answer.message()
    );
    status(Code::Unknown, message, &detail)
}

/// Whether the call failed before a connection existed: then nothing was sent.
fn never_connected(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests;
