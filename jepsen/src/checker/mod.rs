//! Reads a history and says which of the promises it breaks. One property, one file, one definition.
//!
//! Promises: no false alarm, whatever the faults were: an operation whose effect is unknown may have had it or not. Must
//! not know: how a history was made. The definitions follow Jepsen's checker for Kafka and, for [`linearizable`], the
//! theorem in that file.
//!
//! Read [`observed`] first (what the history as a whole says about one log), then any property.

mod aborted;
mod chains;
mod conditional;
mod corrupt;
mod duplicated;
pub mod linearizable;
mod lost;
mod nodes;
pub mod observed;
mod offsets;
mod order;
mod phantom;
mod receipts;
mod reordered;
mod torn;
mod trimmed;

use std::collections::BTreeMap;
use std::fmt;

use crate::history::{Call, Operation, Outcome};
use observed::Observed;

/// Which property was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Property {
    /// An acknowledged record is not in a final read.
    Lost,
    /// A record stands at two offsets.
    Duplicated,
    /// A record is read elsewhere than its receipt says, or an answer is not in offset order.
    Reordered,
    /// Two records were seen at one offset.
    InconsistentOffset,
    /// A record that nobody appended.
    Phantom,
    /// A record whose append was refused.
    AbortedRead,
    /// Bytes that nobody appended.
    Corrupt,
    /// A part of a batch.
    TornBatch,
    /// A conditional append that ignored its condition.
    Unconditional,
    /// A retry was answered with another receipt than the append, or its receipt was forgotten.
    ReceiptsDiffer,
    /// A client's records do not stand in the order in which it appended them.
    OutOfOrder,
    /// Two nodes' final reads differ.
    NodesDiffer,
    /// Two nodes have different chain crcs at one Raft index.
    ChainsDiffer,
    /// An offset below the tail that nothing can have filled.
    Hole,
    /// Gone without having been trimmed, or trimmed and still there.
    Overtrimmed,
    /// Real-time order was broken: a stale read, or an append ordered before one that had returned.
    NotLinearizable,
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost",
            Self::Duplicated => "duplicated",
            Self::Reordered => "reordered",
            Self::InconsistentOffset => "inconsistent offset",
            Self::Phantom => "phantom",
            Self::AbortedRead => "aborted read",
            Self::Corrupt => "corrupt",
            Self::TornBatch => "torn batch",
            Self::Unconditional => "unconditional",
            Self::ReceiptsDiffer => "receipts differ",
            Self::OutOfOrder => "out of order",
            Self::NodesDiffer => "nodes differ",
            Self::ChainsDiffer => "chains differ",
            Self::Hole => "hole",
            Self::Overtrimmed => "overtrimmed",
            Self::NotLinearizable => "not linearizable",
        })
    }
}

/// One broken promise, with its witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anomaly {
    /// Which promise.
    pub property: Property,
    /// In which log.
    pub log: String,
    /// The operations or offsets that prove it.
    pub witness: String,
}

/// How much the history holds: a verdict over nothing is worth nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Appends that were acknowledged.
    pub appends_acked: usize,
    /// Records of those.
    pub records_acked: usize,
    /// Appends that were refused, condition mismatches included.
    pub appends_refused: usize,
    /// Appends of unknown outcome.
    pub appends_unknown: usize,
    /// Of those, the conditional ones: a retry that finds the offset taken can't tell by whom.
    pub appends_unknown_conditional: usize,
    /// Of all unknown ones, those that were seen to have taken effect.
    pub appends_unknown_seen: usize,
    /// Acknowledged appends that were asked for again and answered.
    pub again: usize,
    /// Trims that were acknowledged.
    pub trims: usize,
    /// Nodes that said how far they are and what their chain crc is.
    pub chains: usize,
    /// Tail calls that were answered.
    pub tails: usize,
    /// Reads that were answered, final reads included.
    pub reads: usize,
    /// Records in those.
    pub records_read: usize,
    /// Final reads that were answered.
    pub final_reads: usize,
}

/// What the checkers found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Every broken promise.
    pub anomalies: Vec<Anomaly>,
    /// What the verdict rests on.
    pub counts: Counts,
}

impl Verdict {
    /// Whether no promise was broken.
    pub fn is_valid(&self) -> bool {
        self.anomalies.is_empty()
    }

    /// Whether this promise was broken.
    pub fn has(&self, property: Property) -> bool {
        self.anomalies
            .iter()
            .any(|anomaly| anomaly.property == property)
    }
}

/// Checks every property on every log of the history.
pub fn check(operations: &[Operation]) -> Verdict {
    let mut logs: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        logs.entry(&operation.log).or_default().push(operation);
    }
    let mut verdict = Verdict::default();
    for (name, operations) in logs {
        let observed = Observed::new(name, operations);
        count(&mut verdict.counts, &observed);
        let properties = [
            lost::check,
            duplicated::check,
            reordered::check,
            offsets::check,
            phantom::check,
            aborted::check,
            corrupt::check,
            torn::check,
            conditional::check,
            receipts::check,
            order::check,
            nodes::check,
            chains::check,
            trimmed::check,
            linearizable::check,
        ];
        for property in properties {
            verdict.anomalies.extend(property(&observed));
        }
    }
    verdict
}

fn count(counts: &mut Counts, observed: &Observed<'_>) {
    for operation in &observed.operations {
        match (&operation.call, &operation.outcome) {
            (Call::Append { ids, .. }, Outcome::Appended { .. }) => {
                counts.appends_acked += 1;
                counts.records_acked += ids.len();
            }
            (Call::Append { .. }, Outcome::Refused { .. } | Outcome::Mismatch { .. }) => {
                counts.appends_refused += 1;
            }
            (
                Call::Append {
                    ids,
                    expected_offset,
                },
                _,
            ) => {
                counts.appends_unknown += 1;
                counts.appends_unknown_conditional += usize::from(expected_offset.is_some());
                if ids.iter().any(|id| observed.offset_of(*id).is_some()) {
                    counts.appends_unknown_seen += 1;
                }
            }
            (Call::Again { .. }, Outcome::Appended { .. }) => counts.again += 1,
            (_, Outcome::Trimmed { .. }) => counts.trims += 1,
            (_, Outcome::Chain { .. }) => counts.chains += 1,
            (_, Outcome::Tail { .. }) => counts.tails += 1,
            (call, Outcome::Records { records, .. }) => {
                counts.reads += 1;
                counts.records_read += records.len();
                counts.final_reads += usize::from(*call == Call::FinalRead);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
