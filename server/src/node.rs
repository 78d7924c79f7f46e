//! One node: its data directory, its place in a cluster, the group, the indexer and the services, started in that order
//! and stopped in reverse.
//!
//! Promises: nothing is served before it can be; a port in use, a locked directory or a foreign one is an error at
//! once, before anything is changed; a node whose storage or Raft has failed ends. Must not know: the command line.

mod connections;
mod drain;
mod guarded;
mod joining;
mod quarantine;
mod serving;
mod standing;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use inkstone_proto::v1::NodeInfo;
use inkstone_storage::error::OpenError;
use inkstone_storage::log::{DirLock, LogOptions, Spare};
use inkstone_storage::types::Identity;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic_health::server::HealthReporter;

pub use self::connections::Listener;
use self::joining::{find_cluster, identity, take_part};
use self::quarantine::Around;
pub use self::quarantine::Unmendable;
pub use self::serving::{Serving, serve_clients, serve_peers};
use self::standing::watch_whether_to_index;
pub use self::standing::{finish_changes, watch_for_removal};
use crate::blocking::Blocking;
use crate::clock::Clock;
use crate::config::Config;
use crate::discovery::{Discovery, Misplaced, Removed};
use crate::grpc::peer::PeerService;
use crate::grpc::{self, Beside, Services};
use crate::indexer::{Indexer, IndexerOptions};
use crate::raft::{
    Fatal, GROUP, Group, GroupOptions, Member, Repairs, Spoken, Surroundings, Timings, Versions,
    keep_within_retention,
};
use crate::scrub::Scrub;

