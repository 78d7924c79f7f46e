//! What the clients of a run did and saw, and when: the only thing that a checker reads.
//!
//! Promises: an invocation is stamped before its request can have been sent, an answer after it was received, all with
//! one monotonic clock; so an operation's effect lies between its two times. Must not know: how a cluster works inside.
//!
//! An error is one of two things, and a checker lies when they are mixed up. *Refused*: the request had no effect and
//! never will. *Unknown*: everything else (a timeout, a lost connection, a leader that went away): it may take effect
//! at any later time. A client whose append is unknown must not be used again under the same number, because its next
//! operation would not come after the unknown one.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::payload::PayloadId;

/// How current an answer was asked to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Whatever the node has: says nothing about recency.
    Stale,
    /// Everything below this offset.
    AtLeast(u64),
    /// Everything that was acknowledged before.
    Linearizable,
}

/// What a client asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// One batch of these records.
    Append {
        /// In the batch's order. Never empty.
        ids: Vec<PayloadId>,
        /// Only if this is the log's next offset.
        expected_offset: Option<u64>,
    },
    /// An append that was acknowledged, once more: the same records under the same producer and sequence.
    Again {
        /// In the batch's order. Never empty.
        ids: Vec<PayloadId>,
    },
    /// The log's next offset.
    Tail {
        /// How current.
        level: Level,
    },
    /// Records from an offset on.
    Read {
        /// The first one wanted.
        from: u64,
        /// How current.
        level: Level,
    },
    /// The removal of all records below an offset.
    Trim {
        /// The offset.
        before: u64,
    },
    /// Everything, from one node, after all faults were healed and all appends had ended.
    FinalRead,
    /// How far one node's disk is and what its chain crc is there, after everything that it holds was committed. It is
    /// the group's, whatever the log.
    Chain,
}

/// Where a read stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// At the log's end as it was at some moment between the call and the answer.
    Tail,
    /// At a bound of the reader's own: there may be more.
    Bound,
}

/// One record as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The offset it came with.
    pub offset: u64,
    /// Whose it is; `None`: bytes that no client of the run can have written.
    pub id: Option<PayloadId>,
}

/// Offsets that an answer passes over because they were trimmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The first one.
    pub from: u64,
    /// The offset behind the last one.
    pub to: u64,
}

impl Gap {
    /// Whether the answer passes over this one.
    pub fn contains(&self, offset: u64) -> bool {
        (self.from..self.to).contains(&offset)
    }
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The append took effect.
    Appended {
        /// Offset of its first record.
        first_offset: u64,
    },
    /// The append had no effect, because the log's next offset was not the expected one.
    Mismatch {
        /// The log's next offset.
        next_offset: u64,
    },
    /// The answer to a tail call.
    Tail {
        /// The log's next offset.
        next_offset: u64,
    },
    /// The answer to a read.
    Records {
        /// In the order in which they came.
        records: Vec<Seen>,
        /// What the answer says was trimmed; never two with nothing between them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        gaps: Vec<Gap>,
        /// Where it stopped.
        end: End,
    },
    /// The answer to a trim.
    Trimmed {
        /// The first offset that the log has then.
        first_offset: u64,
    },
    /// The answer to an append that was asked for again: its receipt is not known (any more).
    Forgotten {
        /// The error.
        why: String,
    },
    /// A node's chain crc.
    Chain {
        /// Raft index of the node's last entry.
        index: u64,
        /// The chain crc behind it.
        crc: u32,
    },
    /// It had no effect and never will.
    Refused {
        /// The error.
        why: String,
    },
    /// It may have taken effect, or may yet.
    Unknown {
        /// The error.
        why: String,
    },
}

/// Names an operation of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OperationId(u64);

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    Invoke {
        operation: OperationId,
        client: u32,
        node: Option<usize>,
        log: String,
        time: u64,
        call: Call,
    },
    Return {
        operation: OperationId,
        time: u64,
        outcome: Outcome,
    },
}

/// One operation from its call to its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Who did it.
    pub client: u32,
    /// The one node that was asked; `None`: any.
    pub node: Option<usize>,
    /// On which log.
    pub log: String,
    /// Nanoseconds of the history's clock, before it was sent.
    pub invoked: u64,
    /// After it was answered; `u64::MAX`: never, it is concurrent with everything that follows.
    pub returned: u64,
    /// What was asked.
    pub call: Call,
    /// What came of it.
    pub outcome: Outcome,
}

