//! Clients that append records which say who wrote them, one batch after the other, until they are told to stop.

use anyhow::{Context as _, Result};
use inkstone_client::{AppendOptions, Client, NewRecord, Retry};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{PAUSE_AFTER_FAILURE, Run, outcome_of};
use crate::cluster::{Cluster, PATIENCE};
use crate::history::{Call, Outcome};
use crate::payload::{self, PayloadId};

/// How much is appended, and how.
#[derive(Debug, Clone, Copy)]
pub struct AppendersOptions {
    /// Clients at the same time that let the library retry.
    pub retrying: usize,
    /// Clients at the same time that try once.
    pub trying_once: usize,
    /// Clients at the same time that append at the offset where they last saw the log's end.
    pub conditional: usize,
    /// Records of a batch.
    pub batch: u32,
    /// Bytes of a body, at least.
    pub size: usize,
}

impl Default for AppendersOptions {
    fn default() -> Self {
        Self {
            retrying: 4,
            trying_once: 2,
            conditional: 1,
            batch: 1,
            size: 100,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Retrying,
    TryingOnce,
    Conditional,
}

/// Running append clients.
#[derive(Debug)]
pub struct Appenders {
    stop: watch::Sender<bool>,
    tasks: JoinSet<Result<()>>,
}

impl Appenders {
    /// Starts the clients. The log must exist.
    pub fn start(
        cluster: &Cluster,
        run: &Run,
        log: &str,
        options: AppendersOptions,
    ) -> Result<Self> {
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        let manners = [
            (Manner::Retrying, options.retrying),
            (Manner::TryingOnce, options.trying_once),
            (Manner::Conditional, options.conditional),
        ];
        for (manner, count) in manners {
            for _ in 0..count {
                let appender = Appender {
                    addresses: cluster.addresses(),
                    run: run.clone(),
                    log: log.to_owned(),
                    options,
                    manner,
                    expected_offset: 0,
                };
                tasks.spawn(appender.run_until(stop.subscribe()));
            }
        }
        Ok(Self { stop, tasks })
    }

    /// Lets every client finish what it has begun, and ends them.
    pub async fn stop(mut self) -> Result<()> {
        self.stop.send_replace(true);
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                ended??;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE * 2, all)
            .await
            .context("an append never ended")?
    }
}

struct Appender {
    addresses: Vec<String>,
    run: Run,
    log: String,
    options: AppendersOptions,
    manner: Manner,
    /// Where a conditional client believes that the log ends.
    expected_offset: u64,
}

impl Appender {
    async fn run_until(mut self, stop: watch::Receiver<bool>) -> Result<()> {
        while !*stop.borrow() {
            // An unknown append may take effect at any later time, so the next one can't come "after" it: it is
            // another client's.
            self.one_client(&stop).await?;
        }
        Ok(())
    }

    /// Appends under one client number until it is told to stop or an outcome is unknown.
    async fn one_client(&mut self, stop: &watch::Receiver<bool>) -> Result<()> {
        let number = self.run.new_client();
        let client = Client::builder()
            .servers(self.addresses.clone())
            .timeout(PATIENCE)
            .build()?;
        for first in (0_u32..).step_by(usize::try_from(self.options.batch)?) {
            if *stop.borrow() {
                return Ok(());
            }
            let ids: Vec<PayloadId> = (first..first + self.options.batch)
                .map(|sequence| PayloadId::new(number, sequence))
                .collect();
            match self.append(number, &client, ids).await {
                Outcome::Appended { first_offset } => {
                    self.expected_offset = first_offset + u64::from(self.options.batch);
                    self.run.progress.acknowledge();
                }
                Outcome::Mismatch { next_offset } => self.expected_offset = next_offset,
                Outcome::Unknown { .. } => {
                    sleep(PAUSE_AFTER_FAILURE).await;
                    return Ok(());
                }
                _ => sleep(PAUSE_AFTER_FAILURE).await,
            }
        }
        Ok(())
    }

    async fn append(&self, number: u32, client: &Client, ids: Vec<PayloadId>) -> Outcome {
        let size = self.options.size;
        let records = ids
            .iter()
            .map(|id| NewRecord::new(payload::encode(*id, size)))
            .collect();
        let expected_offset = (self.manner == Manner::Conditional).then_some(self.expected_offset);
        let retry = match self.manner {
            Manner::TryingOnce => Retry::Never,
            Manner::Retrying | Manner::Conditional => Retry::UntilTimeout,
        };
        let options = AppendOptions {
            expected_offset,
            retry,
            ..AppendOptions::default()
        };
        let call = Call::Append {
            ids,
            expected_offset,
        };
        let operation = self.run.history.invoke(number, None, &self.log, call);
        let outcome = match client.append_with(&self.log, records, options).await {
            Ok(receipt) => Outcome::Appended {
                first_offset: receipt.first_offset,
            },
            Err(error) => outcome_of(&error),
        };
        self.run.history.complete(operation, outcome.clone());
        outcome
    }
}