/// How long what is under way may take to end when the node stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the last answers of a node that has failed may take.
const LAST_ANSWERS_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the index may take to commit and to end its merges.
const FEED_STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// Threads for reads and searches, and places to wait for one: beyond that a request is refused.
const READ_THREADS: usize = 8;
const READS_WAITING: usize = 1_024;
const SEARCH_THREADS: usize = 4;
const SEARCHES_WAITING: usize = 256;
/// Bytes of entries that may wait for the writer thread.
const WRITER_QUEUE_SIZE: usize = 64 << 20;
/// The index stops well below the mark at which appends are refused, so that it reaches what was appended before; but it
/// stops: the rest is the log's, for what it must write.
const INDEX_FREE_SIZE_MIN: u64 = 256 << 20;
/// Segments that one index shard covers.
const SHARD_SEGMENTS: u64 = 8;

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its damage, when no other node can repair it.
    #[error(transparent)]
    Unmendable(#[from] Unmendable),
    /// A listening address.
    #[error(
        "can't listen on {address} (`{key}`): {source}; stop what uses it, or set another address"
    )]
    Listen {
        /// The configuration's key.
        key: &'static str,
        /// What it says.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The cluster.
    #[error(transparent)]
    Misplaced(#[from] Misplaced),
    /// Raft.
    #[error("{0}")]
    Fatal(#[from] Fatal),
}

/// Why a node has ended by itself.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Ended {
    /// Storage or Raft has failed.
    #[error(transparent)]
    Fatal(#[from] Fatal),
    /// An operator has removed it from its cluster.
    #[error(transparent)]
    Removed(#[from] Removed),
}

/// How a node that is told to stop leaves the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// A leader hands over first: the others stay.
    HandOver,
    /// All stop together.
    AtOnce,
}

/// A node that runs.
#[derive(Debug)]
pub struct Node {
    info: NodeInfo,
    group: Group,
    stopping: watch::Sender<bool>,
    health: HealthReporter,
    removed: watch::Receiver<Option<Removed>>,
    servers: Vec<Serving>,
    feed: Option<JoinHandle<()>>,
    /// Scrubbing, repair and retention.
    background: Vec<JoinHandle<()>>,
    /// Last: the directory is given back when everything else is gone.
    _lock: DirLock,
}

/// The two ports, bound before anything else is touched.
struct Ports {
    client: TcpListener,
    peer: TcpListener,
}

impl Ports {
    async fn bind(config: &Config) -> Result<Self, StartError> {
        Ok(Self {
            client: bind("client_listen", config.client_listen).await?,
            peer: bind("peer_listen", config.peer_listen).await?,
        })
    }

    /// Who the node is, as it wants to be reached.
    fn info(&self, id: u64, config: &Config) -> NodeInfo {
        NodeInfo {
            id,
            client_address: config.client_address(bound(&self.client, config.client_listen)),
            peer_address: config.peer_address(bound(&self.peer, config.peer_listen)),
        }
    }
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Listen {
            key,
            address,
            source,
        })
}

/// Where a port was bound: what the configuration says, with the number that the system chose for port 0.
fn bound(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}

impl Node {
    /// Starts a node and returns when it can serve: it is in a cluster that has a leader. Waits for the other nodes of
    /// a new cluster as long as it takes.
    pub async fn start(config: Config, clock: Clock) -> Result<Self, StartError> {
        Self::start_as(config, clock, Versions::new(Spoken::own())).await
    }

    /// [`Node::start`] for a node that speaks `versions`, as one of another release would: for tests of mixed clusters.
    pub async fn start_as(
        config: Config,
        clock: Clock,
        versions: Versions,
    ) -> Result<Self, StartError> {
        let config = &config;
        let lock = DirLock::acquire(&config.data_dir)?;
        let ports = Ports::bind(config).await?;
        let identity = identity(&lock)?;
        let info = ports.info(identity.node_id, config);
        let discovery = Discovery::new(
            info.clone(),
            identity.cluster_id,
            config.bootstrap_expect,
            config.seeds.clone(),
            clock,
        )
        .speaking(versions.clone());
        let (stopping, stop) = watch::channel(false);
        let peer_service = PeerService::new(discovery.clone());
        let peer_server = serve_peers(peer_service.clone(), ports.peer, clock, stop.clone());

        let start = async {
            let (identity, members) =
                find_cluster(&lock, &config.data_dir, identity, &discovery).await?;
            let repairs = Repairs::default();
            let around = Around {
                identity,
                discovery: &discovery,
                peers: &peer_service,
                client_port: &ports.client,
                repairs: &repairs,
                data_dir: config.data_dir.clone(),
                clock,
            };
            let group = open_group(config, &around, &info, (clock, versions)).await?;
            if lock.identity()? != Some(identity) {
                // Only now, with the group's hard state on disk: a node in a cluster always has one.
                lock.set_identity(identity)?;
                discovery.set_cluster(identity.cluster_id);
            }
            let beside = (repairs, discovery.clone());
            let (services, feed, background) =
                start_beside(config, &group, beside, clock, stop.clone());
            peer_service.serve(services.clone());
            tokio::select! {
                taken = take_part(&group, members, &discovery) => taken?,
                fatal = group.failed() => return Err(fatal.into()),
            }
            Ok::<_, StartError>((group, services, feed, background))
        };
        let (group, services, feed, background) = match start.await {
            Ok(started) => started,
            Err(error) => {
                peer_server.abort();
                return Err(error);
            }
        };
        let removed = watch_for_removal(group.clone(), discovery, stop.clone());
        finish_changes(group.clone(), stop.clone());
        let (client_server, health) =
            serve_clients(&services, ports.client, config.client_connections_max, stop).await;
        let servers = vec![client_server, peer_server];
        Ok(Self {
            info,
            group,
            stopping,
            health,
            removed,
            servers,
            feed,
            background,
            _lock: lock,
        })
    }

    /// Where this node is reached.
    pub fn info(&self) -> &NodeInfo {
        &self.info
    }

    /// What the node says once it can serve.
    pub fn ready_line(&self) -> String {
        let NodeInfo {
            id,
            client_address,
            peer_address,
        } = &self.info;
        format!("ready node={id} client={client_address} peer={peer_address}")
    }

    /// Runs until `shutdown` says stop, until storage or Raft has failed, or until the node was removed.
    pub async fn wait(self, shutdown: impl Future<Output = ()>, leave: Leave) -> Result<(), Ended> {
        let mut removed = self.removed.clone();
        let removed = async {
            // A sender that is gone has nothing more to say.
            let said = match removed.wait_for(Option::is_some).await {
                Ok(said) => said.clone(),
                Err(_) => None,
            };
            match said {
                Some(removed) => removed,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            fatal = self.group.failed() => {
                // Those who wait are told that their outcome is unknown: a cut connection says less.
                self.stopping.send_replace(true);
                let servers = futures::future::join_all(self.servers);
                if timeout(LAST_ANSWERS_TIMEOUT, servers).await.is_err() {
                    tracing::warn!("some requests were not answered any more");
                }
                return Err(fatal.into());
            }
            removed = removed => {
                self.stop(Leave::AtOnce).await;
                return Err(removed.into());
            }
            () = shutdown => {}
        }
        self.stop(leave).await;
        Ok(())
    }

    /// Turns new callers away, hands leadership over, ends streams, lets requests finish for a while, then stops Raft and
    /// the writer.
    async fn stop(self, leave: Leave) {
        grpc::report_stopping(&self.health).await;
        if leave == Leave::HandOver {
            drain::hand_over(&self.group).await;
        }
        self.stopping.send_replace(true);
        let servers = futures::future::join_all(self.servers);
        if timeout(STOP_TIMEOUT, servers).await.is_err() {
            tracing::warn!("some requests were still under way; they are cut off");
        }
        if let Some(feed) = self.feed
            && timeout(FEED_STOP_TIMEOUT, feed).await.is_err()
        {
            tracing::warn!("the index was still merging; it is checked at the next start");
        }
        for task in self.background {
            if !matches!(timeout(STOP_TIMEOUT, task).await, Ok(Ok(()))) {
                tracing::warn!("scrubbing, repair or retention did not end by itself");
            }
        }
        self.group.shutdown().await;
    }
}

async fn open_group(
    config: &Config,
    around: &Around<'_>,
    info: &NodeInfo,
    (clock, versions): (Clock, Versions),
) -> Result<Group, StartError> {
    let identity = around.identity;
    let options = LogOptions {
        dir: group_dir(config),
        identity,
        group: GROUP,
        segment_size: config.log.segment_size,
        tail_size: config.log.tail_size,
        queue_size: WRITER_QUEUE_SIZE,
        free_size_min: config.log.free_size_min,
        spare: Spare::Background,
    };
    let log = quarantine::open_log(options, around).await?;
    let member = Member {
        client_address: info.client_address.clone(),
        peer_address: info.peer_address.clone(),
    };
    let timings = Timings {
        heartbeat: config.raft.heartbeat,
        election_min: config.raft.election_min,
        election_max: config.raft.election_max,
    };
    let Identity {
        cluster_id,
        node_id,
    } = identity;
    let options = GroupOptions {
        log,
        node_id,
        cluster_id,
        member,
        timings,
        clock,
        repairs: around.repairs.clone(),
        surroundings: Surroundings::default(),
    };
    Ok(Group::open_as(options, versions).await?)
}

fn group_dir(config: &Config) -> PathBuf {
    config.data_dir.join(format!("group-{GROUP}"))
}

/// Starts what works beside the group, and the services over all of it.
fn start_beside(
    config: &Config,
    group: &Group,
    (repairs, discovery): (Repairs, Discovery),
    clock: Clock,
    stop: watch::Receiver<bool>,
) -> (Services, Option<JoinHandle<()>>, Vec<JoinHandle<()>>) {
    let wanted = watch_whether_to_index(group.clone(), stop.clone());
    let (indexer, feed) = start_indexer(config, group, wanted);
    let (scrub, scrubbing) = Scrub::start(config.scrub_rate, group.log(), clock, stop.clone());
    let repairing = group.repairer().start(scrub.clone(), stop.clone());
    let every = config.log.retention_interval;
    let retaining = keep_within_retention(group.clone(), every, stop.clone());
    let background = scrubbing
        .into_iter()
        .chain([repairing, retaining])
        .collect();
    let beside = Beside {
        indexer,
        scrub,
        discovery,
        repairs,
    };
    (
        services(config, group, beside, clock, stop),
        feed,
        background,
    )
}

fn start_indexer(
    config: &Config,
    group: &Group,
    wanted: watch::Receiver<bool>,
) -> (Indexer, Option<JoinHandle<()>>) {
    if !config.search.enabled {
        return (Indexer::off(), None);
    }
    let options = IndexerOptions {
        dir: group_dir(config).join("search"),
        writer_memory: config.search.writer_memory,
        commit_interval: config.search.commit_interval,
        shard_size: config.log.segment_size.saturating_mul(SHARD_SEGMENTS),
        free_size_min: (config.log.free_size_min / 4).min(INDEX_FREE_SIZE_MIN),
    };
    let (log, applied) = (group.log().clone(), group.applied().clone());
    let mender = group.repairer().mender();
    let (indexer, feed) = Indexer::start(options, (log, mender), applied, wanted);
    (indexer, Some(feed))
}

fn services(
    config: &Config,
    group: &Group,
    beside: Beside,
    clock: Clock,
    stop: watch::Receiver<bool>,
) -> Services {
    let reads = Blocking::new(READ_THREADS, READS_WAITING);
    let searches = Blocking::new(SEARCH_THREADS, SEARCHES_WAITING);
    let data_dir = config.data_dir.clone();
    Services::new(
        group.clone(),
        beside,
        clock,
        reads,
        searches,
        data_dir,
        stop,
    )
}
