//! Appends: throughput with the queue kept full, and the time of one append alone.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use inkstone_benches::Table;
use inkstone_jepsen::clock::Clock;
use inkstone_storage::format::watermark::{WATERMARK_SIZE, WATERMARK_SLOT, Watermark};
use rustix::fs::FallocateFlags;

use crate::scene;

/// Payload, and frames in one turn.
const LOADS: [(usize, u64); 3] = [(256, 1_200_000), (4 << 10, 120_000), (64 << 10, 8_000)];
const TURNS: usize = 5;
const SINGLE_SIZE: usize = 1 << 10;
const SINGLES: u64 = 1_000;

pub(crate) fn measure(table: &mut Table, share: u64) -> Result<()> {
    for (size, frames) in LOADS {
        throughput(table, size, frames / share)?;
    }
    latency(table, SINGLES / share)
}

/// What one turn of the engine did.
struct Turn {
    bytes: u64,
    syncs: u64,
    took: Duration,
}

impl Turn {
    #[expect(clippy::cast_precision_loss, reason = "a rounded figure for people")]
    fn rate(&self) -> f64 {
        self.bytes as f64 / self.took.as_secs_f64() / 1e6
    }
}

fn throughput(table: &mut Table, size: usize, frames: u64) -> Result<()> {
    let (mut rates, mut groups) = (vec![], vec![]);
    let mut sides = [Prepared::Reserved, Prepared::Filled].map(|side| (side, vec![], vec![]));
    for _ in 0..TURNS {
        let engine = engine(size, frames)?;
        for (prepared, bare_rates, ratios) in &mut sides {
            let bare = Turn {
                took: bare(engine.bytes, engine.syncs, *prepared)?,
                ..engine
            };
            bare_rates.push(bare.rate());
            ratios.push(engine.rate() / bare.rate());
        }
        rates.push(engine.rate());
        #[expect(clippy::cast_precision_loss, reason = "a rounded figure for people")]
        groups.push(engine.bytes as f64 / engine.syncs as f64 / 1e3);
    }
    let what = format!("frames of {size} B");
    table.row(
        format!("{what}: engine"),
        format!("{:.0} MB/s", median(rates)),
    );
    table.row(
        format!("{what}: bytes of one fsync"),
        format!("{:.0} kB", median(groups)),
    );
    for (prepared, bare_rates, ratios) in sides {
        table.row(
            format!("{what}: bare, {prepared}"),
            format!("{:.0} MB/s", median(bare_rates)),
        );
        table.row(
            format!("{what}: engine / bare, {prepared}"),
            format!("{:.2}", median(ratios)),
        );
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn engine(size: usize, frames: u64) -> Result<Turn> {
    let dir = scene::directory()?;
    let log = scene::open(dir.path())?;
    let payload = scene::noise(size);
    // The log's first segment and what is made ahead are there before the clock starts.
    log.append(vec![scene::command(0, &payload)], Box::new(|_| ()))?;
    scene::settle(&log)?;
    let before = log.state().disk_size;
    let syncs_before = sync_groups(dir.path())?;
    let clock = Clock::start();
    for index in 1..=frames {
        log.wait_for_room();
        log.append(vec![scene::command(index, &payload)], Box::new(|_| ()))?;
    }
    scene::settle(&log)?;
    let took = clock.elapsed();
    anyhow::ensure!(log.state().disk_size >= before, "the log shrank");
    let frame = (64 + u64::try_from(size)?).next_multiple_of(8);
    Ok(Turn {
        bytes: frame * frames,
        syncs: sync_groups(dir.path())? - syncs_before,
        took,
    })
}

/// The number of the last sync group: each was one write and one fsync.
fn sync_groups(dir: &Path) -> Result<u64> {
    let bytes = std::fs::read(dir.join("group-1/watermark"))?;
    let slots = [0, usize::try_from(WATERMARK_SLOT)?];
    let marks = slots.iter().filter_map(|at| {
        let slot: &[u8; WATERMARK_SIZE] = bytes.get(*at..)?.first_chunk()?;
        Watermark::decode(slot).ok()
    });
    marks
        .map(|mark| mark.sync_group)
        .max()
        .context("the watermark has a good slot")
}

/// How the bare side's file was made ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prepared {
    /// Its space is reserved, as a new segment's is.
    Reserved,
    /// Filled with zeros, durably: the best that the disk can do, with every page in the cache.
    Filled,
}

impl fmt::Display for Prepared {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Reserved => "reserved file",
            Self::Filled => "zero-filled file",
        })
    }
}

fn prepare(dir: &Path, size: u64, prepared: Prepared) -> Result<File> {
    let file = tempfile::tempfile_in(dir)?;
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, size)?;
    if prepared == Prepared::Reserved {
        file.sync_all()?;
        return Ok(file);
    }
    let zeros = vec![0; 1 << 20];
    let mut position = 0;
    while position < size {
        file.write_all_at(&zeros, position)?;
        position += zeros.len() as u64;
    }
    file.sync_all()?;
    Ok(file)
}

fn bare(bytes: u64, syncs: u64, prepared: Prepared) -> Result<Duration> {
    let dir = scene::directory()?;
    let size = bytes.div_ceil(syncs);
    let block = scene::noise(usize::try_from(size)?);
    let file = prepare(dir.path(), size * syncs, prepared)?;
    let clock = Clock::start();
    for number in 0..syncs {
        file.write_all_at(&block, number * size)?;
        file.sync_data()?;
    }
    Ok(clock.elapsed())
}

/// One append at a time against one write at a time, in turns.
fn latency(table: &mut Table, singles: u64) -> Result<()> {
    let dir = scene::directory()?;
    let log = scene::open(dir.path())?;
    let payload = scene::noise(SINGLE_SIZE);
    let frame = 64 + SINGLE_SIZE as u64;
    let block = scene::noise(usize::try_from(frame)?);
    let turns = TURNS as u64;
    let file = prepare(dir.path(), frame * singles * turns, Prepared::Filled)?;
    log.append(vec![scene::command(0, &payload)], Box::new(|_| ()))?;
    scene::settle(&log)?;
    let (mut engine, mut bare) = (Histogram::<u64>::new(3)?, Histogram::<u64>::new(3)?);
    for turn in 0..turns {
        for number in turn * singles..(turn + 1) * singles {
            let entry = scene::command(number + 1, &payload);
            let (answer, answered) = mpsc::sync_channel(1);
            let clock = Clock::start();
            log.append(
                vec![entry],
                Box::new(move |result| drop(answer.send(result))),
            )?;
            answered.recv()??;
            engine.record(clock.nanos())?;
        }
        for number in turn * singles..(turn + 1) * singles {
            let clock = Clock::start();
            file.write_all_at(&block, number * frame)?;
            file.sync_data()?;
            bare.record(clock.nanos())?;
        }
    }
    table.latency("one append of 1 KiB", &engine);
    table.latency("bare pwrite + fdatasync, zero-filled file", &bare);
    #[expect(clippy::cast_precision_loss, reason = "a rounded figure for people")]
    let ratio = engine.value_at_quantile(0.5) as f64 / bare.value_at_quantile(0.5) as f64;
    table.row("engine / bare, p50", format!("{ratio:.2}"));
    Ok(())
}
