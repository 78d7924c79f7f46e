//! Merges appends that arrive together into one Raft entry, so that the cost of an entry is paid once for many.
//!
//! Promises: batches are proposed in the order of [`Ingest::submit`] calls; there is no linger: what arrived while
//! earlier proposals were under way goes into the next. Bytes in flight are bounded: beyond that a submission is
//! refused before anything happened. Once submitted, a batch is proposed and answered whether or not anybody waits.
//!
//! Must not know: log names, gRPC.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use inkstone_storage::format::batch::{self, EncodedBatch};
use inkstone_storage::limits::{
    APPENDS_IN_FLIGHT_SIZE_MAX, APPENDS_WAITING_MAX, ENTRY_BATCHES_MAX, ENTRY_MERGE_SIZE_MAX,
};
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::raft::space::Space;
use crate::raft::time::GroupTime;
use crate::raft::types::{Applied, Proposal, ProposalKind, Raft, TypeConfig};
use crate::raft::{AppendOutcome, ProposeError};

/// Proposals under way at a time. More than one, so that a batch need not wait for the one before it to be committed;
/// few, so that under load batches gather while they wait.
const PROPOSALS_MAX: usize = 2;

/// The queue in front of Raft. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Ingest {
    queue: mpsc::Sender<Submission>,
    in_flight: Arc<Semaphore>,
}

#[derive(Debug)]
struct Submission {
    batch: EncodedBatch,
    answer: oneshot::Sender<AppendOutcome>,
    /// Its bytes count until it is answered.
    in_flight: OwnedSemaphorePermit,
}

/// The outcome of a batch that was submitted. Dropping it cancels nothing.
#[derive(Debug)]
pub struct Pending {
    answer: oneshot::Receiver<AppendOutcome>,
}

impl Future for Pending {
    type Output = AppendOutcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<AppendOutcome> {
        let answer = ready!(Pin::new(&mut self.answer).poll(context));
        Poll::Ready(answer.unwrap_or_else(|_| Err(unknown(&"the node stopped"))))
    }
}

fn unknown(why: &dyn ToString) -> ProposeError {
    ProposeError::Unknown {
        why: why.to_string(),
    }
}

impl Ingest {
    /// Starts the task that proposes; it ends when the last clone is dropped or Raft stops.
    /// `patience`: how long to wait for a turn before Raft is asked all the same.
    pub(crate) fn start(raft: Raft, space: Space, time: GroupTime, patience: Duration) -> Self {
        let (queue, submissions) = mpsc::channel(APPENDS_WAITING_MAX);
        let proposer = Proposer { raft, space, time };
        tokio::spawn(propose_all(submissions, proposer, patience));
        let in_flight = Arc::new(Semaphore::new(APPENDS_IN_FLIGHT_SIZE_MAX));
        Self { queue, in_flight }
    }

    /// Takes a batch, or refuses it when too much is in flight. The order of calls is the order of proposals.
    pub(crate) fn submit(&self, batch: EncodedBatch) -> Result<Pending, ProposeError> {
        let busy = ProposeError::Busy {
            bound: APPENDS_IN_FLIGHT_SIZE_MAX,
        };
        let size = u32::try_from(batch.size()).map_err(|_| busy.clone())?;
        let in_flight = Arc::clone(&self.in_flight)
            .try_acquire_many_owned(size)
            .map_err(|_| busy.clone())?;
        let (answer, pending) = oneshot::channel();
        let submission = Submission {
            batch,
            answer,
            in_flight,
        };
        self.queue
            .try_send(submission)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => busy,
                mpsc::error::TrySendError::Closed(_) => ProposeError::Stopping,
            })?;
        Ok(Pending { answer: pending })
    }
}

/// What a proposal takes.
#[derive(Debug)]
struct Proposer {
    raft: Raft,
    space: Space,
    time: GroupTime,
}

