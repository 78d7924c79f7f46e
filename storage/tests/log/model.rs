//! Random operations against the engine, on a real disk and on the simulated one, and against a plain model of it in
//! memory must give the same log.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::support::*;
use inkstone_storage::error::ReadError;
use inkstone_storage::format::batch::Batches;
use inkstone_storage::io::sim::SimDisk;
use inkstone_storage::io::{Disk, RealDisk};
use inkstone_storage::log::{Checkpoint, Log, LogOptions};
use inkstone_storage::types::{BatchOutcome, Entry, EntryId, EntryKind, LogId, Vote};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Operation {
    /// So many entries; what they are follows from the number.
    Append(u64, u64),
    /// Drops this share, in percent, of what is not applied.
    Truncate(u64),
    /// Purges this share, in percent, of what is applied.
    Purge(u64),
    /// Purges everything and so many indexes more.
    Restart(u64),
    /// Applies so many entries.
    Apply(u64),
    Vote(u64),
    Reopen,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => (1..8_u64, any::<u64>()).prop_map(|(count, seed)| Operation::Append(count, seed)),
        6 => (1..12_u64).prop_map(Operation::Apply),
        2 => (0..100_u64).prop_map(Operation::Truncate),
        1 => (0..101_u64).prop_map(Operation::Purge),
        1 => (0..4_u64).prop_map(Operation::Restart),
        1 => any::<u64>().prop_map(Operation::Vote),
        3 => Just(Operation::Reopen),
    ]
}

#[derive(Debug, Default)]
struct Model {
    term: u64,
    purged: Option<EntryId>,
    entries: BTreeMap<u64, Entry>,
    /// Everything below is applied.
    applied: u64,
    outcomes: BTreeMap<u64, Vec<BatchOutcome>>,
    next_offsets: BTreeMap<LogId, u64>,
    /// (index, offset, body) of every log's visible records.
    records: BTreeMap<LogId, Vec<(u64, u64, Vec<u8>)>>,
    vote: Option<Vote>,
}

impl Model {
    fn first(&self) -> u64 {
        self.purged.map_or(0, |purged| purged.index + 1)
    }

    fn next(&self) -> u64 {
        self.entries
            .keys()
            .last()
            .map_or(self.first(), |last| last + 1)
    }

    fn entry(&self, index: u64, seed: u64) -> Entry {
        let entry = if seed.is_multiple_of(4) {
            command(
                index,
                noise(
                    seed,
                    usize::try_from(seed % 600).expect("the engine does as the model"),
                ),
            )
        } else {
            let parts: Vec<_> = (0..=seed % 3)
                .map(|part| {
                    let bodies = (0..=(seed >> part) % 3)
                        .map(|number| noise(seed + part + number, 200))
                        .collect();
                    (LogId((seed >> (4 * part)) % 3), bodies)
                })
                .collect();
            batches(index, &parts)
        };
        let id = EntryId {
            term: self.term,
            ..entry.id
        };
        Entry { id, ..entry }
    }

    fn decide(&mut self, index: u64) -> Option<Vec<BatchOutcome>> {
        let entry = &self.entries[&index];
        if entry.kind != EntryKind::Batches {
            return None;
        }
        let batches = Batches::parse(entry.payload.clone()).expect("the engine does as the model");
        let mut outcomes = Vec::new();
        for (number, header) in batches.headers().iter().enumerate() {
            if header.crc % 5 == 0 {
                outcomes.push(BatchOutcome::Refused);
                continue;
            }
            let next = self.next_offsets.entry(header.log).or_default();
            outcomes.push(BatchOutcome::Taken { base_offset: *next });
            for record in batches
                .records(number, *next)
                .expect("the engine does as the model")
            {
                let visible = self.records.entry(header.log).or_default();
                visible.push((index, record.offset, record.body.to_vec()));
            }
            *next += u64::from(header.records);
        }
        self.outcomes.insert(index, outcomes.clone());
        Some(outcomes)
    }

