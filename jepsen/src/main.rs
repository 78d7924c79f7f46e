//! `inkstone-jepsen`: long fault runs from the command line. What they are made of stands in the library.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Parser, Subcommand};
use inkstone_jepsen::checker;
use inkstone_jepsen::cluster::ClusterOptions;
use inkstone_jepsen::history::History;
use inkstone_jepsen::nemesis::Fault;
use inkstone_jepsen::report;
use inkstone_jepsen::scenario::{Ended, Scenario};
use inkstone_jepsen::workload::AppendersOptions;

/// Real Inkstone clusters under faults.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a cluster, append while it is broken, and judge what its clients saw.
    Run(RunArguments),
    /// Judge a history that an earlier run has left.
    Check {
        /// The file (`history.jsonl`).
        history: PathBuf,
    },
}

#[derive(Debug, Args)]
struct RunArguments {
    /// Nodes of the cluster.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Clients that append, every one with retries on; half of them use sessions.
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// Appends that are to be acknowledged.
    #[arg(long, default_value_t = 200_000)]
    appends: u64,
    /// Records of an append.
    #[arg(long, default_value_t = 1)]
    batch: u32,
    /// Bytes of a record, at least.
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// Kinds of faults, with commas; `pause` and `partition` stand for all of their kind.
    #[arg(long, default_value = "kill-leader,kill-follower,pause,restart-all")]
    faults: String,
    /// Appends that are acknowledged between two faults.
    #[arg(long, default_value_t = 4_000)]
    calm: u64,
    /// Chooses the order of the faults, and whom they meet.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Bytes of a segment file.
    #[arg(long, default_value_t = 16 << 20)]
    segment_size: u64,
    /// The server to test [default: `inkstone` beside this program].
    #[arg(long, env = "INKSTONE_BIN")]
    server: Option<PathBuf>,
    /// Where the nodes' directories go; it is kept [default: a temporary one, kept only if something is wrong].
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[expect(clippy::print_stdout, reason = "a command's output")]
fn say(text: &str) {
    println!("{text}");
}

fn main() -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let valid = match Arguments::parse().command {
        Command::Run(arguments) => runtime.block_on(run(arguments))?,
        Command::Check { history } => check(&history)?,
    };
    Ok(if valid {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn run(arguments: RunArguments) -> Result<bool> {
    let scenario = scenario(arguments)?;
    let (seed, appends) = (scenario.seed, scenario.appends);
    say(&format!(
        "{} nodes, seed {seed}, {appends} appends",
        scenario.cluster.nodes
    ));
    let ended = scenario.run(say).await?;
    say(&figures(&ended));
    Ok(ended.verdict.is_valid())
}

fn figures(ended: &Ended) -> String {
    let seconds = ended.elapsed.as_secs_f64();
    format!(
        "{} faults in {seconds:.0} s, judged in {:.1} s\n{}",
        ended.steps.len(),
        ended.checked_in.as_secs_f64(),
        ended.text(),
    )
}

fn scenario(arguments: RunArguments) -> Result<Scenario> {
    ensure!(arguments.nodes > 0, "--nodes 0: a cluster has nodes");
    ensure!(arguments.batch > 0, "--batch 0: an append has records");
    let server = match arguments.server {
        Some(server) => server,
        None => std::env::current_exe()?.with_file_name("inkstone"),
    };
    ensure!(
        server.exists(),
        "there is no server at {}: build it (cargo build --release -p inkstone-server), or name it with --server",
        server.display()
    );
    let faults = Fault::list(&arguments.faults).context("--faults")?;
    Ok(Scenario {
        cluster: ClusterOptions {
            nodes: arguments.nodes,
            dir: arguments.dir,
            tables: format!("[log]\nsegment_size = {}\n", arguments.segment_size),
            ..ClusterOptions::new(server)
        },
        log: "faults/appends".to_owned(),
        appenders: AppendersOptions {
            batch: arguments.batch,
            size: arguments.size,
            ..AppendersOptions::retrying(arguments.clients)
        },
        appends: arguments.appends,
        faults_min: 1,
        calm: arguments.calm,
        faults,
        seed: arguments.seed,
    })
}

fn check(history: &std::path::Path) -> Result<bool> {
    let operations =
        History::read_from(history).with_context(|| format!("reading {}", history.display()))?;
    let verdict = checker::check(&operations);
    say(&report::text(&verdict));
    Ok(verdict.is_valid())
}
