//! The same appends to Inkstone, to etcd and to NATS (`JetStream`), three nodes each on this machine, as ratios.
//!
//! The others are measured where their servers are installed (`apt-get install etcd-server nats-server`). They are not
//! the same kind of system, and they do not promise the same at an acknowledgement, which is printed with the figures.

mod clients;
mod etcd;
mod nats;
mod system;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use inkstone_benches::{Extent, Table, millis, probe, run};

use crate::clients::{Load, Measured};
use crate::system::{Kind, System};

/// Turns of each system; the medians are printed.
const TURNS: usize = 3;

fn main() -> Result<()> {
    run(
        "peers (3 processes and the clients on one machine; medians)",
        async |table, extent| {
            let kinds: Vec<Kind> = Kind::ALL
                .into_iter()
                .filter(|kind| kind.is_installed())
                .collect();
            let mut turns: Vec<Vec<Vec<Measured>>> = kinds.iter().map(|_| Vec::new()).collect();
            for _ in 0..extent.pick(TURNS, 1) {
                for (kind, turns) in kinds.iter().zip(&mut turns) {
                    turns.push(turn(*kind, &extent).await?);
                }
            }
            for (place, load) in Load::ALL.into_iter().enumerate() {
                rows(table, load, place, &kinds, &turns)?;
            }
            for kind in Kind::ALL {
                let known = if kind.is_installed() {
                    kind.promise()
                } else {
                    "not installed: not measured"
                };
                table.row(format!("{}: at an acknowledgement", kind.name()), known);
            }
            let dir = tempfile::tempdir()?;
            let cost = probe(dir.path(), extent.pick(2_000, 300))?;
            table.row("bare: 1 KiB pwrite + fdatasync, p50", millis(cost.p50));
            Ok(())
        },
    )
}

/// One cluster of that kind under every load.
async fn turn(kind: Kind, extent: &Extent) -> Result<Vec<Measured>> {
    let system = System::start(kind).await?;
    let mut measured = Vec::new();
    for load in Load::ALL {
        measured.push(load.run(&system, extent).await?);
    }
    Ok(measured)
}

/// What every system did under one load, and how many times that the first one, Inkstone, did.
fn rows(
    table: &mut Table,
    load: Load,
    place: usize,
    kinds: &[Kind],
    turns: &[Vec<Vec<Measured>>],
) -> Result<()> {
    let mut own = 0;
    for (kind, turns) in kinds.iter().zip(turns) {
        let mut rates: Vec<u64> = turns.iter().map(|turn| turn[place].rate()).collect();
        rates.sort_unstable();
        let rate = rates[rates.len() / 2];
        let mut times = Histogram::<u64>::new(3)?;
        for turn in turns {
            times.add(&turn[place].times)?;
        }
        let p50 = millis(Duration::from_nanos(times.value_at_quantile(0.5)));
        let name = kind.name();
        if *kind == Kind::Inkstone {
            own = rate;
            table.row(
                format!("{}: {name}", load.name()),
                format!("{rate}/s, p50 {p50}"),
            );
        } else {
            let ratio = own * 100 / rate.max(1);
            table.row(
                format!("{}: {name}", load.name()),
                format!("{rate}/s, p50 {p50}; Inkstone is at {ratio} % of it"),
            );
        }
    }
    Ok(())
}

/// A program that is on the path.
fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Debian keeps servers where only root looks.
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}
