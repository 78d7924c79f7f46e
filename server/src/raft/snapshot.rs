//! The small state as bytes: checkpoints beside segments, and what a far-behind follower is sent.
//!
//! Promises: encoding is deterministic; decoding refuses what is not a checkpoint; what a snapshot contains is purged
//! before anything behind it is applied. The envelope with its crc is the
//! store's business. Must not know: files, the network.

mod transfer;

use std::io;

use bytes::Bytes;
use inkstone_proto::peer_v1 as peer;
use inkstone_storage::log::{Checkpoint, Log};
use inkstone_storage::types::{EntryId, LogId};
use openraft::storage::{Snapshot, SnapshotMeta};
use prost::Message;

use crate::blocking::Blocking;
use crate::raft::log_store::durably;
use crate::raft::state::{LogInfo, LogState, ProducerState, Receipt, Retention, State};
use crate::raft::state_machine::RaftSnapshot;
use crate::raft::types::{RaftLogId, StoredMembership, raft_log_id};
use crate::raft::wire::{self, Malformed};

pub(crate) use self::transfer::Transfer;

/// The state as of `applied`, as a checkpoint.
pub(crate) fn encode(applied: EntryId, membership: &StoredMembership, state: &State) -> Checkpoint {
    let message = peer::Checkpoint {
        applied: Some(wire::id_to_wire(applied)),
        membership: Some(wire::membership_to_wire(
            membership.log_id().as_ref(),
            membership.membership(),
        )),
        next_log_id: state.next_log_id(),
        logs: state.logs().map(|log| log_to_wire(&log.info)).collect(),
        producers: state.logs().flat_map(producers_to_wire).collect(),
        chain_crc: None,
        last_append_time: state.last_append_time(),
    };
    Checkpoint {
        applied,
        body: Bytes::from(message.encode_to_vec()),
    }
}

/// The membership that a checkpoint names. Passes over the producers, which are most of it.
pub(crate) fn membership(checkpoint: &Checkpoint) -> Result<peer::Membership, Malformed> {
    let message = peer::CheckpointMembership::decode(checkpoint.body.clone())
        .map_err(|error| Malformed(format!("checkpoint: {error}")))?;
    Ok(message.membership.unwrap_or_default())
}

/// The entry by which that node is a member.
pub(crate) fn member_since(membership: &peer::Membership, node: u64) -> Option<u64> {
    let is_member = membership.nodes.iter().any(|member| member.id == node);
    is_member.then(|| membership.id.map_or(0, |id| id.index))
}

/// The membership and the state that a checkpoint holds.
pub(crate) fn decode(checkpoint: &Checkpoint) -> Result<(StoredMembership, State), Malformed> {
    let message = peer::Checkpoint::decode(checkpoint.body.clone())
        .map_err(|error| Malformed(format!("checkpoint: {error}")))?;
    if message.applied.map(wire::id_from_wire) != Some(checkpoint.applied) {
        return Err(Malformed(
            "checkpoint: its body is of another entry than its header".into(),
        ));
    }
    let membership = wire::stored_membership_from_wire(message.membership)?;
    let mut state = State::new(message.next_log_id);
    state.restore_time(message.last_append_time);
    for log in message.logs {
        state.restore_log(LogState::new(log_from_wire(log)));
    }
    for producer in message.producers {
        let (log, id) = (LogId(producer.log_id), producer.producer_id);
        if !state.restore_producer(log, id, producer_from_wire(producer)) {
            return Err(Malformed(format!(
                "checkpoint: producer {id} of unknown log {}",
                log.0
            )));
        }
    }
    Ok((membership, state))
}

/// A boundary's checkpoint as the snapshot that travels: with the chain crc behind its last entry, when that is known.
pub(crate) fn with_chain(checkpoint: &Checkpoint, chain_crc: Option<u32>) -> Checkpoint {
    let chain = peer::CheckpointChain { chain_crc };
    // Fields of a message may stand in any order, and so in two pieces.
    let body = [checkpoint.body.as_ref(), &chain.encode_to_vec()].concat();
    Checkpoint {
        applied: checkpoint.applied,
        body: body.into(),
    }
}

