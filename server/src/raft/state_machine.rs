//! Applies committed entries: decides about batches, tells the log where their records stand, wakes those who wait.
//!
//! # Invariants
//! - An entry's records can be read, and its state is seen, before its index is published and before it is answered.
//! - A checkpoint is taken exactly between the last entry of a segment and the first of the next, and is handed to the
//!   store, which keeps it only when the segment is durable and sealed: apply may run ahead of the local fsync.
//!
//! Must not know: tantivy, gRPC, a clock.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{Stream, StreamExt};
use inkstone_proto::peer_v1 as peer;
use inkstone_proto::peer_v1::command::Command;
use inkstone_storage::error::ReadError;
use inkstone_storage::format::batch::Batches;
use inkstone_storage::log::{Checkpoint, Log};
use inkstone_storage::types::{BatchOutcome, LogId};
use openraft::storage::{
    EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta,
};
use openraft::{EntryPayload, OptionalSend};
use parking_lot::RwLock;
use prost::Message;

use crate::blocking::Blocking;
use crate::raft::log_store::durably;
use crate::raft::snapshot;
use crate::raft::state::State;
use crate::raft::types::{
    Applied, Proposal, ProposalKind, RaftLogId, StoredMembership, TypeConfig, entry_id, raft_log_id,
};
use crate::tail;

/// The state at an entry; `None`: before the first one.
pub(crate) type SnapshotData = Option<Checkpoint>;
/// openraft's snapshot of this state machine.
pub(crate) type RaftSnapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotData>;
type RaftSnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;

/// The state machine: one owner, openraft's worker. What others may look at is behind [`StateMachine::shared`].
#[derive(Debug)]
pub(crate) struct StateMachine {
    log: Log,
    blocking: Blocking,
    shared: Arc<RwLock<State>>,
    applied: tail::Applied,
    last_applied: Option<RaftLogId>,
    membership: StoredMembership,
    boundary: Boundary,
}

/// Up to where retention lets the log be purged: the next snapshot is of the state there. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Boundary {
    /// 0: none was chosen.
    base: Arc<AtomicU64>,
}

impl Boundary {
    /// Chooses the base of a segment: everything before it may go.
    pub(crate) fn choose(&self, base: u64) {
        self.base.store(base, Ordering::Relaxed);
    }

    fn get(&self) -> Option<u64> {
        Some(self.base.load(Ordering::Relaxed)).filter(|base| *base > 0)
    }
}

impl StateMachine {
    /// Starts from the newest checkpoint that the log vouches for, or from nothing.
    pub(crate) fn open(log: Log, blocking: Blocking) -> io::Result<Self> {
        let (last_applied, membership, state) = match log.checkpoint() {
            None => (None, StoredMembership::default(), State::default()),
            Some(checkpoint) => {
                let (membership, state) =
                    snapshot::decode(&checkpoint).map_err(io::Error::other)?;
                (Some(raft_log_id(checkpoint.applied)), membership, state)
            }
        };
        let index = last_applied.as_ref().map_or(0, RaftLogId::index);
        Ok(Self {
            log,
            blocking,
            shared: Arc::new(RwLock::new(state)),
            applied: tail::Applied::new(index),
            last_applied,
            membership,
            boundary: Boundary::default(),
        })
    }

    /// The state, for readers.
    pub(crate) fn shared(&self) -> Arc<RwLock<State>> {
        Arc::clone(&self.shared)
    }

    /// Where retention says at which boundary a snapshot is wanted.
    pub(crate) fn boundary(&self) -> Boundary {
        self.boundary.clone()
    }

    /// How far apply has come, for those who wait.
    pub(crate) fn applied(&self) -> tail::Applied {
        self.applied.clone()
    }

