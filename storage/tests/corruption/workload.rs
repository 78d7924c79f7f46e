//! Valid directories of logs, made by the engine itself: sealed and unsealed segments, checkpoints, a snapshot, votes, a
//! purged front, refused batches, entries of several batches, plain and LZ4, several terms.
//!
//! Promises: the same bytes every time: each group is waited for. What was put in is kept beside them. Must not know:
//! what will be damaged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use inkstone_storage::error::WriteError;
use inkstone_storage::format::batch::{Batches, EncodedBatch, join};
use inkstone_storage::log::{Checkpoint, Done, Log, LogOptions, Spare};
use inkstone_storage::types::{
    BatchOutcome, Entry, EntryId, EntryKind, Identity, LogId, NewRecord, Producer, Record, Vote,
};

use super::disk::{Files, MemoryDisk};

pub(crate) const ONE: LogId = LogId(3);
pub(crate) const TWO: LogId = LogId(8);
/// Blocks whose earlier versions are kept.
pub(crate) const BLOCK: usize = 512;

/// What stands in a directory, and what must come out of it.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) options: LogOptions,
    pub(crate) files: Files,
    /// Earlier versions of blocks, by file and position.
    pub(crate) stale: BTreeMap<(PathBuf, usize), BTreeSet<Vec<u8>>>,
    /// Every entry that is kept, all of them acknowledged, and what apply decided.
    pub(crate) entries: BTreeMap<u64, (Entry, Vec<BatchOutcome>)>,
    pub(crate) vote: Option<Vote>,
    pub(crate) purged: Option<EntryId>,
    /// By boundary.
    pub(crate) checkpoints: BTreeMap<u64, Checkpoint>,
    pub(crate) snapshot: Option<Checkpoint>,
    /// The records that are kept, with the entries that they came in.
    pub(crate) records: BTreeMap<(LogId, u64), (Record, u64)>,
}

impl Workload {
    pub(crate) fn last(&self) -> Option<EntryId> {
        let last = self.entries.last_key_value();
        last.map(|(_, (entry, _))| entry.id).or(self.purged)
    }
}

fn options(cluster: u8) -> LogOptions {
    LogOptions {
        dir: PathBuf::from("/data/group-1"),
        identity: Identity {
            cluster_id: [cluster; 16],
            node_id: 77,
        },
        group: 1,
        segment_size: 6 << 10,
        tail_size: 0,
        queue_size: 1 << 20,
        free_size_min: 0,
        spare: Spare::Never,
    }
}

/// All of them; those of another cluster are the same but for its id.
pub(crate) fn all(cluster: u8) -> Vec<Workload> {
    vec![
        sealed(cluster),
        unsealed(cluster),
        purged(cluster),
        restarted(cluster),
        truncated(cluster),
        empty(cluster),
    ]
}

/// Segments that are sealed, one that is not, an entry that is not applied.
fn sealed(cluster: u8) -> Workload {
    let mut work = Working::new("sealed", cluster);
    work.vote(1, true);
    for _ in 0..25 {
        work.append(1);
    }
    work.term = 3;
    work.vote(3, false);
    work.append(2);
    work.apply();
    work.snapshot(4);
    work.append(1);
    work.finish()
}

/// Nothing was applied, groups have several frames.
fn unsealed(cluster: u8) -> Workload {
    let mut work = Working::new("unsealed", cluster);
    work.vote(2, false);
    for frames in [1, 3, 2, 5, 1, 4, 3] {
        work.append(frames);
        work.term += 1;
    }
    work.finish()
}

/// The front is purged, in the middle of a sealed segment, a later checkpoint is there.
fn purged(cluster: u8) -> Workload {
    let mut work = Working::new("purged", cluster);
    for frames in [2, 3, 4, 5, 6, 7] {
        work.append(frames);
        work.term += 1;
    }
    work.apply();
    work.vote(9, true);
    work.snapshot(9);
    work.purge(9);
    work.append(1);
    work.apply();
    work.finish()
}

/// Restarted behind a snapshot, with the start of a new log behind it.
fn restarted(cluster: u8) -> Workload {
    let mut work = Working::new("restarted", cluster);
    work.append(4);
    work.term = 7;
    work.vote(7, true);
    work.restart(100);
    for frames in [1, 2, 1, 6, 1, 3] {
        work.append(frames);
    }
    work.apply();
    work.finish()
}

/// A tail was cut and written over: older frames stood where newer ones do.
fn truncated(cluster: u8) -> Workload {
    let mut work = Working::new("truncated", cluster);
    for frames in [3, 1, 1, 9] {
        work.append(frames);
    }
    work.truncate(3);
    work.term = 2;
    work.vote(2, true);
    for frames in [2, 1, 5, 1] {
        work.append(frames);
    }
    work.truncate(9);
    work.term = 4;
    work.append(2);
    work.append(1);
    work.finish()
}

