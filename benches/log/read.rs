//! Reads of sealed segments: everything in order, and single records by offset.

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use inkstone_benches::Table;
use inkstone_jepsen::clock::Clock;
use inkstone_storage::log::Log;

use crate::scene::{self, LOG, Shape};

const CHUNK_SIZE: usize = 4 << 20;
const LOG_SIZE: u64 = 1 << 30;
const LOOKUPS: u64 = 200_000;

pub(crate) fn measure(table: &mut Table, share: u64) -> Result<()> {
    for (batches, records, size) in [
        (1, 1, 1 << 10),
        (1, 100, 200),
        (1, 64, 1 << 10),
        (50, 100, 200),
    ] {
        let dir = scene::directory()?;
        let log = scene::open(dir.path())?;
        let shape = Shape {
            batches,
            records,
            size,
        };
        let count = (LOG_SIZE / share).max(200 << 20) / shape.payload().len() as u64;
        scene::fill(&log, shape, count)?;
        // What is in the last, unsealed segment is read another way.
        let sealed = log.boundaries().last().copied().unwrap_or_default();
        let what = shape.to_string();
        entries(table, &what, &log, sealed)?;
        let end = sealed * shape.total();
        records_in_order(table, &what, &log, end)?;
        lookups(table, &what, &log, end, LOOKUPS / share)?;
    }
    Ok(())
}

fn gigabytes_per_second(bytes: u64, clock: Clock) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a rounded figure for people")]
    let rate = bytes as f64 / clock.elapsed().as_secs_f64() / 1e9;
    format!("{rate:.2} GB/s")
}

/// Twice, so that the second time all of it is in the page cache.
fn entries(table: &mut Table, what: &str, log: &Log, end: u64) -> Result<()> {
    let mut rate = String::new();
    for _ in 0..2 {
        let clock = Clock::start();
        let (mut next, mut bytes) = (0, 0);
        while next < end {
            let chunk = log.entries(next, end, CHUNK_SIZE)?;
            next += chunk.len() as u64;
            bytes += chunk
                .iter()
                .map(|entry| entry.payload.len() as u64)
                .sum::<u64>();
        }
        rate = gigabytes_per_second(bytes, clock);
    }
    table.row(format!("{what}: entries, every crc"), rate);
    Ok(())
}

fn records_in_order(table: &mut Table, what: &str, log: &Log, end: u64) -> Result<()> {
    let clock = Clock::start();
    let (mut next, mut bytes) = (0, 0);
    while next < end {
        let chunk = log.read(LOG, next, end, CHUNK_SIZE)?;
        next = chunk.next_offset;
        bytes += chunk
            .records
            .iter()
            .map(|record| record.body.len() as u64)
            .sum::<u64>();
    }
    table.row(
        format!("{what}: records, decoded"),
        gigabytes_per_second(bytes, clock),
    );
    Ok(())
}

fn lookups(table: &mut Table, what: &str, log: &Log, end: u64, count: u64) -> Result<()> {
    let mut times = Histogram::<u64>::new(3)?;
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let offset = state % end;
        let clock = Clock::start();
        let chunk = log.read(LOG, offset, offset + 1, 1)?;
        times.record(clock.nanos())?;
        ensure!(chunk.next_offset == offset + 1, "offset {offset} is there");
    }
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
        let nanos = times.value_at_quantile(quantile);
        table.row(
            format!("{what}: one record at a random offset, {name}"),
            format!("{}.{:02} us", nanos / 1_000, nanos % 1_000 / 10),
        );
    }
    Ok(())
}
