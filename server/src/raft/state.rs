//! The small state: which logs there are, how far each is, and the receipts of producers. Pure and deterministic.
//!
//! Promises: the same entries give the same state and the same answers on every node; no clock, no randomness, no I/O.
//! A refused batch changes nothing but what its time makes to be forgotten. Must not know: openraft, protobuf, files.

mod lifetime;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use inkstone_storage::limits::{
    LOGS_MAX, PRODUCER_FORGOTTEN_AFTER, PRODUCER_RECEIPTS_MAX, PRODUCERS_MAX, PRODUCERS_TOTAL_MAX,
};
use inkstone_storage::types::{BatchHeader, LogId, Producer};

pub use self::lifetime::{LogRefusal, Retention};

/// A log as the small state has it. Times: nanoseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogInfo {
    /// Its number.
    pub id: LogId,
    /// Its name.
    pub name: String,
    /// The first offset that can be read.
    pub first_offset: u64,
    /// The offset that the next record will get.
    pub next_offset: u64,
    /// When it was created.
    pub created_time: i64,
    /// When the last append was taken; 0: never.
    pub last_append_time: i64,
    /// What may be removed of it.
    pub retention: Retention,
}

/// What an append that took effect is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Offset of the first record.
    pub first_offset: u64,
    /// Offset behind the last.
    pub next_offset: u64,
    /// When the leader took it, nanoseconds since the Unix epoch; it never falls within a log.
    pub append_time: i64,
    /// Whether an earlier try had taken effect.
    pub duplicate: bool,
}

/// Why apply refused a batch: it had no effect. The same on every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The log does not exist (any more).
    #[error("no log with that number")]
    LogNotFound,
    /// `expected_offset` is not the log's next offset.
    #[error("the log's next offset is {next_offset}")]
    OffsetMismatch {
        /// Where the log's end is.
        next_offset: u64,
    },
    /// A newer epoch has written.
    #[error("fenced: epoch {epoch} of this producer has written")]
    ProducerFenced {
        /// The epoch that holds.
        epoch: u32,
    },
    /// Not the next sequence number.
    #[error("sequence {expected} is next")]
    SequenceGap {
        /// The next one.
        expected: u64,
    },
    /// Older than the receipts that are kept: it took effect or not, nobody knows any more.
    #[error("that sequence's receipt is not kept any more")]
    ReceiptForgotten,
    /// So many producers wrote to the log within 24 hours that no further one is remembered.
    #[error("the log remembers {PRODUCERS_MAX} producers already")]
    TooManyProducers,
    /// So many producers wrote to all logs that no further one is remembered.
    #[error("all logs together remember {PRODUCERS_TOTAL_MAX} producers already")]
    TooManyProducersInAll,
}

/// A producer's last receipts in one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProducerState {
    /// The newest epoch that has written.
    pub epoch: u32,
    /// Sequence and receipt, by rising sequence, the last one newest; never empty.
    pub receipts: VecDeque<(u64, Receipt)>,
    /// The group's append time at its last batch.
    pub last_append_time: i64,
}

/// One log with its producers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogState {
    /// What others may see of it.
    pub info: LogInfo,
    producers: BTreeMap<u64, ProducerState>,
}

impl LogState {
    /// A log without producers.
    pub(crate) fn new(info: LogInfo) -> Self {
        Self {
            info,
            producers: BTreeMap::new(),
        }
    }

    /// Its producers, by id.
    pub(crate) fn producers(&self) -> impl Iterator<Item = (u64, &ProducerState)> {
        self.producers.iter().map(|(id, state)| (*id, state))
    }

