//! Clients that append records which say who wrote them, one batch after the other, until they are told to stop.

use std::collections::VecDeque;

use anyhow::{Context as _, Result};
use inkstone_client::{
    AppendOptions, Client, Error, NewRecord, Producer, ProducerChoice, Reason, Retry,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::sessions::SessionAppender;
use super::{PAUSE_AFTER_FAILURE, Run, outcome_of};
use crate::cluster::PATIENCE;
use crate::history::{Call, Outcome};
use crate::payload::{self, PayloadId};
use crate::reach::Reach;

/// How much is appended, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendersOptions {
    /// Clients at the same time that let the library retry.
    pub retrying: usize,
    /// Clients at the same time that try once.
    pub trying_once: usize,
    /// Clients at the same time that append at the offset where they last saw the log's end.
    pub conditional: usize,
    /// The same without a producer: what becomes unknown is never sent again.
    pub conditional_unnumbered: usize,
    /// Clients at the same time that number their appends, and send some again that were acknowledged.
    pub asking_again: usize,
    /// Clients at the same time that use sessions.
    pub sessions: usize,
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
            ..Self::NONE
        }
    }
}

impl AppendersOptions {
    /// No clients, single records of 100 bytes.
    pub const NONE: Self = Self {
        retrying: 0,
        trying_once: 0,
        conditional: 0,
        conditional_unnumbered: 0,
        asking_again: 0,
        sessions: 0,
        batch: 1,
        size: 100,
    };

    /// So many clients, every one with retries on: half of them use sessions, the others append in turn, number their
    /// appends themselves, or append conditionally.
    pub fn retrying(clients: usize) -> Self {
        let others = clients / 2;
        let conditional = others / 4;
        let asking_again = (others - conditional) / 2;
        Self {
            sessions: clients - others,
            conditional,
            asking_again,
            retrying: others - conditional - asking_again,
            ..Self::NONE
        }
    }
}

/// The ids of a client's `number`-th batch.
pub(super) fn ids(client: u32, number: u32, batch: u32) -> Vec<PayloadId> {
    let first = number * batch;
    (first..first + batch)
        .map(|sequence| PayloadId::new(client, sequence))
        .collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Retrying,
    TryingOnce,
    Conditional,
    ConditionalUnnumbered,
    AskingAgain,
}

impl Manner {
    fn is_conditional(self) -> bool {
        matches!(self, Self::Conditional | Self::ConditionalUnnumbered)
    }
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
        nodes: impl Into<Reach>,
        run: &Run,
        log: &str,
        options: AppendersOptions,
    ) -> Result<Self> {
        let nodes = nodes.into();
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        let manners = [
            (Manner::Retrying, options.retrying),
            (Manner::TryingOnce, options.trying_once),
            (Manner::Conditional, options.conditional),
            (
                Manner::ConditionalUnnumbered,
                options.conditional_unnumbered,
            ),
            (Manner::AskingAgain, options.asking_again),
        ];
        for (manner, count) in manners {
            for _ in 0..count {
                let appender = Appender {
                    nodes: nodes.clone(),
                    run: run.clone(),
                    log: log.to_owned(),
                    options,
                    manner,
                    expected_offset: 0,
                };
                tasks.spawn(appender.run_until(stop.subscribe()));
            }
        }
        for _ in 0..options.sessions {
            let appender = SessionAppender {
                nodes: nodes.clone(),
                run: run.clone(),
                log: log.to_owned(),
                options,
            };
            tasks.spawn(appender.run_until(stop.subscribe()));
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
    nodes: Reach,
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
        let client = self.nodes.client()?;
        let mut numbered = Numbered::new(number);
        for batch in 0_u32.. {
            if *stop.borrow() {
                return Ok(());
            }
            let ids = ids(number, batch, self.options.batch);
            let producer = self.producer(&numbered);
            match self.append(number, &client, ids.clone(), producer).await {
                Outcome::Appended { first_offset } => {
                    self.expected_offset = first_offset + u64::from(self.options.batch);
                    self.run.progress.acknowledge();
                    numbered.acknowledged(ids);
                    if self.manner == Manner::AskingAgain && batch % ASK_EVERY == ASK_EVERY - 1 {
                        self.ask_again(number, &client, &numbered).await;
                    }
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

    fn producer(&self, numbered: &Numbered) -> ProducerChoice {
        match self.manner {
            Manner::ConditionalUnnumbered => ProducerChoice::None,
            Manner::AskingAgain => ProducerChoice::Given(numbered.next),
            Manner::Retrying | Manner::TryingOnce | Manner::Conditional => ProducerChoice::Auto,
        }
    }

    async fn append(
        &self,
        number: u32,
        client: &Client,
        ids: Vec<PayloadId>,
        producer: ProducerChoice,
    ) -> Outcome {
        let records = self.records(&ids);
        let expected_offset = self.manner.is_conditional().then_some(self.expected_offset);
        let retry = match self.manner {
            Manner::TryingOnce => Retry::Never,
            _ => Retry::UntilTimeout,
        };
        let options = AppendOptions {
            expected_offset,
            producer,
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

    /// Sends the oldest append whose receipt must still be kept once more.
    async fn ask_again(&self, number: u32, client: &Client, numbered: &Numbered) {
        let Some((producer, ids)) = numbered.oldest() else {
            return;
        };
        let options = AppendOptions {
            producer: ProducerChoice::Given(producer),
            ..AppendOptions::default()
        };
        let records = self.records(&ids);
        let call = Call::Again { ids };
        let operation = self.run.history.invoke(number, None, &self.log, call);
        let answer = client.append_with(&self.log, records, options).await;
        self.run
            .history
            .complete(operation, outcome_again(answer.map(|r| r.first_offset)));
    }

    fn records(&self, ids: &[PayloadId]) -> Vec<NewRecord> {
        ids.iter()
            .map(|id| NewRecord::new(payload::encode(*id, self.options.size)))
            .collect()
    }
}

/// What an append that had been acknowledged was answered with when it was sent again.
fn outcome_again(answer: Result<u64, Error>) -> Outcome {
    match answer {
        Ok(first_offset) => Outcome::Appended { first_offset },
        Err(error) => match error.detail().map(|detail| detail.reason) {
            Some(Reason::ReceiptForgotten | Reason::SequenceGap | Reason::ProducerFenced) => {
                Outcome::Forgotten {
                    why: error.to_string(),
                }
            }
            _ => outcome_of(&error),
        },
    }
}

/// How many appends are made for each that is sent again.
const ASK_EVERY: u32 = 8;
/// Receipts that a cluster keeps of one producer.
const RECEIPTS_KEPT: usize = 16;

/// A client that numbers its appends itself, and its last acknowledged ones.
#[derive(Debug)]
struct Numbered {
    next: Producer,
    kept: VecDeque<(Producer, Vec<PayloadId>)>,
}

impl Numbered {
    fn new(client: u32) -> Self {
        let next = Producer {
            id: u64::from(client) + 1,
            epoch: 0,
            sequence: 0,
        };
        Self {
            next,
            kept: VecDeque::new(),
        }
    }

    fn acknowledged(&mut self, ids: Vec<PayloadId>) {
        if self.kept.len() == RECEIPTS_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((self.next, ids));
        self.next.sequence += 1;
    }

    fn oldest(&self) -> Option<(Producer, Vec<PayloadId>)> {
        self.kept.front().cloned()
    }
}
