//! The values that go into requests and come out of answers, as applications see them.
//!
//! They are the domain's types: nothing here is a protobuf message, and `wire.rs` is the only place that converts.
//! Times are nanoseconds since the Unix epoch, UTC; sizes are bytes; offsets are dense from 0 in each log.

use std::time::Duration;

use bytes::Bytes;

use crate::retention::Retention;

/// A record as it is given to an append.
///
/// ```
/// use inkstone_client::NewRecord;
///
/// let record = NewRecord::new("disk full").with_attribute("level", "error").with_timestamp(1_767_225_600_000_000_000);
/// assert_eq!(record.body, "disk full");
/// assert_eq!(record.attributes, [("level".to_owned(), "error".to_owned())]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewRecord {
    /// Event time; `None`: the leader's clock when it takes the append.
    pub timestamp: Option<i64>,
    /// At most 64 pairs. Keys need not be distinct; their order is kept.
    pub attributes: Vec<(String, String)>,
    /// The payload, any bytes. Body and attributes together: at most 1 MiB.
    pub body: Bytes,
}

impl NewRecord {
    /// A record with that body, no attributes, and the leader's clock as its event time.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self {
            timestamp: None,
            attributes: Vec::new(),
            body: body.into(),
        }
    }

    /// The same record with that event time, in nanoseconds since the Unix epoch.
    #[must_use]
    pub fn with_timestamp(mut self, timestamp: i64) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// The same record with one more attribute.
    #[must_use]
    pub fn with_attribute(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((key.into(), value.into()));
        self
    }

    /// Bytes of body and attributes together: what the bounds on records and batches count.
    pub fn size(&self) -> usize {
        let attributes: usize = self.attributes.iter().map(|(k, v)| k.len() + v.len()).sum();
        self.body.len() + attributes
    }
}

impl From<&'static str> for NewRecord {
    fn from(body: &'static str) -> Self {
        Self::new(body)
    }
}

impl From<String> for NewRecord {
    fn from(body: String) -> Self {
        Self::new(body)
    }
}

impl From<Vec<u8>> for NewRecord {
    fn from(body: Vec<u8>) -> Self {
        Self::new(body)
    }
}

impl From<Bytes> for NewRecord {
    fn from(body: Bytes) -> Self {
        Self::new(body)
    }
}

/// A record as it is in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the log, the same on every node.
    pub offset: u64,
    /// Event time, nanoseconds since the Unix epoch.
    pub timestamp: i64,
    /// As they were appended, in order.
    pub attributes: Vec<(String, String)>,
    /// As it was appended, byte for byte.
    pub body: Bytes,
}

/// What an append that took effect is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Offset of the batch's first record.
    pub first_offset: u64,
    /// Offset behind its last record: what [`Consistency::AtLeast`] wants to read one's own writes.
    pub next_offset: u64,
    /// When the leader took it, nanoseconds since the Unix epoch.
    pub append_time: i64,
    /// True when an earlier try had taken effect and this is its receipt.
    pub duplicate: bool,
}

impl Receipt {
    /// How many records the batch had.
    pub fn records(&self) -> u64 {
        self.next_offset.saturating_sub(self.first_offset)
    }
}

/// Names one append of one writer, so that it takes effect exactly once however often it is sent.
///
/// A log keeps the last 16 receipts of a producer, and forgets a producer 24 hours (of append time) after its last
/// append. Then it takes it for a new one: sequence 0 is appended, any other is refused with
/// [`Reason::SequenceGap`](crate::Reason::SequenceGap).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    /// Any number but 0; it names one writer.
    pub id: u64,
    /// Raised by a writer that takes over from an older one of the same id, which is thereby fenced. A higher epoch
    /// begins again at sequence 0.
    pub epoch: u32,
    /// 0 for the first append of (id, epoch) to a log, then one more for each that took effect.
    pub sequence: u64,
}

/// Who numbers an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProducerChoice {
    /// The client does: every retry is safe.
    #[default]
    Auto,
    /// Nobody: a retry after an unknown outcome may append twice, so the client makes none.
    None,
    /// The caller does, and sees to it that sequences are dense and at most 16 in flight.
    Given(Producer),
}

/// Whether the client tries again by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retry {
    /// Until the timeout, where it is safe.
    #[default]
    UntilTimeout,
    /// One try; its outcome is the answer.
    Never,
}

