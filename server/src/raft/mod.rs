//! The Raft group as the rest of the server sees it: propose, confirm a read, look at the small state.
//!
//! To read in this order, `state` first, which is what the rest is for:
//!
//! - What entries do: `state` (the small state: pure), `state_machine` (applies), `snapshot` (the state as bytes).
//! - Raft over the log: `types` (how openraft is filled in), `log_store` (the store as openraft's log), `settings`,
//!   `options`, `look` (at what openraft publishes), `wire` (protobuf), `error`.
//! - What is proposed: `ingest` (appends on their way in), `command` (all else), `time` (that is put into entries),
//!   `space` (whether the disk has room), `retention` (what is trimmed and deleted).
//! - Who takes part: `members`, `transfer` (who leads), `progress`, `status`, `peers` and `network` (how the others are
//!   reached), `versions` (of which release they are).
//! - Reads on any node: `read_index` and `round` (linearizable), `freshness` (how stale the others are).
//! - Damage: `quarantine` (before Raft runs), `repair`, `repairs` and `mender` (while it does), `fetch` (entries
//!   between nodes).
//!
//! An append goes through `ingest`, `log_store` and `state_machine`. `traps` are tests of what openraft leaves to us.
//! Nothing outside this folder and `grpc/peer.rs` names openraft. Must not know: gRPC services, tantivy.

mod command;
mod error;
pub(crate) mod fetch;
mod freshness;
mod ingest;
mod log_store;
pub(crate) mod look;
mod members;
mod mender;
mod network;
mod options;
mod peers;
mod progress;
mod quarantine;
mod read_index;
mod repair;
mod repairs;
mod retention;
mod round;
mod settings;
pub(crate) mod snapshot;
mod space;
mod state;
mod state_machine;
mod status;
mod time;
mod transfer;
#[cfg(test)]
mod traps;
pub(crate) mod types;
mod versions;
pub(crate) mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use inkstone_proto::peer_v1 as peer;
use inkstone_proto::peer_v1::peer_client::PeerClient;
use inkstone_proto::v1;
use inkstone_storage::format::batch::EncodedBatch;
use inkstone_storage::log::Log;
use inkstone_storage::types::LogId;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::RaftError;
use parking_lot::RwLock;
use tokio::time::timeout;
use tonic::transport::Channel;

use crate::blocking::{Blocking, Offload};
use crate::clock::Clock;
use crate::tail::Applied;

pub use error::{AppendOutcome, Fatal, ProposeError};
pub use fetch::Holders;
pub use ingest::Pending;
pub(crate) use members::not_found;
pub use members::{Able, MemberError, Members, find_named, is_named};
pub use options::{GroupOptions, Surroundings};
pub use peers::{GROUP, MoveTurn, Peers, Purpose, connect_lazily};
pub use progress::{BEHIND_MAX, Progress};
pub use quarantine::{Mended, Quarantine};
pub use read_index::{Proof, ReadIndexError};
pub use repair::{Repaired, Repairer};
pub use repairs::{Place, RepairStatus, Repairs};
pub use retention::keep_within_retention;
pub use settings::Timings;
pub use state::{LogInfo, LogRefusal, Receipt, Refusal, Retention};
pub use types::Member;
pub use versions::{Incompatible, Span, Spoken, TooOld, Versions};

use error::forwarded;
use freshness::{Followed, Freshness};
use ingest::Ingest;
use log_store::LogStore;
use look::look;
use network::Network;
use read_index::ReadRounds;
use settings::raft_config;
use space::Space;
use state::State;
use state_machine::{Boundary, StateMachine};
use time::GroupTime;
use types::Raft;

/// Threads that read the log for replication, apply and snapshots, and places to wait for one: more than one reader for
/// each peer and apply, so that none is ever refused.
const RAFT_READ_THREADS: usize = 4;
const RAFT_READS_WAITING: usize = 256;
/// How long a follower may take to answer an append: a disk may stall for longer than an election takes.
const APPEND_STALL: Duration = Duration::from_secs(3);
/// How often a group that writes nothing looks whether its log has failed.
const FAILURE_TICK: Duration = Duration::from_millis(500);
/// Threads that wait for a slow disk's writer.
const ROOM_THREADS: usize = 2;

