//! Append sessions: many batches to one log over one connection, pipelined, each exactly once.
//!
//! The handle numbers nothing and sends nothing: a task of the session does. It keeps every batch until it is
//! answered; when the connection is lost it sends the unanswered ones again, in order, under the same sequences, so
//! that the server can tell which had taken effect. It must not know what is in a batch.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::append::fresh;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::types::{NewRecord, Receipt, SessionOptions};

mod driver;

/// Appends of one producer in flight: as many as the server keeps receipts.
pub(crate) const IN_FLIGHT_MAX: usize = 16;

impl Client {
    /// Opens a pipelined session: up to 16 batches in flight, answered in order, each taking effect exactly once.
    ///
    /// Nothing is sent before the first batch. Must be called on a tokio runtime.
    ///
    /// ```no_run
    /// # async fn example(client: inkstone_client::Client) -> inkstone_client::Result<()> {
    /// use inkstone_client::SessionOptions;
    ///
    /// let mut session = client.append_session("audit", SessionOptions::default());
    /// let mut tickets = Vec::new();
    /// for number in 0..100 {
    ///     tickets.push(session.submit(vec![format!("line {number}").into()]).await?);
    /// }
    /// for ticket in tickets {
    ///     println!("at offset {}", ticket.await?.first_offset);
    /// }
    /// session.close().await
    /// # }
    /// ```
    pub fn append_session(&self, log: &str, options: SessionOptions) -> AppendSession {
        let (batches, queue) = mpsc::channel(IN_FLIGHT_MAX);
        let end = Arc::new(OnceLock::new());
        let producer = options.producer.unwrap_or_else(fresh);
        let driver = driver::Driver::new(
            self.clone(),
            log.to_owned(),
            producer,
            queue,
            Arc::clone(&end),
        );
        AppendSession {
            batches,
            permits: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
            timeout: options.timeout.unwrap_or(self.core.timeout),
            end,
            driver: tokio::spawn(driver.run()),
        }
    }
}

/// A pipelined session on one log, see [`Client::append_session`].
///
/// The first batch that fails ends the session: it gets its error, those behind it get [`Error::Unknown`] if they had
/// been sent and [`Error::Unavailable`] if not. Dropping the session lets what is in flight finish.
#[derive(Debug)]
pub struct AppendSession {
    batches: mpsc::Sender<Submitted>,
    permits: Arc<Semaphore>,
    timeout: Duration,
    end: Arc<OnceLock<Error>>,
    driver: JoinHandle<()>,
}

/// A batch on its way to the task.
#[derive(Debug)]
struct Submitted {
    records: Vec<NewRecord>,
    deadline: Instant,
    answer: oneshot::Sender<Result<Receipt>>,
    /// Held until the batch is answered: this is what bounds the batches in flight.
    permit: OwnedSemaphorePermit,
}

impl AppendSession {
    /// Hands one batch over; waits while 16 are in flight. The ticket gives its receipt; it may be dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if the session has ended, because an earlier batch failed: this one was not sent.
    pub async fn submit(&mut self, records: Vec<NewRecord>) -> Result<Ticket> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| self.ended())?;
        let (answer, outcome) = oneshot::channel();
        let deadline = Instant::now() + self.timeout;
        let batch = Submitted {
            records,
            deadline,
            answer,
            permit,
        };
        self.batches.send(batch).await.map_err(|_| self.ended())?;
        Ok(Ticket { outcome })
    }

    /// Waits until every batch is answered, and ends the session.
    ///
    /// # Errors
    ///
    /// The error of the first batch that failed, which its ticket gives, too.
    pub async fn close(self) -> Result<()> {
        drop(self.batches);
        if self.driver.await.is_err() {
            return Err(task_died());
        }
        self.end.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    fn ended(&self) -> Error {
        let why = self
            .end
            .get()
            .map_or_else(|| "its task died".to_owned(), ToString::to_string);
        not_sent(&why)
    }
}

/// The outcome of one submitted batch, to be awaited.
#[derive(Debug)]
pub struct Ticket {
    outcome: oneshot::Receiver<Result<Receipt>>,
}

impl Future for Ticket {
    type Output = Result<Receipt>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.outcome).poll(cx));
        Poll::Ready(outcome.unwrap_or_else(|_| Err(task_died())))
    }
}

/// The error of a batch that never left because the session was over.
fn not_sent(why: &str) -> Error {
    Error::Unavailable {
        message: format!("not sent, the session has ended: {why}"),
        detail: None,
    }
}

/// The task is gone without an answer, as when the runtime shuts down: nobody knows how far it came.
fn task_died() -> Error {
    let message = "the session's task died before the batch was answered".to_owned();
    Error::Unknown {
        message,
        detail: None,
    }
}
