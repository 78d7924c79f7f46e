//! The order of an append session: requests are carried out and answered in the order they came, several at a time.
//!
//! Promises: answers come in the order of the requests; the first failure is the last answer, and nothing that has not
//! begun by then begins; at most [`SESSION_APPENDS_MAX`] requests and [`SESSION_SIZE_MAX`] bytes are unanswered (one
//! more request may have been read). Must not know: what a request is.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tonic::Status;

use crate::grpc::limits::{SESSION_APPENDS_MAX, SESSION_SIZE_MAX};
use crate::grpc::{error, permits};

/// The answer to one request, when it is there.
pub(crate) type Outcome<A> = BoxFuture<'static, Result<A, Status>>;

/// What became of a request that was begun.
pub(crate) enum Step<A> {
    /// It has its place in the order; the next one may begin before this is answered.
    Underway(Outcome<A>),
    /// It begins when it is polled, and nothing can order it behind those under way: it runs alone.
    Alone(Outcome<A>),
    /// It was refused.
    Refused(Status),
}

/// A request that waits for its turn to be answered, with the room that it takes.
struct Unanswered<A> {
    outcome: Outcome<A>,
    room: Room,
}

/// Held until the answer was handed on.
struct Room {
    _slots: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

struct Bounds {
    slots: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

impl Bounds {
    fn new() -> Self {
        Self {
            slots: Arc::new(Semaphore::new(SESSION_APPENDS_MAX)),
            bytes: Arc::new(Semaphore::new(permits(SESSION_SIZE_MAX) as usize)),
        }
    }

    async fn room(&self, size: usize) -> Room {
        const OPEN: &str = "the semaphore is never closed";
        let slots = Arc::clone(&self.slots).acquire_owned().await.expect(OPEN);
        let bytes = Arc::clone(&self.bytes)
            .acquire_many_owned(permits(size.min(SESSION_SIZE_MAX)))
            .await
            .expect(OPEN);
        Room {
            _slots: slots,
            _bytes: bytes,
        }
    }

    /// Returns once only one request, the caller's, is unanswered.
    async fn alone(&self) {
        let others = u32::try_from(SESSION_APPENDS_MAX - 1).expect("a small number");
        let all = self
            .slots
            .acquire_many(others)
            .await
            .expect("the semaphore is never closed");
        drop(all);
    }
}

/// Carries a session out until its requests end, one fails, `stopped` says why no more are taken, or the client goes. What
/// must run alone waits for `alone_wait` at most until the answers before it were read.
pub(crate) async fn run<R, A, F>(
    requests: impl Stream<Item = Result<R, Status>> + Send,
    size: impl Fn(&R) -> usize + Send,
    begin: impl FnMut(R) -> F + Send,
    stopped: impl Future<Output = Status> + Send,
    answers: Sender<Result<A, Status>>,
    alone_wait: Duration,
) where
    R: Send,
    A: Send + 'static,
    F: Future<Output = Step<A>> + Send,
{
    let (queue_tx, queue_rx) = mpsc::channel(SESSION_APPENDS_MAX);
    let mut taker = pin!(take(requests, size, begin, stopped, queue_tx, alone_wait));
    let mut answerer = pin!(answer(queue_rx, answers));
    // One task polls both, the answerer first: after a failure the taker is not polled again. When the taker has ended,
    // what is under way is answered; who does not read that is left after a while.
    tokio::select! {
        biased;
        () = &mut answerer => {}
        () = &mut taker => {
            if timeout(alone_wait, answerer).await.is_err() {
                tracing::debug!("a session's last answers were not read");
            }
        }
    }
}

async fn take<R, A, F>(
    requests: impl Stream<Item = Result<R, Status>>,
    size: impl Fn(&R) -> usize,
    mut begin: impl FnMut(R) -> F,
    stopped: impl Future<Output = Status>,
    queue: Sender<Unanswered<A>>,
    alone_wait: Duration,
) where
    A: Send + 'static,
    F: Future<Output = Step<A>>,
{
    let bounds = Bounds::new();
    let mut requests = pin!(requests);
    let mut stopped = pin!(stopped);
    loop {
        let request = tokio::select! {
            biased;
            status = &mut stopped => Err(status),
            request = requests.next() => match request {
                Some(request) => request,
                None => return,
            },
        };
        let size = request.as_ref().map_or(0, &size);
        // A client that does not read its answers must not hold what it has sent for ever: others wait for that room.
        let Ok(room) = timeout(alone_wait, bounds.room(size)).await else {
            return;
        };
        let step = match request {
            Ok(request) => begin(request).await,
            Err(status) => Step::Refused(status),
        };
        let (outcome, last): (Outcome<A>, _) = match step {
            Step::Underway(outcome) => (outcome, false),
            Step::Alone(outcome) => {
                let result = match timeout(alone_wait, bounds.alone()).await {
                    Ok(()) => outcome.await,
                    // It holds room that others wait for, and its client does not read.
                    Err(_) => Err(error::timeout(
                        "the answers before this append were not read; read them, then append it again",
                    )),
                };
                let failed = result.is_err();
                (Box::pin(std::future::ready(result)), failed)
            }
            Step::Refused(status) => (Box::pin(std::future::ready(Err(status))), true),
        };
        let gone = queue.send(Unanswered { outcome, room }).await.is_err();
        if last || gone {
            return;
        }
    }
}

async fn answer<A>(mut queue: Receiver<Unanswered<A>>, answers: Sender<Result<A, Status>>) {
    while let Some(Unanswered { outcome, room }) = queue.recv().await {
        let result = tokio::select! {
            biased;
            result = outcome => result,
            () = answers.closed() => return,
        };
        let failed = result.is_err();
        let gone = answers.send(result).await.is_err();
        if failed || gone {
            return;
        }
        drop(room);
    }
}

#[cfg(test)]
mod tests;
