//! A node that is a cluster of its own, or in none, for the tests of this folder: real group, real index, no ports.
//!
//! Promises: its index covers only what [`LoneNode::index_up_to`] lets it see, so that a test decides how far it is
//! behind. Must not know: what is tested.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use inkstone_proto::v1::{AppendRequest, CreateLogRequest, NewRecord, NodeInfo};
use inkstone_storage::io::{Disk, RealDisk};
use inkstone_storage::log::{Log, LogOptions, Spare};
use inkstone_storage::types::Identity;
use tempfile::TempDir;
use tokio::sync::watch;
use tonic::metadata::MetadataMap;

use crate::blocking::Blocking;
use crate::clock::Clock;
use crate::discovery::Discovery;
use crate::grpc::{Beside, Services, logs};
use crate::indexer::{Indexer, IndexerOptions};
use crate::raft::{GROUP, Group, GroupOptions, Member, Proof, Repairs, Surroundings, Timings};
use crate::scrub::Scrub;
use crate::tail::Applied;

/// The log that a leading node has.
pub(crate) const LOG: &str = "log";

pub(crate) const NODE: u64 = 1;
pub(crate) const CLUSTER: [u8; 16] = [7; 16];
/// Longer than any test runs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The node; it ends with the test's runtime.
#[derive(Debug)]
pub(crate) struct LoneNode {
    pub(crate) services: Services,
    /// What the indexer takes for applied.
    visible_to_index: Applied,
    _stop: watch::Sender<bool>,
    _indexing: watch::Sender<bool>,
    _dir: TempDir,
}

impl LoneNode {
    /// In no cluster: nobody leads, ever.
    pub(crate) async fn without_leader() -> Self {
        Self::without_leader_on(Arc::new(RealDisk)).await
    }

    async fn without_leader_on(disk: Arc<dyn Disk>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let clock = Clock::system();
        let group = open_group(disk, &dir, clock).await;
        let visible_to_index = Applied::new(0);
        let indexing = watch::Sender::new(true);
        let options = IndexerOptions {
            dir: dir.path().join("search"),
            writer_memory: 32 << 20,
            free_size_min: 0,
            commit_interval: Duration::from_secs(1),
            shard_size: 64 << 20,
        };
        let (indexer, _) = Indexer::start(
            options,
            (group.log().clone(), group.repairer().mender()),
            visible_to_index.clone(),
            indexing.subscribe(),
        );
        let stop = watch::Sender::new(false);
        let services = Services::new(
            group,
            Beside {
                indexer,
                scrub: Scrub::off(),
                discovery: Discovery::new(NodeInfo::default(), CLUSTER, 1, Vec::new(), clock),
                repairs: Repairs::default(),
            },
            clock,
            Blocking::new(1, 8),
            Blocking::new(1, 8),
            dir.path().to_owned(),
            stop.subscribe(),
        );
        Self {
            services,
            visible_to_index,
            _stop: stop,
            _indexing: indexing,
            _dir: dir,
        }
    }

    /// It leads, has the log [`LOG`], and its index is open and empty.
    pub(crate) async fn leading() -> Self {
        Self::leading_on(Arc::new(RealDisk)).await
    }

    /// The same with its log on that disk.
    pub(crate) async fn leading_on(disk: Arc<dyn Disk>) -> Self {
        let node = Self::without_leader_on(disk).await;
        let services = &node.services;
        let members = BTreeMap::from([(NODE, member())]);
        services.group.initialize(members).await.expect("new");
        services
            .group
            .linearize(Proof::Majority, PATIENCE)
            .await
            .expect("it leads");
        let create = CreateLogRequest {
            name: LOG.to_owned(),
            ..CreateLogRequest::default()
        };
        logs::create_log(services, &MetadataMap::new(), create)
            .await
            .expect("created");
        // Opened: it has seen the first entry, which holds no record.
        node.index_up_to(1).await;
        node
    }

    /// Lets the index see the entries up to this one, and waits until it does.
    pub(crate) async fn index_up_to(&self, index: u64) {
        self.visible_to_index.publish(index);
        self.services.indexer.wait_for(index).await;
    }

    /// Lets the index see everything.
    pub(crate) async fn index_all(&self) {
        self.index_up_to(self.services.group.applied().index())
            .await;
    }
}

/// One record for [`LOG`].
pub(crate) fn one_record(body: &str) -> AppendRequest {
    AppendRequest {
        log: LOG.to_owned(),
        records: vec![NewRecord {
            body: body.to_owned().into(),
            ..NewRecord::default()
        }],
        ..AppendRequest::default()
    }
}

/// What a client sends that gives a request so many milliseconds.
pub(crate) fn within_ms(timeout: u32) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    let value = format!("{timeout}m").parse().expect("ascii");
    metadata.insert("grpc-timeout", value);
    metadata
}

fn member() -> Member {
    Member {
        client_address: "127.0.0.1:1".to_owned(),
        peer_address: "127.0.0.1:2".to_owned(),
    }
}

async fn open_group(disk: Arc<dyn Disk>, dir: &TempDir, clock: Clock) -> Group {
    let options = LogOptions {
        dir: dir.path().join("group-1"),
        identity: Identity {
            cluster_id: CLUSTER,
            node_id: NODE,
        },
        group: GROUP,
        segment_size: 4 << 20,
        tail_size: 1 << 20,
        queue_size: 8 << 20,
        free_size_min: 0,
        spare: Spare::Background,
    };
    let log = Log::open_on(disk, options).expect("a new log");
    Group::open(GroupOptions {
        log,
        node_id: NODE,
        cluster_id: CLUSTER,
        member: member(),
        timings: Timings {
            heartbeat: Duration::from_millis(50),
            election_min: Duration::from_millis(250),
            election_max: Duration::from_millis(300),
        },
        clock,
        repairs: Repairs::default(),
        surroundings: Surroundings::default(),
    })
    .await
    .expect("a new group")
}
