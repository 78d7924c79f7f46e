//! Clients that look at a log while it grows: its end, and its last records, each time at another node.

use std::time::Duration;

use anyhow::{Context as _, Result};
use inkstone_client::{Client, Consistency, ReadOptions, Start};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::final_read::read;
use super::{PAUSE_AFTER_FAILURE, Run, outcome_of};
use crate::cluster::PATIENCE;
use crate::history::{Call, Level, Outcome};
use crate::reach::Reach;

/// Running observers.
#[derive(Debug)]
pub struct Observers {
    stop: watch::Sender<bool>,
    tasks: JoinSet<Result<()>>,
}

impl Observers {
    /// Starts one observer per node, which asks this node only: whoever is deposed or lags must say so or wait, never
    /// answer from the past.
    pub fn start(nodes: impl Into<Reach>, run: &Run, log: &str) -> Result<Self> {
        let nodes = nodes.into();
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        for node in 0..nodes.addresses.len() {
            // Shorter than a fault lasts: an observer that waits for a dead node sees nothing.
            let timeout = Duration::from_secs(2);
            let client = nodes.client_of(node, timeout)?;
            let observer = Observer {
                client,
                node,
                run: run.clone(),
                log: log.to_owned(),
                end: 0,
            };
            tasks.spawn(observer.run_until(stop.subscribe()));
        }
        Ok(Self { stop, tasks })
    }

    /// Ends them.
    pub async fn stop(mut self) -> Result<()> {
        self.stop.send_replace(true);
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                ended??;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, all)
            .await
            .context("an observer never ended")?
    }
}

struct Observer {
    client: Client,
    node: usize,
    run: Run,
    log: String,
    /// Where the log ended when this observer looked last.
    end: u64,
}

impl Observer {
    async fn run_until(mut self, stop: watch::Receiver<bool>) -> Result<()> {
        for turn in 0_u32.. {
            if *stop.borrow() {
                break;
            }
            let outcome = match turn % 4 {
                0 | 1 => self.tail(Level::Linearizable).await,
                2 => self.read(Level::Linearizable).await?,
                _ => self.read(Level::Stale).await?,
            };
            if matches!(outcome, Outcome::Refused { .. } | Outcome::Unknown { .. }) {
                sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
        Ok(())
    }

    async fn tail(&mut self, level: Level) -> Outcome {
        let call = Call::Tail { level };
        let operation =
            self.run
                .history
                .invoke(self.run.new_client(), Some(self.node), &self.log, call);
        let outcome = match self.client.tail(&self.log, consistency(level)).await {
            Ok(tail) => {
                self.end = tail.next_offset;
                Outcome::Tail {
                    next_offset: tail.next_offset,
                }
            }
            Err(error) => outcome_of(&error),
        };
        self.run.history.complete(operation, outcome.clone());
        outcome
    }

    /// Reads the last records that it knows of, and what came since.
    async fn read(&mut self, level: Level) -> Result<Outcome> {
        let from = self.end.saturating_sub(10);
        let options = ReadOptions {
            from: Start::Offset(from),
            consistency: consistency(level),
            ..ReadOptions::new(self.log.clone())
        };
        let call = Call::Read { from, level };
        let operation =
            self.run
                .history
                .invoke(self.run.new_client(), Some(self.node), &self.log, call);
        let outcome = match read(&self.client, options).await? {
            Ok(outcome) => outcome,
            Err(error) => outcome_of(&error),
        };
        self.run.history.complete(operation, outcome.clone());
        Ok(outcome)
    }
}

fn consistency(level: Level) -> Consistency {
    match level {
        Level::Stale => Consistency::Stale,
        Level::AtLeast(offset) => Consistency::AtLeast(offset),
        Level::Linearizable => Consistency::Linearizable,
    }
}