    fn purge(&mut self, id: EntryId) {
        self.purged = Some(id);
        self.entries = self.entries.split_off(&(id.index + 1));
        for records in self.records.values_mut() {
            records.retain(|(index, ..)| *index > id.index);
        }
    }
}

struct Pair {
    model: Model,
    disk: Arc<dyn Disk>,
    log: Option<Log>,
    options: LogOptions,
}

fn state_as_of(id: EntryId) -> Checkpoint {
    Checkpoint {
        applied: id,
        body: format!("{id:?}").into(),
    }
}

fn open_on(disk: &Arc<dyn Disk>, options: &LogOptions) -> Log {
    Log::open_on(Arc::clone(disk), options.clone()).expect("the engine does as the model")
}

impl Pair {
    fn new(disk: Arc<dyn Disk>, dir: &Path, tail_size: usize) -> Self {
        let options = LogOptions {
            segment_size: 8192,
            tail_size,
            ..options(dir)
        };
        Self {
            model: Model::default(),
            log: Some(open_on(&disk, &options)),
            disk,
            options,
        }
    }

    fn log(&self) -> &Log {
        self.log.as_ref().expect("open")
    }

    fn run(&mut self, operation: &Operation) {
        match *operation {
            Operation::Append(count, seed) => self.append(count, seed),
            Operation::Truncate(share) => {
                let (low, high) = (
                    self.model.applied.max(self.model.first()),
                    self.model.next(),
                );
                let kept = low + (high - low) * share / 100;
                drop(self.model.entries.split_off(&kept));
                self.model.term += 1;
                let after = kept.checked_sub(1);
                self.log()
                    .truncate_after(after, Box::new(|_| ()))
                    .expect("the engine does as the model");
            }
            Operation::Purge(share) => {
                let (low, high) = (self.model.first(), self.model.applied);
                let upto = low + high.saturating_sub(low) * share / 100;
                let id = upto
                    .checked_sub(1)
                    .and_then(|index| self.model.entries.get(&index));
                if let Some(id) = id.map(|entry| entry.id) {
                    self.purge(id);
                }
            }
            Operation::Restart(beyond) => {
                let id = EntryId {
                    term: self.model.term,
                    node: 9,
                    index: self.model.next() + beyond,
                };
                self.purge(id);
                self.model.applied = id.index + 1;
            }
            Operation::Apply(count) => self.apply(count),
            Operation::Vote(term) => {
                let vote = Vote {
                    term,
                    node: 3,
                    committed: term % 2 == 0,
                };
                wait(|done| self.log().save_vote(vote, done))
                    .expect("the engine does as the model");
                self.model.vote = Some(vote);
            }
            Operation::Reopen => self.reopen(),
        }
    }

    fn append(&mut self, count: u64, seed: u64) {
        let first = self.model.next();
        let entries: Vec<Entry> = (first..first + count)
            .map(|index| {
                self.model
                    .entry(index, seed.rotate_left((index % 64) as u32) >> 3)
            })
            .collect();
        for entry in &entries {
            self.model.entries.insert(entry.id.index, entry.clone());
        }
        self.log()
            .append(entries, Box::new(|_| ()))
            .expect("the engine does as the model");
    }

    /// As a node does: the snapshot is kept first.
    fn purge(&mut self, id: EntryId) {
        self.log()
            .save_snapshot(&state_as_of(id))
            .expect("the engine does as the model");
        self.log()
            .purge(id, Box::new(|_| ()))
            .expect("the engine does as the model");
        self.model.purge(id);
    }

    fn apply(&mut self, count: u64) {
        let upto = self.model.next().min(self.model.applied + count);
        for index in self.model.applied..upto {
            self.seal(index);
            if let Some(outcomes) = self.model.decide(index) {
                self.log()
                    .note_applied(index, &outcomes)
                    .expect("the engine does as the model");
            }
        }
        self.model.applied = upto.max(self.model.applied);
    }

    fn seal(&self, index: u64) {
        if self.log().is_boundary(index) {
            let before = self
                .log()
                .entry_id(index - 1)
                .expect("the engine does as the model")
                .expect("not purged");
            self.log().seal(index, state_as_of(before));
        }
    }

