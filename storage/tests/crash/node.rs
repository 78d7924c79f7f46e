//! A log as a node drives it: applies, seals at boundaries, keeps checkpoints, purges what they reach to.
//!
//! Every change is asked for and answered in one order that follows from the seed alone: what is asked for is waited for
//! before the next is asked for, unless a sync is held; then what is asked for meanwhile is merged behind it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use inkstone_storage::error::WriteError;
use inkstone_storage::format::batch::{Batches, EncodedBatch, join};
use inkstone_storage::io::sim::SimDisk;
use inkstone_storage::log::{Checkpoint, Done, Log, LogOptions, Mutant, Spare, Verdict};
use inkstone_storage::types::{
    BatchOutcome, Entry, EntryId, EntryKind, Identity, LogId, NewRecord,
};

use crate::model::{Allowed, Found, History, State, Step};
use crate::seeded::Seeded;
use crate::verdicts::{self, Opening};

const LOGS: usize = 3;
/// What went wrong, and what is no fault of the engine: a fault that was planned.
pub(crate) type Outcome<T> = Result<T, Trouble>;

#[derive(Debug)]
pub(crate) enum Trouble {
    /// The log has stopped after a failed write.
    Stopped,
    /// A promise is broken.
    Broken(String),
}

impl From<String> for Trouble {
    fn from(what: String) -> Self {
        Self::Broken(what)
    }
}

/// How a log is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    pub(crate) tail_size: usize,
    pub(crate) spare: Spare,
    pub(crate) mutant: Option<Mutant>,
}

fn options(how: How) -> LogOptions {
    LogOptions {
        dir: Path::new("/data/group-1").to_owned(),
        identity: Identity {
            cluster_id: [5; 16],
            node_id: 77,
        },
        group: 1,
        segment_size: 8 << 10,
        tail_size: how.tail_size,
        queue_size: 1 << 20,
        free_size_min: 0,
        spare: how.spare,
    }
}

/// The next offset of each log.
type Offsets = [u64; LOGS];

/// A batch's log, whether apply refuses it, and its records' bodies.
#[derive(Debug)]
struct Made {
    log: LogId,
    is_refused: bool,
    bodies: Vec<Bytes>,
}

/// What apply decides, and did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Applied {
    /// Everything below is applied.
    next: u64,
    offsets: Offsets,
    /// By index: what is applied is never truncated.
    outcomes: BTreeMap<u64, Vec<BatchOutcome>>,
}

impl Applied {
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The log begins with this index.
    pub(crate) fn start(&mut self, index: u64) {
        self.next = index;
    }
}

/// Who drives a log.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) disk: SimDisk,
    how: How,
    log: Option<Log>,
    pub(crate) history: History,
    pub(crate) applied: Applied,
    pub(crate) term: u64,
    waiting: Vec<mpsc::Receiver<Result<(), WriteError>>>,
    /// Whether a sync is held, so that nothing is waited for.
    pub(crate) is_held: bool,
    /// The place in the disk's journal where the log was open.
    pub(crate) opened: usize,
    /// When the log is opened again.
    pub(crate) opening: Opening,
}