/// When each log was last appended to, as of a checkpoint. Passes over the producers, which are most of it.
pub(crate) fn append_times(
    checkpoint: &Checkpoint,
) -> Result<impl Iterator<Item = (LogId, i64)>, Malformed> {
    let logs = peer::CheckpointLogs::decode(checkpoint.body.clone())
        .map_err(|error| Malformed(format!("checkpoint: {error}")))?;
    let logs = logs.logs.into_iter();
    Ok(logs.map(|log| (LogId(log.id), log.last_append_time)))
}

/// The chain crc that a snapshot carries.
pub(crate) fn chain_of(checkpoint: &Checkpoint) -> Result<Option<u32>, Malformed> {
    let chain = peer::CheckpointChain::decode(checkpoint.body.clone())
        .map_err(|error| Malformed(format!("checkpoint: {error}")))?;
    Ok(chain.chain_crc)
}

/// For a start, before Raft's: what a crash, or a disk, has left of the last snapshot and its purge is made whole.
pub(crate) async fn settle_at_open(log: &Log, reads: &Blocking) -> io::Result<()> {
    restore(log, reads).await?;
    complete_at_open(log).await
}

/// For a start: a snapshot that is lost, while what was in it is purged, is the checkpoint of the first boundary that is left
/// (the same one, unless that is lost as well). Openraft would build one of the state now in its place: to a member that is
/// sent it, all that is still here would be purged.
async fn restore(log: &Log, reads: &Blocking) -> io::Result<()> {
    if log.snapshot().is_some() || log.state().purged.is_none() {
        return Ok(());
    }
    let looked_at = log.clone();
    let found = reads.run(move || first_checkpoint(&looked_at)).await;
    match found.map_err(io::Error::other)? {
        Some(found) => durably(|done| log.keep_snapshot(found, done)).await,
        None => Ok(()),
    }
}

/// The first boundary's checkpoint that can be read, as a snapshot.
fn first_checkpoint(log: &Log) -> Option<Checkpoint> {
    for boundary in log.boundaries() {
        match log.checkpoint_at(boundary) {
            Ok(Some(found)) => {
                tracing::warn!(
                    boundary,
                    "the snapshot was lost: the checkpoint of this boundary takes its place"
                );
                return Some(with_chain(&found, log.chain_crc_at(boundary)));
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, boundary, "this checkpoint can't be read"),
        }
    }
    None
}

/// For a start: [`complete`] after a crash that came between a snapshot and its purge. Not where the state begins before the
/// snapshot, because lost footers must be written again: then the entries in it are applied once more. Nor where all of them
/// are in sealed segments: those have their rows, and what of them is purged is retention's to say.
pub(crate) async fn complete_at_open(log: &Log) -> io::Result<()> {
    let starts_at = log.checkpoint().map(|start| start.applied.index);
    let Some(applied) = log.snapshot().map(|snapshot| snapshot.applied) else {
        return Ok(());
    };
    if starts_at < Some(applied.index) {
        return Ok(());
    }
    let here = log.entry_id(applied.index).map_err(io::Error::other)?;
    if log.is_sealed(applied.index) && here == Some(applied) {
        return Ok(());
    }
    complete(log).await
}

/// Purges what the last snapshot that was kept contains: entries in it that are in no sealed segment have no rows here, and
/// applying past them would seal them without. Durable on return.
pub(crate) async fn complete(log: &Log) -> io::Result<()> {
    let Some(snapshot) = log.snapshot() else {
        return Ok(());
    };
    let purged = log.state().purged.map(|purged| purged.index);
    if purged >= Some(snapshot.applied.index) {
        return Ok(());
    }
    let chain_crc = chain_of(&snapshot).map_err(io::Error::other)?;
    durably(|done| log.purge_behind(snapshot.applied, chain_crc, done)).await
}

