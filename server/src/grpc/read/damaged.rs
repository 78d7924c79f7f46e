//! What a reader gets in place of records that are damaged here: the same ones from another member, or, when none has
//! them, the gap that they leave.
//!
//! Promises: a gap is told only when every other member has said for itself that it does not have the entry, or has it damaged
//! and lacks the records; as long as one may have them the read ends with an error that says who. Damage that a reader meets
//! is in the node's status before the reader is answered. Must not know: streams, cursors.

use inkstone_storage::error::ReadError;
use inkstone_storage::log::{Lost, ReadChunk};
use tokio::time::timeout;
use tonic::Status;

use super::elsewhere::{Copies, Wanted, look_for, read_elsewhere};
use crate::grpc::limits::READ_TIMEOUT;
use crate::grpc::{Services, error};

/// What is told in place of damaged records.
#[derive(Debug)]
pub(crate) enum Instead {
    /// The records themselves.
    Records(ReadChunk),
    /// They are lost on all members.
    Lost(Lost),
}

/// Looks for what a read of `wanted` found damaged.
pub(crate) async fn instead_of(
    services: &Services,
    wanted: Wanted,
    failed: &ReadError,
) -> Result<Instead, Status> {
    let lost = look(services, wanted).await?;
    let repairer = services.group.repairer();
    repairer.suspect(failed, lost.map(|lost| lost.entry.id.index));
    if let Some(chunk) = read_elsewhere(services, wanted).await {
        return Ok(Instead::Records(chunk));
    }
    let Some(lost) = lost else {
        return read_again(services, wanted).await;
    };
    match look_for(services, wanted.log, &lost).await {
        Copies::Nowhere { to } => {
            let (log, from) = (wanted.log.0, lost.from);
            tracing::error!(log, from, to, index = lost.entry.id.index, %failed, "records are damaged on all members");
            Ok(Instead::Lost(Lost { to, ..lost }))
        }
        Copies::There => {
            drop(timeout(READ_TIMEOUT, repairer.repair_for_reader(failed)).await);
            read_again(services, wanted).await
        }
        Copies::Unknown(who) => Err(error::read_unsure(failed, &services.data_dir, &who)),
    }
}

/// Which records are damaged. `None`: it cannot be told, or they are whole again.
async fn look(services: &Services, wanted: Wanted) -> Result<Option<Lost>, Status> {
    let log = services.group.log().clone();
    let lost = services
        .reads
        .run(move || log.lost_at(wanted.log, wanted.from))
        .await
        .map_err(error::pool_busy)?;
    Ok(lost.unwrap_or_else(|unknown| {
        tracing::debug!(%unknown, "which records are damaged cannot be told");
        None
    }))
}

async fn read_again(services: &Services, wanted: Wanted) -> Result<Instead, Status> {
    let log = services.group.log().clone();
    let Wanted {
        log: id,
        from,
        until,
        size_max,
    } = wanted;
    let read = services
        .reads
        .run(move || log.read(id, from, until, size_max));
    let read = read.await.map_err(error::pool_busy)?;
    read.map(Instead::Records)
        .map_err(|failed| error::read(&failed, &services.data_dir))
}
