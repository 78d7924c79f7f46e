//! Many clients that ask one node for a log's end at the same moment: when it stands still, their questions wait in its
//! sockets and are the first thing that it sees when it goes on.

use std::time::Duration;

use anyhow::{Context as _, Result};
use inkstone_client::{Client, Consistency};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Run, outcome_of};
use crate::cluster::{Cluster, PATIENCE};
use crate::history::{Call, Level, Outcome};

/// Clients with open connections to one node.
#[derive(Debug)]
pub struct Questions {
    clients: Vec<Client>,
    node: usize,
    run: Run,
    log: String,
}

/// Questions that were asked and perhaps not answered yet.
#[derive(Debug)]
pub struct Asked {
    answers: JoinSet<()>,
}

impl Questions {
    /// Connects so many clients to a node, each on a connection of its own: one answered question proves it. A question
    /// is given up after `patience`.
    pub async fn prepare(
        cluster: &Cluster,
        run: &Run,
        log: &str,
        node: usize,
        clients: usize,
        patience: Duration,
    ) -> Result<Self> {
        let mut connected = Vec::new();
        for _ in 0..clients {
            let client = Client::builder()
                .stick_to(cluster.address(node))
                .timeout(patience)
                .build()?;
            client.tail(log, Consistency::Stale).await?;
            connected.push(client);
        }
        Ok(Self {
            clients: connected,
            node,
            run: run.clone(),
            log: log.to_owned(),
        })
    }

    /// Every client asks, linearizably, once.
    pub fn ask(self) -> Asked {
        let mut answers = JoinSet::new();
        for client in self.clients {
            let (run, log, node) = (self.run.clone(), self.log.clone(), self.node);
            let call = Call::Tail {
                level: Level::Linearizable,
            };
            let operation = run.history.invoke(run.new_client(), Some(node), &log, call);
            answers.spawn(async move {
                let outcome = match client.tail(&log, Consistency::Linearizable).await {
                    Ok(tail) => Outcome::Tail {
                        next_offset: tail.next_offset,
                    },
                    Err(error) => outcome_of(&error),
                };
                run.history.complete(operation, outcome);
            });
        }
        Asked { answers }
    }
}

impl Asked {
    /// Waits until each was answered or has failed.
    pub async fn answered(mut self) -> Result<()> {
        let all = async {
            while let Some(answer) = self.answers.join_next().await {
                answer?;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, all)
            .await
            .context("a question never ended")?
    }
}