/// Who leads, as this node knows it.
#[derive(Debug, Clone, PartialEq)]
pub enum Leader {
    /// This node.
    Here,
    /// Another one.
    There(v1::NodeInfo),
    /// Nobody that is known.
    Unknown,
}

/// The group's handle. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Group {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    node_id: u64,
    cluster_id: [u8; 16],
    member: Member,
    clock: Clock,
    time: GroupTime,
    log: Log,
    space: Space,
    raft: Raft,
    ingest: Ingest,
    state: Arc<RwLock<State>>,
    applied: Applied,
    /// Up to where retention lets this node purge.
    boundary: Boundary,
    peers: Peers,
    reads: ReadRounds,
    /// The last term in which this node saw everything that was acknowledged before it.
    current_in: AtomicU64,
    followed: Arc<Followed>,
    freshness: Freshness,
    repairer: Repairer,
    offload: Offload,
    /// For those who wait for the writer.
    room: Blocking,
    /// Held by whoever changes the members or hands leadership over: one at a time.
    changing: tokio::sync::Mutex<()>,
    /// A member that was silent for longer can't be reached.
    silence_max: Duration,
}

impl Group {
    /// Recovers the group from its log and starts it. A node that was never in a cluster does nothing until
    /// [`Group::initialize`] or until a leader finds it.
    pub async fn open(options: GroupOptions) -> Result<Self, Fatal> {
        Self::open_as(options, Versions::new(Spoken::own())).await
    }

    /// [`Group::open`] for a node that speaks `versions`, as one of another release would.
    pub async fn open_as(options: GroupOptions, versions: Versions) -> Result<Self, Fatal> {
        let GroupOptions {
            log,
            node_id,
            cluster_id,
            member,
            timings,
            clock,
            repairs,
            surroundings: Surroundings { offload, dial },
        } = options;
        let config = Arc::new(raft_config(timings)?);
        let fatal = |error: &dyn std::fmt::Display| Fatal(error.to_string());
        let reads = offload.pool(RAFT_READ_THREADS, RAFT_READS_WAITING);
        let peers = Peers::new(cluster_id, node_id, versions).dialing(dial);
        let time = GroupTime::new(clock);
        let followed = Arc::<Followed>::default();
        let network = Network::new(peers.clone(), APPEND_STALL, Arc::clone(&followed));
        snapshot::settle_at_open(&log, &reads)
            .await
            .map_err(|error| fatal(&error))?;
        let machine =
            StateMachine::open(log.clone(), reads.clone()).map_err(|error| fatal(&error))?;
        let boundary = machine.boundary();
        let (state, applied) = (machine.shared(), machine.applied());
        let repairer = Repairer::new(log.clone(), peers.clone(), node_id, repairs, clock);
        let store = LogStore::new(log.clone(), reads).repaired_by(repairer.clone());
        let raft = Raft::new(node_id, config, network, store, machine)
            .await
            .map_err(|error| fatal(&error))?;
        repairer.set_raft(raft.clone());
        let space = Space::of(log.clone(), clock, offload);
        let ingest = Ingest::start(
            raft.clone(),
            space.clone(),
            time.clone(),
            timings.election_max,
        );
        let inner = Inner {
            node_id,
            cluster_id,
            member,
            clock,
            time,
            log,
            space,
            raft,
            ingest,
            state,
            applied,
            boundary,
            peers,
            reads: ReadRounds::new(),
            current_in: AtomicU64::new(0),
            followed,
            freshness: Freshness::default(),
            repairer,
            offload,
            room: offload.pool(ROOM_THREADS, RAFT_READS_WAITING),
            changing: tokio::sync::Mutex::new(()),
            silence_max: timings.election_max,
        };
        let group = Self {
            inner: Arc::new(inner),
        };
        group.watch_followers();
        Ok(group)
    }

    /// Makes these nodes the cluster's first members. On every one of them with the same members; once.
    pub async fn initialize(&self, members: BTreeMap<u64, Member>) -> Result<(), Fatal> {
        match self.inner.raft.initialize(members).await {
            // Another node was faster, and its entry has come already: the same members by the rules of discovery.
            Ok(()) | Err(RaftError::APIError(openraft::errors::InitializeError::NotAllowed(_))) => {
                Ok(())
            }
            Err(error) => Err(Fatal(format!(
                "the cluster could not be initialised: {error}"
            ))),
        }
    }

