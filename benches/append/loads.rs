//! The loads: what the clients append, and how many they are.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use inkstone_benches::{Extent, corpus};
use inkstone_client::{Client, IfExists, NewRecord, SessionOptions};
use inkstone_jepsen::clock::Clock;
use inkstone_jepsen::cluster::Cluster;
use tokio::task::JoinSet;

/// What many clients do at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) name: &'static str,
    /// Clients at the same time.
    pub(crate) clients: usize,
    /// Connections that they share.
    pub(crate) connections: usize,
    /// Records of one append, and bytes of each.
    pub(crate) batch: usize,
    pub(crate) record_size: usize,
    way: Way,
}

/// How a client appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A call for each append, one after the other.
    Calls,
    /// A session, with so many appends under way at a time.
    Session(usize),
}

/// Every load, those first that the goals are for.
pub(crate) const LOADS: [Load; 8] = [
    Load::calls("one client, one record of 1 KiB", 1, 1, 1 << 10),
    Load::calls("64 clients, one record of 1 KiB", 64, 64, 1 << 10),
    Load::calls("1,024 clients, one record of 200 B", 1_024, 1_024, 200),
    Load::calls(
        "1,024 clients on 16 connections, one record of 200 B",
        1_024,
        16,
        200,
    ),
    Load {
        name: "64 clients with a session, one record of 1 KiB",
        clients: 64,
        connections: 64,
        batch: 1,
        record_size: 1 << 10,
        way: Way::Session(1),
    },
    Load {
        name: "1,024 clients with a session on 16 connections, one record of 200 B",
        clients: 1_024,
        connections: 16,
        batch: 1,
        record_size: 200,
        way: Way::Session(1),
    },
    Load {
        name: "64 sessions, batches of 100 x 200 B",
        clients: 64,
        connections: 64,
        batch: 100,
        record_size: 200,
        way: Way::Session(8),
    },
    Load {
        name: "16 sessions, batches of 64 x 1 KiB",
        clients: 16,
        connections: 16,
        batch: 64,
        record_size: 1 << 10,
        way: Way::Session(8),
    },
];

/// What a load measured.
#[derive(Debug)]
pub(crate) struct Measured {
    records: u64,
    took: Duration,
    /// Nanoseconds from an append to its receipt.
    pub(crate) times: Histogram<u64>,
    /// Entries that were applied and not indexed when the load ended, on the follower that was furthest behind.
    pub(crate) behind: u64,
}

impl Measured {
    /// Records per second.
    pub(crate) fn rate(&self) -> u64 {
        let millis = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX);
        self.records * 1_000 / millis.max(1)
    }
}

impl Load {
    /// One record at a time, a call for each.
    const fn calls(
        name: &'static str,
        clients: usize,
        connections: usize,
        record_size: usize,
    ) -> Self {
        Self {
            name,
            clients,
            connections,
            batch: 1,
            record_size,
            way: Way::Calls,
        }
    }

    /// Whether it is about the time that one append takes.
    pub(crate) fn is_of_latency(self) -> bool {
        self.clients == 1
    }

    /// Whether every append is a call of its own.
    pub(crate) fn is_of_calls(self) -> bool {
        self.way == Way::Calls
    }

    /// Runs it on a cluster for a while, after all clients have connected.
    pub(crate) async fn run(self, cluster: &Cluster, extent: &Extent) -> Result<Measured> {
        let log = format!(
            "bench/{}",
            self.name.to_lowercase().replace([' ', ','], "-")
        );
        cluster.client()?.create_log(&log, IfExists::Fail).await?;
        let records: Vec<NewRecord> = corpus(self.record_size)
            .take(self.batch)
            .map(|mut body| {
                body.truncate(self.record_size);
                NewRecord::new(body)
            })
            .collect();
        let mut clients = Vec::new();
        for _ in 0..self.connections {
            let client = cluster.client()?;
            client.append(&log, records.clone()).await?;
            clients.push(client);
        }
        let length = extent.pick(Duration::from_secs(6), Duration::from_secs(2));
        let clock = Clock::start();
        let mut tasks = JoinSet::new();
        for client in clients.iter().cycle().take(self.clients).cloned() {
            let (log, records) = (log.clone(), records.clone());
            tasks.spawn(async move {
                match self.way {
                    Way::Calls => one_by_one(client, log, records, clock, length).await,
                    Way::Session(window) => {
                        session(client, log, records, window, clock, length).await
                    }
                }
            });
        }
        let mut times = Histogram::<u64>::new(3)?;
        while let Some(done) = tasks.join_next().await {
            times.add(done.context("a client panicked")??)?;
        }
        let took = clock.elapsed();
        Ok(Measured {
            records: times.len() * self.batch as u64,
            took,
            times,
            behind: behind(&cluster.client()?).await?,
        })
    }
}

async fn one_by_one(
    client: Client,
    log: String,
    records: Vec<NewRecord>,
    clock: Clock,
    length: Duration,
) -> Result<Histogram<u64>> {
    let mut times = Histogram::<u64>::new(3)?;
    while clock.elapsed() < length {
        let append = Clock::start();
        client.append(&log, records.clone()).await?;
        times.record(append.nanos())?;
    }
    Ok(times)
}

async fn session(
    client: Client,
    log: String,
    records: Vec<NewRecord>,
    window: usize,
    clock: Clock,
    length: Duration,
) -> Result<Histogram<u64>> {
    let mut times = Histogram::<u64>::new(3)?;
    let mut session = client.append_session(&log, SessionOptions::default());
    let mut under_way = std::collections::VecDeque::new();
    while clock.elapsed() < length {
        if under_way.len() == window {
            let (append, ticket): (Clock, inkstone_client::Ticket) =
                under_way.pop_front().context("it is full")?;
            ticket.await?;
            times.record(append.nanos())?;
        }
        let append = Clock::start();
        under_way.push_back((append, session.submit(records.clone()).await?));
    }
    for (append, ticket) in under_way {
        ticket.await?;
        times.record(append.nanos())?;
    }
    session.close().await?;
    Ok(times)
}

/// How many applied entries the follower furthest behind has not indexed; 0 where nobody indexes.
async fn behind(client: &Client) -> Result<u64> {
    let status = client.cluster_status().await?;
    let nodes = status.nodes.iter().filter(|node| node.indexed_index > 0);
    let behind = nodes.map(|node| node.applied_index.saturating_sub(node.indexed_index));
    Ok(behind.max().unwrap_or(0))
}
