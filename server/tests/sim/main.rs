//! The server's own code, whole clusters of it, in a simulation in which a seed decides everything: what the network
//! delivers when, when disks are done, who crashes with what of it on the disk, and what clients do meanwhile. In most runs
//! the log is trimmed while it grows, so that nodes which were away come back by a snapshot; in every other one an operator
//! changes who takes part and who leads. Processes also stand still for a while, and wake up with
//! what they believed; clocks are set ahead and back, and run slow.
//!
//! Read `simulation` (a run), `machine` (a disk and what runs on it), `process` and `sockets` (how it runs, and stands
//! still), `faults`, `operator`, `effects` (what became of them), `invariants`, `states`, `quorums`. The clients and the
//! checkers are those of `jepsen`. A run has a process of its own, because tokio, hash maps and openraft take their randomness from
//! the process: there a generator with the run's seed stands in its place, and turmoil's time in that of the clocks.
//! For the same reason this target has no harness: whoever waits for a time in it never stops to.
//!
//! Other seeds, other sizes, and what happened in one of them:
//!
//! ```text
//! INKSTONE_SIM_SEEDS=1-500 INKSTONE_SIM_NODES=5 cargo test -p inkstone-server --test sim seeds
//! INKSTONE_SIM_SEEDS=17 INKSTONE_SIM_TRACE=trace.txt cargo test -p inkstone-server --test sim seeds
//! ```

mod effects;
mod faults;
mod invariants;
mod machine;
mod network;
mod operator;
mod process;
mod quorums;
mod simulation;
mod sockets;
mod states;
mod trace;

use std::ops::RangeInclusive;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use mad_turmoil::time::SimClocksGuard;
use mad_turmoil_rand::SeedableRng as _;
use mad_turmoil_rand::rngs::StdRng;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::simulation::{Settings, run};

/// The seed of the run in this process.
const RUN: &str = "INKSTONE_SIM_RUN";
const SEEDS: &str = "INKSTONE_SIM_SEEDS";
const NODES: &str = "INKSTONE_SIM_NODES";
const TRACE: &str = "INKSTONE_SIM_TRACE";
/// Seconds of a processor that a run may take: one that hangs says so.
const CPU_SECONDS_MAX: u64 = 180;
/// Runs at a time.
const PROCESSES: usize = 2;

/// What is run when nothing else is asked for: seeds, and how many nodes.
const FIXED: [(&str, usize); 2] = [("1-5", 3), ("1-2", 5)];

type Test = (&'static str, fn() -> Result<()>);

const TESTS: [Test; 2] = [
    ("a_seed_is_a_run", a_seed_is_a_run),
    ("seeds_break_no_promise", seeds_break_no_promise),
];

fn main() -> ExitCode {
    if let Some(seed) = variable(RUN) {
        return told("a run", run_in_this_process(&seed));
    }
    // As much as `cargo test NAME -- FLAGS` needs that goes to all targets.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_name = |it: &&String| !it.starts_with('-') && it.parse::<u64>().is_err();
    let names: Vec<&String> = arguments.iter().filter(is_name).collect();
    let wanted = |(name, _): &&Test| names.is_empty() || names.iter().any(|it| name.contains(*it));
    let mut all = ExitCode::SUCCESS;
    for (name, test) in TESTS.iter().filter(wanted) {
        if arguments.iter().any(|argument| argument == "--list") {
            say(&format!("{name}: test"));
            continue;
        }
        let code = told(name, test());
        if code != ExitCode::SUCCESS {
            all = code;
        }
    }
    all
}

#[expect(clippy::print_stdout, reason = "what a harness would print")]
fn say(text: &str) {
    println!("{text}");
}

fn told(name: &str, outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => {
            say(&format!("{name} ... ok"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("{name} ... FAILED: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// `7`, or `1-500`.
fn parse_seeds(text: &str) -> Result<RangeInclusive<u64>> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let parse = |text: &str| {
        text.trim()
            .parse()
            .context("INKSTONE_SIM_SEEDS: 7, or 1-500")
    };
    Ok(parse(from)?..=parse(to)?)
}

/// What a run said last, if it went well.
fn in_a_process_of_its_own(seed: u64, nodes: usize) -> Result<String> {
    let output = Command::new(std::env::current_exe()?)
        .env(RUN, seed.to_string())
        .env(NODES, nodes.to_string())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().find(|line| line.contains("digest"));
    let again =
        format!("{SEEDS}={seed} {NODES}={nodes} cargo test -p inkstone-server --test sim seeds");
    let complained = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "seed {seed} of {nodes} nodes ({}); again with: {again}\n{said}{complained}",
        output.status
    );
    Ok(line.context("it says nothing")?.to_owned())
}

/// The body of a process that one of the tests has started.
fn run_in_this_process(seed: &str) -> Result<()> {
    setrlimit(
        Resource::Cpu,
        Rlimit {
            current: Some(CPU_SECONDS_MAX),
            maximum: None,
        },
    )?;
    let settings = Settings {
        seed: seed.parse()?,
        nodes: variable(NODES).map_or(Ok(3), |nodes| nodes.parse())?,
        trace: variable(TRACE),
    };
    mad_turmoil::rand::set_rng(StdRng::seed_from_u64(settings.seed));
    let ended = {
        let _clocks = SimClocksGuard::init();
        run(&settings)?
    };
    let counts = ended.verdict.counts;
    say(&format!(
        "seed {} digest {} faults {} terms {} acked {} unknown {} reads {} trims {} {}",
        settings.seed,
        ended.digest,
        ended.faults,
        ended.terms,
        counts.appends_acked,
        counts.appends_unknown,
        counts.tails + counts.reads,
        counts.trims,
        ended.effects,
    ));
    Ok(())
}

/// Runs all of them, some at a time; what went wrong with each that did.
fn run_all(seeds: RangeInclusive<u64>, nodes: usize) -> Vec<String> {
    let (next, last) = (AtomicU64::new(*seeds.start()), *seeds.end());
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..PROCESSES {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > last {
                        return;
                    }
                    match in_a_process_of_its_own(seed, nodes) {
                        Ok(line) => say(&line),
                        Err(error) => {
                            say(&format!("{error:#}"));
                            let mut failures =
                                failures.lock().unwrap_or_else(PoisonError::into_inner);
                            failures.push(format!("{error:#}"));
                        }
                    }
                }
            });
        }
    });
    failures
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
}

fn seeds_break_no_promise() -> Result<()> {
    let asked = [SEEDS, NODES].map(variable);
    let runs = match &asked {
        [None, None] => FIXED.to_vec(),
        [seeds, nodes] => {
            let nodes = nodes.as_deref().map_or(Ok(3), str::parse)?;
            vec![(seeds.as_deref().unwrap_or("1-100"), nodes)]
        }
    };
    let mut failures = Vec::new();
    for (seeds, nodes) in runs {
        failures.extend(run_all(parse_seeds(seeds)?, nodes));
    }
    ensure!(
        failures.is_empty(),
        "{} runs failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
    Ok(())
}

fn a_seed_is_a_run() -> Result<()> {
    let runs = thread::scope(|scope| {
        let runs = [(); 2].map(|()| scope.spawn(|| in_a_process_of_its_own(17, 3)));
        runs.map(|run| run.join().expect("it does not panic"))
    });
    let [one, other] = runs;
    assert_eq!(one?, other?);
    Ok(())
}
