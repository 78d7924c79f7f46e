//! A query as tantivy evaluates it.
//!
//! Promises: a document is found exactly when [`Query::matches`] holds for its record. Must not know: shards, pages.

use tantivy::Term;
use tantivy::query::{
    AllQuery, BooleanQuery, EmptyQuery, Occur, PhraseQuery, Query as TantivyQuery, RangeQuery,
    TermQuery,
};
use tantivy::schema::IndexRecordOption;

use super::exclusion::Exclusion;
use super::query::{Node, Query, TimeRange};
use super::schema::Fields;
use crate::types::LogId;

/// What a search of one log asks of each shard.
pub(super) struct Plan {
    /// Matches the log's documents but for the time.
    pub(super) query: BooleanQuery,
    /// The log's own term.
    pub(super) log: Term,
    /// Times asked for outside of any `OR` and `NOT`: compared document by document, as walking the column for a
    /// range begins at the segment's first document, and the newest are wanted.
    pub(super) times: TimeRange,
}

type Clause = (Occur, Box<dyn TantivyQuery>);

impl Plan {
    pub(super) fn new(query: &Query, fields: Fields, log: LogId, times: TimeRange) -> Self {
        let log = Term::from_field_u64(fields.log, log.0);
        let compiler = Compiler { query, fields };
        let mut plan = Self {
            query: BooleanQuery::new(Vec::new()),
            log: log.clone(),
            times,
        };
        let mut clauses: Vec<Clause> = vec![(Occur::Must, term(log))];
        match query.root() {
            Node::And(nodes) => {
                for node in nodes {
                    plan.require(node, &compiler, &mut clauses);
                }
            }
            node => plan.require(node, &compiler, &mut clauses),
        }
        plan.query = BooleanQuery::new(clauses);
        plan
    }

    fn require(&mut self, node: &Node, compiler: &Compiler<'_>, clauses: &mut Vec<Clause>) {
        match node {
            Node::All => {}
            Node::Time(range) => self.times = self.times.and(*range),
            node => clauses.push(compiler.clause(node)),
        }
    }
}

struct Compiler<'a> {
    query: &'a Query,
    fields: Fields,
}

impl Compiler<'_> {
    /// What must, or must not, be.
    fn clause(&self, node: &Node) -> Clause {
        match node {
            Node::Not(node) => {
                let excluded = Exclusion::new(self.compile(node));
                (Occur::MustNot, Box::new(excluded))
            }
            node => (Occur::Must, self.compile(node)),
        }
    }

    /// Recursion is as deep as the query's parentheses.
    fn compile(&self, node: &Node) -> Box<dyn TantivyQuery> {
        match node {
            Node::All => Box::new(AllQuery),
            Node::Phrase(number) => self.phrase(self.query.phrase(*number)),
            Node::Attribute(keyword) => {
                term(Term::from_field_text(self.fields.attributes, keyword))
            }
            Node::Time(range) => self.times(*range),
            Node::And(nodes) => required(nodes.iter().map(|node| self.clause(node)).collect()),
            Node::Or(nodes) => {
                let any = |node| (Occur::Should, self.compile(node));
                Box::new(BooleanQuery::new(nodes.iter().map(any).collect()))
            }
            not @ Node::Not(_) => required(vec![self.clause(not)]),
        }
    }

    fn phrase(&self, tokens: &[String]) -> Box<dyn TantivyQuery> {
        let mut terms: Vec<Term> = tokens
            .iter()
            .map(|token| Term::from_field_text(self.fields.body, token))
            .collect();
        match terms.len() {
            0 => Box::new(EmptyQuery),
            1 => term(terms.remove(0)),
            _ => Box::new(PhraseQuery::new(terms)),
        }
    }

    fn times(&self, range: TimeRange) -> Box<dyn TantivyQuery> {
        if range.min > range.max {
            return Box::new(EmptyQuery);
        }
        let bound =
            |time| std::ops::Bound::Included(Term::from_field_i64(self.fields.timestamp, time));
        Box::new(RangeQuery::new(bound(range.min), bound(range.max)))
    }
}

/// All of these clauses, even when each only excludes: tantivy then finds nothing on its own.
fn required(mut clauses: Vec<Clause>) -> Box<dyn TantivyQuery> {
    if clauses.iter().all(|(occur, _)| *occur == Occur::MustNot) {
        clauses.push((Occur::Must, Box::new(AllQuery)));
    }
    Box::new(BooleanQuery::new(clauses))
}

fn term(term: Term) -> Box<dyn TantivyQuery> {
    Box::new(TermQuery::new(term, IndexRecordOption::Basic))
}
