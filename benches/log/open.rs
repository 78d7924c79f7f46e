//! Opening a large log: how long it takes, and what it holds in memory.

use std::fs;

use anyhow::{Context as _, Result};
use inkstone_benches::Table;
use inkstone_jepsen::clock::Clock;

use crate::scene::{self, Shape};

const OPENS: usize = 5;

pub(crate) fn measure(table: &mut Table, gigabytes: u64) -> Result<()> {
    for (records, size) in [(1_000, 1 << 10), (1, 1 << 10)] {
        let dir = scene::directory()?;
        let shape = Shape {
            batches: 1,
            records,
            size,
        };
        let count = gigabytes * 1_000_000_000 / (shape.payload().len() as u64 + 64);
        let log = scene::open(dir.path())?;
        scene::fill(&log, shape, count)?;
        let disk_size = log.state().disk_size;
        drop(log);
        let before = anonymous_memory()?;
        let mut times = Vec::new();
        let mut held = 0;
        for _ in 0..OPENS {
            let clock = Clock::start();
            let log = scene::open(dir.path())?;
            times.push(clock.elapsed());
            held = anonymous_memory()?.saturating_sub(before);
            drop(log);
        }
        times.sort();
        let what = format!("{shape}, {} MB", disk_size / 1_000_000);
        let median = times[times.len() / 2];
        table.row(
            format!("{what}: open"),
            format!("{:.1} ms", median.as_secs_f64() * 1e3),
        );
        table.row(
            format!("{what}: memory for each GB"),
            format!("{} kB", held / 1_000 / gigabytes.max(1)),
        );
    }
    Ok(())
}

/// Bytes of this process that are no file's.
fn anonymous_memory() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .context("the system tells a process's memory")?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024)
}
