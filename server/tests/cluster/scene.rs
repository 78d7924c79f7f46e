//! What the tests of this target start from: a cluster, a log, and for fault runs the clients that use it meanwhile.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use inkstone_client::{Client, IfExists, NewRecord, ReadEvent, ReadOptions, Record};
use inkstone_jepsen::checker;
use inkstone_jepsen::clock::Clock;
use inkstone_jepsen::cluster::{Cluster, ClusterOptions};
use inkstone_jepsen::history::History;
use inkstone_jepsen::report;
use inkstone_jepsen::workload::{AppendersOptions, Load, Run};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_stream::StreamExt as _;

/// The server under test: the one that was built with these tests, or another one (a release build, an older version)
/// that `INKSTONE_BIN` names.
pub(crate) fn binary() -> PathBuf {
    let other = std::env::var_os("INKSTONE_BIN");
    other.map_or_else(|| env!("CARGO_BIN_EXE_inkstone").into(), PathBuf::from)
}

/// Clusters at the same time: more only make each other's elections time out on a small machine.
static CLUSTERS: Semaphore = Semaphore::const_new(2);

/// A running cluster, and the right to run it.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    _turn: SemaphorePermit<'static>,
}

/// The right to run one more cluster, for a test that starts it itself.
pub(crate) async fn turn() -> SemaphorePermit<'static> {
    CLUSTERS
        .acquire()
        .await
        .expect("the semaphore is never closed")
}

impl Stage {
    /// Three nodes with the server's defaults.
    pub(crate) async fn open() -> Self {
        Self::open_with(ClusterOptions::new(binary())).await
    }

    /// Nodes as the options say.
    pub(crate) async fn open_with(options: ClusterOptions) -> Self {
        let turn = turn().await;
        match Cluster::start(options).await {
            Ok(cluster) => Self {
                cluster,
                _turn: turn,
            },
            Err(error) => panic!("the cluster does not start: {error:#}"),
        }
    }
}

/// A cluster under load: clients append to and look at one log until the run is judged.
#[derive(Debug)]
pub(crate) struct FaultRun {
    pub(crate) stage: Stage,
    pub(crate) run: Run,
    load: Load,
}

/// The log that a fault run appends to.
pub(crate) const LOG: &str = "faults/appends";

impl FaultRun {
    /// Starts three nodes and the clients, and returns once appends are acknowledged.
    pub(crate) async fn start() -> Result<Self> {
        Self::start_with(ClusterOptions::new(binary()), AppendersOptions::default()).await
    }

    /// The same with such nodes and such appends.
    pub(crate) async fn start_with(
        cluster: ClusterOptions,
        options: AppendersOptions,
    ) -> Result<Self> {
        let stage = Stage::open_with(cluster).await;
        stage
            .cluster
            .client()?
            .create_log(LOG, IfExists::Fail)
            .await?;
        let run = Run::new(Arc::new(History::new(Clock::start())));
        let load = Load::start(&stage.cluster, &run, LOG, options).await?;
        Ok(Self { stage, run, load })
    }

    /// Ends the clients, reads everything from every node, and judges the history: the verdict in words.
    ///
    /// # Panics
    /// When a promise was broken, or when too little happened to say so.
    pub(crate) async fn judge(self, acked_min: usize) -> Result<String> {
        let Self { stage, run, load } = self;
        load.finish(&stage.cluster, &run).await?;
        let verdict = checker::check(&run.history.operations());
        let text = report::text(&verdict);
        if !verdict.is_valid() {
            run.history
                .write_to(&stage.cluster.dir().join("history.jsonl"))?;
        }
        assert!(
            verdict.is_valid(),
            "{}:\n{text}",
            stage.cluster.dir().display()
        );
        let counts = verdict.counts;
        assert!(
            counts.appends_acked >= acked_min,
            "too few appends to judge by:\n{text}"
        );
        assert_eq!(counts.final_reads, stage.cluster.active().len(), "{text}");
        assert_eq!(counts.chains, stage.cluster.active().len(), "{text}");
        assert!(
            counts.tails > 0 && counts.reads > counts.final_reads,
            "nobody looked:\n{text}"
        );
        Ok(text)
    }
}

/// Appends bodies in batches of so many and returns the log's next offset.
pub(crate) async fn append_all(
    client: &Client,
    log: &str,
    bodies: &[Vec<u8>],
    batch: usize,
) -> Result<u64> {
    let mut next_offset = 0;
    for bodies in bodies.chunks(batch) {
        let records = bodies.iter().cloned().map(NewRecord::new).collect();
        next_offset = client.append(log, records).await?.next_offset;
    }
    Ok(next_offset)
}

/// Reads to the end; a gap is an error.
pub(crate) async fn read_all(client: &Client, options: ReadOptions) -> Result<Vec<Record>> {
    let mut stream = client.read(options);
    let mut records = Vec::new();
    while let Some(event) = stream.next().await {
        match event? {
            ReadEvent::Records(batch) => records.extend(batch),
            ReadEvent::Gap(gap) => anyhow::bail!("a read skips {gap:?}"),
            _ => {}
        }
    }
    Ok(records)
}

/// The node id of each of the cluster's nodes, by their numbers.
pub(crate) async fn node_ids(cluster: &Cluster) -> Result<Vec<u64>> {
    let status = cluster.client()?.cluster_status().await?;
    let id_of = |number: usize| {
        let address = cluster.address(number);
        let node = status
            .nodes
            .iter()
            .find(|node| node.node.client_address == address);
        node.map(|node| node.node.id)
            .with_context(|| format!("{address} is no member"))
    };
    (0..cluster.len()).map(id_of).collect()
}
