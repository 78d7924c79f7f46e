//! Hits whose records are damaged here, and records that the index lacks since they were damaged when it came to them: what
//! another member has of them, and which are gaps of the answer, because no member has them any more.
//!
//! Promises: a hit is read from another member when one has it. A record is left out only when every other member has said for
//! itself that it does not have the entry, or has it damaged and lacks the record, and then the answer says so; else the
//! search fails here, and is asked of another member. Must not know: the index.

use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};

use inkstone_proto::v1::{Gap, GapReason};
use inkstone_storage::error::ReadError;
use inkstone_storage::log::{Log, Lost};
use inkstone_storage::search::{IndexGap, Query};
use inkstone_storage::types::{LogId, Record};
use tonic::Status;

use crate::grpc::limits::{READ_MESSAGE_SIZE_MAX, SEARCH_READ_SPAN_MAX};
use crate::grpc::read::{Copies, Wanted, look_for, read_elsewhere};
use crate::grpc::search::page::{Page, hit};
use crate::grpc::{Services, error};

/// Damaged entries among the hits of one answer; with more it is an error.
const LOST_MAX: usize = 16;

/// Hits that were found and could not be read.
#[derive(Debug)]
pub(crate) struct LostHits {
    /// The damaged records that they are among.
    pub(crate) lost: Lost,
    pub(crate) why: ReadError,
    /// Theirs, newest first. Never empty.
    pub(crate) offsets: Vec<u64>,
}

/// Puts the hits that other members have into the page, and returns the gaps that the others leave in it: newest first.
pub(super) async fn make_good(
    services: &Services,
    (log, query): (LogId, &Query),
    page: &mut Page,
) -> Result<Vec<Gap>, Status> {
    let mut gaps: Vec<Gap> = Vec::new();
    let mut entries = BTreeSet::new();
    for mut hits in merged(std::mem::take(&mut page.lost)) {
        // What was taken in may have ended the page.
        let end = page.end();
        hits.offsets.retain(|offset| *offset >= end);
        if hits.offsets.is_empty() {
            break;
        }
        entries.insert(hits.lost.entry.id.index);
        if entries.len() > LOST_MAX {
            return Err(error::read(&hits.why, &services.data_dir));
        }
        let records = resolve(services, log, hits, &mut gaps).await?.into_iter();
        page.take_in(records.map(|record| hit(record, query)));
    }
    for left_out in std::mem::take(&mut page.unindexed) {
        unindexed(services, left_out, &mut gaps).await?;
    }
    let end = page.end();
    gaps.retain(|gap| gap.to > end);
    for gap in &mut gaps {
        gap.from = gap.from.max(end);
    }
    gaps.sort_by_key(|gap| Reverse(gap.from));
    Ok(gaps)
}

/// Hits that are lost with the same records count once: they were met by reads of a few offsets each.
fn merged(hits: Vec<LostHits>) -> Vec<LostHits> {
    let mut merged: Vec<LostHits> = Vec::new();
    for hit in hits {
        match merged.last_mut() {
            Some(newer)
                if newer.lost.entry.id == hit.lost.entry.id
                    && newer.lost.from < hit.lost.to
                    && hit.lost.from < newer.lost.to =>
            {
                newer.lost.from = newer.lost.from.min(hit.lost.from);
                newer.lost.to = newer.lost.to.max(hit.lost.to);
                newer.offsets.extend(hit.offsets);
            }
            _ => merged.push(hit),
        }
    }
    merged
}

/// The records that another member has; what no member has any more becomes gaps.
async fn resolve(
    services: &Services,
    log: LogId,
    LostHits {
        mut lost,
        why,
        offsets,
    }: LostHits,
    gaps: &mut Vec<Gap>,
) -> Result<Vec<Record>, Status> {
    // Also where another member helps out: it is to be repaired here.
    let repairer = services.group.repairer();
    repairer.suspect(&why, Some(lost.entry.id.index));
    let mut records = Vec::new();
    let mut rest: VecDeque<u64> = offsets.into_iter().rev().collect();
    while let Some(from) = rest.front().copied() {
        let run = rest
            .iter()
            .take_while(|offset| **offset - from < SEARCH_READ_SPAN_MAX);
        let wanted = Wanted {
            log,
            from,
            until: run.last().copied().unwrap_or(from) + 1,
            size_max: READ_MESSAGE_SIZE_MAX,
        };
        let end = if let Some(chunk) = read_elsewhere(services, wanted).await {
            let are_hits = |record: &Record| rest.contains(&record.offset);
            records.extend(chunk.records.into_iter().filter(are_hits));
            chunk.next_offset
        } else {
            lost.from = from;
            let lost = gap(services, log, &lost, &why).await?;
            let end = lost.to;
            gaps.push(lost);
            end
        };
        while rest.front().is_some_and(|offset| *offset < end) {
            rest.pop_front();
        }
    }
    Ok(records)
}

