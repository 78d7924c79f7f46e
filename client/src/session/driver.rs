//! The task of an append session: sends, keeps what is unanswered, reconnects, sends again.
//!
//! # Invariants
//!
//! `unanswered` holds the batches with neighbouring sequences, oldest first, and is all that a new connection must
//! send again. A batch leaves it only with an answer. Answers come in the order of the batches, so each belongs to the
//! front, and an error belongs to the front, too.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use inkstone_proto::v1;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{IN_FLIGHT_MAX, Submitted, not_sent};
use crate::call::{logs, silence};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::retry::{Attempts, Failure, Safety, Verdict};
use crate::route::{Aim, Target};
use crate::types::{Producer, Receipt};
use crate::wire;

pub(super) struct Driver {
    client: Client,
    log: String,
    /// With the sequence of the next batch.
    producer: Producer,
    queue: mpsc::Receiver<Submitted>,
    /// The handle is gone: no more batches come.
    closed: bool,
    unanswered: VecDeque<Unanswered>,
    end: Arc<OnceLock<Error>>,
}

/// A batch that may have to be sent again.
struct Unanswered {
    request: v1::AppendRequest,
    deadline: Instant,
    answer: oneshot::Sender<Result<Receipt>>,
    _permit: OwnedSemaphorePermit,
    sent: Sent,
}

/// Where a batch may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// Only here.
    Never,
    /// On the present connection, and nowhere else.
    Now,
    /// On an earlier connection, whose answer was lost.
    Before,
}

/// One connection, from the first batch to its loss.
struct Connection {
    target: Target,
    requests: mpsc::Sender<v1::AppendRequest>,
    answers: Streaming<v1::AppendResponse>,
}

/// Why a connection was left that had not failed.
enum Left {
    /// Everything is answered, and the handle is gone.
    Done,
    /// Another server leads.
    ForLeader,
}

/// What woke the task.
enum Event {
    Answer(std::result::Result<Option<v1::AppendResponse>, tonic::Status>),
    Batch(Option<Submitted>),
    Silence,
}

impl Driver {
    pub(super) fn new(
        client: Client,
        log: String,
        producer: Producer,
        queue: mpsc::Receiver<Submitted>,
        end: Arc<OnceLock<Error>>,
    ) -> Self {
        let unanswered = VecDeque::with_capacity(IN_FLIGHT_MAX);
        Self {
            client,
            log,
            producer,
            queue,
            closed: false,
            unanswered,
            end,
        }
    }

    /// Runs until the handle is gone and everything is answered, or until a batch has failed.
    pub(super) async fn run(mut self) {
        let mut attempts: Option<Attempts> = None;
        while self.wait_for_work().await {
            self.client.core.find_leader().await;
            let before = self.answered();
            let (failure, target) = match self.connection().await {
                Ok(Left::Done) => return,
                Ok(Left::ForLeader) => {
                    // What is on the way may take effect: it is sent again, under the same sequences.
                    self.mark_lost(None);
                    attempts = None;
                    continue;
                }
                Err(failed) => failed,
            };
            if let Some(target) = target {
                self.client.core.route.failed(&target.address, &failure);
            }
            if self.answered() != before {
                attempts = None;
            }
            let Some(head) = self.unanswered.front() else {
                continue;
            };
            let policy = self.client.core.policy;
            let known = Attempts::new(policy, Safety::Idempotent, head.deadline);
            let tries = attempts.take().unwrap_or(known);
            let mut tries = if head.sent == Sent::Before {
                tries.doubtful()
            } else {
                tries
            };
            self.mark_lost(Some(&failure));
            match tries.judge(failure, Instant::now(), rand::random()) {
                Verdict::Again(wait) => sleep(wait).await,
                Verdict::Answer(error) => return self.fail(&error),
            }
            attempts = Some(tries);
        }
    }

    /// How many batches have been answered: the sequence of the front one tells.
    fn answered(&self) -> u64 {
        self.producer.sequence - self.unanswered.len() as u64
    }

    /// Waits for a batch if none is left over. False: there is none and there will be none.
    async fn wait_for_work(&mut self) -> bool {
        if self.unanswered.is_empty() && !self.closed {
            let batch = self.queue.recv().await;
            self.take(batch);
        }
        !self.unanswered.is_empty()
    }

    /// Numbers a batch and keeps it.
    fn take(&mut self, batch: Option<Submitted>) {
        let Some(Submitted {
            records,
            deadline,
            answer,
            permit,
        }) = batch
        else {
            self.closed = true;
            return;
        };
        let request = wire::append_request(&self.log, records, None, Some(self.producer));
        self.producer.sequence += 1;
        let sent = Sent::Never;
        self.unanswered.push_back(Unanswered {
            request,
            deadline,
            answer,
            _permit: permit,
            sent,
        });
    }

