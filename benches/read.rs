//! Reads: how fast a log comes back from start to end, from the leader and from a follower, verified on the way.

use anyhow::{Result, bail, ensure};
use inkstone_benches::{Bench, append_corpus, measure};
use inkstone_client::{Client, ReadEvent, ReadOptions};
use inkstone_jepsen::clock::Clock;
use tokio_stream::StreamExt as _;

const LOG: &str = "bench/read";
const BODY_SIZE: usize = 1 << 10;

fn main() -> Result<()> {
    measure("read (3 processes on one machine)", async |mut bench| {
        let records = bench.pick(500_000, 50_000);
        let bytes = append_corpus(&bench.cluster.client()?, LOG, records, BODY_SIZE).await?;
        let leader = bench.cluster.leader().await?;
        let follower = (leader + 1) % bench.cluster.len();
        for (name, node) in [("leader", leader), ("follower", follower)] {
            let client = bench.cluster.client_of(node)?;
            sequential(&mut bench, name, &client, bytes).await?;
        }
        Ok(bench)
    })
}

async fn sequential(bench: &mut Bench, name: &str, client: &Client, bytes: u64) -> Result<()> {
    let clock = Clock::start();
    let mut stream = client.read(ReadOptions::new(LOG));
    let mut read = 0;
    while let Some(event) = stream.next().await {
        match event? {
            ReadEvent::Records(records) => {
                read += records
                    .iter()
                    .map(|record| record.body.len())
                    .sum::<usize>();
            }
            event => bail!("{event:?}"),
        }
    }
    ensure!(
        u64::try_from(read)? == bytes,
        "{read} of {bytes} bytes came back"
    );
    let rate = bytes / u64::try_from(clock.elapsed().as_millis().max(1))?;
    let what = format!(
        "sequential read of {} MB from the {name}",
        bytes / 1_000_000
    );
    // Bytes per millisecond are kilobytes per second.
    bench.table.row(what, format!("{} MB/s", rate / 1_000));
    Ok(())
}