/// The gap that lost records leave, when no member has the first of them.
async fn gap(services: &Services, log: LogId, lost: &Lost, why: &ReadError) -> Result<Gap, Status> {
    match look_for(services, log, lost).await {
        Copies::Nowhere { to } => Ok(Gap {
            from: lost.from,
            to,
            reason: GapReason::Damaged.into(),
        }),
        Copies::There => Err(error::read(why, &services.data_dir)),
        Copies::Unknown(who) => Err(error::read_unsure(why, &services.data_dir, &who)),
    }
}

/// What becomes of a gap of the index.
enum Unindexed {
    /// It is still damaged.
    Lost(Lost, ReadError),
    /// What it held was purged up to this offset.
    Purged(u64),
    /// It can be read: the index will take it in.
    Whole,
    /// The log does not give it: it was purged with all behind it, or is not applied here yet.
    Absent,
}

/// Gaps for records that the index lacks and that no member has.
async fn unindexed(
    services: &Services,
    IndexGap { log, from, to, .. }: IndexGap,
    gaps: &mut Vec<Gap>,
) -> Result<(), Status> {
    let mut at = from;
    while at < to {
        let records = services.group.log().clone();
        let look = services.reads.run(move || look_at(&records, log, at));
        let found = look.await.map_err(error::pool_busy)?;
        match found.map_err(|failed| error::read(&failed, &services.data_dir))? {
            Unindexed::Purged(first) => at = first,
            // With all behind it.
            Unindexed::Absent if services.group.is_purged(log, at) => break,
            Unindexed::Absent | Unindexed::Whole => return Err(error::index_behind_repair()),
            Unindexed::Lost(lost, why) => {
                let repairer = services.group.repairer();
                repairer.suspect(&why, Some(lost.entry.id.index));
                let lost = gap(services, log, &lost, &why).await?;
                at = lost.to;
                gaps.push(lost);
            }
        }
    }
    Ok(())
}

fn look_at(log: &Log, id: LogId, at: u64) -> Result<Unindexed, ReadError> {
    match log.read(id, at, at + 1, 0) {
        Ok(chunk) if chunk.next_offset <= at => Ok(Unindexed::Absent),
        Ok(_) => Ok(Unindexed::Whole),
        Err(ReadError::Purged { first, .. }) if first > at => Ok(Unindexed::Purged(first)),
        Err(why @ ReadError::Damaged(_)) => match log.lost_at(id, at)? {
            Some(lost) => Ok(Unindexed::Lost(lost, why)),
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
            offsets: vec![from],
        }
    }

    #[test]
    fn what_several_reads_lacked_of_one_batch_counts_once_and_other_batches_for_themselves() {
        // Hits of a batch that goes to 10,000, 40 apart; then two batches of one entry with a whole one between them.
        let mut lost: Vec<LostHits> = (0..200)
            .map(|run| hits(9, 9_960 - 40 * run, 10_000))
            .collect();
        // One behind the other, but each with a crc of its own: a member may have one of them.
        lost.extend([
            hits(8, 30, 40),
            hits(8, 10, 20),
            hits(8, 5, 10),
            hits(7, 3, 5),
        ]);
        let merged = merged(lost);
        let gaps = merged.iter().map(|hit| {
            let Lost { from, to, entry } = hit.lost;
            (entry.id.index, from, to)
        });
        let gaps: Vec<(u64, u64, u64)> = gaps.collect();
        assert_eq!(
            gaps,
            [
                (9, 2_000, 10_000),
                (8, 30, 40),
                (8, 10, 20),
                (8, 5, 10),
                (7, 3, 5)
            ]
        );
    }
}
