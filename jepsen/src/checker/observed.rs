//! What the operations of one log say together: who wrote what, and what stands at which offset.
//!
//! Promises: every answer counts, also of a read that was stale, because no read may ever return what is not in the
//! log. Must not judge: that is each property's own work.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Anomaly, Property};
use crate::history::{Call, Gap, Operation, Outcome, Seen};
use crate::payload::PayloadId;

/// One log's history, indexed.
#[derive(Debug)]
pub struct Observed<'a> {
    /// The log's name.
    pub log: &'a str,
    /// Its operations, by invocation.
    pub operations: Vec<&'a Operation>,
    /// The append of each record.
    pub writers: HashMap<PayloadId, &'a Operation>,
    /// Offset → the records seen there, by receipts and reads. More than one is an anomaly.
    pub order: BTreeMap<u64, BTreeSet<PayloadId>>,
    /// Record → the offsets at which reads returned it.
    pub read_at: HashMap<PayloadId, BTreeSet<u64>>,
    /// The final reads.
    pub final_reads: Vec<FinalRead<'a>>,
}

/// What one node returned in the end.
#[derive(Debug, Clone, Copy)]
pub struct FinalRead<'a> {
    /// Which node.
    pub node: Option<usize>,
    /// All records that it has.
    pub records: &'a [Seen],
    /// What it says was trimmed.
    pub gaps: &'a [Gap],
}

impl FinalRead<'_> {
    /// Whether the answer says that this offset was trimmed.
    pub fn was_trimmed(&self, offset: u64) -> bool {
        self.gaps.iter().any(|gap| gap.contains(offset))
    }
}

impl<'a> Observed<'a> {
    /// Indexes the operations of one log.
    pub fn new(log: &'a str, operations: Vec<&'a Operation>) -> Self {
        let mut observed = Self {
            log,
            operations: Vec::new(),
            writers: HashMap::new(),
            order: BTreeMap::new(),
            read_at: HashMap::new(),
            final_reads: Vec::new(),
        };
        for operation in &operations {
            observed.add(operation);
        }
        observed.operations = operations;
        observed
    }

    fn add(&mut self, operation: &'a Operation) {
        if let Call::Append { ids, .. } = &operation.call {
            for (offset, id) in acked_offsets(operation).zip(ids) {
                self.order.entry(offset).or_default().insert(*id);
            }
            for id in ids {
                self.writers.insert(*id, operation);
            }
        }
        if let (Call::Again { ids }, Outcome::Appended { first_offset }) =
            (&operation.call, &operation.outcome)
        {
            for (offset, id) in (*first_offset..).zip(ids) {
                self.order.entry(offset).or_default().insert(*id);
            }
        }
        if let Outcome::Records { records, gaps, .. } = &operation.outcome {
            for Seen { offset, id } in records {
                let Some(id) = id else { continue };
                self.order.entry(*offset).or_default().insert(*id);
                self.read_at.entry(*id).or_default().insert(*offset);
            }
            if operation.call == Call::FinalRead {
                self.final_reads.push(FinalRead {
                    node: operation.node,
                    records,
                    gaps,
                });
            }
        }
    }

    /// Where this record stands: as its receipt says, or else the first place where it was read; `None`: never seen.
    pub fn offset_of(&self, id: PayloadId) -> Option<u64> {
        let acked = self.writers.get(&id).and_then(|operation| {
            let Call::Append { ids, .. } = &operation.call else {
                return None;
            };
            let place = ids.iter().position(|of| *of == id)?;
            acked_offsets(operation).nth(place)
        });
        acked.or_else(|| self.read_at.get(&id)?.first().copied())
    }

    /// An anomaly of this log.
    pub(super) fn anomaly(&self, property: Property, witness: String) -> Anomaly {
        Anomaly {
            property,
            log: self.log.to_owned(),
            witness,
        }
    }
}

/// The offsets that an acknowledged append was given; none for any other operation.
pub(super) fn acked_offsets(operation: &Operation) -> std::ops::Range<u64> {
    match (&operation.call, &operation.outcome) {
        (Call::Append { ids, .. }, Outcome::Appended { first_offset }) => {
            *first_offset..*first_offset + u64::try_from(ids.len()).expect("usize fits u64")
        }
        _ => 0..0,
    }
}