    /// Seals the segment that ends in front of this entry, if one does, with the state as of its last one.
    async fn seal_before(&self, index: u64) {
        let Some(last) = &self.last_applied else {
            return;
        };
        if !self.log.is_boundary(index) {
            return;
        }
        let (applied, membership) = (entry_id(last), self.membership.clone());
        let shared = Arc::clone(&self.shared);
        // Many producers take a while. Nobody changes the state meanwhile: apply waits here.
        let encode = move || snapshot::encode(applied, &membership, &shared.read());
        let encoded = self.blocking.run(encode.clone()).await;
        self.log
            .seal(index, encoded.unwrap_or_else(|_busy| encode()));
    }

    /// Applies one entry: its answer.
    fn apply_entry(&mut self, entry: crate::raft::types::RaftEntry) -> io::Result<Applied> {
        let index = entry.log_id.index();
        let answer = match entry.payload {
            EntryPayload::Blank => Applied::Nothing,
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                Applied::Nothing
            }
            EntryPayload::Normal(Proposal {
                kind: ProposalKind::Batches,
                payload,
            }) => self.apply_batches(index, payload)?,
            EntryPayload::Normal(Proposal {
                kind: ProposalKind::Command,
                payload,
            }) => self.apply_command(payload)?,
        };
        self.last_applied = Some(entry.log_id);
        self.applied.publish(index);
        Ok(answer)
    }

    fn apply_batches(&mut self, index: u64, payload: bytes::Bytes) -> io::Result<Applied> {
        let batches = Batches::parse(payload)
            .map_err(|error| io::Error::other(format!("entry {index}: {error}")))?;
        let mut state = self.shared.write();
        let answers: Vec<_> = batches
            .headers()
            .iter()
            .map(|header| state.apply_batch(header))
            .collect();
        let outcomes: Vec<BatchOutcome> = answers
            .iter()
            .map(|answer| match answer {
                Ok(receipt) if !receipt.duplicate => BatchOutcome::Taken {
                    base_offset: receipt.first_offset,
                },
                Ok(_) | Err(_) => BatchOutcome::Refused,
            })
            .collect();
        // Under the state's lock: whoever sees the new next offset can read the records below it.
        self.log.note_batches(index, &batches, &outcomes);
        Ok(Applied::Batches(answers))
    }

    fn apply_command(&mut self, payload: bytes::Bytes) -> io::Result<Applied> {
        let command = peer::Command::decode(payload).map_err(io::Error::other)?;
        Ok(match command.command {
            Some(Command::CreateLog(create)) => {
                let retention = snapshot::retention_from_wire(create.retention);
                let created = self
                    .shared
                    .write()
                    .create_log(&create.name, create.time, retention);
                match created {
                    Ok((info, created)) => Applied::Log(info, created),
                    Err(refusal) => Applied::Changed(Err(refusal)),
                }
            }
            Some(Command::AlterLog(alter)) => {
                let id = LogId(alter.log_id);
                let mut state = self.shared.write();
                Applied::Changed(state.alter_log(id, alter.max_age_ms, alter.max_bytes))
            }
            Some(Command::DeleteLog(delete)) => {
                Applied::Changed(self.shared.write().delete_log(LogId(delete.log_id)))
            }
            Some(Command::Trim(trim)) => {
                let mut state = self.shared.write();
                let trimmed = trim
                    .logs
                    .iter()
                    .map(|to| state.trim_to(LogId(to.log_id), to.offset));
                // Of many, each by itself: only the one who asks for one is told.
                let last = trimmed.last();
                last.map_or(Applied::Nothing, Applied::Changed)
            }
            // To skip it would make this node's state another one than that of the nodes that know it.
            None => {
                return Err(io::Error::other(
                    "a command of a later release was committed; upgrade this node",
                ));
            }
        })
    }

    /// The state now, as a snapshot: what openraft's suite asks for, and a node that has lost every other one.
    pub(super) fn state_now(&self) -> SnapshotData {
        let last = self.last_applied.as_ref()?;
        Some(snapshot::encode(
            entry_id(last),
            &self.membership,
            &self.shared.read(),
        ))
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<RaftLogId>, StoredMembership)> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            self.seal_before(entry.log_id.index()).await;
            let answer = self.apply_entry(entry)?;
            if let Some(responder) = responder {
                responder.send(answer);
            }
        }
        Ok(())
    }

    /// A snapshot is built for retention's sake, at the boundary that it chose; else only when openraft cannot do without.
    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        match self.boundary_snapshot().await {
            Ok(Some(checkpoint)) => Some(self.builder(Some(checkpoint))),
            Ok(None) if force => Some(self.builder(self.state_now())),
            Ok(None) => None,
            Err(error) => {
                // Without it everything stays as it is, and the next boundary is tried.
                tracing::warn!(%error, "the checkpoint of a boundary cannot be read: nothing is purged");
                force.then(|| self.builder(self.state_now()))
            }
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.builder(self.state_now())
    }

    /// What is checked already is kept, and what stood here before goes with it, in one step: nothing is applied past entries
    /// that the snapshot contains.
    async fn install_snapshot(
        &mut self,
        meta: &RaftSnapshotMeta,
        data: SnapshotData,
    ) -> io::Result<()> {
        let (membership, state) = match &data {
            Some(checkpoint) => snapshot::decode(checkpoint).map_err(io::Error::other)?,
            None => (StoredMembership::default(), State::default()),
        };
        keep(&self.log, data).await?;
        snapshot::complete(&self.log).await?;
        *self.shared.write() = state;
        self.membership = membership;
        self.last_applied = meta.last_log_id;
        self.applied
            .publish(meta.last_log_id.as_ref().map_or(0, RaftLogId::index));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<RaftSnapshot>> {
        let snapshot = self.log.snapshot().map(snapshot::as_raft);
        snapshot.transpose().map_err(io::Error::other)
    }
}

