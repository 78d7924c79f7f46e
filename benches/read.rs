//! Reads: how fast a log comes back from start to end, how long it takes to hear where it ends and to read one record,
//! and how soon a reader that follows has what was appended; from the leader and from a follower, linearizable and stale,
//! every record verified on the way.

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;
use inkstone_benches::{Bench, append_corpus, measure};
use inkstone_client::{
    Client, Consistency, Follow, IfExists, NewRecord, ReadEvent, ReadOptions, Start,
};
use inkstone_jepsen::clock::Clock;
use tokio_stream::StreamExt as _;

const LOG: &str = "bench/read";
const FOLLOWED: &str = "bench/followed";
const BODY_SIZE: usize = 1 << 10;
/// How a read is answered, and what that is called.
const CONSISTENCIES: [(&str, Consistency); 2] = [
    ("linearizable", Consistency::Linearizable),
    ("stale", Consistency::Stale),
];

fn main() -> Result<()> {
    measure("read (3 processes on one machine)", async |mut bench| {
        let records = bench.pick(500_000, 50_000);
        let client = bench.cluster.client()?;
        let bytes = append_corpus(&client, LOG, records, BODY_SIZE).await?;
        client.create_log(FOLLOWED, IfExists::Fail).await?;
        let leader = bench.cluster.leader().await?;
        let follower = (leader + 1) % bench.cluster.len();
        let sides = [("leader", leader), ("follower", follower)];
        for (name, node) in sides {
            let client = bench.cluster.client_of(node)?;
            for (how, consistency) in CONSISTENCIES {
                let name = format!("{name}, {how}");
                sequential(&mut bench, &name, &client, consistency, bytes).await?;
                tails(&mut bench, &name, &client, consistency).await?;
                singles(&mut bench, &name, &client, consistency, records).await?;
            }
        }
        for (name, node) in sides {
            let reader = bench.cluster.client_of(node)?;
            follow(&mut bench, name, &client, &reader).await?;
        }
        Ok(bench)
    })
}

fn options(consistency: Consistency) -> ReadOptions {
    ReadOptions {
        consistency,
        ..ReadOptions::new(LOG)
    }
}

/// The whole log, in one stream.
async fn sequential(
    bench: &mut Bench,
    name: &str,
    client: &Client,
    consistency: Consistency,
    bytes: u64,
) -> Result<()> {
    let clock = Clock::start();
    let read = read_all(client, options(consistency)).await?;
    ensure!(read == bytes, "{read} of {bytes} bytes came back");
    let rate = bytes / u64::try_from(clock.elapsed().as_millis().max(1))?;
    let what = format!("{name}: sequential read of {} MB", bytes / 1_000_000);
    // Bytes per millisecond are kilobytes per second.
    bench.table.row(what, format!("{} MB/s", rate / 1_000));
    Ok(())
}

/// The bytes of all bodies that a read gives.
async fn read_all(client: &Client, options: ReadOptions) -> Result<u64> {
    let mut stream = client.read(options);
    let mut read = 0;
    while let Some(event) = stream.next().await {
        match event? {
            ReadEvent::Records(records) => {
                let sizes = records.iter().map(|record| record.body.len());
                read += sizes.sum::<usize>();
            }
            ReadEvent::View { .. } => {}
            event => bail!("{event:?}"),
        }
    }
    Ok(u64::try_from(read)?)
}

/// Where the log ends, asked by one client.
async fn tails(
    bench: &mut Bench,
    name: &str,
    client: &Client,
    consistency: Consistency,
) -> Result<()> {
    let mut times = Histogram::<u64>::new(3)?;
    for _ in 0..bench.pick(2_000, 300) {
        let clock = Clock::start();
        client.tail(LOG, consistency).await?;
        times.record(clock.nanos())?;
    }
    bench.table.latency(&format!("{name}: tail"), &times);
    Ok(())
}

/// One record here and there, most of them long since out of the memory that holds the newest.
async fn singles(
    bench: &mut Bench,
    name: &str,
    client: &Client,
    consistency: Consistency,
    records: usize,
) -> Result<()> {
    let records = u64::try_from(records)?;
    let mut times = Histogram::<u64>::new(3)?;
    for turn in 0..bench.pick(2_000, 300) {
        // Far from the last one, and every time elsewhere.
        let offset = (turn * 7_919_321) % records;
        let one = ReadOptions {
            from: Start::Offset(offset),
            limit: Some(1),
            ..options(consistency)
        };
        let clock = Clock::start();
        let read = read_all(client, one).await?;
        times.record(clock.nanos())?;
        ensure!(read > 0, "nothing at {offset}");
    }
    bench
        .table
        .latency(&format!("{name}: one record by its offset"), &times);
    Ok(())
}

/// From the begin of an append to the moment at which a reader that follows has the record, with one append at a time.
async fn follow(bench: &mut Bench, name: &str, writer: &Client, reader: &Client) -> Result<()> {
    let following = ReadOptions {
        from: Start::Last(0),
        follow: Follow::Yes,
        ..ReadOptions::new(FOLLOWED)
    };
    let mut events = reader.read(following);
    // What is appended from here on comes.
    while !matches!(next(&mut events).await?, ReadEvent::CaughtUp { .. }) {}
    let mut times = Histogram::<u64>::new(3)?;
    for _ in 0..bench.pick(2_000, 300) {
        let record = NewRecord::new(vec![b'x'; BODY_SIZE]);
        let clock = Clock::start();
        let (receipt, seen) = tokio::join!(writer.append(FOLLOWED, vec![record]), async {
            loop {
                if let ReadEvent::Records(records) = next(&mut events).await? {
                    let last = records.last().context("an event of no records")?;
                    return anyhow::Ok((last.offset, clock.nanos()));
                }
            }
        });
        let (offset, nanos) = seen?;
        ensure!(receipt?.first_offset == offset, "another record came");
        times.record(nanos)?;
    }
    bench.table.latency(
        &format!("{name}: append until a follower of the log has it"),
        &times,
    );
    Ok(())
}

async fn next(
    events: &mut (impl tokio_stream::Stream<Item = inkstone_client::Result<ReadEvent>> + Unpin),
) -> Result<ReadEvent> {
    Ok(events.next().await.context("the stream ended")??)
}
