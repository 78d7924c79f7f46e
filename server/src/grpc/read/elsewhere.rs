//! Records that are damaged here, read from another member that has them whole.
//!
//! Promises: one hop; a member answers with what it verified on that read, or not at all; when none has them the caller
//! keeps its own error. Must not know: streams, cursors.

use inkstone_proto::peer_v1::{ForwardReadRequest, ForwardReadResponse};
use inkstone_proto::v1::{self, Reason};
use inkstone_storage::log::{Lost, ReadChunk};
use inkstone_storage::types::LogId;
use tokio::time::timeout;
use tonic::Status;

use crate::grpc::limits::{FORWARD_READ_TIMEOUT, READ_MESSAGE_SIZE_MAX};
use crate::grpc::{Services, convert, error};
use crate::raft::Holders;

/// Offsets of a log that are to be read elsewhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) log: LogId,
    pub(crate) from: u64,
    pub(crate) until: u64,
    pub(crate) size_max: usize,
}

/// Asks the other members in turn; `None`: none of them has the records.
pub(crate) async fn read_elsewhere(services: &Services, wanted: Wanted) -> Option<ReadChunk> {
    let own = services.group.node_id();
    let mut members = services.group.members();
    members.retain(|member| member.id != own);
    if !members.is_empty() {
        let first = services.turn() % members.len();
        members.rotate_left(first);
    }
    for member in members {
        match timeout(FORWARD_READ_TIMEOUT, ask(services, &member, wanted)).await {
            Ok(Ok(chunk)) => return Some(chunk),
            Ok(Err(status)) => {
                tracing::debug!(node = member.id, %status, "a damaged record is not to be had there");
            }
            Err(_) => tracing::debug!(node = member.id, "no answer in time"),
        }
    }
    None
}

/// Whether another member has these records. One whose copy of the entry is damaged is asked for the first of them itself: it
/// may be damaged there in another place.
pub(crate) async fn look_for(services: &Services, log: LogId, lost: &Lost) -> Holders {
    let holders = services.group.repairer().look_for(lost).await;
    let Holders::Nobody { damaged } = &holders else {
        return holders;
    };
    let wanted = Wanted {
        log,
        from: lost.from,
        until: lost.from + 1,
        size_max: 1,
    };
    for member in services.group.members() {
        let node = member.id;
        if !damaged.contains(&node) {
            continue;
        }
        match timeout(FORWARD_READ_TIMEOUT, ask(services, &member, wanted)).await {
            Ok(Ok(_)) => return Holders::Member(node),
            Ok(Err(status)) => match error::reason_of(&status) {
                // A node in quarantine gives entries that are whole, and nothing of others.
                Some(Reason::Damaged | Reason::Quarantined) => {}
                _ => return Holders::Unknown(format!("node {node}: {}", status.message())),
            },
            Err(_) => return Holders::Unknown(format!("node {node}: no answer in time")),
        }
    }
    holders
}

async fn ask(
    services: &Services,
    member: &v1::NodeInfo,
    wanted: Wanted,
) -> Result<ReadChunk, Status> {
    let request = ForwardReadRequest {
        header: Some(services.group.header(member.id)),
        log_id: wanted.log.0,
        from: wanted.from,
        until: wanted.until,
        size_max: wanted.size_max as u64,
    };
    let mut peer = services.group.peer(member);
    let response = peer.forward_read(request).await?.into_inner();
    let count = response.records.len() as u64;
    let are_wanted = (wanted.from..wanted.until)
        .zip(&response.records)
        .filter(|(offset, record)| record.offset == *offset)
        .count() as u64;
    if count == 0 || are_wanted != count {
        return Err(Status::data_loss("other records than were asked for"));
    }
    let records = response.records.into_iter().map(convert::record_from_wire);
    Ok(ReadChunk {
        records: records.collect(),
        next_offset: wanted.from + count,
    })
}

/// Reads here what another member's reader lacks. For the peer service: the last hop.
pub(crate) async fn read_here(
    services: &Services,
    request: &ForwardReadRequest,
) -> Result<ForwardReadResponse, Status> {
    let id = LogId(request.log_id);
    let info = services.group.log_info_by_id(id);
    let visible = info.map_or(0, |info| info.next_offset);
    let (from, until) = (request.from, request.until.min(visible));
    if from >= until {
        return Err(error::offset_out_of_range(from, visible));
    }
    let size = usize::try_from(request.size_max).unwrap_or(usize::MAX);
    let size = size.clamp(1, READ_MESSAGE_SIZE_MAX);
    let log = services.group.log().clone();
    let chunk = services
        .reads
        .run(move || log.read(id, from, until, size))
        .await
        .map_err(error::pool_busy)?
        .map_err(|failed| error::read(&failed, &services.data_dir))?;
    if chunk.records.is_empty() {
        return Err(error::offset_out_of_range(from, visible));
    }
    Ok(ForwardReadResponse {
        records: chunk.records.into_iter().map(convert::record).collect(),
    })
}
