//! The small state as bytes: checkpoints beside segments, and what a far-behind follower is sent.
//!
//! Promises: encoding is deterministic; decoding refuses what is not a checkpoint. The envelope with its crc is the
//! store's business. Must not know: files, the network.

use bytes::Bytes;
use inkstone_proto::{peer_v1 as peer, v1};
use inkstone_storage::log::Checkpoint;
use inkstone_storage::types::{EntryId, LogId};
use openraft::storage::{Snapshot, SnapshotMeta};
use prost::Message;

use crate::raft::state::{LogInfo, LogState, ProducerState, Receipt, State};
use crate::raft::state_machine::RaftSnapshot;
use crate::raft::types::{StoredMembership, raft_log_id};
use crate::raft::wire::{self, Malformed};

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
    };
    Checkpoint {
        applied,
        body: Bytes::from(message.encode_to_vec()),
    }
}

/// The members that a checkpoint names.
pub(crate) fn members(checkpoint: &Checkpoint) -> Result<Vec<v1::NodeInfo>, Malformed> {
    let message = peer::Checkpoint::decode(checkpoint.body.clone())
        .map_err(|error| Malformed(format!("checkpoint: {error}")))?;
    Ok(message.membership.unwrap_or_default().nodes)
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
    for log in message.logs {
        state.restore_log(LogState::new(log_from_wire(log)));
    }
    for producer in message.producers {
        let log = LogId(producer.log_id);
        let id = producer.producer_id;
        state
            .log_mut(log)
            .ok_or_else(|| {
                Malformed(format!(
                    "checkpoint: producer {id} of unknown log {}",
                    log.0
                ))
            })?
            .restore_producer(id, producer_from_wire(producer));
    }
    Ok((membership, state))
}

/// A snapshot that a leader sent, checked before openraft hears of it.
pub(crate) fn check(body: Bytes) -> Result<RaftSnapshot, Malformed> {
    let message = peer::Checkpoint::decode(body.clone())
        .map_err(|error| Malformed(format!("checkpoint: {error}")))?;
    let applied = message
        .applied
        .map(wire::id_from_wire)
        .ok_or_else(|| Malformed("checkpoint: it has no entry".to_owned()))?;
    let checkpoint = Checkpoint { applied, body };
    let (last_membership, _) = decode(&checkpoint)?;
    let meta = SnapshotMeta {
        last_log_id: Some(raft_log_id(applied)),
        last_membership,
    };
    Ok(Snapshot {
        meta,
        snapshot: Some(checkpoint),
    })
}

fn log_to_wire(info: &LogInfo) -> peer::LogState {
    peer::LogState {
        id: info.id.0,
        name: info.name.clone(),
        first_offset: info.first_offset,
        next_offset: info.next_offset,
        created_time: info.created_time,
        last_append_time: info.last_append_time,
    }
}

fn log_from_wire(log: peer::LogState) -> LogInfo {
    LogInfo {
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
mod tests {
    use inkstone_storage::types::{BatchHeader, Codec, Producer};

    use super::*;

    #[test]
    fn a_checkpoint_gives_back_the_state_with_its_receipts() {
        let mut state = State::default();
        state.create_log("a", 5);
        state.create_log("b/c", 6);
        for sequence in 0..20 {
            let header = BatchHeader {
                log: LogId(2),
                records: 3,
                producer: Some(Producer {
                    id: 9,
                    epoch: 1,
                    sequence,
                }),
                expected_offset: None,
                append_time: 100,
                timestamp_min: 0,
                timestamp_max: 0,
                codec: Codec::Plain,
                encoded_size: 0,
                plain_size: 0,
                crc: 0,
            };
            state.apply_batch(&header).unwrap();
        }
        let applied = EntryId {
            term: 3,
            node: 1,
            index: 40,
        };
        let checkpoint = encode(applied, &StoredMembership::default(), &state);
        assert_eq!(
            decode(&checkpoint).unwrap(),
            (StoredMembership::default(), state)
        );
    }

    #[test]
    fn a_body_of_another_entry_is_refused() {
        let applied = EntryId {
            term: 3,
            node: 1,
            index: 40,
        };
        let checkpoint = encode(applied, &StoredMembership::default(), &State::default());
        let other = EntryId {
            index: 41,
            ..applied
        };
        let moved = Checkpoint {
            applied: other,
            ..checkpoint
        };
        assert!(decode(&moved).unwrap_err().0.contains("another entry"));
    }
}
