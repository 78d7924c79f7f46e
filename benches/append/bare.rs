//! What the disk does without Inkstone when three writers share it, as three nodes do.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::thread;

use anyhow::{Result, anyhow};
use inkstone_jepsen::clock::Clock;
use rustix::fs::{FallocateFlags, fallocate};

const WRITERS: u64 = 3;
const WRITE_SIZE: usize = 256 << 10;

/// Megabytes per second of three writers together, each with so many writes of 256 KiB into a preallocated file and a
/// `fdatasync` behind each.
pub(crate) fn three_writers(dir: &Path, writes: u64) -> Result<u64> {
    let clock = Clock::start();
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| scope.spawn(|| write(dir, writes)))
            .collect();
        writers
            .into_iter()
            .try_for_each(|writer| writer.join().map_err(|_| anyhow!("a writer panicked"))?)
    })?;
    let bytes = WRITERS * writes * WRITE_SIZE as u64;
    let micros = u64::try_from(clock.elapsed().as_micros())?;
    Ok(bytes / micros.max(1))
}

fn write(dir: &Path, writes: u64) -> Result<()> {
    let file = tempfile::tempfile_in(dir)?;
    fallocate(
        &file,
        FallocateFlags::empty(),
        0,
        writes * WRITE_SIZE as u64,
    )?;
    let block = vec![0x5a_u8; WRITE_SIZE];
    for number in 0..writes {
        file.write_all_at(&block, number * WRITE_SIZE as u64)?;
        file.sync_data()?;
    }
    Ok(())
}
