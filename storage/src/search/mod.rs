//! The derived full-text index of one group: shards of tantivy, fed in entry order, searched newest first.
//!
//! Never names `log`: the server feeds it and fetches the text of hits.

use std::path::PathBuf;

use crate::types::{LogId, Record};

/// How an index is opened.
#[derive(Debug, Clone)]
pub struct IndexOptions {
    /// `<data>/group-1/search`: created when missing; its content may be deleted at any time while it is not open.
    pub dir: PathBuf,
    /// Bytes of memory for the writer of the newest shard (at least 15 MB).
    pub writer_memory: usize,
    /// Bytes of bodies and attributes after which a shard is full.
    pub shard_size: u64,
}

/// What may go wrong with the index itself. The caller drops it, deletes the directory and builds it anew.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// tantivy or the disk failed.
    #[error("search index: {0}")]
    Failed(String),
}

/// What is wrong with a query, or with how much it asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Not a query: where (byte in the query) and what was expected.
    #[error("query, byte {position}: {what}")]
    Syntax {
        /// Byte in the query.
        position: usize,
        /// What was found and what was expected.
        what: String,
    },
    /// Over a bound of `limits`.
    #[error("query: {bound} is {value}, and the query asks for more")]
    Limit {
        /// The bound's name in `limits`, lower case.
        bound: &'static str,
        /// Its value.
        value: u64,
    },
    /// The index failed while it was searched.
    #[error("search index: {0}")]
    Failed(String),
}

/// The writing side. One owner.
#[derive(Debug)]
pub struct Feeder {}

/// The searching side. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Searcher {}

/// Opens the index, or starts an empty one when there is none or when it is damaged or of another format version
/// (which is deleted).
pub fn open(options: IndexOptions) -> Result<(Feeder, Searcher), IndexError> {
    todo!()
}

impl Feeder {
    /// The Raft index of the entry to feed next; 0: from the log's first.
    pub fn next_index(&self) -> u64 {
        todo!()
    }
    /// Takes what entry `index` put into logs: searchable on return. Entries come in order; one without records is
    /// fed too.
    pub fn feed(&mut self, index: u64, batches: &[(LogId, Vec<Record>)]) -> Result<(), IndexError> {
        todo!()
    }
    /// Records fed since the last commit.
    pub fn uncommitted(&self) -> usize {
        todo!()
    }
    /// Makes what was fed survive a restart. After a crash the feed goes on behind the last commit: no gap, no duplicate.
    pub fn commit(&mut self) -> Result<(), IndexError> {
        todo!()
    }
}

/// One search.
#[derive(Debug, Clone)]
pub struct SearchRequest {
    /// The log to search.
    pub log: LogId,
    /// The parsed query.
    pub query: Query,
    /// At most so many hits, 1 to [`crate::limits::SEARCH_HITS_MAX`].
    pub limit: usize,
    /// Only event times of this or later.
    pub since: Option<i64>,
    /// Only event times before this.
    pub until: Option<i64>,
    /// Only offsets below this.
    pub before_offset: Option<u64>,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchAnswer {
    /// Offsets, falling.
    pub offsets: Vec<u64>,
    /// Every record of the log below this was considered, none at or above.
    pub next_offset: u64,
    /// False when `expired` cut it short.
    pub complete: bool,
    /// Whether the page is full and there may be hits below the last.
    pub more: bool,
}

/// A parsed query: within its limits, and independent of any index.
#[derive(Debug, Clone)]
pub struct Query {}

impl Query {
    /// Parses the query language.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        todo!()
    }
    /// Whether a record matches, by the same analysis as the index.
    pub fn matches(&self, record: &Record) -> bool {
        todo!()
    }
    /// Where the query's terms and phrases stand in a body: byte ranges, in order, not overlapping.
    pub fn highlights(&self, body: &str) -> Vec<std::ops::Range<usize>> {
        todo!()
    }
}

impl Searcher {
    /// Every record of the log below this offset is searchable.
    pub fn next_offset(&self, log: LogId) -> u64 {
        todo!()
    }
    /// Every entry below this index is searchable.
    pub fn next_index(&self) -> u64 {
        todo!()
    }
    /// Searches, newest first. `expired` is asked now and then; when it says true the answer is cut and marked.
    pub fn search(
        &self,
        request: &SearchRequest,
        expired: &dyn Fn() -> bool,
    ) -> Result<SearchAnswer, QueryError> {
        todo!()
    }
}
