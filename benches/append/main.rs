//! Appends: how long one takes, and how many records many clients get in together, with search indexes switched off by
//! configuration and with them on, on clusters that take turns; beside them what the disk does without Inkstone.

mod bare;
mod loads;
mod rpc;

use anyhow::Result;
use hdrhistogram::Histogram;
use inkstone_benches::{Extent, Table, millis, probe, program, run};
use inkstone_jepsen::cluster::{Cluster, ClusterOptions};
use std::time::Duration;

use crate::loads::{LOADS, Load, Measured};

/// What one cluster showed.
type Turn = Vec<(Load, Measured)>;

/// Turns of each side; the medians are printed.
const TURNS: usize = 3;
/// The sides: what they are called, and the tables of the nodes' configuration.
const SIDES: [(&str, &str); 2] = [
    ("index off", "[search]\nenabled = false\n"),
    ("index on", ""),
];

fn main() -> Result<()> {
    run(
        "append (3 processes and the clients on one machine, durable on a majority; medians)",
        async |table, extent| {
            let mut sides = [Vec::new(), Vec::new()];
            for _ in 0..extent.pick(TURNS, 1) {
                for (side, (name, tables)) in sides.iter_mut().zip(SIDES) {
                    side.push(turn(name, tables, &extent).await?);
                }
            }
            for (turns, (name, _)) in sides.iter().zip(SIDES) {
                for (load, figures) in by_load(turns) {
                    rows(table, &row_name(name, load), load, &figures)?;
                }
            }
            shares(table, &sides);
            let dir = tempfile::tempdir()?;
            let cost = probe(dir.path(), extent.pick(2_000, 300))?;
            table.row("bare: 1 KiB pwrite + fdatasync, p50", millis(cost.p50));
            table.row("bare: 1 KiB pwrite + fdatasync, p99", millis(cost.p99));
            for load in LOADS.into_iter().filter(|load| load.is_of_calls()) {
                let length = extent.pick(Duration::from_secs(4), Duration::from_secs(1));
                let rate = rpc::calls(load, length).await?;
                table.row(
                    format!("bare: calls that do nothing, {}", load.name),
                    format!("{rate}/s"),
                );
            }
            let rate = bare::three_writers(dir.path(), extent.pick(2_048, 256))?;
            table.row(
                "bare: 3 writers of 256 KiB + fdatasync, together",
                format!("{rate} MB/s"),
            );
            Ok(())
        },
    )
}

/// What a load on one side is called.
fn row_name(side: &str, load: Load) -> String {
    format!("{side}: {}", load.name)
}

/// One cluster under every load that is asked for.
async fn turn(side: &str, tables: &str, extent: &Extent) -> Result<Turn> {
    let loads = LOADS.into_iter();
    let mut loads = loads
        .filter(|load| extent.asks_for(&row_name(side, *load)))
        .peekable();
    let mut measured = Vec::new();
    if loads.peek().is_none() {
        return Ok(measured);
    }
    let cluster = Cluster::start(ClusterOptions {
        tables: tables.to_owned(),
        ..ClusterOptions::new(program()?)
    })
    .await?;
    for load in loads {
        measured.push((load, load.run(&cluster, extent).await?));
    }
    Ok(measured)
}

/// What all turns of one side measured, load by load.
fn by_load(turns: &[Turn]) -> Vec<(Load, Vec<&Measured>)> {
    let loads = turns.first().into_iter().flatten().enumerate();
    loads
        .map(|(place, (load, _))| (*load, turns.iter().map(|turn| &turn[place].1).collect()))
        .collect()
}

fn rows(table: &mut Table, name: &str, load: Load, turns: &[&Measured]) -> Result<()> {
    let mut times = Histogram::<u64>::new(3)?;
    for turn in turns {
        times.add(&turn.times)?;
    }
    if load.is_of_latency() {
        table.latency(name, &times);
        return Ok(());
    }
    table.row(name, format!("{}/s", rate(turns)));
    if load.batch > 1 {
        let bytes = rate(turns) * load.record_size as u64;
        table.row(
            format!("{name}, bytes of records"),
            format!("{} MB/s", bytes / 1_000_000),
        );
    }
    let p50 = Duration::from_nanos(times.value_at_quantile(0.5));
    let p99 = Duration::from_nanos(times.value_at_quantile(0.99));
    table.row(format!("{name}, p50"), millis(p50));
    table.row(format!("{name}, p99"), millis(p99));
    let behind = median(turns.iter().map(|turn| turn.behind).collect());
    if behind > 0 {
        table.row(
            format!("{name}, entries not indexed at the end"),
            behind.to_string(),
        );
    }
    Ok(())
}

/// Which share of the throughput is kept with indexing on.
fn shares(table: &mut Table, sides: &[Vec<Turn>; 2]) {
    let [off, on] = [by_load(&sides[0]), by_load(&sides[1])];
    for (load, off) in off {
        let same = on.iter().find(|(other, _)| *other == load);
        if let Some((_, on)) = same.filter(|_| !load.is_of_latency()) {
            let percent = rate(on) * 100 / rate(&off).max(1);
            table.row(
                format!("kept with the index on: {}", load.name),
                format!("{percent} %"),
            );
        }
    }
}

/// Records per second, the median of the turns.
fn rate(turns: &[&Measured]) -> u64 {
    median(turns.iter().map(|turn| turn.rate()).collect())
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}
