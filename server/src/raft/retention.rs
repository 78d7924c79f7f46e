//! Retention: the leader decides what is trimmed, and every node deletes the segments in which nothing is left.
//!
//! Promises: what is trimmed is agreed on (a command of the group) before anything goes; a segment goes only when each
//! log's first offset is behind everything in it, by an openraft snapshot at its end and the purge that follows. Age is
//! counted by append times of the leader's clock. Must not know: gRPC, search.

mod plan;

use std::collections::HashMap;
use std::time::Duration;

use inkstone_storage::log::{Extent, Log, LogExtent};
use inkstone_storage::types::LogId;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use self::plan::AppendTimes;
use crate::blocking::Blocking;
use crate::raft::state::State;
use crate::raft::{Group, Leader, LogInfo, snapshot};

/// Logs that one entry trims.
const TRIMS_MAX: usize = 10_000;
/// One reader, and nobody who waits for it.
const READERS: usize = 1;
/// How long a trim may take to be agreed on.
const TRIM_TIMEOUT: Duration = Duration::from_secs(5);

/// Keeps the group's logs within their retention, looking once in every `every`, until it stops.
pub fn keep_within_retention(
    group: Group,
    every: Duration,
    mut stop: watch::Receiver<bool>,
) -> JoinHandle<()> {
    let mut task = Retaining {
        blocking: group.inner.offload.pool(READERS, READERS),
        group,
        times: HashMap::new(),
    };
    tokio::spawn(async move {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let stopped = async { drop(stop.wait_for(|stop| *stop).await) };
            let turn = async {
                ticks.tick().await;
                task.turn().await;
            };
            tokio::select! {
                () = turn => {}
                () = stopped => return,
            }
        }
    })
}

struct Retaining {
    group: Group,
    blocking: Blocking,
    /// By boundary; of those that were needed so far and are still there.
    times: HashMap<u64, AppendTimes>,
}

/// What the log holds.
struct Holdings {
    sealed: Vec<Extent>,
    live: Vec<LogExtent>,
}

impl Retaining {
    /// One look at the logs. What fails is tried again at the next.
    async fn turn(&mut self) {
        let log = self.group.log().clone();
        let look = move || Holdings {
            sealed: log.extents(),
            live: log.live_extents(),
        };
        let Ok(holdings) = self.blocking.run(look).await else {
            return;
        };
        // First: a leader without a majority, whose proposals end nowhere, has a disk that fills, too.
        self.purge(&holdings.sealed).await;
        if self.group.leader() == Leader::Here
            && timeout(TRIM_TIMEOUT, self.trim(&holdings)).await.is_err()
        {
            tracing::debug!("logs may not be trimmed yet; the next look tells");
        }
    }

    /// Proposes what the logs' bounds ask for.
    async fn trim(&mut self, holdings: &Holdings) {
        let logs = self.group.logs();
        let bounded = logs.iter().filter(|log| !log.retention.is_unbounded());
        let bounded: Vec<&LogInfo> = bounded.collect();
        if !self.learn_times(&bounded, &holdings.sealed).await {
            return;
        }
        let now = self.group.inner.time.now();
        let Holdings { sealed, live } = holdings;
        let trims: Vec<(LogId, u64)> = bounded
            .into_iter()
            .filter_map(|log| Some((log.id, plan::trim(log, sealed, live, &self.times, now)?)))
            .take(TRIMS_MAX)
            .collect();
        if trims.is_empty() {
            return;
        }
        let count = trims.len();
        match self.group.trim_logs(trims).await {
            Ok(()) => tracing::debug!(count, "logs were trimmed by their retention"),
            // It may take effect all the same; if it does not, the next look finds the same.
            Err(error) => tracing::debug!(%error, "logs were not trimmed; tried again"),
        }
    }