    /// Connects, sends what is unanswered, and goes on until all is done, until a server says that another one leads, or
    /// until the connection has failed.
    async fn connection(&mut self) -> std::result::Result<Left, (Failure, Option<Target>)> {
        let mut connection = self.open().await?;
        let mut progress = Instant::now();
        loop {
            if self.closed && self.unanswered.is_empty() {
                return Ok(Left::Done);
            }
            let waiting = !self.unanswered.is_empty();
            let patience = self.patience(progress);
            let event = tokio::select! {
                answer = connection.answers.message() => Event::Answer(answer),
                batch = self.queue.recv(), if !self.closed => Event::Batch(batch),
                () = sleep_until(patience), if waiting => Event::Silence,
            };
            let failure = match event {
                Event::Answer(Ok(Some(answer))) => {
                    progress = Instant::now();
                    let moved = self.is_elsewhere(&answer, &connection.target);
                    self.settle(answer);
                    if moved {
                        return Ok(Left::ForLeader);
                    }
                    continue;
                }
                Event::Batch(batch) => {
                    if !waiting {
                        progress = Instant::now();
                    }
                    self.take(batch);
                    self.send_newest(&connection);
                    continue;
                }
                Event::Answer(Ok(None)) => Failure::Lost {
                    message: format!("{} ended the session", connection.target.address),
                    detail: None,
                },
                Event::Answer(Err(status)) => {
                    Failure::classify(&status, &connection.target.address)
                }
                Event::Silence => silence(&connection.target),
            };
            return Err((failure, Some(connection.target)));
        }
    }

    /// Whether the answer says that another server leads, and that one may be reached. A follower passes batches on one by
    /// one: it serves, but slowly.
    fn is_elsewhere(&self, answer: &v1::AppendResponse, target: &Target) -> bool {
        let leader = answer.leader.as_ref().map(|leader| &leader.client_address);
        leader
            .is_some_and(|leader| *leader != target.address && self.client.core.route.leads(leader))
    }

    async fn open(&mut self) -> std::result::Result<Connection, (Failure, Option<Target>)> {
        let core = Arc::clone(&self.client.core);
        let target = core.route.pick(Aim::Leader).map_err(|error| {
            (
                Failure::NotSent {
                    message: error.to_string(),
                },
                None,
            )
        })?;
        let (requests, stream) = mpsc::channel(IN_FLIGHT_MAX);
        for batch in &self.unanswered {
            // There is room for everything that may be in flight.
            if requests.try_send(batch.request.clone()).is_err() {
                break;
            }
        }
        let mut service = logs(target.channel.clone());
        let opening = service.append_session(ReceiverStream::new(stream));
        let failure = match timeout_at(self.patience(Instant::now()), opening).await {
            Ok(Ok(answers)) => {
                self.mark_sent();
                return Ok(Connection {
                    target,
                    requests,
                    answers: answers.into_inner(),
                });
            }
            Ok(Err(status)) => Failure::classify(&status, &target.address),
            Err(_) => silence(&target),
        };
        if !matches!(failure, Failure::NotSent { .. }) {
            self.mark_sent();
        }
        Err((failure, Some(target)))
    }

    /// Until when to wait for an answer if the last one came, or the wait began, at `progress`.
    fn patience(&self, progress: Instant) -> Instant {
        let patience = progress + self.client.core.policy.try_timeout;
        self.unanswered
            .front()
            .map_or(patience, |head| patience.min(head.deadline))
    }

    fn mark_sent(&mut self) {
        for batch in self
            .unanswered
            .iter_mut()
            .filter(|batch| batch.sent == Sent::Never)
        {
            batch.sent = Sent::Now;
        }
    }

    fn send_newest(&mut self, connection: &Connection) {
        let Some(newest) = self
            .unanswered
            .back_mut()
            .filter(|batch| batch.sent == Sent::Never)
        else {
            return;
        };
        newest.sent = Sent::Now;
        // The channel has room for all that may be in flight; if it is closed, the connection is lost, its answer
        // stream says so, and the batch is sent again.
        drop(connection.requests.try_send(newest.request.clone()));
    }

    /// Gives the front batch its receipt.
    fn settle(&mut self, answer: v1::AppendResponse) {
        if let Some(batch) = self.unanswered.pop_front() {
            // The ticket may have been dropped.
            drop(batch.answer.send(Ok(answer.into())));
        }
    }

    /// The connection is gone: what was on it may have taken effect, but for a front batch that was refused.
    fn mark_lost(&mut self, failure: Option<&Failure>) {
        let refused = usize::from(matches!(failure, Some(Failure::Refused { .. })));
        for (place, batch) in self.unanswered.iter_mut().enumerate() {
            if batch.sent == Sent::Now {
                batch.sent = if place < refused {
                    Sent::Never
                } else {
                    Sent::Before
                };
            }
        }
    }

    /// The front batch has failed for good: so has everything behind it.
    fn fail(mut self, error: &Error) {
        // A batch that is submitted from here on is told the reason.
        drop(self.end.set(error.clone()));
        self.queue.close();
        let why = match error {
            Error::Unknown { message, .. } => message.clone(),
            other => other.to_string(),
        };
        let mut batches = self.unanswered.into_iter();
        if let Some(head) = batches.next() {
            drop(head.answer.send(Err(error.clone())));
        }
        for batch in batches {
            let behind = match batch.sent {
                Sent::Never => not_sent(&error.to_string()),
                Sent::Now | Sent::Before => Error::Unknown {
                    message: format!("a batch before it failed: {why}"),
                    detail: None,
                },
            };
            drop(batch.answer.send(Err(behind)));
        }
        while let Ok(batch) = self.queue.try_recv() {
            drop(batch.answer.send(Err(not_sent(&error.to_string()))));
        }
    }
}
