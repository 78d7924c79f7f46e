//! Scrubbing: goes over the sealed segments again and again at a bounded rate, so that rot is known of while the other
//! nodes still have what it took.
//!
//! Promises: the disk is read at no more than the configured rate; damage is logged once and shown in the node's status
//! until the segment is whole again or purged; an error ends a step, never the task. The task ends when the node stops.
//! Must not know: how a segment is verified or repaired.

use std::sync::Arc;
use std::time::{Duration, Instant};

use inkstone_storage::error::ReadError;
use inkstone_storage::log::{Fault, Log, ScrubStep, Scrubber};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use crate::blocking::Blocking;
use crate::clock::Clock;

/// Steps in a second, as long as one reads enough to be worth its way to another thread.
const STEPS_PER_SECOND: u64 = 8;
/// Bytes of one step, at least and at most.
const STEP_SIZE_MIN: u64 = 64 << 10;
const STEP_SIZE_MAX: u64 = 1 << 20;
/// Between two passes: a small log is not gone over without end.
const PASS_PAUSE: Duration = Duration::from_secs(10);
/// Before a file that could not be opened is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// A pass over all sealed segments, from its begin to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FullPass {
    /// When it began: nanoseconds since the Unix epoch, UTC.
    pub start_time: i64,
    /// When it ended.
    pub end_time: i64,
    /// Bytes that it verified.
    pub size: u64,
}

/// What scrubbing has done since the node started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScrubStatus {
    /// Bytes per second that it reads at most; 0: it is off.
    pub rate: u64,
    /// How many passes over all sealed segments it has completed.
    pub passes: u64,
    /// The last of them.
    pub last_pass: Option<FullPass>,
    /// Bytes that the pass under way has verified.
    pub verified: u64,
    /// Bytes that it has to verify.
    pub total: u64,
    /// The damage that is known of, as far as the list holds it.
    pub faults: Vec<Fault>,
    /// How many damaged places are known of.
    pub faults_count: u64,
}

/// What the scrubbing task has found, as the grpc layer sees it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Scrub {
    status: Arc<Mutex<ScrubStatus>>,
    /// Changes with what is known of damage.
    found: watch::Sender<()>,
    again: Arc<Notify>,
}

impl Scrub {
    /// A node that does not scrub.
    pub fn off() -> Self {
        Self::default()
    }

    /// Starts the task that scrubs `log` at `rate` bytes per second (0: none is started), until `stop` says so.
    pub fn start(
        rate: u64,
        log: &Log,
        clock: Clock,
        stop: watch::Receiver<bool>,
    ) -> (Self, Option<JoinHandle<()>>) {
        let scrub = Self::off();
        if rate == 0 {
            return (scrub, None);
        }
        scrub.status.lock().rate = rate;
        let task = Task {
            status: Arc::clone(&scrub.status),
            found: scrub.found.clone(),
            again: Arc::clone(&scrub.again),
            pace: Pace::new(rate, clock.instant()),
            clock,
            blocking: Blocking::new(1, 1),
            pass_start: None,
        };
        let running = task.run(log.scrubber(), stop);
        (scrub, Some(tokio::spawn(running)))
    }

    /// Tells when there may be more damage, or less.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.found.subscribe()
    }

    /// Segments were rewritten: their damage is forgotten at once, and they are verified when their turn comes.
    pub fn look_again(&self) {
        self.again.notify_one();
    }

    /// What it has done so far.
    pub fn status(&self) -> ScrubStatus {
        self.status.lock().clone()
    }
}

/// When the next step is due.
#[derive(Debug)]
struct Pace {
    rate: u64,
    due: Instant,
}

impl Pace {
    fn new(rate: u64, now: Instant) -> Self {
        Self { rate, due: now }
    }

    /// Bytes of a step.
    fn step_size(&self) -> u64 {
        (self.rate / STEPS_PER_SECOND).clamp(STEP_SIZE_MIN, STEP_SIZE_MAX)
    }

    /// So many bytes were read, in a step that began at `began`: time that was lost to a slow disk is not made up for.
    fn note(&mut self, read: u64, began: Instant) {
        let nanos = u128::from(read) * 1_000_000_000 / u128::from(self.rate.max(1));
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.due = self.due.max(began) + takes;
    }

    fn pause(&mut self, now: Instant, pause: Duration) {
        self.due = self.due.max(now + pause);
    }
}

struct Task {
    status: Arc<Mutex<ScrubStatus>>,
    found: watch::Sender<()>,
    again: Arc<Notify>,
    pace: Pace,
    clock: Clock,
    blocking: Blocking,
    pass_start: Option<i64>,
}

