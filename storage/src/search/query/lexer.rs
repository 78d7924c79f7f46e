//! Cuts a query into words, quoted text, field terms, operators and parentheses.
//!
//! Promises: goes over the text once, allocates no more than its size. Must not know: what is nested in what.

use super::super::QueryError;
use super::syntax;
use super::time::{self, TimeRange};

/// The field that is a record's event time.
const TIMESTAMP: &str = "timestamp";

/// A piece of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lexeme {
    /// `(`.
    Open,
    /// `)`.
    Close,
    /// `AND`.
    And,
    /// `OR`.
    Or,
    /// `NOT`, or the `-` before a term.
    Not,
    /// `*`.
    Everything,
    /// A word, or what stands in quotes.
    Text(String),
    /// `key:value`.
    Attribute { key: String, value: String },
    /// `timestamp:…`.
    Time(TimeRange),
    /// Nothing is left.
    End,
}

impl Lexeme {
    /// What an error calls it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Open => "`(`",
            Self::Close => "`)`",
            Self::And => "AND",
            Self::Or => "OR",
            Self::Not => "NOT",
            Self::Everything | Self::Text(_) | Self::Attribute { .. } | Self::Time(_) => "a term",
            Self::End => "the end",
        }
    }
}

/// Walks over a query.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next piece and the byte where it begins.
    pub(super) fn next(&mut self) -> Result<(usize, Lexeme), QueryError> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        let start = self.at;
        let rest = self.rest();
        let mut chars = rest.chars();
        let lexeme = match (chars.next(), chars.next()) {
            (None, _) => Lexeme::End,
            (Some('('), _) => self.take(Lexeme::Open),
            (Some(')'), _) => self.take(Lexeme::Close),
            (Some('"'), _) => Lexeme::Text(self.quoted()?),
            // `--flag` and a lone `-` are text.
            (Some('-'), Some(next)) if next != '-' && !next.is_whitespace() && next != ')' => {
                self.take(Lexeme::Not)
            }
            _ => self.word()?,
        };
        Ok((start, lexeme))
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn take(&mut self, lexeme: Lexeme) -> Lexeme {
        self.at += 1;
        lexeme
    }

    /// The text between two quotes; a backslash takes the next character as it is.
    fn quoted(&mut self) -> Result<String, QueryError> {
        let start = self.at;
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += at + 1;
                    return Ok(text);
                }
                '\\' => text.extend(chars.next().map(|(_, escaped)| escaped)),
                c => text.push(c),
            }
        }
        Err(syntax(
            start,
            "a quote is opened here and never closed; expected a closing `\"`",
        ))
    }

    /// What runs up to a space, a parenthesis or a quote.
    fn word(&mut self) -> Result<Lexeme, QueryError> {
        let start = self.at;
        let rest = self.rest();
        let word = word_of(rest);
        if let Some((key, value)) = word.split_once(':')
            && names_field(key, value, rest.get(word.len()..).unwrap_or_default(), word)
        {
            self.at += key.len() + 1;
            return self.field(key);
        }
        self.at += word.len();
        match word {
            "AND" | "and" | "&&" => Ok(Lexeme::And),
            "OR" | "or" | "||" => Ok(Lexeme::Or),
            "NOT" | "not" => Ok(Lexeme::Not),
            "*" => Ok(Lexeme::Everything),
            _ => {
                refuse_wildcard(start, word)?;
                Ok(Lexeme::Text(word.to_owned()))
            }
        }
    }

    /// What stands behind `key:`.
    fn field(&mut self, key: &str) -> Result<Lexeme, QueryError> {
        let start = self.at;
        let rest = self.rest();
        if key == TIMESTAMP && rest.starts_with(['[', '{']) {
            let Some(size) = rest.find([']', '}']) else {
                return Err(syntax(
                    start,
                    "a time range is opened here; expected `]` or `}`",
                ));
            };
            self.at += size + 1;
            let range = time::range(start, rest.get(..=size).unwrap_or_default())?;
            return Ok(Lexeme::Time(range));
        }
        let value = if rest.starts_with('"') {
            self.quoted()?
        } else {
            let word = word_of(rest);
            self.at += word.len();
            if key != TIMESTAMP {
                refuse_wildcard(start, word)?;
                if word.starts_with(['<', '>', '[', '{']) {
                    let what = "comparisons and ranges are of `timestamp` only; expected a value \
                                (put it in quotes to take it as it is)";
                    return Err(syntax(start, what));
                }
            }
            word.to_owned()
        };
        if key == TIMESTAMP {
            return Ok(Lexeme::Time(time::instant(start, &value)?));
        }
        Ok(Lexeme::Attribute {
            key: key.to_owned(),
            value,
        })
    }
}

fn word_of(text: &str) -> &str {
    let size = text.find(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '"'));
    size.and_then(|size| text.get(..size)).unwrap_or(text)
}

/// A `*` in a word would be dropped by the analysis, and the search would silently be another one.
fn refuse_wildcard(start: usize, word: &str) -> Result<(), QueryError> {
    match word.find('*') {
        Some(at) => Err(syntax(
            start + at,
            "`*` within a word is not supported; expected a word without it (put it in quotes to \
             search for the text around it)",
        )),
        None => Ok(()),
    }
}

/// Whether `key:` in front of `value` (the rest of the word) and `behind` (the rest of the query) names an attribute.
fn names_field(key: &str, value: &str, behind: &str, word: &str) -> bool {
    let first = |c: char| c.is_alphabetic() || c == '_' || c == '@';
    let other = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | '@');
    let plausible = key.starts_with(first) && key.chars().all(other);
    let has_value = if value.is_empty() {
        behind.starts_with('"')
    } else {
        !value.starts_with([':', '\\'])
    };
    plausible && has_value && !value.starts_with("//") && !is_address(word)
}

/// An IPv6 or hardware address begins like a key and is none.
fn is_address(word: &str) -> bool {
    let hex = |part: &str| part.len() <= 4 && part.bytes().all(|b| b.is_ascii_hexdigit());
    word.split(':').count() >= 3 && word.split(':').all(hex)
}