impl StateMachine {
    /// The checkpoint at the boundary that retention chose, if it is still one.
    async fn boundary_snapshot(&self) -> io::Result<SnapshotData> {
        let Some(boundary) = self.boundary.get() else {
            return Ok(None);
        };
        // Never beyond what is applied: its checkpoint was taken there. It is kept only when all before it is durable.
        if !self.log.boundaries().contains(&boundary) {
            return Ok(None);
        }
        let log = self.log.clone();
        let read = move || {
            let chain_crc = log.chain_crc_at(boundary);
            let checkpoint = log.checkpoint_at(boundary)?;
            Ok::<_, ReadError>(checkpoint.map(|found| snapshot::with_chain(&found, chain_crc)))
        };
        self.blocking
            .run(read)
            .await
            .map_err(io::Error::other)?
            .map_err(io::Error::other)
    }

    fn builder(&self, data: SnapshotData) -> Builder {
        Builder {
            data,
            log: self.log.clone(),
        }
    }
}

/// Keeps a snapshot that was taken when the builder was made.
#[derive(Debug)]
pub(crate) struct Builder {
    data: SnapshotData,
    log: Log,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    /// openraft purges up to what it gets: the snapshot is durable before that, and so is every entry in it, for apply
    /// may have run ahead of this node's own fsync.
    async fn build_snapshot(&mut self) -> io::Result<RaftSnapshot> {
        durably(|done| self.log.append(Vec::new(), done)).await?;
        keep(&self.log, self.data.clone()).await?;
        let snapshot = self.data.clone().map(snapshot::as_raft);
        let none = || Snapshot {
            meta: SnapshotMeta::default(),
            snapshot: None,
        };
        Ok(snapshot
            .transpose()
            .map_err(io::Error::other)?
            .unwrap_or_else(none))
    }
}

/// Keeps a snapshot durably.
async fn keep(log: &Log, data: SnapshotData) -> io::Result<()> {
    let Some(checkpoint) = data else {
        return Ok(());
    };
    durably(|done| log.keep_snapshot(checkpoint, done)).await
}