impl Task {
    async fn run(mut self, mut scrubber: Scrubber, mut stop: watch::Receiver<bool>) {
        let mut failing = false;
        loop {
            tokio::select! {
                () = sleep_until(self.pace.due.into()) => {}
                () = self.again.notified() => {
                    scrubber.refresh();
                    self.show_faults(&scrubber);
                    continue;
                }
                // A sender that is gone is a node that is gone.
                _ = stop.wait_for(|stop| *stop) => return,
            }
            let began = self.clock.instant();
            self.pass_start.get_or_insert(self.clock.unix_nanos());
            let outcome;
            (scrubber, outcome) = self.step(scrubber).await;
            match outcome {
                Ok(step) => {
                    failing = false;
                    self.pace.note(step.read, began);
                    self.take(&scrubber, &step);
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "scrubbing could not go on; it is tried again");
                    }
                    self.pace.pause(self.clock.instant(), RETRY_AFTER);
                }
            }
        }
    }

    async fn step(&self, mut scrubber: Scrubber) -> (Scrubber, Result<ScrubStep, ReadError>) {
        let size = self.pace.step_size();
        let step = move || {
            let outcome = scrubber.step(size);
            if let Ok(step) = &outcome {
                scrubber.rebuild_footers(step);
            }
            (scrubber, outcome)
        };
        let done = self.blocking.run(step).await;
        done.expect("one step at a time fits a pool of its own")
    }

    fn show_faults(&self, scrubber: &Scrubber) {
        let (faults, count) = (scrubber.faults(), scrubber.faults_count());
        let mut status = self.status.lock();
        let are_new = status.faults != faults || status.faults_count != count;
        status.faults = faults;
        status.faults_count = count;
        drop(status);
        if are_new {
            self.found.send_replace(());
        }
    }

    /// Says what a step found, and shows it.
    fn take(&mut self, scrubber: &Scrubber, step: &ScrubStep) {
        for fault in &step.found {
            let entries = fault.entries.as_ref();
            tracing::error!(
                damage = %fault.damage,
                first_index = entries.map(|entries| *entries.start()),
                last_index = entries.map(|entries| *entries.end()),
                "a sealed segment is damaged on disk"
            );
        }
        self.show_faults(scrubber);
        let mut status = self.status.lock();
        status.verified = step.progress.verified;
        status.total = step.progress.total;
        if !step.ended_pass {
            return;
        }
        let start_time = self.pass_start.take();
        // A log without sealed segments was not verified: there was nothing to read.
        if let Some(start_time) = start_time.filter(|_| step.progress.verified > 0) {
            status.passes += 1;
            status.last_pass = Some(FullPass {
                start_time,
                end_time: self.clock.unix_nanos(),
                size: step.progress.verified,
            });
        }
        drop(status);
        self.pace.pause(self.clock.instant(), PASS_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_any_time_no_more_is_read_than_the_rate_allows() {
        let start = Clock::system().instant();
        let mut pace = Pace::new(1_000_000, start);
        let step = pace.step_size();
        assert_eq!(step, 125_000);
        let mut read = 0;
        while pace.due < start + Duration::from_secs(10) {
            let began = pace.due;
            pace.note(step, began);
            read += step;
        }
        assert_eq!(read, 10_000_000);
        // A disk that took a minute for a step: nothing is made up for.
        let late = pace.due + Duration::from_secs(60);
        pace.note(step, late);
        assert_eq!(pace.due, late + Duration::from_millis(125));
    }

    #[test]
    fn steps_are_large_enough_to_be_worth_it_and_small_enough_to_stop_between() {
        let size = |rate| Pace::new(rate, Clock::system().instant()).step_size();
        assert_eq!(size(1), STEP_SIZE_MIN);
        assert_eq!(size(8 << 20), 1 << 20);
        assert_eq!(size(u64::MAX), STEP_SIZE_MAX);
    }

    #[tokio::test]
    async fn a_rate_of_0_scrubs_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = open(dir.path());
        let (_stopping, stop) = watch::channel(false);
        let (scrub, task) = Scrub::start(0, &log, Clock::system(), stop);
        assert!(task.is_none());
        assert_eq!(scrub.status(), ScrubStatus::default());
    }

    #[tokio::test]
    async fn the_task_ends_when_the_node_stops_and_when_it_is_gone() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = open(dir.path());
        let (stopping, stop) = watch::channel(false);
        let (_, task) = Scrub::start(1 << 30, &log, Clock::system(), stop.clone());
        let (_, other) = Scrub::start(1 << 30, &log, Clock::system(), stop);
        stopping.send_replace(true);
        task.expect("started").await.expect("it ends by itself");
        drop(stopping);
        other.expect("started").await.expect("it ends by itself");
    }

    fn open(dir: &std::path::Path) -> Log {
        let options = inkstone_storage::log::LogOptions {
            dir: dir.to_owned(),
            identity: inkstone_storage::types::Identity {
                cluster_id: [1; 16],
                node_id: 1,
            },
            group: 1,
            segment_size: 1 << 20,
            tail_size: 1 << 20,
            queue_size: 1 << 20,
            free_size_min: 0,
            spare: inkstone_storage::log::Spare::Never,
        };
        Log::open(options).expect("a new log")
    }
}