/// An append-only record of operations, shared by all clients of a run.
#[derive(Debug)]
pub struct History {
    clock: Clock,
    events: Mutex<Vec<Event>>,
}

impl History {
    /// An empty one, stamped by this clock.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            events: Mutex::new(Vec::new()),
        }
    }

    /// Notes that the call is about to be sent. Every invocation is followed by one [`History::complete`], or by none
    /// when the client died; then its outcome is unknown.
    pub fn invoke(&self, client: u32, node: Option<usize>, log: &str, call: Call) -> OperationId {
        let mut events = self.events.lock();
        let operation = OperationId(u64::try_from(events.len()).expect("usize fits u64"));
        let time = self.clock.nanos();
        events.push(Event::Invoke {
            operation,
            client,
            node,
            log: log.to_owned(),
            time,
            call,
        });
        operation
    }

    /// Notes how it ended.
    pub fn complete(&self, operation: OperationId, outcome: Outcome) {
        let mut events = self.events.lock();
        let time = self.clock.nanos();
        events.push(Event::Return {
            operation,
            time,
            outcome,
        });
    }

    /// The time now, by the clock that stamps the operations, in nanoseconds.
    pub fn now(&self) -> u64 {
        self.clock.nanos()
    }

    /// All operations, in the order of their invocations.
    pub fn operations(&self) -> Vec<Operation> {
        join(&self.events.lock())
    }

    /// Writes one JSON object per event and line.
    pub fn write_to(&self, file: &Path) -> io::Result<()> {
        let mut text = Vec::new();
        for event in self.events.lock().iter() {
            serde_json::to_writer(&mut text, event)?;
            text.push(b'\n');
        }
        std::fs::write(file, text)
    }

    /// The operations of a file that [`History::write_to`] wrote.
    pub fn read_from(file: &Path) -> io::Result<Vec<Operation>> {
        let mut events = Vec::new();
        for line in std::fs::read_to_string(file)?.lines() {
            events.push(serde_json::from_str(line)?);
        }
        Ok(join(&events))
    }
}

fn join(events: &[Event]) -> Vec<Operation> {
    let mut operations: Vec<Operation> = Vec::new();
    let mut places = HashMap::new();
    for event in events {
        match event {
            Event::Invoke {
                operation,
                client,
                node,
                log,
                time,
                call,
            } => {
                places.insert(*operation, operations.len());
                operations.push(Operation {
                    client: *client,
                    node: *node,
                    log: log.clone(),
                    invoked: *time,
                    returned: u64::MAX,
                    call: call.clone(),
                    outcome: Outcome::Unknown {
                        why: "never answered".to_owned(),
                    },
                });
            }
            Event::Return {
                operation,
                time,
                outcome,
            } => {
                let Some(place) = places.get(operation) else {
                    continue;
                };
                // An unknown effect may still come: the operation never returns.
                if !matches!(outcome, Outcome::Unknown { .. }) {
                    operations[*place].returned = *time;
                }
                operations[*place].outcome = outcome.clone();
            }
        }
    }
    operations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let history = History::new(Clock::start());
        let id = PayloadId::new(1, 0);
        let append = Call::Append {
            ids: vec![id],
            expected_offset: None,
        };
        let first = history.invoke(1, None, "a", append);
        history.complete(first, Outcome::Appended { first_offset: 0 });
        let second = history.invoke(2, Some(0), "a", Call::FinalRead);
        let records = vec![Seen {
            offset: 0,
            id: Some(id),
        }];
        history.complete(
            second,
            Outcome::Records {
                records,
                gaps: Vec::new(),
                end: End::Tail,
            },
        );
        history.invoke(
            3,
            None,
            "a",
            Call::Tail {
                level: Level::AtLeast(1),
            },
        );

        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("history.jsonl");
        history.write_to(&file).unwrap();
        assert_eq!(History::read_from(&file).unwrap(), history.operations());
    }

    #[test]
    fn an_operation_without_an_answer_never_returns() {
        let history = History::new(Clock::start());
        let lost = history.invoke(
            1,
            None,
            "a",
            Call::Tail {
                level: Level::Linearizable,
            },
        );
        history.complete(
            lost,
            Outcome::Unknown {
                why: "connection reset".to_owned(),
            },
        );
        history.invoke(
            2,
            None,
            "a",
            Call::Tail {
                level: Level::Linearizable,
            },
        );
        let returned: Vec<u64> = history.operations().iter().map(|o| o.returned).collect();
        assert_eq!(returned, [u64::MAX, u64::MAX]);
    }
}
