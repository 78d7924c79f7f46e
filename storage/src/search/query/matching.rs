//! What a query says of one record: whether it matches, and which bytes to mark.
//!
//! Promises: time linear in the body for each phrase, whatever the body (Knuth, Morris, Pratt: "Fast pattern matching
//! in strings"). Must not know: tantivy.

use std::cell::OnceCell;
use std::ops::Range;

use super::super::tokenizer::{Tokens, keyword};
use super::{Node, Query};
use crate::types::Record;

/// Stands for every token that the query does not name.
const OTHER: u32 = u32::MAX;

/// Tokens that stand one after another; one token is a term.
#[derive(Debug, Clone)]
pub(super) struct Phrase {
    tokens: Vec<String>,
    /// The tokens' numbers in the query's vocabulary.
    ids: Vec<u32>,
    /// For each prefix of `ids` the size of its longest proper prefix that is also its suffix.
    borders: Vec<usize>,
    /// Under a `NOT`.
    excluded: bool,
}

impl Phrase {
    pub(super) fn new(tokens: Vec<String>, ids: Vec<u32>, excluded: bool) -> Self {
        let mut phrase = Self {
            tokens,
            borders: Vec::with_capacity(ids.len()),
            ids,
            excluded,
        };
        let mut border = 0;
        for at in 0..phrase.ids.len() {
            if at > 0 {
                let id = phrase.ids.get(at).copied().unwrap_or(OTHER);
                border = phrase.step(border, id);
            }
            phrase.borders.push(border);
        }
        phrase
    }

    pub(super) fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// How many tokens of the phrase end at `id`, when `matched` did before it.
    fn step(&self, mut matched: usize, id: u32) -> usize {
        loop {
            if self.ids.get(matched) == Some(&id) {
                return matched + 1;
            }
            let Some(before) = matched.checked_sub(1) else {
                return 0;
            };
            matched = self.borders.get(before).copied().unwrap_or(0);
        }
    }

    /// The places of the last token of each occurrence.
    fn ends(&self, ids: impl Iterator<Item = u32>) -> impl Iterator<Item = usize> {
        let mut matched = 0;
        ids.enumerate().filter_map(move |(at, id)| {
            matched = self.step(matched, id);
            (matched == self.ids.len()).then_some(at)
        })
    }
}

pub(super) fn matches(query: &Query, record: &Record) -> bool {
    Matching {
        query,
        record,
        body: OnceCell::new(),
        keywords: OnceCell::new(),
    }
    .holds(&query.root)
}

/// One record under one query; what is costly is done when it is first needed.
struct Matching<'a> {
    query: &'a Query,
    record: &'a Record,
    body: OnceCell<Vec<u32>>,
    keywords: OnceCell<Vec<String>>,
}

impl Matching<'_> {
    /// Recursion is as deep as the query's parentheses.
    fn holds(&self, node: &Node) -> bool {
        match node {
            Node::All => true,
            Node::Phrase(number) => self
                .query
                .phrases
                .get(*number)
                .is_some_and(|phrase| phrase.ends(self.body().iter().copied()).next().is_some()),
            Node::Attribute(keyword) => self.keywords().contains(keyword),
            Node::Time(range) => range.contains(self.record.timestamp),
            Node::And(nodes) => nodes.iter().all(|node| self.holds(node)),
            Node::Or(nodes) => nodes.iter().any(|node| self.holds(node)),
            Node::Not(node) => !self.holds(node),
        }
    }

    fn body(&self) -> &[u32] {
        self.body.get_or_init(|| {
            let body = std::str::from_utf8(&self.record.body).unwrap_or_default();
            numbered(self.query, body).map(|(id, _)| id).collect()
        })
    }

    fn keywords(&self) -> &[String] {
        self.keywords.get_or_init(|| {
            self.record
                .attributes
                .iter()
                .map(|(key, value)| keyword(key, value))
                .collect()
        })
    }
}

/// The tokens of a body by their number in the query, and where they stand.
fn numbered<'a>(query: &'a Query, body: &'a str) -> impl Iterator<Item = (u32, Range<usize>)> + 'a {
    let mut walk = Tokens::new(body);
    std::iter::from_fn(move || {
        walk.advance().then(|| {
            let id = query.vocabulary.get(walk.token()).copied().unwrap_or(OTHER);
            (id, walk.range())
        })
    })
}

pub(super) fn highlights(query: &Query, body: &str) -> Vec<Range<usize>> {
    if query.phrases.iter().all(|phrase| phrase.excluded) {
        return Vec::new();
    }
    let tokens: Vec<(u32, Range<usize>)> = numbered(query, body).collect();
    let mut ranges = Vec::new();
    for phrase in query.phrases.iter().filter(|phrase| !phrase.excluded) {
        for end in phrase.ends(tokens.iter().map(|(id, _)| *id)) {
            let first = tokens.get(end + 1 - phrase.ids.len());
            if let (Some((_, first)), Some((_, last))) = (first, tokens.get(end)) {
                join_last(&mut ranges, first.start..last.end);
            }
        }
    }
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined = Vec::with_capacity(ranges.len());
    for range in ranges {
        join_last(&mut joined, range);
    }
    joined
}

/// Adds a range that begins no earlier than the last one's begin, or widens that one when they overlap.
fn join_last(ranges: &mut Vec<Range<usize>>, range: Range<usize>) {
    match ranges.last_mut() {
        Some(last) if last.start <= range.start && range.start < last.end => {
            last.end = last.end.max(range.end);
        }
        _ => ranges.push(range),
    }
}