/// Gathers and proposes until the queue closes.
async fn propose_all(
    mut queue: mpsc::Receiver<Submission>,
    proposer: Proposer,
    patience: Duration,
) {
    let window = Arc::new(Semaphore::new(PROPOSALS_MAX));
    let mut left_over = None;
    loop {
        let first = match left_over.take() {
            Some(submission) => submission,
            None => match queue.recv().await {
                Some(submission) => submission,
                None => return,
            },
        };
        // A leader that lost its majority never answers what is under way, but refuses what comes: without a turn in
        // time the batch is proposed all the same, so that its client gets that definite refusal.
        let turn = timeout(patience, Arc::clone(&window).acquire_owned())
            .await
            .ok()
            .map(|turn| turn.expect("the semaphore is never closed"));
        let (merged, too_much) = gather(first, &mut queue);
        left_over = too_much;
        proposer.propose(merged, turn).await;
    }
}

/// What waits in the queue and fits one entry behind `first`, and the one that did not fit.
fn gather(
    first: Submission,
    queue: &mut mpsc::Receiver<Submission>,
) -> (Vec<Submission>, Option<Submission>) {
    let mut size = first.batch.size();
    let mut merged = vec![first];
    while merged.len() < ENTRY_BATCHES_MAX
        && let Ok(next) = queue.try_recv()
    {
        size += next.batch.size();
        if size > ENTRY_MERGE_SIZE_MAX {
            return (merged, Some(next));
        }
        merged.push(next);
    }
    (merged, None)
}

impl Proposer {
    /// Proposes one entry; its answers are given out by a task of their own, which holds the turn. Without room on this
    /// node's disk it is refused here, once for all that it would carry: the other nodes look after theirs.
    async fn propose(&self, merged: Vec<Submission>, turn: Option<OwnedSemaphorePermit>) {
        let (batches, answers): (Vec<_>, Vec<_>) = merged
            .into_iter()
            .map(|submission| (submission.batch, (submission.answer, submission.in_flight)))
            .unzip();
        let size = batches.iter().map(EncodedBatch::size).sum();
        if let Err(low) = self.space.check(size).await {
            answer_all(answers, Err(low.into()));
            return;
        }
        let payload = batch::join(&batches, self.time.now());
        let proposal = Proposal {
            kind: ProposalKind::Batches,
            payload,
        };
        let (responder, outcome) = ProgressResponder::complete_only();
        let proposed = self.raft.client_write_ff(proposal, Some(responder)).await;
        tokio::spawn(async move {
            let outcome = match proposed {
                Ok(()) => outcome
                    .await
                    .map_err(|lost| unknown(&lost))
                    .and_then(outcomes),
                Err(fatal) => Err(unknown(&fatal)),
            };
            drop(turn);
            answer_all(answers, outcome);
        });
    }
}

/// What openraft says of a proposal: its batches' outcomes, or why there are none.
fn outcomes(result: ClientWriteResult<TypeConfig>) -> Result<Vec<BatchAnswer>, ProposeError> {
    match result {
        Ok(response) => match response.data {
            Applied::Batches(answers) => Ok(answers),
            other => Err(unknown(&format!("batches were answered with {other:?}"))),
        },
        Err(error) => Err(crate::raft::error::propose_error(error)),
    }
}

type BatchAnswer = Result<crate::raft::Receipt, crate::raft::Refusal>;
type Answer = (oneshot::Sender<AppendOutcome>, OwnedSemaphorePermit);

fn answer_all(answers: Vec<Answer>, outcome: Result<Vec<BatchAnswer>, ProposeError>) {
    let mut outcomes = outcome.map(Vec::into_iter);
    for (answer, in_flight) in answers {
        let own = match &mut outcomes {
            Ok(outcomes) => outcomes
                .next()
                .ok_or_else(|| unknown(&"apply gave too few answers")),
            Err(error) => Err(error.clone()),
        };
        // The client may have gone; its write took effect all the same.
        drop(answer.send(own));
        drop(in_flight);
    }
}
