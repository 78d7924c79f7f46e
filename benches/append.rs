//! Appends: how long one takes, and how many records many clients get in together.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use inkstone_benches::{Bench, corpus, measure, per_second};
use inkstone_client::{IfExists, NewRecord};
use inkstone_jepsen::clock::Clock;
use tokio::task::JoinSet;

const CLIENTS: usize = 64;
const BATCH: usize = 100;

fn main() -> Result<()> {
    measure(
        "append (3 processes on one machine, durable on a majority)",
        async |mut bench| {
            one_client(&mut bench).await?;
            many_clients(&mut bench).await?;
            Ok(bench)
        },
    )
}

async fn one_client(bench: &mut Bench) -> Result<()> {
    let client = bench.cluster.client()?;
    client.create_log("bench/single", IfExists::Fail).await?;
    let mut times = Histogram::<u64>::new(3)?;
    let (warmup, appends) = bench.pick((200, 3_000), (50, 300));
    for (number, mut body) in corpus(1 << 10).take(warmup + appends).enumerate() {
        body.truncate(1 << 10);
        let clock = Clock::start();
        client
            .append("bench/single", vec![NewRecord::new(body)])
            .await?;
        if number >= warmup {
            times.record(clock.nanos())?;
        }
    }
    bench.table.latency("one client, one 1 KiB record", &times);
    Ok(())
}

async fn many_clients(bench: &mut Bench) -> Result<()> {
    bench
        .cluster
        .client()?
        .create_log("bench/many", IfExists::Fail)
        .await?;
    let length = bench.pick(Duration::from_secs(20), Duration::from_secs(3));
    let bodies: Vec<Vec<u8>> = corpus(200).take(BATCH).collect();
    let records: Vec<NewRecord> = bodies
        .into_iter()
        .map(|mut body| {
            body.truncate(200);
            NewRecord::new(body)
        })
        .collect();
    let mut clients = JoinSet::new();
    let clock = Clock::start();
    for _ in 0..CLIENTS {
        let client = bench.cluster.client()?;
        let records = records.clone();
        clients.spawn(async move {
            let mut times = Histogram::<u64>::new(3)?;
            while clock.elapsed() < length {
                let append = Clock::start();
                client.append("bench/many", records.clone()).await?;
                times.record(append.nanos())?;
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Histogram::<u64>::new(3)?;
    while let Some(done) = clients.join_next().await {
        times.add(done.context("a client panicked")??)?;
    }
    let appended = times.len() * u64::try_from(BATCH)?;
    let rate = per_second(appended, clock.elapsed());
    bench
        .table
        .row("64 clients, batches of 100 x 200 B, records", rate);
    bench.table.latency("64 clients, one batch", &times);
    Ok(())
}
