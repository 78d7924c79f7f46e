//! What the disk can do by itself: a 1 KiB write into a preallocated file and a `fdatasync`, again and again.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use inkstone_jepsen::clock::Clock;
use rustix::fs::{FallocateFlags, fallocate};

const WRITE_SIZE: usize = 1 << 10;

/// What one durable write costs, without Inkstone.
#[derive(Debug, Clone, Copy)]
pub struct SyncCost {
    /// Half of them took no longer.
    pub p50: Duration,
    /// Of a hundred, one took longer.
    pub p99: Duration,
}

/// Measures so many durable writes in that directory's file system.
pub fn probe(dir: &Path, writes: u32) -> Result<SyncCost> {
    let file = tempfile::tempfile_in(dir).context("a file to probe the disk with")?;
    let size = u64::from(writes) * u64::try_from(WRITE_SIZE)?;
    fallocate(&file, FallocateFlags::empty(), 0, size).context("preallocating")?;
    let block = [0x5a_u8; WRITE_SIZE];
    let mut times = Histogram::<u64>::new(3)?;
    for position in (0..size).step_by(WRITE_SIZE) {
        let clock = Clock::start();
        file.write_all_at(&block, position)?;
        file.sync_data()?;
        times.record(clock.nanos())?;
    }
    let at = |quantile| Duration::from_nanos(times.value_at_quantile(quantile));
    Ok(SyncCost {
        p50: at(0.5),
        p99: at(0.99),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_durable_write_takes_time_and_the_slow_ones_are_not_faster() {
        let dir = tempfile::tempdir().unwrap();
        let cost = probe(dir.path(), 20).unwrap();
        assert!(
            Duration::ZERO < cost.p50 && cost.p50 <= cost.p99,
            "{cost:?}"
        );
    }
}
