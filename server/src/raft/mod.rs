//! The Raft group as the rest of the server sees it: propose, confirm a read, look at the small state.

use std::sync::Arc;
use std::time::Duration;

use inkstone_proto::peer_v1::peer_client::PeerClient;
use inkstone_proto::v1::NodeInfo;
use inkstone_storage::format::batch::EncodedBatch;
use inkstone_storage::log::Log;
use inkstone_storage::types::LogId;
use tonic::transport::Channel;

use crate::tail::Applied;

/// Who leads, as this node knows it.
#[derive(Debug, Clone, PartialEq)]
pub enum Leader {
    /// This node.
    Here,
    /// Another one.
    There(NodeInfo),
    /// Nobody that is known.
    Unknown,
}

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
}

/// What an append that took effect is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Offset of the first record.
    pub first_offset: u64,
    /// Offset behind the last.
    pub next_offset: u64,
    /// When the leader took it, nanoseconds since the Unix epoch.
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
}

/// Why a proposal was not answered with its outcome.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ProposeError {
    /// Not proposed: this node does not lead.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, if known.
        leader: Option<NodeInfo>,
    },
    /// Not proposed: too many bytes are in flight.
    #[error("too many appends are in flight ({bound} bytes)")]
    Busy {
        /// The bound, in bytes.
        bound: usize,
    },
    /// Proposed, and then leadership, the group or time was lost: it may or may not take effect.
    #[error("the outcome is unknown: {why}")]
    Unknown {
        /// What happened.
        why: String,
    },
    /// Not proposed: the node is stopping or has failed.
    #[error("the node is stopping")]
    Stopping,
}

/// Why a linearizable read could not be confirmed. It had no effect in any case.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ReadIndexError {
    /// No leader is known, or it could not reach a majority in time.
    #[error("no leader answered in time")]
    NoLeader {
        /// Who leads, if known.
        leader: Option<NodeInfo>,
    },
    /// The deadline passed.
    #[error("timed out")]
    Timeout,
    /// The node is stopping or has failed.
    #[error("the node is stopping")]
    Stopping,
}

/// The outcome of an append: the outer error says that there is no outcome, the inner one that it was refused at apply.
pub type AppendOutcome = Result<Result<Receipt, Refusal>, ProposeError>;

/// The outcome of a batch that was submitted. Dropping it never cancels the write.
pub type Pending = futures::future::BoxFuture<'static, AppendOutcome>;

/// The group's handle. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Group {
    inner: Arc<()>,
}

impl Group {
    /// Appends a batch: merged with what is waiting into one entry, proposed, and answered once applied. Dropping the
    /// future never cancels the write. Refuses at once where it does not lead or is over its bound.
    pub async fn append(&self, batch: EncodedBatch) -> AppendOutcome {
        todo!()
    }

    /// Takes a batch into the queue, in the order of the calls.
    pub fn submit(&self, batch: EncodedBatch) -> Result<Pending, ProposeError> {
        todo!()
    }

    /// Creates a log: its info, and whether it is new. Only where this node leads.
    pub async fn create_log(&self, name: &str) -> Result<(LogInfo, bool), ProposeError> {
        todo!()
    }

    /// Returns once everything that was acknowledged before the call is visible here: asks the leader (or confirms its
    /// own leadership with a majority), then waits for apply. Works on any node.
    pub async fn linearize(&self, timeout: Duration) -> Result<u64, ReadIndexError> {
        todo!()
    }

    /// The log of that name in this node's applied state.
    pub fn log_info(&self, name: &str) -> Option<LogInfo> {
        todo!()
    }
    /// The log with that number in this node's applied state.
    pub fn log_info_by_id(&self, id: LogId) -> Option<LogInfo> {
        todo!()
    }
    /// All logs, by name.
    pub fn logs(&self) -> Vec<LogInfo> {
        todo!()
    }

    /// The engine, for reads.
    pub fn log(&self) -> &Log {
        todo!()
    }
    /// How far apply has come.
    pub fn applied(&self) -> &Applied {
        todo!()
    }
    /// Who leads.
    pub fn leader(&self) -> Leader {
        todo!()
    }
    /// This node's id.
    pub fn node_id(&self) -> u64 {
        todo!()
    }
    /// This cluster's id.
    pub fn cluster_id(&self) -> [u8; 16] {
        todo!()
    }
    /// Raft's current term here.
    pub fn term(&self) -> u64 {
        todo!()
    }
    /// Every member and its role as this node knows it (itself included).
    pub fn members(&self) -> Vec<NodeInfo> {
        todo!()
    }
    /// A client for another member's peer service, over a shared connection. Does not wait for the connection.
    pub fn peer(&self, node: &NodeInfo) -> PeerClient<Channel> {
        todo!()
    }
    /// The header that every message to that node carries.
    pub fn header(&self, to: u64) -> inkstone_proto::peer_v1::Header {
        todo!()
    }
    /// This node's own row of the cluster's status; `indexed_index` is left 0 for the caller to fill.
    pub fn node_status(&self) -> inkstone_proto::v1::NodeStatus {
        todo!()
    }
}
