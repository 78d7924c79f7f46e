//! A node whose log is damaged, before Raft: what it is, what it still has, and what it waits for.
//!
//! Promises: nothing here votes, acknowledges or changes anything; what peers fetch from it was verified. Must not know:
//! gRPC services, how the damage is mended.

use std::sync::Arc;

use inkstone_proto::v1;
use inkstone_storage::error::{FaultyRange, RepairError};
use inkstone_storage::log::Repair;
use inkstone_storage::types::Identity;
use parking_lot::RwLock;

use crate::blocking::Blocking;
use crate::raft::fetch::{Fetcher, Lacking};
use crate::raft::{Peers, Purpose, Repairs, Spoken, Versions, snapshot};
use inkstone_proto::peer_v1 as peer;
use inkstone_proto::peer_v1::peer_client::PeerClient;
use tonic::transport::Channel;

/// Threads that read for peers, and places to wait for one.
const READ_THREADS: usize = 2;
const READS_WAITING: usize = 64;

/// The node, as its services see it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Quarantine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    identity: Identity,
    info: v1::NodeInfo,
    member_since: Option<u64>,
    /// Replaced after each repair.
    log: RwLock<Arc<Repair>>,
    repairs: Repairs,
    peers: Peers,
    fetcher: Fetcher,
    reads: Blocking,
}

impl Quarantine {
    /// Of a log that was found damaged. The members that its checkpoint names are known from here on.
    pub fn new(identity: Identity, info: v1::NodeInfo, log: Arc<Repair>, repairs: Repairs) -> Self {
        let peers = Peers::new(
            identity.cluster_id,
            identity.node_id,
            Versions::new(Spoken::own()),
        );
        let fetcher = Fetcher::new(peers.clone(), identity.node_id);
        repairs.set_faults(log.faulty());
        let mut member_since = None;
        if let Some(checkpoint) = log.checkpoint() {
            match snapshot::membership(checkpoint) {
                Ok(known) => {
                    member_since = snapshot::member_since(&known, identity.node_id);
                    fetcher.learn(known.nodes);
                }
                Err(error) => {
                    tracing::warn!(%error, "the members cannot be had from the checkpoint");
                }
            }
        }
        Self {
            inner: Arc::new(Inner {
                identity,
                info,
                member_since,
                log: RwLock::new(log),
                repairs,
                peers,
                fetcher,
                reads: Blocking::new(READ_THREADS, READS_WAITING),
            }),
        }
    }

    /// Which node of which cluster it is.
    pub fn identity(&self) -> Identity {
        self.inner.identity
    }

    /// How it is reached.
    pub fn info(&self) -> &v1::NodeInfo {
        &self.inner.info
    }

    /// The damaged log, as it was last looked at.
    pub fn log(&self) -> Arc<Repair> {
        Arc::clone(&self.inner.log.read())
    }

    /// It was looked at again.
    pub fn set_log(&self, log: Arc<Repair>) {
        self.inner.repairs.set_faults(log.faulty());
        *self.inner.log.write() = log;
    }

    /// What is damaged and what was repaired.
    pub fn repairs(&self) -> &Repairs {
        &self.inner.repairs
    }

    /// The entry by which the newest checkpoint has this node as a member; `None`: it does not, or there is none.
    pub fn member_since(&self) -> Option<u64> {
        self.inner.member_since
    }

    /// Remembers other nodes of the cluster.
    pub fn learn(&self, nodes: impl IntoIterator<Item = v1::NodeInfo>) {
        self.inner.fetcher.learn(nodes);
    }

    /// The other nodes of the cluster, as far as they are known.
    pub fn nodes(&self) -> Vec<v1::NodeInfo> {
        self.inner.fetcher.nodes()
    }

    /// A client for another node's peer service, over a shared connection.
    pub fn peer(&self, node: &v1::NodeInfo) -> PeerClient<Channel> {
        let peers = &self.inner.peers;
        peers.client(&node.peer_address, Purpose::Request)
    }

    /// The header that every message to that node carries.
    pub fn header(&self, to: u64) -> peer::Header {
        self.inner.peers.header(to)
    }

    /// Where reads of the log for others run.
    pub(crate) fn reads(&self) -> &Blocking {
        &self.inner.reads
    }

    /// Fetches what peers have of these faults and writes it back; returns what nobody gave, and why writing ended. The log
    /// is to be looked at again then.
    pub async fn mend(&self, faults: &[FaultyRange]) -> Mended {
        let (mut fetched, fetching) = self.inner.fetcher.fetch(faults.to_vec());
        let log = self.log();
        let written = tokio::task::spawn_blocking(move || {
            log.write(std::iter::from_fn(|| fetched.blocking_recv()))
        })
        .await;
        let lacking = fetching.await;
        let refused = match &written {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        let lacking = lacking.ok().filter(|lacking| lacking.index.is_some());
        Mended {
            is_purged: lacking.as_ref().is_some_and(Lacking::is_purged),
            diverged: matches!(written, Ok(Err(RepairError::Diverged { .. }))),
            lacking: lacking.map(|it| it.to_string()),
            refused,
        }
    }

    /// Cuts off the first damaged entry, and what stands behind it, when another node proves that the group has committed
    /// another one in its place: what was cut and why, for people. The log is to be looked at again then.
    pub async fn cut_superseded(&self) -> Result<Option<String>, String> {
        let log = self.log();
        let Some(damaged) = log.supersedable() else {
            return Ok(None);
        };
        let Some(committed) = self.inner.fetcher.committed_at(&damaged).await else {
            return Ok(None);
        };
        let (node, id) = (committed.node, committed.entry.id);
        let cut = tokio::task::spawn_blocking(move || log.cut_superseded(&committed.entry)).await;
        let cut = cut.map_err(|error| error.to_string())?;
        let was_cut = cut.map_err(|error| error.to_string())?;
        let (index, term) = (id.index, id.term);
        Ok(was_cut.then(|| {
            format!(
                "entry {index}, which was damaged, was never committed: node {node} has committed another one of term \
                 {term} in its place; it and what stood behind it were cut off"
            )
        }))
    }
}

/// What a try to mend a log came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mended {
    /// What no peer gave.
    pub lacking: Option<String>,
    /// Why writing back ended early.
    pub refused: Option<String>,
    /// Whether that is because the group has committed other entries there.
    pub diverged: bool,
    /// Whether all peers have purged what is lacking.
    pub is_purged: bool,
}