    /// Whether this node has a vote or an entry.
    pub async fn is_initialized(&self) -> Result<bool, Fatal> {
        self.inner
            .raft
            .is_initialized()
            .await
            .map_err(|error| Fatal(error.to_string()))
    }

    /// Stops taking part. What is durable stays.
    pub async fn shutdown(&self) {
        self.inner.repairer.close();
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "raft did not stop cleanly");
        }
    }

    /// Returns when the group has failed for good: a storage error, a panic.
    pub async fn failed(&self) -> Fatal {
        // Who leads changes seldom; what all metrics are about changes with every entry, and would wake this task as often.
        let mut seldom = self.inner.raft.server_metrics();
        let metrics = self.inner.raft.metrics();
        let raft_says = loop {
            // It is closed when Raft has ended, after the reason was said.
            let changed = timeout(FAILURE_TICK, seldom.changed()).await;
            if let Err(fatal) = look(&metrics, |metrics| metrics.running_state.clone()) {
                break fatal.to_string();
            }
            // Raft hears of a failure with its next write; what the store does beside, sealing, may fail long before.
            match changed {
                Ok(Err(_)) => break "raft stopped".to_owned(),
                Err(_) if self.inner.log.failure().is_some() => break String::new(),
                Ok(Ok(())) | Err(_) => {}
            }
        };
        // The store knows better than what came of its failure in between.
        self.inner
            .log
            .failure()
            .map_or(Fatal(raft_says), |failure| Fatal::storage(&failure))
    }

    /// Takes a batch for proposal, in the order of calls, and returns what will become of it. Refuses at once where
    /// this node does not lead or too much is in flight.
    pub fn submit(&self, batch: EncodedBatch) -> Result<Pending, ProposeError> {
        match self.leader() {
            Leader::Here => self.inner.ingest.submit(batch),
            Leader::There(leader) => Err(ProposeError::NotLeader {
                leader: Some(leader),
            }),
            Leader::Unknown => Err(ProposeError::NotLeader { leader: None }),
        }
    }

    /// Returns once the log's writer has room for more, or has stopped.
    pub(crate) async fn wait_for_room(&self) {
        if self.inner.log.has_room() {
            return;
        }
        let log = self.inner.log.clone();
        if self
            .inner
            .room
            .run(move || log.wait_for_room())
            .await
            .is_err()
        {
            tracing::debug!("too many wait for room; openraft's own queue takes this one");
        }
    }

    /// As when a term begins.
    #[cfg(test)]
    pub(crate) fn forget_term(&self) {
        self.inner.current_in.store(0, Ordering::Relaxed);
    }

    /// Whether this node, if it leads, has applied what was acknowledged before its term. What is acknowledged in it is applied
    /// here first: then a name is the log that it is.
    pub fn is_current(&self) -> bool {
        self.inner.current_in.load(Ordering::Relaxed) == self.lead().1
    }

    /// The log of that name in this node's applied state.
    pub fn log_info(&self, name: &str) -> Option<LogInfo> {
        self.inner.state.read().log_named(name).cloned()
    }

    /// The log with that number in this node's applied state.
    pub fn log_info_by_id(&self, id: LogId) -> Option<LogInfo> {
        self.inner.state.read().log(id).cloned()
    }

    /// Whether a record was purged of which the caller has just seen that the log does not give it: one that was applied is
    /// readable, else. Its trim need not be applied here yet: a snapshot brings the state as it was before.
    pub fn is_purged(&self, id: LogId, offset: u64) -> bool {
        let purged = self.inner.log.state().purged.is_some();
        let was_applied = |info: &LogInfo| offset < info.next_offset;
        purged && self.inner.state.read().log(id).is_some_and(was_applied)
    }

    /// All logs, by name.
    pub fn logs(&self) -> Vec<LogInfo> {
        self.inner.state.read().logs_by_name().cloned().collect()
    }

    /// The engine, for reads.
    pub fn log(&self) -> &Log {
        &self.inner.log
    }

    /// Repair of what is damaged in the log.
    pub fn repairer(&self) -> &Repairer {
        &self.inner.repairer
    }

    /// How far apply has come.
    pub fn applied(&self) -> &Applied {
        &self.inner.applied
    }

    /// Who leads.
    pub fn leader(&self) -> Leader {
        self.lead().0
    }

    /// Who leads, and the term at that very moment.
    fn lead(&self) -> (Leader, u64) {
        look(&self.inner.raft.server_metrics(), |metrics| {
            let leader = match metrics.current_leader {
                Some(id) if id == self.inner.node_id => {
                    if metrics.state == ServerState::Leader {
                        Leader::Here
                    } else {
                        Leader::Unknown
                    }
                }
                Some(id) => metrics
                    .membership_config
                    .membership()
                    .get_node(&id)
                    .map_or(Leader::Unknown, |member| {
                        Leader::There(wire::node_to_wire(id, member))
                    }),
                None => Leader::Unknown,
            };
            (leader, types::store_vote(&metrics.vote).term)
        })
    }

    /// Returns when who leads may have changed since the call. For loops that look at [`Group::leader`].
    pub fn leader_change(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut metrics = self.inner.raft.server_metrics();
        metrics.borrow_and_update();
        async move {
            // A closed channel: raft has stopped, and nobody will ever lead.
            if metrics.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The last entry that is certainly committed as it stands in this node's log: the last one applied. What Raft knows to be
    /// committed may be more, and not what stands here: while a snapshot is installed, entries of another history below it
    /// are not gone yet.
    pub fn committed_index(&self) -> Option<u64> {
        look(&self.inner.raft.metrics(), |metrics| {
            metrics.last_applied.as_ref().map(types::RaftLogId::index)
        })
    }

    /// This node's id.
    pub fn node_id(&self) -> u64 {
        self.inner.node_id
    }

    /// This cluster's id.
    pub fn cluster_id(&self) -> [u8; 16] {
        self.inner.cluster_id
    }

    /// Raft's current term here.
    pub fn term(&self) -> u64 {
        self.inner.log.vote().map_or(0, |vote| vote.term)
    }

    /// Every member as this node knows it, itself included; empty before the cluster was initialised.
    pub fn members(&self) -> Vec<v1::NodeInfo> {
        look(&self.inner.raft.server_metrics(), |metrics| {
            let members = metrics.membership_config.membership().nodes();
            members
                .map(|(id, member)| wire::node_to_wire(*id, member))
                .collect()
        })
    }

    /// The sets of voters, two while the membership changes, and how each voter is reached.
    fn voters(&self) -> (Vec<BTreeSet<u64>>, Vec<v1::NodeInfo>) {
        let published = self.inner.raft.server_metrics();
        let membership = look(&published, |metrics| Arc::clone(&metrics.membership_config));
        let membership = membership.membership();
        let configs = membership.get_joint_config().clone();
        let nodes = membership.nodes();
        let voters = nodes.filter(|(id, _)| configs.iter().any(|config| config.contains(id)));
        let voters = voters
            .map(|(id, member)| wire::node_to_wire(*id, member))
            .collect();
        (configs, voters)
    }

    /// A client for another member's peer service, over a shared connection. Does not wait for the connection.
    pub fn peer(&self, node: &v1::NodeInfo) -> PeerClient<Channel> {
        self.inner
            .peers
            .client_of(node.id, &node.peer_address, Purpose::Request)
    }

    /// The turn to look for a node at a new address, if nobody has it.
    pub fn begin_move(&self, node: u64) -> Option<MoveTurn> {
        self.inner.peers.begin_move(node)
    }

    /// From now on this node is reached at its address, whatever the membership says. openraft keeps its connections
    /// when a member's address changes, so they must look here.
    pub fn reach_at(&self, node: &v1::NodeInfo) {
        self.inner.peers.moved(node.id, &node.peer_address);
    }

    /// The header that every message to that node carries.
    pub fn header(&self, to: u64) -> peer::Header {
        self.inner.peers.header(to)
    }

    /// What this node speaks, and what the others do.
    pub fn versions(&self) -> &Versions {
        self.inner.peers.versions()
    }

    /// openraft's handle, for the peer service alone.
    pub(crate) fn raft(&self) -> &Raft {
        &self.inner.raft
    }
}