    /// Reads the append times at the boundaries that age is judged by: once each. False when that could not be done.
    async fn learn_times(&mut self, bounded: &[&LogInfo], sealed: &[Extent]) -> bool {
        let aged: Vec<LogId> = bounded
            .iter()
            .filter(|log| log.retention.max_age_ms.is_some())
            .map(|log| log.id)
            .collect();
        let mut known = std::mem::take(&mut self.times);
        for segment in sealed {
            let boundary = segment.last + 1;
            let here = segment.logs.iter().map(|part| part.log);
            let wanted: Vec<LogId> = here.filter(|log| aged.contains(log)).collect();
            if wanted.is_empty() {
                continue;
            }
            let times = known.remove(&boundary);
            let times = match times.filter(|times| wanted.iter().all(|log| times.contains_key(log)))
            {
                Some(times) => times,
                None => match self.times_at(boundary, wanted).await {
                    Some(times) => times,
                    None => return false,
                },
            };
            self.times.insert(boundary, times);
        }
        true
    }

    /// The append times of these logs as of a boundary; of a boundary without a readable checkpoint none, and then its
    /// records stay until a later one is old enough.
    async fn times_at(&self, boundary: u64, logs: Vec<LogId>) -> Option<AppendTimes> {
        let log = self.group.log().clone();
        let read = move || read_times(&log, boundary, &logs);
        self.blocking.run(read).await.ok()
    }

    /// Lets the segments go in which nothing is left.
    async fn purge(&self, sealed: &[Extent]) {
        // The state is this old, or newer: of a segment that is not applied here yet it can't tell what is dead.
        let applied = self.group.applied().index();
        let known = sealed.partition_point(|segment| segment.last <= applied);
        let boundary = {
            let state = self.group.inner.state.read();
            plan::boundary(&sealed[..known], |id| first_offset(&state, id))
        };
        let Some(boundary) = boundary else {
            return;
        };
        let raft = self.group.raft();
        let kept = self.group.log().snapshot();
        let is_kept = kept.is_some_and(|kept| kept.applied.index + 1 >= boundary);
        let triggered = if is_kept {
            // The purge is under way (a leader's waits for the followers that are being sent what goes), or a crash came
            // before it: in the first case this does nothing.
            raft.trigger().purge_log(boundary - 1).await
        } else {
            self.group.inner.boundary.choose(boundary);
            raft.trigger().snapshot().await
        };
        if let Err(fatal) = triggered {
            tracing::debug!(%fatal, "raft has stopped: nothing is purged any more");
        }
    }
}

/// The first offset that a log still has; `None`: it was deleted. One that the state has not heard of yet is created in an
/// entry that is not applied yet: numbers are never used again.
fn first_offset(state: &State, id: LogId) -> Option<u64> {
    match state.log(id) {
        Some(log) => Some(log.first_offset),
        None if id.0 < state.next_log_id() => None,
        None => Some(0),
    }
}

fn read_times(log: &Log, boundary: u64, logs: &[LogId]) -> AppendTimes {
    let checkpoint = match log.checkpoint_at(boundary) {
        Ok(Some(checkpoint)) => checkpoint,
        // On its way to the disk.
        Ok(None) => return AppendTimes::new(),
        Err(error) => {
            tracing::warn!(%error, boundary, "this checkpoint can't be read: age is judged without it");
            return AppendTimes::new();
        }
    };
    match snapshot::append_times(&checkpoint) {
        Ok(times) => times.filter(|(log, _)| logs.contains(log)).collect(),
        Err(error) => {
            tracing::warn!(%error, boundary, "this checkpoint can't be read: age is judged without it");
            AppendTimes::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_not_created_yet_is_not_taken_for_a_deleted_one() {
        // The next log gets the number 7: 6 was deleted, 7 is created in an entry that is not applied yet.
        let state = State::new(7);
        assert_eq!(first_offset(&state, LogId(6)), None);
        assert_eq!(first_offset(&state, LogId(7)), Some(0));
    }
}
