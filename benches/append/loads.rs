//! The loads: what the clients append, and how many they are.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use inkstone_benches::{Extent, corpus};
use inkstone_client::{Client, IfExists, NewRecord, SessionOptions};
use inkstone_jepsen::clock::Clock;
use inkstone_jepsen::cluster::Cluster;
use tokio::task::JoinSet;

/// Batches of one session that are under way at a time.
const SESSION_WINDOW: usize = 8;

/// What many clients do at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// One client, one record of 1 KiB after the other.
    OneClient,
    /// 64 clients, each with one record of 1 KiB at a time.
    SixtyFour,
    /// 1,024 clients, each with one record of 200 B at a time.
    Thousand,
    /// 64 sessions of batches of 100 x 200 B.
    Sessions,
    /// 16 sessions of batches of 64 x 1 KiB.
    LargeBatches,
}

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
    pub(crate) const ALL: [Self; 5] = [
        Self::OneClient,
        Self::SixtyFour,
        Self::Thousand,
        Self::Sessions,
        Self::LargeBatches,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OneClient => "one client, one record of 1 KiB",
            Self::SixtyFour => "64 clients, one record of 1 KiB",
            Self::Thousand => "1,024 clients, one record of 200 B",
            Self::Sessions => "64 sessions, batches of 100 x 200 B",
            Self::LargeBatches => "16 sessions, batches of 64 x 1 KiB",
        }
    }

    fn clients(self) -> usize {
        match self {
            Self::OneClient => 1,
            Self::SixtyFour | Self::Sessions => 64,
            Self::Thousand => 1_024,
            Self::LargeBatches => 16,
        }
    }

    fn batch(self) -> usize {
        match self {
            Self::OneClient | Self::SixtyFour | Self::Thousand => 1,
            Self::Sessions => 100,
            Self::LargeBatches => 64,
        }
    }

    /// Bytes of a body.
    pub(crate) fn record_size(self) -> usize {
        match self {
            Self::OneClient | Self::SixtyFour | Self::LargeBatches => 1 << 10,
            Self::Thousand | Self::Sessions => 200,
        }
    }

    /// Runs it on a cluster for a while, after all clients have connected.
    pub(crate) async fn run(self, cluster: &Cluster, extent: Extent) -> Result<Measured> {
        let log = format!("bench/{self:?}").to_lowercase();
        cluster.client()?.create_log(&log, IfExists::Fail).await?;
        let records: Vec<NewRecord> = corpus(self.record_size())
            .take(self.batch())
            .map(|mut body| {
                body.truncate(self.record_size());
                NewRecord::new(body)
            })
            .collect();
        let mut clients = Vec::new();
        for _ in 0..self.clients() {
            let client = cluster.client()?;
            client.append(&log, records.clone()).await?;
            clients.push(client);
        }
        let length = extent.pick(Duration::from_secs(6), Duration::from_secs(2));
        let clock = Clock::start();
        let mut tasks = JoinSet::new();
        for client in clients {
            let (log, records) = (log.clone(), records.clone());
            tasks.spawn(async move {
                match self {
                    Self::OneClient | Self::SixtyFour | Self::Thousand => {
                        one_by_one(client, log, records, clock, length).await
                    }
                    Self::Sessions | Self::LargeBatches => {
                        session(client, log, records, clock, length).await
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
            records: times.len() * self.batch() as u64,
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
    clock: Clock,
    length: Duration,
) -> Result<Histogram<u64>> {
    let mut times = Histogram::<u64>::new(3)?;
    let mut session = client.append_session(&log, SessionOptions::default());
    let mut under_way = std::collections::VecDeque::new();
    while clock.elapsed() < length {
        if under_way.len() == SESSION_WINDOW {
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
