//! The derived full-text index of one group: shards of tantivy, fed in entry order, searched newest first.
//!
//! Promises: what was fed is searchable at once; a search finds exactly the records that [`Query::matches`]; an index
//! that is missing, damaged or of another version is empty, or shorter, and is fed again; what could not be fed is named by
//! every answer over it. Never names `log`: the server feeds it and fetches the text of hits.
//!
//! Read `query` first (the language and its meaning), then `tokenizer` and `schema` (what a document holds), `shard`,
//! `payload` and `files` (what is on disk), `gaps` (what is left out), `view` (what a search sees), `feed` and `search` (the
//! two sides).

mod exclusion;
mod feed;
mod files;
mod gaps;
mod merge;
mod open;
mod payload;
mod plan;
mod query;
mod reader;
mod schema;
#[expect(
    clippy::module_inception,
    reason = "a verb has the same file name in every layer"
)]
mod search;
mod shard;
mod tokenizer;
mod view;

use std::path::PathBuf;

pub use self::feed::Feeder;
pub use self::gaps::IndexGap;
pub use self::open::delete_from;
pub use self::query::Query;
pub use self::search::Searcher;
use crate::types::LogId;

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

/// What may go wrong with the index itself. Whatever it is, the caller drops the feeder.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// tantivy or the disk failed. The caller deletes the directory and builds the index anew.
    #[error("search index: {0}")]
    Failed(String),
    /// The disk has no room for what was fed. What was committed is whole: the caller opens the index again when there is
    /// room.
    #[error("search index: the disk is full: {0}")]
    Full(String),
    /// More damaged batches than an index leaves out: nothing of the entry was fed, and what is there is whole.
    #[error(
        "search index: more than {0} batches are damaged (search_gaps_max); it goes on when their segments are repaired or \
         purged"
    )]
    Gaps(usize),
}

impl IndexError {
    fn failed(what: impl Into<String>) -> Self {
        Self::Failed(what.into())
    }

    /// What tantivy or the system said. tantivy's threads hand on no error of the system's, but its text.
    fn of(error: &dyn std::fmt::Display) -> Self {
        const FULL: [&str; 4] = [
            "os error 28",
            "StorageFull",
            "os error 122",
            "QuotaExceeded",
        ];
        let said = error.to_string();
        if FULL.iter().any(|full| said.contains(full)) {
            return Self::Full(said);
        }
        Self::Failed(said)
    }
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

/// Opens the index, or starts an empty one when there is none or when it is damaged or of another format version
/// (which is deleted).
pub fn open(options: IndexOptions) -> Result<(Feeder, Searcher), IndexError> {
    let opened = open::open(&options)?;
    let searcher = Searcher::new(std::sync::Arc::clone(&opened.shared));
    Ok((Feeder::new(options, opened), searcher))
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
    /// What the index lacks of the log below the offset that was asked for, by offset: there may be hits in it. Of the whole
    /// log, also of what is below a page that is full.
    pub gaps: Vec<IndexGap>,
}
