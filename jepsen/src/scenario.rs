//! A whole run from start to verdict: a cluster, its load, the faults of a seed between so many appends, and the judgement.
//!
//! Promises: what went wrong says the seed and every step that was taken, and leaves the history and the nodes'
//! directories behind. Must not know: what a verdict has to be; that is its caller's.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use inkstone_client::IfExists;

use crate::checker::{self, Verdict};
use crate::clock::Clock;
use crate::cluster::{Cluster, ClusterOptions, Network};
use crate::history::History;
use crate::nemesis::{Fault, Schedule};
use crate::report;
use crate::workload::{AppendersOptions, Load, Run};

/// What is done in a run.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The cluster. Links that can be held are put between its nodes when a fault needs them.
    pub cluster: ClusterOptions,
    /// The log that is appended to.
    pub log: String,
    /// Who appends.
    pub appenders: AppendersOptions,
    /// The run goes on until so many appends were acknowledged...
    pub appends: u64,
    /// ...and at least so many faults were carried out.
    pub faults_min: usize,
    /// Appends that are acknowledged between two faults.
    pub calm: u64,
    /// The kinds of faults.
    pub faults: Vec<Fault>,
    /// What chooses among them.
    pub seed: u64,
}

/// How a run went.
#[derive(Debug)]
pub struct Ended {
    /// What the checkers say.
    pub verdict: Verdict,
    /// What was done to the cluster, in order.
    pub steps: Vec<String>,
    /// From the first append until the last answer, final reads included.
    pub elapsed: Duration,
    /// What the checkers took.
    pub checked_in: Duration,
    /// Where the history is, if the verdict is bad.
    pub history: Option<PathBuf>,
    seed: u64,
    /// Its nodes' directories live as long as this.
    cluster: Cluster,
}

impl Scenario {
    /// Starts the cluster, carries everything out, and judges. `tell` is told of each step when it is over.
    ///
    /// # Errors
    ///
    /// When the cluster does not do what a step waits for; the message has the seed, the steps and the nodes' last words.
    pub async fn run(mut self, mut tell: impl FnMut(&str)) -> Result<Ended> {
        if self.faults.iter().any(|fault| fault.needs_links()) {
            self.cluster.network = Network::Relayed;
        }
        let mut cluster = Cluster::start(self.cluster.clone()).await?;
        let clock = Clock::start();
        let run = Run::new(Arc::new(History::new(clock)));
        let mut steps = Vec::new();
        let went = self
            .carry_out(&mut cluster, &run, &mut steps, &mut tell)
            .await;
        if let Err(error) = went {
            let file = cluster.keep().join("history.jsonl");
            run.history.write_to(&file)?;
            return Err(error.context(format!(
                "seed {}, steps:\n{}{}history and nodes: {}",
                self.seed,
                list(&steps),
                cluster.last_words(),
                cluster.dir().display(),
            )));
        }
        let elapsed = clock.elapsed();
        let verdict = checker::check(&run.history.operations());
        let checked_in = clock.elapsed().saturating_sub(elapsed);
        let history = if verdict.is_valid() {
            None
        } else {
            let file = cluster.keep().join("history.jsonl");
            run.history.write_to(&file)?;
            Some(file)
        };
        Ok(Ended {
            verdict,
            steps,
            elapsed,
            checked_in,
            history,
            seed: self.seed,
            cluster,
        })
    }

    async fn carry_out(
        &self,
        cluster: &mut Cluster,
        run: &Run,
        steps: &mut Vec<String>,
        tell: &mut impl FnMut(&str),
    ) -> Result<()> {
        let client = cluster.client()?;
        client.create_log(&self.log, IfExists::Fail).await?;
        let load = Load::start(&*cluster, run, &self.log, self.appenders).await?;
        let mut schedule = Schedule::new(self.seed, &self.faults);
        while run.progress.acked() < self.appends || steps.len() < self.faults_min {
            if let Some(step) = schedule.next() {
                let done = step.carry_out(cluster, run, &self.log).await;
                let done = done.context("a step failed")?;
                let acked = run.progress.acked();
                tell(&format!("{acked} appends acknowledged: {done}"));
                steps.push(done);
            }
            run.progress.wait_for_more(self.calm).await?;
        }
        load.finish(&*cluster, run).await
    }
}

fn list(steps: &[String]) -> String {
    let mut text = String::new();
    for (number, step) in steps.iter().enumerate() {
        writeln!(text, "  {number}. {step}").expect("a String takes all");
    }
    text
}

impl Ended {
    /// The verdict in words; if it is bad, with the seed, the steps, and where the evidence is.
    pub fn text(&self) -> String {
        let mut text = report::text(&self.verdict);
        if let Some(history) = &self.history {
            let steps = list(&self.steps);
            let (seed, history) = (self.seed, history.display());
            write!(text, "seed {seed}, steps:\n{steps}history: {history}\n")
                .expect("a String takes all");
        }
        text
    }

    /// How many nodes there were.
    pub fn nodes(&self) -> usize {
        self.cluster.len()
    }
}