    /// Decides about a batch and, when it is taken, moves the log's end. `remembered`: producers of all logs.
    fn apply(&mut self, batch: &BatchHeader, remembered: usize) -> Result<Receipt, Refusal> {
        let append_time = batch.append_time.max(self.info.last_append_time);
        if let Some(producer) = batch.producer
            && let Some(receipt) = self.check_producer(producer, remembered)?
        {
            return Ok(receipt);
        }
        let next_offset = self.info.next_offset;
        if batch
            .expected_offset
            .is_some_and(|expected| expected != next_offset)
        {
            return Err(Refusal::OffsetMismatch { next_offset });
        }
        let receipt = Receipt {
            first_offset: next_offset,
            next_offset: next_offset + u64::from(batch.records),
            append_time,
            duplicate: false,
        };
        self.info.next_offset = receipt.next_offset;
        self.info.last_append_time = append_time;
        Ok(receipt)
    }

    /// The receipt of an earlier try, or nothing when this is the producer's next append.
    fn check_producer(
        &self,
        producer: Producer,
        remembered: usize,
    ) -> Result<Option<Receipt>, Refusal> {
        let Some(known) = self.producers.get(&producer.id) else {
            if self.producers.len() >= PRODUCERS_MAX {
                return Err(Refusal::TooManyProducers);
            }
            if remembered >= PRODUCERS_TOTAL_MAX {
                return Err(Refusal::TooManyProducersInAll);
            }
            return first_sequence(producer);
        };
        if producer.epoch < known.epoch {
            return Err(Refusal::ProducerFenced { epoch: known.epoch });
        }
        if producer.epoch > known.epoch {
            return first_sequence(producer);
        }
        let expected = known
            .receipts
            .back()
            .map_or(0, |(sequence, _)| sequence + 1);
        if producer.sequence == expected {
            return Ok(None);
        }
        if producer.sequence > expected {
            return Err(Refusal::SequenceGap { expected });
        }
        known
            .receipts
            .iter()
            .find(|(sequence, _)| *sequence == producer.sequence)
            .map(|(_, receipt)| {
                Some(Receipt {
                    duplicate: true,
                    ..*receipt
                })
            })
            .ok_or(Refusal::ReceiptForgotten)
    }

    /// Keeps the receipt of a batch that was taken at this time of the group: when the producer was last heard of before.
    fn remember(&mut self, producer: Producer, receipt: Receipt, now: i64) -> Option<i64> {
        let known = self.producers.entry(producer.id);
        let before = match &known {
            Entry::Occupied(known) => Some(known.get().last_append_time),
            Entry::Vacant(_) => None,
        };
        let known = known.or_insert_with(|| ProducerState {
            epoch: producer.epoch,
            receipts: VecDeque::new(),
            last_append_time: now,
        });
        if producer.epoch > known.epoch {
            known.epoch = producer.epoch;
            known.receipts.clear();
        }
        if known.receipts.len() == PRODUCER_RECEIPTS_MAX {
            known.receipts.pop_front();
        }
        known.receipts.push_back((producer.sequence, receipt));
        known.last_append_time = now;
        before
    }
}

/// An unknown producer, or a new epoch, starts at sequence 0.
fn first_sequence(producer: Producer) -> Result<Option<Receipt>, Refusal> {
    if producer.sequence == 0 {
        Ok(None)
    } else {
        Err(Refusal::SequenceGap { expected: 0 })
    }
}

/// All logs of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    next_log_id: u64,
    logs: BTreeMap<LogId, LogState>,
    by_name: BTreeMap<String, LogId>,
    /// The group's append time: the latest of all batches.
    last_append_time: i64,
    /// Every producer of every log: (the group's append time at its last batch, log, producer). Who is forgotten next stands
    /// first, whichever log it wrote to: one that is not appended to any more keeps nobody.
    by_time: BTreeSet<(i64, LogId, u64)>,
}

impl Default for State {
    fn default() -> Self {
        Self::new(1)
    }
}

impl State {
    /// No logs; the next one gets this number.
    pub(crate) fn new(next_log_id: u64) -> Self {
        Self {
            next_log_id,
            logs: BTreeMap::new(),
            by_name: BTreeMap::new(),
            last_append_time: 0,
            by_time: BTreeSet::new(),
        }
    }

