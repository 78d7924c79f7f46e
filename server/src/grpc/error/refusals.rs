//! What apply refused, the same on every node: it had no effect.

use inkstone_proto::v1::{ErrorDetail, Reason};
use inkstone_storage::limits::{LOGS_MAX, PRODUCERS_MAX, PRODUCERS_TOTAL_MAX};
use tonic::{Code, Status};

use super::{log_not_found, no_effect, status, unknown_effect};
use crate::raft::{LogRefusal, Refusal};

/// A bound on what the group remembers: nothing was done.
fn full(bound: &str, value: usize, message: String) -> Status {
    let detail = ErrorDetail {
        bound: bound.to_owned(),
        bound_value: value as u64,
        ..no_effect(Reason::Busy)
    };
    status(Code::ResourceExhausted, message, &detail)
}

/// A command about a log that apply refused: it had no effect.
pub(crate) fn log_refused(refusal: LogRefusal, log: &str) -> Status {
    match refusal {
        LogRefusal::LogNotFound => log_not_found(log),
        LogRefusal::OffsetOutOfRange { next_offset } => {
            let detail = ErrorDetail {
                next_offset: Some(next_offset),
                ..no_effect(Reason::OffsetOutOfRange)
            };
            let message = format!(
                "the log's next offset is {next_offset}, and nothing above it can be trimmed; trim before \
                 {next_offset} or below"
            );
            status(Code::OutOfRange, message, &detail)
        }
        LogRefusal::TooManyLogs => {
            let message =
                format!("there are {LOGS_MAX} logs already; delete one, or use one that is there");
            full("logs_max", LOGS_MAX, message)
        }
    }
}

/// Apply refused the batch, the same on every node.
pub(crate) fn refused(refusal: Refusal, log: &str) -> Status {
    match refusal {
        Refusal::LogNotFound => log_not_found(log),
        Refusal::OffsetMismatch { next_offset } => {
            let detail = ErrorDetail {
                next_offset: Some(next_offset),
                ..no_effect(Reason::OffsetMismatch)
            };
            let message = format!(
                "expected_offset is not the log's next offset, which is {next_offset}; read up to it and decide again"
            );
            status(Code::FailedPrecondition, message, &detail)
        }
        Refusal::ProducerFenced { epoch } => {
            let detail = ErrorDetail {
                expected: Some(epoch.into()),
                ..no_effect(Reason::ProducerFenced)
            };
            let message = format!(
                "fenced: epoch {epoch} of this producer has written; stop, or take over with a higher epoch"
            );
            status(Code::FailedPrecondition, message, &detail)
        }
        Refusal::SequenceGap { expected } => {
            let detail = ErrorDetail {
                expected: Some(expected),
                ..no_effect(Reason::SequenceGap)
            };
            let message = format!(
                "the producer's next sequence in this log is {expected}; send that one first"
            );
            status(Code::FailedPrecondition, message, &detail)
        }
        Refusal::ReceiptForgotten => {
            let message = "the receipt of that sequence is not kept any more";
            status(
                Code::FailedPrecondition,
                message,
                &unknown_effect(Reason::ReceiptForgotten),
            )
        }
        Refusal::TooManyProducers => {
            let message = format!(
                "the log remembers {PRODUCERS_MAX} producers of the last 24 hours already; reuse one, or append \
                 without a producer"
            );
            full("producers_max", PRODUCERS_MAX, message)
        }
        Refusal::TooManyProducersInAll => {
            let message = format!(
                "all logs together remember {PRODUCERS_TOTAL_MAX} producers of the last 24 hours already; reuse one, or \
                 append without a producer"
            );
            full("producers_total_max", PRODUCERS_TOTAL_MAX, message)
        }
    }
}
