//! Searches: how fast an index is built from the log, and how long an answer takes.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use inkstone_benches::{Bench, append_corpus, measure, per_second};
use inkstone_client::{Client, Consistency, SearchOptions};
use inkstone_jepsen::clock::Clock;
use tokio::time::interval;

const LOG: &str = "bench/search";

fn main() -> Result<()> {
    measure("search (3 processes on one machine)", async |mut bench| {
        let records = bench.pick(1_000_000, 100_000);
        append_corpus(&bench.cluster.client()?, LOG, records, 150).await?;
        let follower = (bench.cluster.leader().await? + 1) % bench.cluster.len();
        build(&mut bench, follower, u64::try_from(records)?).await?;
        answers(&mut bench, follower).await?;
        Ok(bench)
    })
}

/// Deletes a follower's index and measures how long it takes until it is there again.
async fn build(bench: &mut Bench, follower: usize, records: u64) -> Result<()> {
    let client = bench.cluster.client_of(follower)?;
    let own_id = id_of(bench, follower).await?;
    bench.cluster.terminate(follower).await?;
    std::fs::remove_dir_all(bench.cluster.data_dir(follower).join("group-1/search"))?;
    let clock = Clock::start();
    bench.cluster.restart(follower).await?;
    let mut turns = interval(Duration::from_millis(20));
    loop {
        turns.tick().await;
        let options = SearchOptions {
            consistency: Consistency::Stale,
            ..query("panicked")
        };
        if let Ok(answer) = client.search(options).await
            && answer.node == own_id
            && answer.indexed_next_offset == records
        {
            break;
        }
    }
    let rate = per_second(records, clock.elapsed());
    bench.table.row(
        format!("index of {records} records built anew, records"),
        rate,
    );
    Ok(())
}

async fn id_of(bench: &Bench, node: usize) -> Result<u64> {
    let status = bench.cluster.client()?.cluster_status().await?;
    let address = bench.cluster.address(node);
    let node = status
        .nodes
        .iter()
        .find(|node| node.node.client_address == address);
    Ok(node.context("the node is no member")?.node.id)
}

fn query(text: &str) -> SearchOptions {
    SearchOptions::new(LOG, text)
}

async fn answers(bench: &mut Bench, follower: usize) -> Result<()> {
    let client = bench.cluster.client_of(follower)?;
    let queries = [
        ("rare word", "n77777"),
        ("frequent word", "info"),
        ("two words", "upstream timeout"),
        ("phrase", "\"connection refused\""),
        ("excluded words", "-info -debug"),
    ];
    for (name, text) in queries {
        let times = ask(
            &client,
            text,
            Consistency::Linearizable,
            bench.pick(300, 50),
        )
        .await?;
        bench
            .table
            .latency(&format!("{name}, linearizable, 20 hits"), &times);
    }
    let times = ask(
        &client,
        "upstream timeout",
        Consistency::Stale,
        bench.pick(300, 50),
    )
    .await?;
    bench.table.latency("two words, stale, 20 hits", &times);
    Ok(())
}

async fn ask(
    client: &Client,
    text: &str,
    consistency: Consistency,
    times: u32,
) -> Result<Histogram<u64>> {
    let mut histogram = Histogram::<u64>::new(3)?;
    for _ in 0..times {
        let clock = Clock::start();
        let answer = client
            .search(SearchOptions {
                consistency,
                ..query(text)
            })
            .await?;
        histogram.record(clock.nanos())?;
        anyhow::ensure!(answer.complete, "{text}: a limit cut the answer");
    }
    Ok(histogram)
}
