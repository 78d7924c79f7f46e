//! The last word: after every fault was healed and every append has ended, each node is read from start to end.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use inkstone_client::{Client, Error, GapReason, ReadEvent, ReadOptions, Start};
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt as _;

use super::{Run, outcome_of};
use crate::cluster::PATIENCE;
use crate::history::{Call, End, Gap, Outcome, Seen};
use crate::payload;
use crate::reach::Reach;

/// Reads the whole log from every node that was not retired, one after the other.
pub async fn final_reads(nodes: impl Into<Reach>, run: &Run, log: &str) -> Result<()> {
    let nodes = nodes.into();
    for node in &nodes.active {
        final_read(&nodes, run, log, *node).await?;
    }
    Ok(())
}

/// Reads the whole log from one node, however often it takes: an answer must come.
pub async fn final_read(nodes: impl Into<Reach>, run: &Run, log: &str, node: usize) -> Result<()> {
    let client = nodes.into().client_of(node, PATIENCE)?;
    let attempts = async {
        loop {
            let operation = run
                .history
                .invoke(run.new_client(), Some(node), log, Call::FinalRead);
            // Not from the first that there is: what is missing before it must be said.
            let everything = ReadOptions {
                from: Start::Offset(0),
                ..ReadOptions::new(log)
            };
            match read(&client, everything).await? {
                Ok(outcome) => {
                    run.history.complete(operation, outcome);
                    return anyhow::Ok(());
                }
                Err(error) => run.history.complete(operation, outcome_of(&error)),
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, attempts)
        .await
        .with_context(|| format!("reading node {node}"))?
}

/// Reads to the end. A gap is a failure of the run, unless it says that it was trimmed: the checkers know what was.
pub(super) async fn read(client: &Client, options: ReadOptions) -> Result<Result<Outcome, Error>> {
    let mut stream = client.read(options);
    let (mut records, mut gaps) = (Vec::new(), Vec::new());
    while let Some(event) = stream.next().await {
        match event {
            Ok(ReadEvent::Records(batch)) => records.extend(batch.iter().map(|record| Seen {
                offset: record.offset,
                id: payload::decode(&record.body),
            })),
            Ok(ReadEvent::Gap(gap)) if gap.reason == GapReason::Trimmed => {
                pass_over(&mut gaps, gap.from, gap.to);
            }
            Ok(ReadEvent::Gap(gap)) => bail!("a read skips {gap:?}"),
            Ok(_) => {}
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(Outcome::Records {
        records,
        gaps,
        end: End::Tail,
    }))
}

/// Notes a gap: two with nothing between them are one, as of a node that learns of a trim while it is read.
fn pass_over(gaps: &mut Vec<Gap>, from: u64, to: u64) {
    match gaps.last_mut() {
        Some(last) if last.to == from => last.to = to,
        _ => gaps.push(Gap { from, to }),
    }
}
