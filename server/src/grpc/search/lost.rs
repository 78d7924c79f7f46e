//! Hits whose records are damaged here: which of them are gaps of the answer, because no member has them any more.
//!
//! Promises: a hit is left out only when every other member has said for itself that it does not have the entry, and then
//! the answer says so; else the search fails here, and is asked of another member. Must not know: queries, the index.

use inkstone_proto::v1::{Gap, GapReason};
use inkstone_storage::error::ReadError;
use inkstone_storage::log::Lost;
use tonic::Status;

use crate::grpc::{Services, error};
use crate::raft::Holders;

/// Damaged entries that one answer leaves out; with more it is an error.
const LOST_MAX: usize = 16;

/// Records that were found and could not be read.
#[derive(Debug)]
pub(crate) struct LostHits {
    pub(crate) lost: Lost,
    pub(crate) why: ReadError,
}

/// The gaps that they leave, as the answer tells of them: newest first, as the hits.
pub(super) async fn gaps(services: &Services, hits: Vec<LostHits>) -> Result<Vec<Gap>, Status> {
    let repairer = services.group.repairer();
    let mut gaps: Vec<Gap> = Vec::new();
    for LostHits { lost, why } in hits {
        repairer.suspect(&why, Some(lost.entry.id.index));
        if gaps.len() >= LOST_MAX {
            return Err(error::read(&why, &services.data_dir));
        }
        match repairer.look_for(&lost).await {
            Holders::Nobody => gaps.push(Gap {
                from: lost.from,
                to: lost.to,
                reason: GapReason::Damaged.into(),
            }),
            Holders::Member(_) => return Err(error::read(&why, &services.data_dir)),
            Holders::Unknown(who) => {
                return Err(error::read_unsure(&why, &services.data_dir, &who));
            }
        }
    }
    Ok(gaps)
}
