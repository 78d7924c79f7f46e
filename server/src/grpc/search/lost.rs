//! Hits whose records are damaged here, and records that the index lacks since they were damaged when it came to them: which
//! of them are gaps of the answer, because no member has them any more.
//!
//! Promises: a record is left out only when every other member has said for itself that it does not have the entry, or has it
//! damaged and lacks the record, and then the answer says so; else the search fails here, and is asked of another member.
//! Must not know: queries, the index.

use inkstone_proto::v1::{Gap, GapReason};
use inkstone_storage::error::ReadError;
use inkstone_storage::log::{Log, Lost};
use inkstone_storage::search::IndexGap;
use inkstone_storage::types::LogId;
use tonic::Status;

use crate::grpc::read::look_for;
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
pub(super) async fn gaps(
    services: &Services,
    log: LogId,
    hits: Vec<LostHits>,
) -> Result<Vec<Gap>, Status> {
    let mut gaps: Vec<Gap> = Vec::new();
    for hit in merged(hits) {
        if gaps.len() >= LOST_MAX {
            return Err(error::read(&hit.why, &services.data_dir));
        }
        gaps.push(gap(services, log, hit).await?);
    }
    Ok(gaps)
}

/// Hits that are lost with the same records count once: they were met by reads of a few offsets each.
fn merged(hits: Vec<LostHits>) -> Vec<LostHits> {
    let mut merged: Vec<LostHits> = Vec::new();
    for hit in hits {
        match merged.last_mut() {
            Some(newer)
                if newer.lost.entry.id == hit.lost.entry.id
                    && newer.lost.from <= hit.lost.to
                    && hit.lost.from <= newer.lost.to =>
            {
                newer.lost.from = newer.lost.from.min(hit.lost.from);
                newer.lost.to = newer.lost.to.max(hit.lost.to);
            }
            _ => merged.push(hit),
        }
    }
    merged
}

/// The gap that lost records leave, when no member has them.
async fn gap(
    services: &Services,
    log: LogId,
    LostHits { lost, why }: LostHits,
) -> Result<Gap, Status> {
    let repairer = services.group.repairer();
    repairer.suspect(&why, Some(lost.entry.id.index));
    match look_for(services, log, &lost).await {
        Holders::Nobody { .. } => Ok(Gap {
            from: lost.from,
            to: lost.to,
            reason: GapReason::Damaged.into(),
        }),
        Holders::Member(_) => Err(error::read(&why, &services.data_dir)),
        Holders::Unknown(who) => Err(error::read_unsure(&why, &services.data_dir, &who)),
    }
}

/// What becomes of a gap of the index.
enum Unindexed {
    /// It is still damaged.
    Lost(LostHits),
    /// What it held was purged up to this offset.
    Purged(u64),
    /// It can be read: the index will take it in.
    Whole,
    /// The log does not give it: it was purged with all behind it, or is not applied here yet.
    Absent,
}

/// The gaps of the index that the answer is over: newest first.
pub(super) async fn unindexed(
    services: &Services,
    left_out: Vec<IndexGap>,
) -> Result<Vec<Gap>, Status> {
    let mut gaps: Vec<Gap> = Vec::new();
    for IndexGap { log, from, to, .. } in left_out {
        let mut at = from;
        while at < to {
            let records = services.group.log().clone();
            let look = services.reads.run(move || look_at(&records, log, at));
            let found = look.await.map_err(error::pool_busy)?;
            match found.map_err(|failed| error::read(&failed, &services.data_dir))? {
                Unindexed::Purged(first) => at = first,
                // With all behind it.
                Unindexed::Absent if services.group.is_purged(log, at) => break,
                Unindexed::Absent | Unindexed::Whole => return Err(error::no_index()),
                Unindexed::Lost(hit) => {
                    at = hit.lost.to;
                    gaps.push(gap(services, log, hit).await?);
                }
            }
        }
    }
    Ok(gaps)
}

fn look_at(log: &Log, id: LogId, at: u64) -> Result<Unindexed, ReadError> {
    match log.read(id, at, at + 1, 0) {
        Ok(chunk) if chunk.next_offset <= at => Ok(Unindexed::Absent),
        Ok(_) => Ok(Unindexed::Whole),
        Err(ReadError::Purged { first, .. }) if first > at => Ok(Unindexed::Purged(first)),
        Err(why @ ReadError::Damaged(_)) => match log.lost_at(id, at)? {
            Some(lost) => Ok(Unindexed::Lost(LostHits { lost, why })),
            None => Err(why),
        },
        Err(failed) => Err(failed),
    }
}

#[cfg(test)]
mod tests {
    use inkstone_storage::error::{Damage, EntryIdentity};
    use inkstone_storage::types::{EntryId, EntryKind};

    use super::*;

    fn hits(index: u64, from: u64, to: u64) -> LostHits {
        let id = EntryId {
            term: 1,
            node: 1,
            index,
        };
        let entry = EntryIdentity {
            id,
            kind: EntryKind::Batches,
            payload_size: 1,
            payload_crc: 1,
            chain_crc: 0,
        };
        let damage = Damage {
            file: "segment".into(),
            position: 0,
            what: "rotten".to_owned(),
        };
        LostHits {
            lost: Lost { from, to, entry },
            why: ReadError::Damaged(damage),
        }
    }

    #[test]
    fn what_several_reads_lacked_of_one_batch_is_one_gap_and_what_is_whole_between_is_in_none() {
        // Hits of a batch that goes to 10,000, 40 apart; then two batches of one entry with a whole one between them.
        let mut lost: Vec<LostHits> = (0..200)
            .map(|run| hits(9, 9_960 - 40 * run, 10_000))
            .collect();
        lost.extend([hits(8, 30, 40), hits(8, 10, 20), hits(7, 8, 10)]);
        let merged = merged(lost);
        let gaps = merged.iter().map(|hit| {
            let Lost { from, to, entry } = hit.lost;
            (entry.id.index, from, to)
        });
        let gaps: Vec<(u64, u64, u64)> = gaps.collect();
        assert_eq!(
            gaps,
            [(9, 2_000, 10_000), (8, 30, 40), (8, 10, 20), (7, 8, 10)]
        );
    }
}
