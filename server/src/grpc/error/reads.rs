//! What a read or a search that gave nothing is answered with: it never had an effect.
//!
//! Promises: files are named relative to the data directory, so that a client learns no more of the host.

use std::path::Path;

use inkstone_proto::v1::{ErrorDetail, Reason};
use inkstone_storage::error::{Damage, ReadError};
use inkstone_storage::search::QueryError;
use tonic::{Code, Status};

use super::{no_effect, status};

/// A defect of this node, found while it read.
pub(crate) fn internal_read(message: impl Into<String>) -> Status {
    status(Code::Internal, message, &no_effect(Reason::Internal))
}

/// A read of the log that gave no records. Files are named relative to `data_dir`: a client learns no more of the host.
pub(crate) fn read(error: &ReadError, data_dir: &Path) -> Status {
    match error {
        ReadError::Damaged(damage) => damaged(damage, data_dir),
        ReadError::Purged { at, first } => {
            let message =
                format!("{at} is below {first}, the first that is kept; read from {first}");
            status(
                Code::OutOfRange,
                message,
                &no_effect(Reason::OffsetOutOfRange),
            )
        }
        ReadError::Io { file, source } => {
            let file = relative(file, data_dir);
            internal_read(format!(
                "{file}: the disk would not read ({source}); ask another node"
            ))
        }
    }
}

/// A read of what is damaged here, and of which some members did not say whether they have it.
pub(crate) fn read_unsure(error: &ReadError, data_dir: &Path, who: &str) -> Status {
    let ReadError::Damaged(damage) = error else {
        return read(error, data_dir);
    };
    let file = relative(&damage.file, data_dir);
    let message = format!(
        "{file}: damaged at byte {}: {}; whether another node has it is not known ({who}): read it again when those answer, \
         or remove a member that never will (`ink cluster remove`)",
        damage.position, damage.what
    );
    let detail = ErrorDetail {
        file,
        position: Some(damage.position),
        retryable: true,
        ..no_effect(Reason::Damaged)
    };
    status(Code::DataLoss, message, &detail)
}

fn damaged(damage: &Damage, data_dir: &Path) -> Status {
    let file = relative(&damage.file, data_dir);
    let message = format!(
        "{file}: damaged at byte {}: {}; nothing of it was returned, ask another node",
        damage.position, damage.what
    );
    let detail = ErrorDetail {
        file,
        position: Some(damage.position),
        ..no_effect(Reason::Damaged)
    };
    status(Code::DataLoss, message, &detail)
}

/// A file's name for a client: relative to the data directory.
pub(crate) fn relative(file: &Path, data_dir: &Path) -> String {
    file.strip_prefix(data_dir)
        .unwrap_or(file)
        .display()
        .to_string()
}

/// A query that is not one, asks for too much, or met a failing index.
pub(crate) fn query(error: &QueryError) -> Status {
    match error {
        QueryError::Syntax { position, what } => {
            let detail = ErrorDetail {
                position: Some(*position as u64),
                ..no_effect(Reason::BadQuery)
            };
            status(
                Code::InvalidArgument,
                format!("query, byte {position}: {what}"),
                &detail,
            )
        }
        QueryError::Limit { bound, value } => {
            let detail = ErrorDetail {
                bound: (*bound).to_owned(),
                bound_value: *value,
                ..no_effect(Reason::QueryLimit)
            };
            let message = format!(
                "the query asks for more than {bound} allows, which is {value}; simplify it"
            );
            status(Code::InvalidArgument, message, &detail)
        }
        QueryError::Failed(what) => {
            let detail = ErrorDetail {
                retryable: true,
                ..no_effect(Reason::NoIndex)
            };
            let message =
                format!("the search index failed ({what}) and is built anew; retry later");
            status(Code::Unavailable, message, &detail)
        }
    }
}
