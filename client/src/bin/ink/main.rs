//! `ink`, Inkstone's command line: parses, calls the one file of the command, and turns what went wrong into one line
//! and an exit code.
//!
//! Exit codes are a promise to scripts: 0 ok, 1 refused or failed without effect, 2 usage, 3 outcome unknown. Only
//! `output.rs` prints.

mod append;
mod arguments;
mod cluster;
mod completions;
mod logs;
mod output;
mod read;
mod report;
mod search;
mod time;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use inkstone_client::Client;

use crate::output::{Format, Output};

const AFTER_HELP: &str = "\
Exit codes: 0 ok; 1 refused or failed, nothing was changed by the request that failed; 2 usage;
3 outcome unknown: the request may or may not have taken effect.";

/// The command line of Inkstone, a replicated, append-only log that you can search.
#[derive(Debug, Parser)]
#[command(name = "ink", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
struct Ink {
    /// Servers to ask, HOST:PORT[,HOST:PORT..]
    #[arg(
        long,
        env = "INK_SERVER",
        default_value = "127.0.0.1:7420",
        value_name = "HOST:PORT",
        hide_env_values = true,
        global = true,
        help_heading = "Global options"
    )]
    server: String,
    /// How long a request may take, retries included: 500ms, 10s, 2m
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = time::parse_duration, global = true, help_heading = "Global options")]
    timeout: Duration,
    /// How data is printed [default: table for `logs list`, `logs show` and `cluster status`, else text]
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        global = true,
        help_heading = "Global options"
    )]
    output: Option<Format>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create, list, show, alter, trim and delete logs
    Logs(logs::Logs),
    /// Append records, one per line, from a file or standard input
    Append(append::Append),
    /// Print the records of a log
    Read(read::Read),
    /// Search a log, newest records first
    Search(search::Search),
    /// Show the cluster, change its members, move its leader
    Cluster(cluster::Cluster),
    /// Print a completion script
    Completions(completions::Completions),
}

fn main() -> ExitCode {
    let ink = match Ink::try_parse() {
        Ok(ink) => ink,
        // Help and the version are answers, too: one that can't be printed is a failure.
        Err(answer) => {
            return match answer.print() {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::from(1),
                _ => ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(2)),
            };
        }
    };
    let mut output = Output::new(ink.output);
    match run(ink, &mut output).and_then(|()| Ok(output.finish()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report::report(&error, &mut output),
    }
}

fn run(ink: Ink, output: &mut Output) -> anyhow::Result<()> {
    if let Command::Completions(completions) = &ink.command {
        return completions.run(output);
    }
    let timeout = ink.timeout;
    let client = Client::builder()
        .servers(ink.server)
        .timeout(ink.timeout)
        .build();
    let client = client.map_err(|error| report::Usage::from_error(&error))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        match ink.command {
            Command::Logs(logs) => logs.run(&client, output).await,
            Command::Append(append) => Box::pin(append.run(&client, output)).await,
            Command::Read(read) => read.run(&client, output).await,
            Command::Search(search) => search.run(&client, timeout, output).await,
            Command::Cluster(cluster) => Box::pin(cluster.run(&client, output)).await,
            Command::Completions(completions) => completions.run(output),
        }
    });
    // A read of standard input can't be interrupted: don't wait for it.
    runtime.shutdown_background();
    outcome
}