    fn reopen(&mut self) {
        self.log = None;
        self.log = Some(open_on(&self.disk, &self.options));
        let checkpoint = self.log().checkpoint();
        if let Some(found) = &checkpoint {
            assert_eq!(found, &state_as_of(found.applied));
        }
        let from = checkpoint.map_or(0, |found| found.applied.index + 1);
        assert!(
            from >= self.model.first(),
            "the state reaches to the first entry"
        );
        for index in from..self.model.applied {
            self.seal(index);
            if let Some(outcomes) = self.model.outcomes.get(&index) {
                self.log()
                    .note_applied(index, outcomes)
                    .expect("the engine does as the model");
            }
        }
    }

    fn check(&self) {
        let (model, log) = (&self.model, self.log());
        let state = log.state();
        let last = model
            .entries
            .values()
            .last()
            .map(|entry| entry.id)
            .or(model.purged);
        assert_eq!((state.purged, state.last), (model.purged, last));
        let entries: Vec<Entry> = model.entries.values().cloned().collect();
        assert_eq!(all(log), entries);
        for (index, entry) in &model.entries {
            assert_eq!(
                log.entry_id(*index).expect("the engine does as the model"),
                Some(entry.id)
            );
        }
        let mut terms: Vec<EntryId> = entries.iter().map(|entry| entry.id).collect();
        terms.dedup_by_key(|id| (id.term, id.node));
        assert_eq!(log.terms(), terms);
        assert_eq!(log.vote(), model.vote);
        self.check_records();
    }

    fn check_records(&self) {
        for (id, expected) in &self.model.records {
            let mut next = match expected.first() {
                Some((_, offset, _)) => *offset,
                None => continue,
            };
            if next > 0 {
                let below = self.log().read(*id, next - 1, next, 1);
                assert!(matches!(below, Err(ReadError::Purged { .. })), "{below:?}");
            }
            for (_, offset, body) in expected {
                assert_eq!(*offset, next);
                let chunk = self
                    .log()
                    .read(*id, next, u64::MAX, 1)
                    .expect("the engine does as the model");
                assert_eq!(chunk.records.len(), 1);
                assert_eq!(
                    (chunk.records[0].offset, &chunk.records[0].body[..]),
                    (next, &body[..])
                );
                next = chunk.next_offset;
            }
            let all = self
                .log()
                .read(*id, expected[0].1, u64::MAX, usize::MAX)
                .expect("the engine does as the model");
            assert_eq!(all.records.len(), expected.len());
            assert_eq!(
                self.log()
                    .read(*id, next, u64::MAX, 1)
                    .expect("the engine does as the model")
                    .records,
                []
            );
        }
        let (first, applied) = (self.model.first(), self.model.applied);
        let entries = if first < applied {
            self.log()
                .read_entries(first, applied, usize::MAX)
                .expect("the engine does as the model")
        } else {
            Vec::new()
        };
        let found: usize = entries
            .iter()
            .flat_map(|entry| &entry.batches)
            .map(|(_, records)| records.len())
            .sum();
        assert_eq!(
            found,
            self.model.records.values().map(Vec::len).sum::<usize>()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_is_the_model(
        operations in prop::collection::vec(operation(), 1..60),
        tail_size in prop_oneof![Just(0_usize), Just(3000), Just(1 << 20)],
    ) {
        let dir = tempfile::tempdir().expect("the engine does as the model");
        let disks: [Arc<dyn Disk>; 2] = [Arc::new(RealDisk), Arc::new(SimDisk::new())];
        for disk in disks {
            let mut pair = Pair::new(disk, dir.path(), tail_size);
            for operation in &operations {
                pair.run(operation);
                if !matches!(operation, Operation::Append(..)) {
                    pair.check();
                }
            }
            pair.reopen();
            pair.check();
            barrier(pair.log());
            pair.log().verify().expect("the engine does as the model");
            prop_assert_eq!(pair.log().state().durable, pair.log().state().last);
        }
    }
}
