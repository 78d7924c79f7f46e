//! Opening a large log: how long it takes, and what it holds in memory.

use std::alloc::System;

use anyhow::Result;
use cap::Cap;
use inkstone_benches::Table;
use inkstone_jepsen::clock::Clock;

use crate::scene::{self, Shape};

/// Counts what is on the heap; there is no limit.
#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

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
        let before = HEAP.allocated();
        let mut times = Vec::new();
        let mut held = 0;
        for _ in 0..OPENS {
            let clock = Clock::start();
            let log = scene::open(dir.path())?;
            times.push(clock.elapsed());
            held = HEAP.allocated().saturating_sub(before);
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
            format!("{what}: heap for each GB"),
            format!("{} kB", held as u64 / 1_000 / gigabytes),
        );
    }
    Ok(())
}