/// A checkpoint as openraft's snapshot.
pub(crate) fn as_raft(checkpoint: Checkpoint) -> Result<RaftSnapshot, Malformed> {
    let (last_membership, _) = decode(&checkpoint)?;
    let meta = SnapshotMeta {
        last_log_id: Some(raft_log_id(checkpoint.applied)),
        last_membership,
    };
    Ok(Snapshot {
        meta,
        snapshot: Some(checkpoint),
    })
}

/// A snapshot that a leader sent, checked before openraft hears of it.
pub(crate) fn check(body: Bytes) -> Result<RaftSnapshot, Malformed> {
    let message = peer::Checkpoint::decode(body.clone())
        .map_err(|error| Malformed(format!("checkpoint: {error}")))?;
    let applied = message
        .applied
        .map(wire::id_from_wire)
        .ok_or_else(|| Malformed("checkpoint: it has no entry".to_owned()))?;
    if applied.index == u64::MAX {
        return Err(Malformed(
            "checkpoint: no entry can follow the one that it is of".to_owned(),
        ));
    }
    as_raft(Checkpoint { applied, body })
}

/// Refuses what openraft takes for a broken store, and panics at: a snapshot of a later term whose entry is not behind what
/// is committed here is of another history.
pub(crate) fn check_history(
    last: Option<&RaftLogId>,
    committed: Option<&RaftLogId>,
) -> Result<(), Malformed> {
    let (Some(last), Some(committed)) = (last, committed) else {
        return Ok(());
    };
    if last > committed && last.index() <= committed.index() {
        return Err(Malformed(format!(
            "checkpoint: its entry {last} is of another history than {committed}, which is committed here"
        )));
    }
    Ok(())
}

fn log_to_wire(info: &LogInfo) -> peer::LogState {
    peer::LogState {
        id: info.id.0,
        name: info.name.clone(),
        first_offset: info.first_offset,
        next_offset: info.next_offset,
        created_time: info.created_time,
        last_append_time: info.last_append_time,
        retention: (!info.retention.is_unbounded()).then_some(peer::Retention {
            max_age_ms: info.retention.max_age_ms,
            max_bytes: info.retention.max_bytes,
        }),
    }
}

/// What retention may remove, from a message.
pub(crate) fn retention_from_wire(retention: Option<peer::Retention>) -> Retention {
    retention.map_or_else(Retention::default, |retention| {
        Retention::of(retention.max_age_ms, retention.max_bytes)
    })
}

fn log_from_wire(log: peer::LogState) -> LogInfo {
    LogInfo {
        retention: retention_from_wire(log.retention),
        id: LogId(log.id),
        name: log.name,
        first_offset: log.first_offset,
        next_offset: log.next_offset,
        created_time: log.created_time,
        last_append_time: log.last_append_time,
    }
}

fn producers_to_wire(log: &LogState) -> impl Iterator<Item = peer::ProducerState> + '_ {
    log.producers().map(|(id, producer)| peer::ProducerState {
        log_id: log.info.id.0,
        producer_id: id,
        epoch: producer.epoch,
        receipts: producer.receipts.iter().map(receipt_to_wire).collect(),
        last_append_time: producer.last_append_time,
    })
}

fn receipt_to_wire((sequence, receipt): &(u64, Receipt)) -> peer::Receipt {
    peer::Receipt {
        sequence: *sequence,
        first_offset: receipt.first_offset,
        next_offset: receipt.next_offset,
        append_time: receipt.append_time,
    }
}

fn producer_from_wire(producer: peer::ProducerState) -> ProducerState {
    let receipts = producer.receipts.into_iter().map(|receipt| {
        let kept = Receipt {
            first_offset: receipt.first_offset,
            next_offset: receipt.next_offset,
            append_time: receipt.append_time,
            duplicate: false,
        };
        (receipt.sequence, kept)
    });
    ProducerState {
        epoch: producer.epoch,
        receipts: receipts.collect(),
        last_append_time: producer.last_append_time,
    }
}

#[cfg(test)]
mod tests;
