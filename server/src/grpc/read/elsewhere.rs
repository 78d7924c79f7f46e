//! Records that are damaged here, read from another member that has them whole.
//!
//! Promises: one hop; a member answers with what it verified on that read, or says how far it is damaged there; that none has
//! them is said only when every one of them has said so for itself. Must not know: streams, cursors.

use inkstone_proto::peer_v1::{ForwardReadRequest, ForwardReadResponse};
use inkstone_proto::v1::{self, Reason};
use inkstone_storage::error::ReadError;
use inkstone_storage::log::{Lost, ReadChunk};
use inkstone_storage::types::LogId;
use tokio::time::timeout;
use tonic::Status;

use crate::grpc::limits::{FORWARD_READ_TIMEOUT, READ_MESSAGE_SIZE_MAX};
use crate::grpc::{Services, convert, error};
use crate::raft::Holders;

/// Whether another member has records that are damaged here.
#[derive(Debug)]
pub(crate) enum Copies {
    /// One may have them: it has the whole entry, or the first of them.
    There,
    /// None has those up to this offset.
    Nowhere {
        /// The offset behind the last that is damaged on every member.
        to: u64,
    },
    /// Some did not say; which, and what they said instead, for people.
    Unknown(String),
}

/// What a member answers to a read.
enum Answer {
    Records(ReadChunk),
    /// They are damaged there, too, up to this offset.
    Damaged {
        to: u64,
    },
}

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
    for member in services.other_members_in_turn() {
        match timeout(FORWARD_READ_TIMEOUT, ask(services, &member, wanted)).await {
            Ok(Ok(Answer::Records(chunk))) => return Some(chunk),
            Ok(Ok(Answer::Damaged { .. })) => {
                tracing::debug!(node = member.id, "a damaged record is damaged there, too");
            }
            Ok(Err(status)) => {
                tracing::debug!(node = member.id, %status, "a damaged record is not to be had there");
            }
            Err(_) => tracing::debug!(node = member.id, "no answer in time"),
        }
    }
    None
}

/// Whether another member has these records. One whose copy of the entry is damaged is asked for the records themselves:
/// they may be whole there, and other ones damaged.
pub(crate) async fn look_for(services: &Services, log: LogId, lost: &Lost) -> Copies {
    let damaged = match services.group.repairer().look_for(lost).await {
        Holders::Member(_) => return Copies::There,
        Holders::Unknown(who) => return Copies::Unknown(who),
        Holders::Nobody { damaged } => damaged,
    };
    let mut to = lost.to;
    for member in services.group.members() {
        let node = member.id;
        if !damaged.contains(&node) {
            continue;
        }
        let wanted = Wanted {
            log,
            from: lost.from,
            until: to,
            size_max: 1,
        };
        match timeout(FORWARD_READ_TIMEOUT, ask(services, &member, wanted)).await {
            Ok(Ok(Answer::Records(_))) => return Copies::There,
            Ok(Ok(Answer::Damaged { to: there })) => to = to.min(there),
            Ok(Err(status)) => match error::reason_of(&status) {
                // A node in quarantine gives entries that are whole, and nothing of others.
                Some(Reason::Damaged | Reason::Quarantined) => {}
                _ => return Copies::Unknown(format!("node {node}: {}", status.message())),
            },
            Err(_) => return Copies::Unknown(format!("node {node}: no answer in time")),
        }
    }
    Copies::Nowhere { to }
}

async fn ask(services: &Services, member: &v1::NodeInfo, wanted: Wanted) -> Result<Answer, Status> {
    let request = ForwardReadRequest {
        header: Some(services.group.header(member.id)),
        log_id: wanted.log.0,
        from: wanted.from,
        until: wanted.until,
        size_max: wanted.size_max as u64,
    };
    let mut peer = services.group.peer(member);
    let response = peer.forward_read(request).await?.into_inner();
    let to = response.damaged_until;
    if response.records.is_empty() && to > wanted.from {
        return Ok(Answer::Damaged { to });
    }
    let count = response.records.len() as u64;
    let are_wanted = (wanted.from..wanted.until)
        .zip(&response.records)
        .filter(|(offset, record)| record.offset == *offset)
        .count() as u64;
    if count == 0 || are_wanted != count {
        return Err(Status::data_loss("other records than were asked for"));
    }
    let records = response.records.into_iter().map(convert::record_from_wire);
    Ok(Answer::Records(ReadChunk {
        records: records.collect(),
        next_offset: wanted.from + count,
    }))
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
    let read = move || match log.read(id, from, until, size) {
        // Which records it takes can't always be told.
        Err(why @ ReadError::Damaged(_)) => match log.lost_at(id, from) {
            Ok(Some(lost)) => Ok(Err(lost.to)),
            Ok(None) | Err(_) => Err(why),
        },
        read => read.map(Ok),
    };
    let read = services.reads.run(read).await.map_err(error::pool_busy)?;
    let chunk = match read.map_err(|failed| error::read(&failed, &services.data_dir))? {
        Ok(chunk) => chunk,
        Err(damaged_until) => {
            return Ok(ForwardReadResponse {
                records: Vec::new(),
                damaged_until,
            });
        }
    };
    if chunk.records.is_empty() {
        return Err(error::offset_out_of_range(from, visible));
    }
    Ok(ForwardReadResponse {
        records: chunk.records.into_iter().map(convert::record).collect(),
        damaged_until: 0,
    })
}