/// A vote and nothing else.
fn empty(cluster: u8) -> Workload {
    let mut work = Working::new("empty", cluster);
    work.vote(5, false);
    work.finish()
}

struct Working {
    log: Log,
    disk: Arc<MemoryDisk>,
    work: Workload,
    next: u64,
    applied: u64,
    term: u64,
    offsets: BTreeMap<LogId, u64>,
    seen: Files,
}

fn wait(change: impl FnOnce(Done) -> Result<(), WriteError>) {
    let (tx, rx) = mpsc::sync_channel(1);
    change(Box::new(move |outcome| drop(tx.send(outcome)))).expect("the log goes on");
    rx.recv().expect("answered").expect("durable");
}

impl Working {
    fn new(name: &'static str, cluster: u8) -> Self {
        let disk = MemoryDisk::new(&Files::new(), &[]);
        let options = options(cluster);
        let log = Log::open_on(Arc::clone(&disk) as _, options.clone()).expect("a new log");
        let work = Workload {
            name,
            options,
            files: Files::new(),
            stale: BTreeMap::new(),
            entries: BTreeMap::new(),
            vote: None,
            purged: None,
            checkpoints: BTreeMap::new(),
            snapshot: None,
            records: BTreeMap::new(),
        };
        Self {
            log,
            disk,
            work,
            next: 0,
            applied: 0,
            term: 1,
            offsets: BTreeMap::new(),
            seen: Files::new(),
        }
    }

    /// Keeps the blocks that have changed since the last look.
    fn look(&mut self) {
        let files = self.disk.files();
        for (path, before) in &self.seen {
            let now = files.get(path).map(Vec::as_slice).unwrap_or_default();
            for (number, block) in before.chunks(BLOCK).enumerate() {
                let at = number * BLOCK;
                if now.get(at..at + block.len()) != Some(block) {
                    let stale = self.work.stale.entry((path.clone(), at)).or_default();
                    stale.insert(block.to_vec());
                }
            }
        }
        self.seen = files;
    }

    fn vote(&mut self, term: u64, committed: bool) {
        let vote = Vote {
            term,
            node: 9,
            committed,
        };
        wait(|done| self.log.save_vote(vote, done));
        self.work.vote = Some(vote);
        self.look();
    }

    /// Appends so many entries as one group.
    fn append(&mut self, frames: u64) {
        let entries: Vec<Entry> = (self.next..self.next + frames)
            .map(|index| entry(index, self.term))
            .collect();
        for entry in &entries {
            let kept = (entry.clone(), Vec::new());
            self.work.entries.insert(entry.id.index, kept);
        }
        self.next += frames;
        wait(|done| self.log.append(entries, done));
        self.look();
    }

    /// Applies what was appended, as a node does.
    fn apply(&mut self) {
        for index in self.applied..self.next {
            if self.log.is_boundary(index) {
                let checkpoint = checkpoint(self.work.entries[&(index - 1)].0.id);
                self.log.seal(index, checkpoint.clone());
                self.work.checkpoints.insert(index, checkpoint);
                wait(|done| self.log.append(Vec::new(), done));
                self.look();
            }
            let (entry, outcomes) = self.work.entries.get_mut(&index).expect("appended");
            if entry.kind == EntryKind::Batches {
                *outcomes = decide(entry, &mut self.offsets);
                let noted = self.log.note_applied(index, outcomes);
                noted.expect("readable");
            }
        }
        self.applied = self.next;
    }

    fn snapshot(&mut self, index: u64) {
        let snapshot = checkpoint(self.work.entries[&index].0.id);
        self.log.save_snapshot(&snapshot).expect("durable");
        self.work.snapshot = Some(snapshot);
        self.look();
    }

    fn purge(&mut self, index: u64) {
        let id = self.work.entries[&index].0.id;
        wait(|done| self.log.purge(id, done));
        self.work.entries = self.work.entries.split_off(&(index + 1));
        self.work.checkpoints = self.work.checkpoints.split_off(&(index + 1));
        self.work.purged = Some(id);
        self.look();
    }

    /// A snapshot from elsewhere, behind everything that is here.
    fn restart(&mut self, index: u64) {
        let id = EntryId {
            term: self.term,
            node: 9,
            index,
        };
        let snapshot = checkpoint(id);
        self.log.save_snapshot(&snapshot).expect("durable");
        wait(|done| self.log.purge(id, done));
        self.work.snapshot = Some(snapshot);
        self.work.purged = Some(id);
        self.work.entries.clear();
        self.next = index + 1;
        self.applied = self.next;
        self.offsets = BTreeMap::from([(ONE, 500), (TWO, 70)]);
        self.look();
    }