/// How an append is made. The default is what nearly everybody wants.
///
/// ```
/// use inkstone_client::{AppendOptions, Retry};
///
/// let options = AppendOptions { expected_offset: Some(42), retry: Retry::Never, ..AppendOptions::default() };
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppendOptions {
    /// Append only if this is the log's next offset.
    pub expected_offset: Option<u64>,
    /// Who numbers the append.
    pub producer: ProducerChoice,
    /// How long to try; `None`: the client's timeout.
    pub timeout: Option<Duration>,
    /// Whether to try more than once.
    pub retry: Retry,
}

/// How an append session is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionOptions {
    /// The producer, with the sequence of the first batch; `None`: a random one from 0.
    pub producer: Option<Producer>,
    /// How long a batch may take, retries included; `None`: the client's timeout.
    pub timeout: Option<Duration>,
}

/// What to do when a log of that name exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IfExists {
    /// Refuse, with [`Reason::LogExists`](crate::Reason::LogExists).
    #[default]
    Fail,
    /// Answer with the existing log.
    Keep,
}

/// What `create_log` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// The log is new.
    New(LogInfo),
    /// It existed, and [`IfExists::Keep`] said that this is fine.
    Existing(LogInfo),
}

impl Created {
    /// The log, new or not.
    pub fn log(&self) -> &LogInfo {
        match self {
            Self::New(log) | Self::Existing(log) => log,
        }
    }
}

/// A log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogInfo {
    /// Its name.
    pub name: String,
    /// Its number, never reused.
    pub id: u64,
    /// The first offset that can be read.
    pub first_offset: u64,
    /// The offset that the next record will get.
    pub next_offset: u64,
    /// When it was created.
    pub created_time: i64,
    /// When the last append was taken; `None`: it is empty.
    pub last_append_time: Option<i64>,
    /// What retention may remove of it.
    pub retention: Retention,
    /// Bytes of its records before compression that the node which answered holds, removed ones that share a segment with
    /// others included.
    pub stored_bytes: u64,
}

/// Where and how a node is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its id, never reused.
    pub id: u64,
    /// HOST:PORT for clients.
    pub client_address: String,
    /// HOST:PORT for the other nodes.
    pub peer_address: String,
}

impl NodeInfo {
    /// Whether that is its id, or one of its addresses.
    pub fn is(&self, name: &str) -> bool {
        name.parse() == Ok(self.id) || self.client_address == name || self.peer_address == name
    }
}

/// How current an answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// What the asked node has, at once. It may lag; the answer says how far it reaches.
    Stale,
    /// At least up to this offset ([`Receipt::next_offset`]): read your own writes. It counts in the log that has the
    /// name now: one that was deleted and created anew begins again at 0.
    AtLeast(u64),
    /// As linearizable, but the leader relies on its lease instead of asking a majority: quicker, and right only while
    /// the clocks of all nodes run about equally fast and no process stands still between two steps of an answer.
    Lease,
    /// Everything that was acknowledged before the request was made, whichever node is asked.
    #[default]
    Linearizable,
}

/// Where a read starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// At the first record that can be read.
    #[default]
    First,
    /// At this offset.
    Offset(u64),
    /// This many records before the end.
    Last(u64),
    /// At the first record, in offset order, whose event time is this or later (nanoseconds since the Unix epoch).
    Timestamp(i64),
}

/// What a read does at the end of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Follow {
    /// It ends.
    #[default]
    No,
    /// It waits for more.
    Yes,
}

/// What to read.
///
/// ```
/// use inkstone_client::{Follow, ReadOptions, Start};
///
/// let options = ReadOptions { from: Start::Last(10), follow: Follow::Yes, ..ReadOptions::new("audit") };
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOptions {
    /// The log's name.
    pub log: String,
    /// Where to start.
    pub from: Start,
    /// Stop before this offset; `None`: at the end as it is when the read starts (following: never).
    pub until: Option<u64>,
    /// Stop after this many records.
    pub limit: Option<u64>,
    /// Stop once this many bytes of bodies came; at least one record comes.
    pub limit_bytes: Option<u64>,
    /// Whether to wait for more at the end.
    pub follow: Follow,
    /// How much must be visible before the read starts.
    pub consistency: Consistency,
}

impl ReadOptions {
    /// The whole log, linearizable, without following.
    pub fn new(log: impl Into<String>) -> Self {
        Self {
            log: log.into(),
            from: Start::default(),
            until: None,
            limit: None,
            limit_bytes: None,
            follow: Follow::default(),
            consistency: Consistency::default(),
        }
    }
}