    /// The latest append time of all batches.
    pub(crate) fn last_append_time(&self) -> i64 {
        self.last_append_time
    }

    /// Puts the group's append time as it was, from a checkpoint; of one that does not say it, the latest that it names.
    pub(crate) fn restore_time(&mut self, last_append_time: i64) {
        self.last_append_time = self.last_append_time.max(last_append_time);
    }

    /// The number that the next log will get.
    pub(crate) fn next_log_id(&self) -> u64 {
        self.next_log_id
    }

    /// Puts a log as it was, from a checkpoint.
    pub(crate) fn restore_log(&mut self, log: LogState) {
        self.restore_time(log.info.last_append_time);
        self.by_name.insert(log.info.name.clone(), log.info.id);
        self.logs.insert(log.info.id, log);
    }

    /// By number.
    pub(crate) fn logs(&self) -> impl Iterator<Item = &LogState> {
        self.logs.values()
    }

    /// Puts a producer as it was, from a checkpoint: false when there is no such log.
    pub(crate) fn restore_producer(&mut self, log: LogId, id: u64, state: ProducerState) -> bool {
        let Some(producers) = self.logs.get_mut(&log).map(|log| &mut log.producers) else {
            return false;
        };
        self.by_time.insert((state.last_append_time, log, id));
        let last_append_time = state.last_append_time;
        producers.insert(id, state);
        self.restore_time(last_append_time);
        true
    }

    /// The log with that number.
    pub(crate) fn log(&self, id: LogId) -> Option<&LogInfo> {
        self.logs.get(&id).map(|log| &log.info)
    }

    /// The log of that name.
    pub(crate) fn log_named(&self, name: &str) -> Option<&LogInfo> {
        self.log(*self.by_name.get(name)?)
    }

    /// All logs, by name.
    pub(crate) fn logs_by_name(&self) -> impl Iterator<Item = &LogInfo> {
        self.by_name.values().filter_map(|id| self.log(*id))
    }

    /// Creates a log unless there is one of that name: its info, and whether it is new.
    pub(crate) fn create_log(
        &mut self,
        name: &str,
        time: i64,
        retention: Retention,
    ) -> Result<(LogInfo, bool), LogRefusal> {
        if let Some(existing) = self.log_named(name) {
            return Ok((existing.clone(), false));
        }
        if self.logs.len() >= LOGS_MAX {
            return Err(LogRefusal::TooManyLogs);
        }
        let info = LogInfo {
            id: LogId(self.next_log_id),
            name: name.to_owned(),
            first_offset: 0,
            next_offset: 0,
            created_time: time,
            last_append_time: 0,
            retention,
        };
        self.next_log_id += 1;
        self.restore_log(LogState::new(info.clone()));
        Ok((info, true))
    }

    /// Decides about one batch: deduplicate, check the expected offset, assign offsets.
    pub(crate) fn apply_batch(&mut self, batch: &BatchHeader) -> Result<Receipt, Refusal> {
        self.last_append_time = self.last_append_time.max(batch.append_time);
        self.forget_producers();
        let log = self.logs.get_mut(&batch.log).ok_or(Refusal::LogNotFound)?;
        let receipt = log.apply(batch, self.by_time.len())?;
        if let Some(producer) = batch.producer
            && !receipt.duplicate
        {
            let now = self.last_append_time;
            if let Some(before) = log.remember(producer, receipt, now) {
                self.by_time.remove(&(before, batch.log, producer.id));
            }
            self.by_time.insert((now, batch.log, producer.id));
        }
        Ok(receipt)
    }

    /// Forgets the producers that were last heard of more than 24 hours of the group's append time ago.
    fn forget_producers(&mut self) {
        let horizon = self
            .last_append_time
            .saturating_sub(PRODUCER_FORGOTTEN_AFTER);
        while let Some(&(time, log, id)) = self.by_time.first()
            && time < horizon
        {
            self.by_time.pop_first();
            if let Some(log) = self.logs.get_mut(&log) {
                log.producers.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests;