impl Node {
    /// Opens the log on a disk, which must then hold one of the allowed states (`None`: nothing).
    pub(crate) fn open(
        disk: &SimDisk,
        how: How,
        (allowed, opening): (Option<Allowed<'_>>, Opening),
        applied: &Applied,
    ) -> Outcome<Self> {
        let empty = History::new(disk, State::default());
        let log = Log::open_mutant(Arc::new(disk.clone()), options(how), how.mutant)
            .map_err(|error| format!("it does not open: {error}"))?;
        let found = Found::of(&log).map_err(|error| format!("it cannot be read: {error}"))?;
        let allowed = allowed.unwrap_or_else(|| empty.allowed_at_end());
        let state = allowed.check(&found)?;
        let recovery = log.recovery();
        verdicts::check(recovery, allowed.unanswered(), opening)?;
        let sealing = [Verdict::UnprovenFooter, Verdict::UnfinishedSealing];
        let opening = Opening {
            is_first: false,
            is_over_cache: false,
            has_unproven: sealing
                .iter()
                .any(|verdict| recovery.find(*verdict).is_some()),
        };
        let term = state.last().map_or(0, |last| last.term) + 1;
        let opened = disk.note("the log is open");
        let mut node = Self {
            disk: disk.clone(),
            how,
            log: Some(log),
            history: History::new(disk, state),
            applied: applied.clone(),
            term,
            waiting: Vec::new(),
            is_held: false,
            opened,
            opening,
        };
        node.restore()?;
        Ok(node)
    }

    pub(crate) fn log(&self) -> &Log {
        self.log.as_ref().expect("open")
    }

    /// The log, if it is open.
    pub(crate) fn opened_log(&self) -> Option<&Log> {
        self.log.as_ref()
    }

    /// Ends the process: what it answered is known, and what it asked for.
    pub(crate) fn close(&mut self) {
        self.log = None;
    }

    /// Nothing may go wrong on a disk without faults; of a disk with one it is told what went wrong.
    fn trouble(&self, what: String) -> Trouble {
        if self.disk.failed_calls() > 0 {
            return Trouble::Stopped;
        }
        Trouble::Broken(what)
    }

    pub(crate) fn state(&self) -> &State {
        self.history.now()
    }

    /// Where the state machine begins after a start.
    fn restore(&mut self) -> Outcome<()> {
        let applied = &mut self.applied;
        if let Some(checkpoint) = self.log.as_ref().and_then(Log::checkpoint) {
            let body = decode(&checkpoint.body)
                .ok_or_else(|| format!("a checkpoint's body is {:?}", checkpoint.body))?;
            applied.next = checkpoint.applied.index + 1;
            applied.offsets = body;
        } else {
            applied.next = self.history.now().first;
            applied.offsets = Offsets::default();
        }
        Ok(())
    }

    /// Goes on after a start: a purge to a snapshot that was interrupted is completed, and what is there is applied.
    pub(crate) fn catch_up(&mut self) -> Outcome<()> {
        let snapshot = self.state().snapshot.as_ref().map(|found| found.applied);
        let is_newest = snapshot.is_some_and(|id| id.index + 1 == self.applied.next);
        if let Some(id) = snapshot.filter(|_| is_newest) {
            self.purge(id)?;
        }
        self.apply_to(u64::MAX)
    }

    /// Stops the log as an orderly end of the process does, and opens it again.
    pub(crate) fn reopen(&mut self) -> Outcome<()> {
        self.log = None;
        let applied_next = self.applied.next;
        let disk = Arc::new(self.disk.clone());
        let log = Log::open_mutant(disk, options(self.how), self.how.mutant)
            .map_err(|error| self.trouble(format!("it does not open again: {error}")))?;
        let found =
            Found::of(&log).map_err(|error| self.trouble(format!("it cannot be read: {error}")))?;
        self.history.allowed_at_end().check(&found)?;
        if !log.recovery().is_clean() && self.disk.failed_calls() == 0 {
            return Err(format!("after a clean stop, found was {:?}", log.recovery()).into());
        }
        self.log = Some(log);
        self.restore()?;
        self.apply_to(applied_next)
    }

    /// Asks for a change, and waits for its answer unless a sync is held.
    pub(crate) fn ask(
        &mut self,
        step: Step,
        change: impl FnOnce(&Log, Done) -> Result<(), WriteError>,
    ) -> Outcome<()> {
        let number = self.history.ask(step);
        let answer = self.history.answer(number);
        let disk = self.disk.clone();
        let (tx, rx) = mpsc::sync_channel(1);
        let done: Done = Box::new(move |outcome| {
            if outcome.is_ok() {
                answer();
            }
            // Whoever waits for a sync to be held would wait forever: the one of this step was, or will not come.
            disk.release_sync();
            drop(tx.send(outcome));
        });
        change(self.log(), done).map_err(|_| Trouble::Stopped)?;
        self.waiting.push(rx);
        if self.is_held {
            return Ok(());
        }
        self.wait()
    }

    /// Waits for all answers: all that follow a failure must be failures.
    pub(crate) fn wait(&mut self) -> Outcome<()> {
        let mut stopped = false;
        for answered in std::mem::take(&mut self.waiting) {
            match answered.recv() {
                Ok(Ok(())) if stopped => {
                    return Err("a success follows a failure".to_owned().into());
                }
                Ok(outcome) => stopped = outcome.is_err(),
                Err(_) => return Err("somebody was not answered".to_owned().into()),
            }
        }
        if stopped {
            return Err(Trouble::Stopped);
        }
        self.settle()
    }

    /// Waits until the writer has nothing to do, so that what it does after an answer does not come among the operations
    /// of the next step in one run and not in another.
    fn settle(&self) -> Outcome<()> {
        let (tx, rx) = mpsc::sync_channel(1);
        let done: Done = Box::new(move |outcome| drop(tx.send(outcome)));
        self.log()
            .append(Vec::new(), done)
            .map_err(|_| Trouble::Stopped)?;
        match rx.recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Trouble::Stopped),
            Err(_) => Err("somebody was not answered".to_owned().into()),
        }
    }

    pub(crate) fn append(&mut self, entries: Vec<Entry>) -> Outcome<()> {
        let step = Step::Append(entries.clone());
        self.ask(step, |log, done| log.append(entries, done))
    }

    pub(crate) fn truncate(&mut self, after: Option<u64>) -> Outcome<()> {
        self.term += 1;
        let step = Step::Truncate(after);
        self.ask(step, |log, done| log.truncate_after(after, done))
    }

    pub(crate) fn purge(&mut self, id: EntryId) -> Outcome<()> {
        let here = self.state().entry(id.index).map(|entry| entry.id);
        if here.is_some_and(|here| here != id) {
            // A snapshot of another history: the engine truncates first.
            self.history.ask(Step::Truncate(id.index.checked_sub(1)));
        }
        self.ask(Step::Purge(id), |log, done| log.purge(id, done))?;
        self.applied.next = self.applied.next.max(self.state().first);
        Ok(())
    }

    pub(crate) fn snapshot(&mut self, id: EntryId) -> Outcome<()> {
        let snapshot = Checkpoint {
            applied: id,
            body: encode(&self.applied.offsets),
        };
        let number = self.history.ask(Step::Snapshot(snapshot.clone()));
        self.log()
            .save_snapshot(&snapshot)
            .map_err(|_| Trouble::Stopped)?;
        self.history.answer(number)();
        Ok(())
    }

    /// The state machine of the leader that a snapshot came from is ahead.
    pub(crate) fn jump(&mut self, id: EntryId, by: u64) -> Outcome<()> {
        for offset in &mut self.applied.offsets {
            *offset += by;
        }
        self.snapshot(id)?;
        self.purge(id)
    }

    /// Applies all entries below `next`.
    pub(crate) fn apply_to(&mut self, next: u64) -> Outcome<()> {
        for index in self.applied.next..next.min(self.state().next()) {
            self.seal(index)?;
            let entry = self.state().entry(index).cloned();
            let entry = entry.ok_or_else(|| format!("entry {index} is to be applied, and gone"))?;
            let mut outcomes = Vec::new();
            for batch in made(&entry) {
                if batch.is_refused {
                    outcomes.push(BatchOutcome::Refused);
                    continue;
                }
                let next = &mut self.applied.offsets[usize::try_from(batch.log.0).expect("a few")];
                outcomes.push(BatchOutcome::Taken { base_offset: *next });
                *next += batch.bodies.len() as u64;
            }
            if entry.kind == EntryKind::Batches {
                self.log().note_applied(index, &outcomes).map_err(|error| {
                    self.trouble(format!("entry {index} cannot be applied: {error}"))
                })?;
            }
            self.applied.outcomes.insert(index, outcomes);
            self.applied.next = index + 1;
        }
        Ok(())
    }

    fn seal(&mut self, index: u64) -> Outcome<()> {
        if !self.log().is_boundary(index) {
            return Ok(());
        }
        let before = self.state().entry(index - 1).map(|entry| entry.id);
        let applied = before
            .or(self.state().purged)
            .ok_or_else(|| format!("a boundary at {index}, and nothing before it"))?;
        let checkpoint = Checkpoint {
            applied,
            body: encode(&self.applied.offsets),
        };
        let number = self.history.ask(Step::Seal(index, checkpoint.clone()));
        self.log().seal(index, checkpoint);
        // Nobody answers: what the writer has done when it answers the next is done.
        self.settle()?;
        self.history.answer(number)();
        Ok(())
    }

    /// Every record of what is applied and not purged is where it must be, and nothing else is.
    pub(crate) fn check_records(&self) -> Outcome<()> {
        let mut expected: HashMap<LogId, Vec<(u64, Bytes)>> = HashMap::new();
        for entry in &self.state().entries {
            let Some(outcomes) = self.applied.outcomes.get(&entry.id.index) else {
                continue;
            };
            for (batch, outcome) in made(entry).iter().zip(outcomes) {
                if let BatchOutcome::Taken { base_offset } = outcome {
                    let records = expected.entry(batch.log).or_default();
                    records.extend((*base_offset..).zip(batch.bodies.iter().cloned()));
                }
            }
        }
        for (log, expected) in expected {
            let first = expected[0].0;
            let found = self
                .log()
                .read(log, first, u64::MAX, usize::MAX)
                .map_err(|error| format!("{log:?} cannot be read from {first}: {error}"))?;
            let found: Vec<(u64, Bytes)> = found
                .records
                .into_iter()
                .map(|record| (record.offset, record.body))
                .collect();
            if found != expected {
                let offsets = |records: &[(u64, Bytes)]| {
                    records
                        .iter()
                        .map(|(offset, _)| *offset)
                        .collect::<Vec<_>>()
                };
                return Err(format!(
                    "records of {log:?}: {:?} expected, {:?} found",
                    offsets(&expected),
                    offsets(&found)
                )
                .into());
            }
        }
        Ok(())
    }

    /// The entry at the end of the log, made of its id.
    pub(crate) fn entry(&self, index: u64) -> Entry {
        make(EntryId {
            term: self.term,
            node: 9,
            index,
        })
    }
}

