//! Appends: one batch, one answer.
//!
//! By default every append is numbered, so that it can be retried without harm. A *lane* is one producer with one
//! append in flight: concurrent appends take different lanes, so that no sequence ever waits for another. A lane whose
//! last outcome is unknown, or whose append was cancelled, is thrown away, because nobody knows its next sequence.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::call::{Call, logs};
use crate::client::Client;
use crate::error::{Error, Reason, Result};
use crate::retry::{Attempts, RetryPolicy, Safety};
use crate::route::Aim;
use crate::types::{AppendOptions, NewRecord, Producer, ProducerChoice, Receipt, Retry};
use crate::wire;

/// Appends of one client that are in flight at once; more wait. It bounds the lanes, too.
const APPENDS_MAX: usize = 256;
/// Logs for which idle lanes are kept. At the bound all are dropped; they cost nothing but a new producer id.
const LANE_LOGS_MAX: usize = 1_024;

impl Client {
    /// Appends one batch, exactly once however often it has to be sent, and answers when it is durable on a majority.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] if time ran out while it was not clear whether the batch took effect. Every other error
    /// means that it did not and will not.
    ///
    /// ```no_run
    /// # async fn example() -> inkstone_client::Result<()> {
    /// use inkstone_client::Client;
    ///
    /// let client = Client::connect("127.0.0.1:7420")?;
    /// let receipt = client.append("audit", vec!["login alice".into(), "logout alice".into()]).await?;
    /// assert_eq!(receipt.records(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn append(&self, log: &str, records: Vec<NewRecord>) -> Result<Receipt> {
        self.append_with(log, records, AppendOptions::default())
            .await
    }

    /// Appends one batch, as the options say.
    ///
    /// With [`ProducerChoice::None`] an append is sent again only if it certainly had no effect.
    ///
    /// ```no_run
    /// # async fn example(client: inkstone_client::Client) -> inkstone_client::Result<()> {
    /// use inkstone_client::{AppendOptions, Reason};
    ///
    /// // Compare and append: only if nobody appended since offset 42.
    /// let options = AppendOptions { expected_offset: Some(42), ..AppendOptions::default() };
    /// match client.append_with("audit", vec!["mine".into()], options).await {
    ///     Err(error) if error.reason() == Some(Reason::OffsetMismatch) => {
    ///         let actual = error.detail().and_then(|detail| detail.next_offset);
    ///         eprintln!("somebody was first; the log's next offset is {actual:?}");
    ///     }
    ///     other => drop(other?),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn append_with(
        &self,
        log: &str,
        records: Vec<NewRecord>,
        options: AppendOptions,
    ) -> Result<Receipt> {
        let core = &self.core;
        let policy = match options.retry {
            Retry::UntilTimeout => core.policy,
            Retry::Never => RetryPolicy {
                tries_max: 1,
                ..core.policy
            },
        };
        let timeout = options.timeout.unwrap_or(core.timeout);
        let safety = match options.producer {
            ProducerChoice::None => Safety::Once,
            ProducerChoice::Auto | ProducerChoice::Given(_) => Safety::Idempotent,
        };
        let call = Call {
            aim: Aim::Leader,
            safety,
            timeout,
            policy,
        };
        core.find_leader().await;
        let expected = options.expected_offset;
        let deadline = Instant::now() + timeout;
        let numbered = |producer| wire::append_request(log, records.clone(), expected, producer);
        match options.producer {
            ProducerChoice::None => self.append_once(call, deadline, numbered(None)).await,
            ProducerChoice::Given(producer) => {
                self.append_once(call, deadline, numbered(Some(producer)))
                    .await
            }
            ProducerChoice::Auto => self.append_in_lane(log, call, deadline, numbered).await,
        }
    }

    async fn append_in_lane(
        &self,
        log: &str,
        call: Call,
        deadline: Instant,
        numbered: impl Fn(Option<Producer>) -> inkstone_proto::v1::AppendRequest,
    ) -> Result<Receipt> {
        let lanes = &self.core.lanes;
        let Ok(_permit) = lanes.permits.acquire().await else {
            return Err(Error::invalid("the client is closed"));
        };
        let mut lane = lanes.take(log);
        let mut outcome = self.append_once(call, deadline, numbered(Some(lane))).await;
        if let Err(error) = &outcome
            && matches!(
                error.reason(),
                Some(Reason::SequenceGap | Reason::ProducerFenced)
            )
        {
            // The cluster has forgotten an idle producer, or knows another writer by the same random id. This append
            // certainly had no effect, so a new producer may carry it.
            lane = fresh();
            outcome = self.append_once(call, deadline, numbered(Some(lane))).await;
        }
        match &outcome {
            Ok(_) => lanes.give_back(
                log,
                Producer {
                    sequence: lane.sequence + 1,
                    ..lane
                },
            ),
            Err(error) if error.is_definite() => lanes.give_back(log, lane),
            Err(_) => {}
        }
        outcome
    }

    async fn append_once(
        &self,
        call: Call,
        deadline: Instant,
        request: inkstone_proto::v1::AppendRequest,
    ) -> Result<Receipt> {
        let attempts = Attempts::new(call.policy, call.safety, deadline);
        let append = |channel| {
            let request = request.clone();
            async move { logs(channel).append(request).await }
        };
        let answer = self.core.call_attempts(call, attempts, append).await?;
        let answer = answer.into_inner();
        if let Some(leader) = &answer.leader {
            // It was passed on: the next one goes there directly.
            self.core.route.leads(&leader.client_address);
        }
        Ok(answer.into())
    }
}

/// The producers of one client that are not in use, each with its next sequence.
#[derive(Debug)]
pub(crate) struct Lanes {
    idle: Mutex<HashMap<String, Vec<Producer>>>,
    permits: Semaphore,
}

impl Lanes {
    pub(crate) fn new() -> Self {
        Self {
            idle: Mutex::default(),
            permits: Semaphore::new(APPENDS_MAX),
        }
    }

    /// The lane that was used last: one that appends one by one uses one producer.
    fn take(&self, log: &str) -> Producer {
        self.idle
            .lock()
            .get_mut(log)
            .and_then(Vec::pop)
            .unwrap_or_else(fresh)
    }

    fn give_back(&self, log: &str, lane: Producer) {
        let mut idle = self.idle.lock();
        if let Some(lanes) = idle.get_mut(log) {
            lanes.push(lane);
            return;
        }
        if idle.len() >= LANE_LOGS_MAX {
            idle.clear();
        }
        idle.insert(log.to_owned(), vec![lane]);
    }
}

/// A producer that nobody has used.
pub(crate) fn fresh() -> Producer {
    Producer {
        id: rand::random_range(1..=u64::MAX),
        epoch: 0,
        sequence: 0,
    }
}
