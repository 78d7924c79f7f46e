//! Pieces to a tree: precedence, parentheses, and the bounds on depth and clauses.
//!
//! Promises: recursion is as deep as the parentheses, which are bounded; chains of operators are loops.

use std::collections::HashMap;

use super::super::QueryError;
use super::super::tokenizer::{keyword, tokens};
use super::lexer::{Lexeme, Lexer};
use super::matching::Phrase;
use super::{Node, Query, limit, syntax};
use crate::limits::{QUERY_CLAUSES_MAX, QUERY_DEPTH_MAX};

/// Parses a text whose size has been checked.
pub(super) fn parse(text: &str) -> Result<Query, QueryError> {
    let mut lexer = Lexer::new(text);
    let ahead = lexer.next()?;
    let mut parser = Parser {
        lexer,
        ahead,
        depth: 0,
        clauses: 0,
        excluded: false,
        vocabulary: HashMap::new(),
        phrases: Vec::new(),
    };
    let root = if parser.ahead.1 == Lexeme::End {
        Node::All
    } else {
        let root = parser.any_of()?;
        let (position, found) = &parser.ahead;
        if *found != Lexeme::End {
            let what = format!("found {}; expected a term or the end", found.name());
            return Err(syntax(*position, what));
        }
        root.ok_or_else(|| syntax(0, "no letter or digit in it; expected a word to search for"))?
    };
    let Parser {
        vocabulary,
        phrases,
        ..
    } = parser;
    Ok(Query {
        root,
        vocabulary,
        phrases,
    })
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    /// The next piece, and where it begins.
    ahead: (usize, Lexeme),
    depth: usize,
    clauses: usize,
    /// Whether an odd number of `NOT` stands around: such phrases are not marked in hits.
    excluded: bool,
    vocabulary: HashMap<String, u32>,
    phrases: Vec<Phrase>,
}

/// A part of the tree; `None`: nothing in it can be searched for, so it says nothing.
type Part = Option<Node>;

impl Parser<'_> {
    fn take(&mut self) -> Result<Lexeme, QueryError> {
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.ahead, next).1)
    }

    /// `a OR b OR …`.
    fn any_of(&mut self) -> Result<Part, QueryError> {
        let mut parts = vec![self.all_of()?];
        while self.ahead.1 == Lexeme::Or {
            self.take()?;
            parts.push(self.all_of()?);
        }
        Ok(join(parts, Node::Or))
    }

    /// `a AND b c …`.
    fn all_of(&mut self) -> Result<Part, QueryError> {
        let mut parts = vec![self.maybe_not()?];
        loop {
            match self.ahead.1 {
                Lexeme::Or | Lexeme::Close | Lexeme::End => return Ok(join(parts, Node::And)),
                Lexeme::And => drop(self.take()?),
                _ => {}
            }
            parts.push(self.maybe_not()?);
        }
    }

    /// `NOT a`. A chain of them is walked, not descended.
    fn maybe_not(&mut self) -> Result<Part, QueryError> {
        let mut negated = false;
        while self.ahead.1 == Lexeme::Not {
            self.take()?;
            negated = !negated;
        }
        self.excluded ^= negated;
        let part = self.operand();
        self.excluded ^= negated;
        Ok(part?.map(|node| {
            if negated {
                Node::Not(Box::new(node))
            } else {
                node
            }
        }))
    }

    fn operand(&mut self) -> Result<Part, QueryError> {
        let position = self.ahead.0;
        match self.take()? {
            Lexeme::Open => self.parenthesis(position),
            Lexeme::Everything => self.clause(1, Node::All),
            Lexeme::Time(range) => self.clause(1, Node::Time(range)),
            Lexeme::Attribute { key, value } => {
                self.clause(1, Node::Attribute(keyword(&key, &value)))
            }
            Lexeme::Text(text) => self.phrase(&text),
            found @ (Lexeme::Close | Lexeme::And | Lexeme::Or | Lexeme::Not | Lexeme::End) => {
                let what = format!(
                    "found {}; expected a term, a phrase or `(` (put an operator in quotes to \
                     search for the word)",
                    found.name()
                );
                Err(syntax(position, what))
            }
        }
    }

    fn parenthesis(&mut self, position: usize) -> Result<Part, QueryError> {
        if self.depth == QUERY_DEPTH_MAX {
            return Err(limit("query_depth_max", QUERY_DEPTH_MAX));
        }
        self.depth += 1;
        let inner = self.any_of()?;
        self.depth -= 1;
        if self.ahead.1 != Lexeme::Close {
            let what = format!(
                "found {}; expected the `)` for the `(` at byte {position}",
                self.ahead.1.name()
            );
            return Err(syntax(self.ahead.0, what));
        }
        self.take()?;
        Ok(inner)
    }

    fn phrase(&mut self, text: &str) -> Result<Part, QueryError> {
        let tokens = tokens(text);
        if tokens.is_empty() {
            return Ok(None);
        }
        let mut ids = Vec::with_capacity(tokens.len());
        for token in &tokens {
            let next = u32::try_from(self.vocabulary.len()).unwrap_or(u32::MAX);
            ids.push(*self.vocabulary.entry(token.clone()).or_insert(next));
        }
        // Each token costs the index a list to walk, in a phrase too.
        let count = tokens.len();
        self.phrases.push(Phrase::new(tokens, ids, self.excluded));
        self.clause(count, Node::Phrase(self.phrases.len() - 1))
    }

    fn clause(&mut self, count: usize, node: Node) -> Result<Part, QueryError> {
        self.clauses += count;
        if self.clauses > QUERY_CLAUSES_MAX {
            return Err(limit("query_clauses_max", QUERY_CLAUSES_MAX));
        }
        Ok(Some(node))
    }
}

fn join(parts: Vec<Part>, many: impl FnOnce(Vec<Node>) -> Node) -> Part {
    let mut nodes: Vec<Node> = parts.into_iter().flatten().collect();
    if nodes.len() > 1 {
        Some(many(nodes))
    } else {
        nodes.pop()
    }
}