fn encode(offsets: &Offsets) -> Bytes {
    let texts: Vec<String> = offsets.iter().map(ToString::to_string).collect();
    texts.join(",").into()
}

fn decode(body: &[u8]) -> Option<Offsets> {
    let texts = std::str::from_utf8(body).ok()?.split(',');
    let offsets: Vec<u64> = texts.map(|text| text.parse().ok()).collect::<Option<_>>()?;
    offsets.try_into().ok()
}

/// An entry of any kind and size.
fn make(id: EntryId) -> Entry {
    let mut seeded = Seeded(id.index << 20 | id.term);
    let (kind, payload) = match seeded.below(10) {
        0 => (EntryKind::Blank, Bytes::new()),
        1 => (EntryKind::Membership, seeded.bytes(60).into()),
        2..4 => {
            let size = seeded.below(700);
            (EntryKind::Command, seeded.bytes(size).into())
        }
        // Larger than what is copied into the write buffer, and than a segment.
        4 if seeded.below(3) == 0 => {
            let size = 4000 + seeded.below(6000);
            (EntryKind::Command, seeded.bytes(size).into())
        }
        _ => (EntryKind::Batches, batches(&mut seeded)),
    };
    Entry { id, kind, payload }
}

fn batches(seeded: &mut Seeded) -> Bytes {
    let encoded: Vec<EncodedBatch> = (0..=seeded.below(3))
        .map(|_| {
            let log = LogId(seeded.below(LOGS as u64));
            let records: Vec<NewRecord> = (0..=seeded.below(3))
                .map(|number| {
                    let size_max = if seeded.below(8) == 0 { 1500 } else { 120 };
                    let size = seeded.below(size_max);
                    NewRecord {
                        timestamp: i64::try_from(number).expect("a few"),
                        attributes: Vec::new(),
                        body: seeded.bytes(size).into(),
                    }
                })
                .collect();
            EncodedBatch::encode(log, None, None, &records)
        })
        .collect();
    join(&encoded, 0)
}

/// The batches of an entry.
fn made(entry: &Entry) -> Vec<Made> {
    if entry.kind != EntryKind::Batches {
        return Vec::new();
    }
    let batches = Batches::parse(entry.payload.clone()).expect("as it was made");
    let headers = batches.headers().iter().enumerate();
    headers
        .map(|(number, header)| Made {
            log: header.log,
            is_refused: header.crc % 5 == 0,
            bodies: batches
                .records(number, 0)
                .expect("as it was made")
                .into_iter()
                .map(|record| record.body)
                .collect(),
        })
        .collect()
}
