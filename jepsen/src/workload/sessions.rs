//! Clients that append through sessions: many batches under way at once, answered in order.

use anyhow::{Context as _, Result};
use inkstone_client::{AppendSession, NewRecord, SessionOptions, Ticket};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::append::{AppendersOptions, ids};
use super::{PAUSE_AFTER_FAILURE, Run, outcome_of};
use crate::history::{Call, OperationId, Outcome};
use crate::payload;
use crate::reach::Reach;

/// Batches that a session has under way at most.
const IN_FLIGHT_MAX: usize = 16;

/// One that uses sessions, one after the other.
pub(super) struct SessionAppender {
    pub(super) nodes: Reach,
    pub(super) run: Run,
    pub(super) log: String,
    pub(super) options: AppendersOptions,
}

impl SessionAppender {
    pub(super) async fn run_until(self, stop: watch::Receiver<bool>) -> Result<()> {
        while !*stop.borrow() {
            self.one_session(&stop).await?;
        }
        Ok(())
    }

    /// Appends under one client number until it is told to stop or a batch fails, which ends a session.
    async fn one_session(&self, stop: &watch::Receiver<bool>) -> Result<()> {
        let client = self.nodes.client()?;
        let mut session = client.append_session(&self.log, SessionOptions::default());
        let (under_way, answers) = mpsc::channel(IN_FLIGHT_MAX);
        let settling = tokio::spawn(settle(self.run.clone(), answers));
        let submitted = self.submit_all(&mut session, &under_way, stop).await;
        drop(under_way);
        settling.await?;
        // What became of each batch was noted already.
        let ended = session.close().await;
        submitted?;
        if ended.is_err() {
            sleep(PAUSE_AFTER_FAILURE).await;
        }
        Ok(())
    }

    async fn submit_all(
        &self,
        session: &mut AppendSession,
        under_way: &mpsc::Sender<(OperationId, Ticket)>,
        stop: &watch::Receiver<bool>,
    ) -> Result<()> {
        let number = self.run.new_client();
        for batch in 0_u32.. {
            if *stop.borrow() {
                break;
            }
            let ids = ids(number, batch, self.options.batch);
            let records = ids
                .iter()
                .map(|id| NewRecord::new(payload::encode(*id, self.options.size)))
                .collect();
            let call = Call::Append {
                ids,
                expected_offset: None,
            };
            let operation = self.run.history.invoke(number, None, &self.log, call);
            match session.submit(records).await {
                Ok(ticket) => under_way
                    .send((operation, ticket))
                    .await
                    .context("nobody waits for the answers")?,
                Err(error) => {
                    self.run.history.complete(operation, outcome_of(&error));
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Notes the answers, which come in the order of the batches.
async fn settle(run: Run, mut answers: mpsc::Receiver<(OperationId, Ticket)>) {
    while let Some((operation, ticket)) = answers.recv().await {
        let outcome = match ticket.await {
            Ok(receipt) => Outcome::Appended {
                first_offset: receipt.first_offset,
            },
            Err(error) => outcome_of(&error),
        };
        let acknowledged = matches!(outcome, Outcome::Appended { .. });
        run.history.complete(operation, outcome);
        if acknowledged {
            run.progress.acknowledge();
        }
    }
}