    fn truncate(&mut self, index: u64) {
        wait(|done| self.log.truncate_after(Some(index), done));
        self.work.entries.split_off(&(index + 1));
        self.next = index + 1;
        self.look();
    }

    fn finish(mut self) -> Workload {
        wait(|done| self.log.append(Vec::new(), done));
        drop(self.log);
        // What is not applied yet is decided here, for whoever opens the directory and goes on.
        for (entry, outcomes) in self
            .work
            .entries
            .range_mut(self.applied..)
            .map(|kept| kept.1)
        {
            if entry.kind == EntryKind::Batches {
                *outcomes = decide(entry, &mut self.offsets);
            }
        }
        self.work.files = self.disk.files();
        for ((path, at), versions) in &mut self.work.stale {
            let now = self.work.files.get(path);
            versions.retain(|block| {
                now.is_some_and(|now| now.get(*at..*at + block.len()) != Some(block))
            });
        }
        self.work.stale.retain(|_, versions| !versions.is_empty());
        self.work.records = records(&self.work.entries);
        self.work
    }
}

/// The small state as of an entry.
pub(crate) fn checkpoint(applied: EntryId) -> Checkpoint {
    Checkpoint {
        applied,
        body: format!("the small state as of entry {}", applied.index).into(),
    }
}

/// Bytes that LZ4 cannot make smaller.
fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..size).map(|_| next()).collect()
}

/// Event times go back and forth.
fn batch(log: LogId, index: u64, count: u64, body: &[u8], producer: bool) -> EncodedBatch {
    let records: Vec<NewRecord> = (0..count)
        .map(|number| NewRecord {
            timestamp: (index * 10 + (number * 7) % 5).cast_signed() - 20,
            attributes: vec![("n".to_owned(), number.to_string()); (number % 2) as usize],
            body: [body, &number.to_le_bytes()].concat().into(),
        })
        .collect();
    let producer = producer.then_some(Producer {
        id: index + 1,
        epoch: 2,
        sequence: 0,
    });
    EncodedBatch::encode(log, producer, producer.map(|_| 0), &records)
}

/// The entry that a leader of that term proposes at that index.
fn entry(index: u64, term: u64) -> Entry {
    let batches = |batches: &[EncodedBatch]| (EntryKind::Batches, join(batches, 1_000));
    let loud = |count| batch(ONE, index, count, &noise(index + term, 30), false);
    let even = batch(TWO, index, 12, b"the same text again", false);
    let (kind, payload) = match index % 8 {
        0 => (EntryKind::Membership, Bytes::from(noise(term, 61))),
        1 => batches(&[loud(2)]),
        2 => {
            let again = batch(ONE, index, 1, b"a duplicate", true);
            batches(&[loud(1), even, again, loud(3)])
        }
        3 => (EntryKind::Blank, Bytes::new()),
        4 => batches(&[batch(TWO, index, 1, &noise(index * term, 700), true)]),
        5 => (EntryKind::Command, noise(index ^ term, 150).into()),
        6 => batches(&[batch(ONE, index, 2, b"", true), even]),
        _ => (
            EntryKind::Command,
            Bytes::from(vec![b'c'; (index % 5) as usize]),
        ),
    };
    let id = EntryId {
        term,
        node: 9 + term % 2,
        index,
    };
    Entry { id, kind, payload }
}

/// The third batch of an entry is a duplicate.
fn decide(entry: &Entry, offsets: &mut BTreeMap<LogId, u64>) -> Vec<BatchOutcome> {
    let batches = Batches::parse(entry.payload.clone()).expect("made above");
    let headers = batches.headers().iter().enumerate();
    let outcomes = headers.map(|(number, header)| {
        if number == 2 {
            return BatchOutcome::Refused;
        }
        let next = offsets.entry(header.log).or_default();
        let base_offset = *next;
        *next += u64::from(header.records);
        BatchOutcome::Taken { base_offset }
    });
    outcomes.collect()
}

type Entries = BTreeMap<u64, (Entry, Vec<BatchOutcome>)>;

fn records(entries: &Entries) -> BTreeMap<(LogId, u64), (Record, u64)> {
    let mut records = BTreeMap::new();
    for (index, (entry, outcomes)) in entries {
        if outcomes.is_empty() {
            continue;
        }
        let batches = Batches::parse(entry.payload.clone()).expect("made above");
        for (number, outcome) in outcomes.iter().enumerate() {
            let BatchOutcome::Taken { base_offset } = *outcome else {
                continue;
            };
            let log = batches.headers()[number].log;
            for record in batches.records(number, base_offset).expect("made above") {
                records.insert((log, record.offset), (record, *index));
            }
        }
    }
    records
}
