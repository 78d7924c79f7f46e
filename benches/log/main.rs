//! The log engine by itself, against what the same disk does without it: append, read, open.
//!
//! One process, no network and no consensus. Where there is a bare side, it writes the same bytes with as many
//! `fdatasync`s, into a file whose space was reserved before, and into one that was filled with zeros, which is the best
//! that the disk can do. The sides take turns in one run, and a ratio is the median of the turns' ratios.

mod append;
mod open;
mod read;
mod scene;

use std::io::{self, Write as _};

use anyhow::Result;
use clap::Parser;
use inkstone_benches::Table;

/// Measures the log engine on this machine's disk.
#[derive(Debug, Parser)]
struct Arguments {
    /// Measure less, for a first impression.
    #[arg(long)]
    quick: bool,
    /// Gigabytes in the log that is opened.
    #[arg(long, default_value_t = 10)]
    gigabytes: u64,
    /// Passed by `cargo bench`; without it nothing is measured.
    #[arg(long, hide = true)]
    bench: bool,
    /// Only the parts whose name contains this: append, read, open.
    part: Option<String>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        writeln!(
            io::stdout(),
            "log: measured by `cargo bench -p inkstone-benches --bench log` only"
        )?;
        return Ok(());
    }
    let wanted = |name: &str| {
        let part = arguments.part.as_deref();
        part.is_none_or(|part| name.contains(part))
    };
    let share = if arguments.quick { 8 } else { 1 };
    if wanted("append") {
        let mut table = Table::new("append (one process, fsynced)");
        append::measure(&mut table, share)?;
        table.print()?;
    }
    if wanted("read") {
        let mut table = Table::new("read (sealed segments in the page cache, one thread)");
        read::measure(&mut table, share)?;
        table.print()?;
    }
    if wanted("open") {
        let gigabytes = (arguments.gigabytes / share).max(1);
        let mut table = Table::new(format!("open ({gigabytes} GB in sealed segments)"));
        open::measure(&mut table, gigabytes)?;
        table.print()?;
    }
    Ok(())
}
