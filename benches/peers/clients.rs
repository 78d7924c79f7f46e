//! The loads, the same for every system.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use inkstone_benches::{Extent, corpus};
use inkstone_jepsen::clock::Clock;
use tokio::task::JoinSet;

use crate::system::System;

/// So many clients, each with one batch at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    clients: usize,
    batch: usize,
    record_size: usize,
    name: &'static str,
}

/// What a load measured.
#[derive(Debug)]
pub(crate) struct Measured {
    records: u64,
    took: Duration,
    /// Nanoseconds from an append to its acknowledgement.
    pub(crate) times: Histogram<u64>,
}

impl Measured {
    /// Records per second.
    pub(crate) fn rate(&self) -> u64 {
        let millis = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX);
        self.records * 1_000 / millis.max(1)
    }
}

const fn load(clients: usize, batch: usize, record_size: usize, name: &'static str) -> Load {
    Load {
        clients,
        batch,
        record_size,
        name,
    }
}

impl Load {
    pub(crate) const ALL: [Self; 4] = [
        load(1, 1, 1 << 10, "1 client, 1 KiB"),
        load(64, 1, 1 << 10, "64 clients, 1 KiB"),
        load(1_024, 1, 200, "1,024 clients, 200 B"),
        load(64, 100, 200, "64 clients, batches of 100 x 200 B"),
    ];

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Runs it for a while, after all clients have connected.
    pub(crate) async fn run(self, system: &System, extent: &Extent) -> Result<Measured> {
        let bodies: Vec<Vec<u8>> = corpus(self.record_size)
            .take(self.batch)
            .map(|mut body| {
                body.truncate(self.record_size);
                body
            })
            .collect();
        let mut clients = Vec::new();
        for _ in 0..self.clients {
            let mut client = system.client().await?;
            client.append(&bodies).await?;
            clients.push(client);
        }
        let length = extent.pick(Duration::from_secs(6), Duration::from_secs(2));
        let clock = Clock::start();
        let mut tasks = JoinSet::new();
        for mut client in clients {
            let bodies = bodies.clone();
            tasks.spawn(async move {
                let mut times = Histogram::<u64>::new(3)?;
                while clock.elapsed() < length {
                    let append = Clock::start();
                    client.append(&bodies).await?;
                    times.record(append.nanos())?;
                }
                anyhow::Ok(times)
            });
        }
        let mut times = Histogram::<u64>::new(3)?;
        while let Some(done) = tasks.join_next().await {
            times.add(done.context("a client panicked")??)?;
        }
        Ok(Measured {
            records: times.len() * self.batch as u64,
            took: clock.elapsed(),
            times,
        })
    }
}
