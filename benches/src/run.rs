//! One run of a benchmark: asked for on the command line, on a cluster of its own, ended with its table.

use std::env;
use std::future::Future;
use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use inkstone_jepsen::cluster::{Cluster, ClusterOptions};

use crate::probe::probe;
use crate::table::{Table, millis};

/// Measures Inkstone on a cluster of three processes on this machine.
#[derive(Debug, Parser)]
struct Arguments {
    /// Measure less, for a first impression.
    #[arg(long)]
    quick: bool,
    /// Measure only what has this in its name, where a benchmark measures several things.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Passed by `cargo bench`; without it nothing is measured.
    #[arg(long, hide = true)]
    bench: bool,
    /// Passed by `cargo bench NAME`; each benchmark is one program, so there is nothing to choose.
    #[arg(hide = true)]
    _filter: Vec<String>,
}

/// How much is measured, and what.
#[derive(Debug, Clone)]
pub struct Extent {
    is_quick: bool,
    only: Option<String>,
}

impl Extent {
    /// The one number for a full run, the other for a quick one.
    pub fn pick<T>(&self, full: T, quick: T) -> T {
        if self.is_quick { quick } else { full }
    }

    /// Whether what is called so is to be measured.
    pub fn asks_for(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only))
    }
}

/// What a benchmark works with.
#[derive(Debug)]
pub struct Bench {
    /// Three nodes with the server's defaults.
    pub cluster: Cluster,
    /// Where the figures go.
    pub table: Table,
    extent: Extent,
}

impl Bench {
    /// The one number for a full run, the other for a quick one.
    pub fn pick<T>(&self, full: T, quick: T) -> T {
        self.extent.pick(full, quick)
    }
}

/// The whole program of a benchmark: starts the cluster, lets `bench` measure, prints the table with the raw cost of a
/// `fdatasync` of the same run.
pub fn measure<F>(title: &str, bench: impl FnOnce(Bench) -> F) -> Result<()>
where
    F: Future<Output = Result<Bench>>,
{
    run(title, async |table, extent| {
        let cluster = Cluster::start(ClusterOptions::new(program()?)).await?;
        let mut done = bench(Bench {
            cluster,
            table: std::mem::take(table),
            extent,
        })
        .await?;
        done.cluster.kill_all()?;
        let cost = probe(done.cluster.dir(), done.pick(2_000, 300))?;
        *table = done.table;
        table.row("raw 1 KiB pwrite + fdatasync, p50", millis(cost.p50));
        table.row("raw 1 KiB pwrite + fdatasync, p99", millis(cost.p99));
        Ok(())
    })
}

/// The whole program of a benchmark that starts its clusters itself: prints the table that `bench` filled.
pub fn run(title: &str, bench: impl AsyncFnOnce(&mut Table, Extent) -> Result<()>) -> Result<()> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        writeln!(
            io::stdout(),
            "{title}: measured by `cargo bench -p inkstone-benches` only"
        )?;
        return Ok(());
    }
    let extent = Extent {
        is_quick: arguments.quick,
        only: arguments.only,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let mut table = Table::new(title);
    runtime.block_on(bench(&mut table, extent))?;
    table.print()?;
    Ok(())
}

/// The server to measure: `INKSTONE_BIN`, or the one that was built into the same directory as this benchmark.
pub fn program() -> Result<PathBuf> {
    if let Some(binary) = env::var_os("INKSTONE_BIN") {
        return Ok(binary.into());
    }
    let own = env::current_exe()?;
    // target/release/deps/append-0123456789abcdef
    let directory = own
        .parent()
        .and_then(|deps| deps.parent())
        .context("no build directory")?;
    let binary = directory.join("inkstone");
    if !binary.exists() {
        bail!(
            "{} does not exist: `cargo build --release -p inkstone-server` makes it, or set INKSTONE_BIN",
            binary.display(),
        );
    }
    Ok(binary)
}