/// One event of a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadEvent {
    /// The next records, at neighbouring offsets.
    Records(Vec<Record>),
    /// Offsets that can't be read, instead of silence.
    Gap(Gap),
    /// The end of what there is now was reached. When following only.
    CaughtUp {
        /// The offset that the log's next record will get.
        next_offset: u64,
    },
    /// How current a stale read is; the first event of one, and of no other.
    View {
        /// The offset behind the last record that the server had when the read began.
        next_offset: u64,
        /// Everything acknowledged before this time is there: nanoseconds since the Unix epoch, by the leader's clock;
        /// `None`: the server has not heard from a leader since it started.
        as_of_time: Option<i64>,
    },
    /// Nothing new for a while; the connection lives. When following only.
    Heartbeat {
        /// The offset that the log's next record will get.
        next_offset: u64,
    },
}

/// A range of offsets that a read skips, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// First offset that is missing.
    pub from: u64,
    /// The offset behind the last that is missing.
    pub to: u64,
    /// Why.
    pub reason: GapReason,
}

/// Why offsets can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// Removed by retention or an explicit trim.
    Trimmed,
    /// Damaged: every member has said that it does not have the records intact.
    Damaged,
    /// A reason that this release of the client does not know.
    Other,
}

/// A log's bounds at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// The first offset that can be read.
    pub first_offset: u64,
    /// The offset that the next record will get.
    pub next_offset: u64,
    /// When the last append was taken; `None`: the log is empty.
    pub last_append_time: Option<i64>,
    /// For [`Consistency::Stale`]: everything acknowledged before this time is covered, in nanoseconds since the Unix
    /// epoch by the leader's clock; `None`: not known.
    pub as_of_time: Option<i64>,
}

/// What a search does when the wait for its consistency runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenBehind {
    /// It fails, with [`Reason::Timeout`](crate::Reason::Timeout).
    #[default]
    Fail,
    /// It answers with what is covered, marked by [`SearchAnswer::behind`].
    Answer,
}

/// What to search for.
///
/// ```
/// use inkstone_client::{Consistency, SearchOptions};
///
/// let options = SearchOptions { consistency: Consistency::Stale, ..SearchOptions::new("audit", "error OR \"disk full\"") };
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchOptions {
    /// The log's name.
    pub log: String,
    /// The query; empty matches every record.
    pub query: String,
    /// At most this many hits, 1 to 1,000; `None`: 20.
    pub limit: Option<u32>,
    /// How current the answer must be.
    pub consistency: Consistency,
    /// Only records with this event time or a later one.
    pub since: Option<i64>,
    /// Only records with an event time before this.
    pub until: Option<i64>,
    /// Only records below this offset: [`SearchAnswer::next_before_offset`] of the page before.
    pub before_offset: Option<u64>,
    /// How long the server may wait and search, at most 60 s; `None`: 5 s.
    pub timeout: Option<Duration>,
    /// What to do when the index is still behind by then.
    pub when_behind: WhenBehind,
}

impl SearchOptions {
    /// The newest 20 hits, linearizable.
    pub fn new(log: impl Into<String>, query: impl Into<String>) -> Self {
        Self {
            log: log.into(),
            query: query.into(),
            limit: None,
            consistency: Consistency::default(),
            since: None,
            until: None,
            before_offset: None,
            timeout: None,
            when_behind: WhenBehind::default(),
        }
    }
}

/// What a search found, and what it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchAnswer {
    /// Newest first: falling offsets.
    pub hits: Vec<Hit>,
    /// Every record below this offset was considered, and none at or above it.
    pub indexed_next_offset: u64,
    /// The log's next offset as the answering node knew it. Only a linearizable answer that is not `behind` rules out that
    /// more was acknowledged before the search.
    pub committed_next_offset: u64,
    /// False when a limit of work or the deadline cut the answer, or when it has gaps: there may be hits that are not in it.
    pub complete: bool,
    /// The node whose index answered.
    pub node: u64,
    /// Ask again with this as `before_offset` for the next page; `None`: there is none.
    pub next_before_offset: Option<u64>,
    /// The consistency was not met in time: acknowledged records may be missing, however current the offsets look.
    pub behind: bool,
    /// Offsets around hits that can't be shown, since their records are damaged on every node, newest first.
    pub gaps: Vec<Gap>,
}

/// One hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The record, read from the log and verified.
    pub record: Record,
    /// Byte ranges of the body where the query's terms stand, in order, not overlapping.
    pub highlights: Vec<std::ops::Range<u32>>,
}
