//! The traps of building on openraft, each with the test that tells when somebody walks into it: on the real log store and
//! state machine, on a disk that a test may crash, hold and fill, without a network.
//!
//! Must not know: gRPC, discovery.

mod ahead_of_fsync;
mod sealed_uncommitted;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use inkstone_proto::peer_v1 as peer;
use inkstone_proto::peer_v1::command::Command;
use inkstone_storage::format::batch::{EncodedBatch, join};
use inkstone_storage::io::Disk;
use inkstone_storage::log::{Log, LogOptions, Spare};
use inkstone_storage::types::{EntryId, Identity, LogId, NewRecord};
use openraft::EntryPayload;
use openraft::storage::{RaftLogReader as _, RaftStateMachine as _};
use prost::Message as _;

use crate::blocking::Blocking;
use crate::raft::log_store::{LogStore, durably};
use crate::raft::snapshot;
use crate::raft::state_machine::StateMachine;
use crate::raft::types::{Proposal, ProposalKind, RaftEntry, entry_id, raft_log_id};
use crate::raft::wire;

/// The log that the first entry creates.
const LOG: LogId = LogId(1);
const CLUSTER: [u8; 16] = [7; 16];
const NODE: u64 = 1;

/// A log whose segments take a few entries of these tests.
fn options(dir: &Path) -> LogOptions {
    LogOptions {
        dir: dir.join("group-1"),
        identity: Identity {
            cluster_id: CLUSTER,
            node_id: NODE,
        },
        group: 1,
        segment_size: 8 << 10,
        tail_size: 16 << 10,
        queue_size: 1 << 20,
        free_size_min: 0,
        spare: Spare::Never,
    }
}

/// What openraft gets of this node's storage, as a start opens it.
#[derive(Debug)]
struct Storage {
    log: Log,
    store: LogStore,
    machine: StateMachine,
}

impl Storage {
    async fn open(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        let log = Log::open_on(disk, options(dir)).expect("it opens");
        snapshot::complete_at_open(&log).await.expect("it can be");
        let reads = Blocking::new(2, 64);
        let machine = StateMachine::open(log.clone(), reads.clone()).expect("it opens");
        let store = LogStore::new(log.clone(), reads);
        Self {
            log,
            store,
            machine,
        }
    }

    /// Appends, and returns once it is durable.
    async fn append(&self, entries: &[RaftEntry]) {
        let entries = entries.iter().cloned().map(wire::entry_to_store).collect();
        durably(|done| self.log.append(entries, done))
            .await
            .expect("the log goes on");
    }

    /// The last applied entry.
    async fn applied(&mut self) -> Option<u64> {
        let (last, _) = self.machine.applied_state().await.expect("from memory");
        last.map(|last| last.index())
    }

    /// Applies the entries below `end` as openraft's worker does: as the log store gives them.
    async fn apply_below(&mut self, end: u64) {
        let from = self.applied().await.map_or(0, |last| last + 1);
        let entries = self.store.entries_stream(from..end).await;
        let entries = Box::pin(entries.map_ok(|entry| (entry, None)));
        self.machine.apply(entries).await.expect("it is applied");
        let next = self.applied().await.map_or(0, |last| last + 1);
        assert_eq!(next, end.max(from), "all of them");
    }

    /// The state with its membership, as it would stand in a checkpoint.
    fn state(&self) -> Bytes {
        self.machine
            .state_now()
            .map_or_else(Bytes::new, |checkpoint| checkpoint.body)
    }
}

fn id(term: u64, index: u64) -> EntryId {
    EntryId {
        term,
        node: NODE,
        index,
    }
}

/// Creates [`LOG`]: entry 0.
fn creation(term: u64) -> RaftEntry {
    let create = peer::CreateLog {
        name: "trapped".to_owned(),
        time: 1,
        retention: None,
    };
    let command = peer::Command {
        command: Some(Command::CreateLog(create)),
    };
    RaftEntry {
        log_id: raft_log_id(id(term, 0)),
        payload: EntryPayload::Normal(Proposal {
            kind: ProposalKind::Command,
            payload: command.encode_to_vec().into(),
        }),
    }
}

/// An entry with one record, about a tenth of a segment.
fn append_of(term: u64, index: u64, word: &str) -> RaftEntry {
    // Bytes that LZ4 can't make less of.
    let noise = (0..24_u64).map(|part| {
        let mixed = (index * 31 + part + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!(" {:016x}{:016x}", mixed, mixed.rotate_left(23) ^ term)
    });
    let record = NewRecord {
        timestamp: 0,
        attributes: Vec::new(),
        body: format!("{word} {index}{}", noise.collect::<String>()).into(),
    };
    let batch = EncodedBatch::encode(LOG, None, None, &[record]);
    RaftEntry {
        log_id: raft_log_id(id(term, index)),
        payload: EntryPayload::Normal(Proposal {
            kind: ProposalKind::Batches,
            payload: join(&[batch], i64::try_from(index).expect("a few")),
        }),
    }
}

/// Entries of a leader of that term.
fn appends(term: u64, indexes: std::ops::Range<u64>, word: &str) -> Vec<RaftEntry> {
    indexes.map(|index| append_of(term, index, word)).collect()
}

/// The index of an entry.
fn index_of(entry: &RaftEntry) -> u64 {
    entry_id(&entry.log_id).index
}
