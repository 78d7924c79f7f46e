//! Failover: the leader is killed under load again and again; how long until an append is acknowledged anew.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use inkstone_benches::measure;
use inkstone_client::{Client, IfExists, NewRecord};
use inkstone_jepsen::clock::Clock;
use tokio::sync::watch;
use tokio::task::JoinSet;

const LOG: &str = "bench/failover";
const CLIENTS: usize = 16;
/// Longer than any election.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    measure(
        "failover (3 processes on one machine, 16 clients append all the time, default timings)",
        async |mut bench| {
            bench
                .cluster
                .client()?
                .create_log(LOG, IfExists::Fail)
                .await?;
            let clock = Clock::start();
            // When the append began that was acknowledged last.
            let acked = watch::Sender::new(0);
            let mut clients = JoinSet::new();
            for _ in 0..CLIENTS {
                let (client, acked) = (bench.cluster.client()?, acked.clone());
                clients.spawn(append(client, clock, acked));
            }
            let mut times = Histogram::<u64>::new(3)?;
            for _ in 0..bench.pick(100, 10) {
                let leader = bench.cluster.leader().await?;
                bench.cluster.kill(leader)?;
                let killed = clock.nanos();
                let mut begun = acked.subscribe();
                tokio::time::timeout(PATIENCE, begun.wait_for(|begun| *begun > killed))
                    .await
                    .context("nothing was acknowledged any more")??;
                times.record(clock.nanos() - killed)?;
                bench.cluster.restart(leader).await?;
            }
            clients.shutdown().await;
            bench.table.latency(
                "leader killed: first append that began later, acknowledged",
                &times,
            );
            Ok(bench)
        },
    )
}

/// Appends until it is cancelled; with the client's retries on.
async fn append(client: Client, clock: Clock, acked: watch::Sender<u64>) -> Result<()> {
    loop {
        let begun = clock.nanos();
        client.append(LOG, vec![NewRecord::new("x")]).await?;
        acked.send_if_modified(|last| {
            let later = begun > *last;
            if later {
                *last = begun;
            }
            later
        });
    }
}
