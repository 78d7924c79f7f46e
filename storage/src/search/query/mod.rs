//! The query language: text to a bounded tree, and what the tree says of one record.
//!
//! Promises: [`Query::parse`] takes any text and answers at once, with a query within `limits` or with an error that
//! says where; no text overflows the stack. [`Query::matches`] is the meaning of a query: the index must answer the
//! same. Must not know: tantivy, shards.

mod lexer;
mod matching;
mod parser;
mod time;

use std::collections::HashMap;
use std::ops::Range;

use self::matching::Phrase;
pub(super) use self::time::TimeRange;
use super::QueryError;
use crate::limits::QUERY_SIZE_MAX;
use crate::types::Record;

/// A parsed query: within its limits, and independent of any index.
///
/// The language, as people who use Lucene or Kibana type it:
///
/// | write | for records whose |
/// |---|---|
/// | `timeout` | body has that token (letters and digits, case ignored) |
/// | `"disk full"`, `10.251.73.220` | body has those tokens one after another |
/// | `level:error`, `user:"Jo Doe"` | attribute has that value (case of the value ignored) |
/// | `timestamp:[2026-01-01 TO 2026-02-01}` | event time is in the range; `[` `]` include, `{` `}` exclude, `*` is open |
/// | `timestamp:2026-01-01` | event time is that day, or that instant |
/// | `a b`, `a AND b`, `a OR b`, `NOT a`, `-a`, `( )` | …; `AND` binds closer than `OR`; `and`, `or`, `not` are the same |
/// | `*` or nothing | all records |
///
/// A `:` is text, and so separates two tokens of a phrase, unless what stands before it in the word can be an
/// attribute's key: it begins with a letter, `_` or `@` and goes on with those, digits, `.`, `-` and `/`. `12:30:45`,
/// `http://host`, `std::io`, `C:\dir`, `00:1b:c2:ff` and `error: …` (nothing behind the colon) are text. To search for
/// other text with a colon, or for a word like `and`, put it in quotes. A word without any letter or digit is
/// ignored when others are there. A body that is not UTF-8 has no tokens.
#[derive(Debug, Clone)]
pub struct Query {
    root: Node,
    /// Each token of the query and its number.
    vocabulary: HashMap<String, u32>,
    phrases: Vec<Phrase>,
}

/// The tree. Its depth is bounded by the nesting of parentheses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// Every record.
    All,
    /// The number of a phrase, which may have one token only.
    Phrase(usize),
    /// An attribute's keyword.
    Attribute(String),
    /// The event time.
    Time(TimeRange),
    /// All of these, at least 2.
    And(Vec<Node>),
    /// One of these, at least 2.
    Or(Vec<Node>),
    /// Not this.
    Not(Box<Node>),
}

impl Query {
    /// Parses the query language.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        if text.len() > QUERY_SIZE_MAX {
            return Err(limit("query_size_max", QUERY_SIZE_MAX));
        }
        parser::parse(text)
    }

    /// Whether a record matches, by the same analysis as the index.
    pub fn matches(&self, record: &Record) -> bool {
        matching::matches(self, record)
    }

    /// Where the query's terms and phrases stand in a body: byte ranges, in order, not overlapping.
    ///
    /// What the query excludes is not marked.
    pub fn highlights(&self, body: &str) -> Vec<Range<usize>> {
        matching::highlights(self, body)
    }

    /// The tree.
    pub(super) fn root(&self) -> &Node {
        &self.root
    }

    /// The tokens of a phrase of the tree.
    pub(super) fn phrase(&self, number: usize) -> &[String] {
        self.phrases
            .get(number)
            .map_or(&[], |phrase| phrase.tokens())
    }
}

fn limit(bound: &'static str, value: usize) -> QueryError {
    QueryError::Limit {
        bound,
        value: value as u64,
    }
}

fn syntax(position: usize, what: impl Into<String>) -> QueryError {
    QueryError::Syntax {
        position,
        what: what.into(),
    }
}

#[cfg(test)]
mod tests;
