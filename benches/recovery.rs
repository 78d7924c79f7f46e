//! Recovery: how long a killed node takes to be back with a large log, one of them and all of them.

use anyhow::Result;
use inkstone_benches::{append_corpus, measure};
use inkstone_client::NewRecord;
use inkstone_jepsen::clock::Clock;

const LOG: &str = "bench/recovery";
const BODY_SIZE: usize = 1 << 10;

fn main() -> Result<()> {
    measure(
        "recovery (3 processes on one machine)",
        async |mut bench| {
            let records = bench.pick(1_000_000, 100_000);
            let client = bench.cluster.client()?;
            let bytes = append_corpus(&client, LOG, records, BODY_SIZE).await?;
            bench.table.row(
                "bytes of bodies in the log",
                format!("{} MB", bytes / 1_000_000),
            );

            let follower = (bench.cluster.leader().await? + 1) % bench.cluster.len();
            bench.cluster.kill(follower)?;
            let clock = Clock::start();
            bench.cluster.restart(follower).await?;
            bench
                .table
                .row("one follower killed: ready after", seconds(clock));

            bench.cluster.kill_all()?;
            let clock = Clock::start();
            bench.cluster.start_all().await?;
            bench
                .table
                .row("all killed: all ready after", seconds(clock));
            client.append(LOG, vec![NewRecord::new("first")]).await?;
            bench.table.row(
                "all killed: first append acknowledged after",
                seconds(clock),
            );
            Ok(bench)
        },
    )
}

fn seconds(clock: Clock) -> String {
    format!("{:.2} s", clock.elapsed().as_secs_f64())
}
