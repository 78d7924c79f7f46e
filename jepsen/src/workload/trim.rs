//! A client that trims a log while it grows: near its end, and sometimes to its very end.

use std::time::Duration;

use anyhow::{Context as _, Result};
use inkstone_client::{Client, Consistency};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::{Run, outcome_of};
use crate::cluster::PATIENCE;
use crate::history::{Call, Outcome};
use crate::reach::Reach;

/// Shorter than a fault lasts: the next trim goes further.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Every so many trims one leaves nothing.
const KEEPS: u64 = 4;

/// How often is trimmed, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrimmerOptions {
    /// Between two trims.
    pub every: Duration,
    /// Records that a trim leaves: none, once, twice or three times as many, in turn.
    pub keep: u64,
}

/// A running trimmer.
#[derive(Debug)]
pub struct Trimmer {
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<()>>,
}

impl Trimmer {
    /// Starts it. The log must exist.
    pub fn start(
        nodes: impl Into<Reach>,
        run: &Run,
        log: &str,
        options: TrimmerOptions,
    ) -> Result<Self> {
        let client = nodes.into().client_within(TIMEOUT)?;
        let stop = watch::Sender::new(false);
        let trims = trims(
            client,
            run.clone(),
            log.to_owned(),
            options,
            stop.subscribe(),
        );
        let task = tokio::spawn(trims);
        Ok(Self { stop, task })
    }

    /// Lets it finish what it has begun, and ends it.
    pub async fn stop(self) -> Result<()> {
        self.stop.send_replace(true);
        timeout(PATIENCE * 2, self.task)
            .await
            .context("a trim never ended")??
    }
}

async fn trims(
    client: Client,
    run: Run,
    log: String,
    options: TrimmerOptions,
    stop: watch::Receiver<bool>,
) -> Result<()> {
    for turn in 0_u64.. {
        sleep(options.every).await;
        if *stop.borrow() {
            break;
        }
        let Ok(tail) = client.tail(&log, Consistency::Stale).await else {
            continue;
        };
        let kept = options.keep * (turn % KEEPS);
        let before = tail.next_offset.saturating_sub(kept);
        if before <= tail.first_offset {
            continue;
        }
        let call = Call::Trim { before };
        let operation = run.history.invoke(run.new_client(), None, &log, call);
        let outcome = match client.trim_log(&log, before).await {
            Ok(info) => Outcome::Trimmed {
                first_offset: info.first_offset,
            },
            Err(error) => outcome_of(&error),
        };
        run.history.complete(operation, outcome);
    }
    Ok(())
}
