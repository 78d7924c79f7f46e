//! The domain's words as types: what an entry, a batch and a record are, apart from any bytes.
//!
//! Promises: plain values, no I/O, no encoding. Numbers of different kinds have different types where they could be
//! mixed up; a Raft *index* is never an *offset*. Must not know: files, Raft's rules, the network.

use bytes::Bytes;

/// The identity of a Raft entry: the leader that proposed it, in which term, and at which index.
///
/// Two entries with equal ids are equal (Raft's log matching).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId {
    /// The term of the leader that proposed the entry.
    pub term: u64,
    /// That leader's node id.
    pub node: u64,
    /// The entry's place in the Raft log, dense.
    pub index: u64,
}

/// What an entry carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// Nothing: a new leader's first entry.
    Blank = 1,
    /// Who the members are from here on.
    Membership = 2,
    /// A change of the small state: create a log, and the like.
    Command = 3,
    /// Batches of records.
    Batches = 4,
}

impl EntryKind {
    /// The kind with this number on disk and on the wire, if there is one.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Blank),
            2 => Some(Self::Membership),
            3 => Some(Self::Command),
            4 => Some(Self::Batches),
            _ => None,
        }
    }
}

/// A Raft entry with its payload as it is on disk and on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who proposed it, and where it stands.
    pub id: EntryId,
    /// How to read the payload.
    pub kind: EntryKind,
    /// Blank: empty. Membership, command: a protobuf message. Batches: see `format::batch`.
    pub payload: Bytes,
}

/// Raft's vote: which leader a node has promised itself to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote {
    /// The term voted in.
    pub term: u64,
    /// The node voted for.
    pub node: u64,
    /// Whether a majority granted it, which makes the node that term's leader.
    pub committed: bool,
}

/// The number of a log: what its name stands for inside the group, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId(pub u64);

/// Key and value, both UTF-8, in the order they were given.
pub type Attributes = Vec<(String, String)>;

/// A record before it has a place in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// Event time, nanoseconds since the Unix epoch, UTC.
    pub timestamp: i64,
    /// At most [`crate::limits::ATTRIBUTES_MAX`].
    pub attributes: Attributes,
    /// Any bytes.
    pub body: Bytes,
}

/// A record at its place in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Dense from 0 in its log, the same on every node.
    pub offset: u64,
    /// Event time, nanoseconds since the Unix epoch, UTC.
    pub timestamp: i64,
    /// As appended.
    pub attributes: Attributes,
    /// As appended.
    pub body: Bytes,
}

/// What makes a retried append take effect once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Producer {
    /// The writer, not 0.
    pub id: u64,
    /// Raised by a writer that takes over.
    pub epoch: u32,
    /// Dense from 0 within (id, epoch) and log.
    pub sequence: u64,
}

/// How the records of a batch are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// As they are.
    Plain = 0,
    /// An LZ4 block, when that is smaller.
    Lz4 = 1,
}

/// What stands before a batch's records: all that apply needs to know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// The log it goes to.
    pub log: LogId,
    /// How many records, 1 or more.
    pub records: u32,
    /// Absent: appended without exactly-once.
    pub producer: Option<Producer>,
    /// The log's next offset must be this for the batch to be taken.
    pub expected_offset: Option<u64>,
    /// The leader's clock when it took the batch, nanoseconds since the Unix epoch.
    pub append_time: i64,
    /// The earliest event time among the records.
    pub timestamp_min: i64,
    /// The latest event time among the records.
    pub timestamp_max: i64,
    /// How the records are encoded.
    pub codec: Codec,
    /// Bytes of the encoded records.
    pub encoded_size: u32,
    /// Bytes of the records before compression.
    pub plain_size: u32,
    /// crc32 of the encoded records.
    pub crc: u32,
}

/// The directory's owner: which cluster and node it belongs to. The node id is given when the directory is made, the
/// cluster once the node is in one; neither ever changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// A UUID, or [`NO_CLUSTER`].
    pub cluster_id: [u8; 16],
    /// Random, never reused.
    pub node_id: u64,
}

/// The cluster id of a node that is in no cluster yet.
pub const NO_CLUSTER: [u8; 16] = [0; 16];

/// What apply decided about one batch of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchOutcome {
    /// Its records stand in the log from this offset on.
    Taken {
        /// The offset of its first record.
        base_offset: u64,
    },
    /// A duplicate, a wrong expected offset, a fenced producer, an unknown log: its bytes are in the file and in no log.
    Refused,
}
