//! The one analysis of text: a body's tokens and an attribute's keyword, the same for the index, a query, the
//! in-memory tail and highlighting.
//!
//! Promises: a token is a maximal run of letters and digits, lower-cased; none is ever dropped, however long. Changing
//! anything here means raising [`ANALYZER_VERSION`], which rebuilds every index. Must not know: fields, queries, shards.

use std::ops::Range;

use tantivy::tokenizer::{Token, TokenStream, Tokenizer};

use crate::limits::TOKEN_SIZE_MAX;

/// Stands in every commit: an index of another analysis is rebuilt.
pub(super) const ANALYZER_VERSION: u32 = 1;

/// Hex digits of the hash that stands for the rest of a long token: 128 bits, so no two collide.
const HASH_DIGITS: usize = 32;

/// Walks over the tokens of a text without allocating for each.
#[derive(Debug)]
pub(super) struct Tokens<'a> {
    text: &'a str,
    next: usize,
    range: Range<usize>,
    token: String,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            next: 0,
            range: 0..0,
            token: String::new(),
        }
    }

    /// Goes to the next token; false at the end.
    pub(super) fn advance(&mut self) -> bool {
        let rest = self.text.get(self.next..).unwrap_or_default();
        let Some(skipped) = rest.find(char::is_alphanumeric) else {
            self.next = self.text.len();
            return false;
        };
        let run = rest.get(skipped..).unwrap_or_default();
        let size = run
            .find(|c: char| !c.is_alphanumeric())
            .unwrap_or(run.len());
        let start = self.next + skipped;
        self.next = start + size;
        self.range = start..self.next;
        self.token.clear();
        push_lower_case(&mut self.token, run.get(..size).unwrap_or_default());
        shorten(&mut self.token);
        true
    }

    /// The token as it is indexed.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Where the token stands in the text.
    pub(super) fn range(&self) -> Range<usize> {
        self.range.clone()
    }
}

/// The tokens of a text, in order.
pub(super) fn tokens(text: &str) -> Vec<String> {
    let mut walk = Tokens::new(text);
    let mut tokens = Vec::new();
    while walk.advance() {
        tokens.push(walk.token().to_owned());
    }
    tokens
}

/// The indexed form of an attribute: the key as it is, the value lower-cased.
///
/// The key's size stands in front, so that no pair of one key and value reads like another.
pub(super) fn keyword(key: &str, value: &str) -> String {
    let mut keyword = format!("{}:{key}", key.len());
    push_lower_case(&mut keyword, value);
    shorten(&mut keyword);
    keyword
}

/// Character by character, so that the result does not depend on what stands around a character.
fn push_lower_case(to: &mut String, text: &str) {
    if text.is_ascii() {
        let start = to.len();
        to.push_str(text);
        if let Some(added) = to.get_mut(start..) {
            added.make_ascii_lowercase();
        }
    } else {
        to.extend(text.chars().flat_map(char::to_lowercase));
    }
}

/// Keeps a long token as prefix, zero byte and hash.
///
/// The result is longer than any token that is kept as it is, so that the two never meet.
fn shorten(token: &mut String) {
    if token.len() <= TOKEN_SIZE_MAX {
        return;
    }
    let hash = blake3::hash(token.as_bytes()).to_hex();
    let mut cut = TOKEN_SIZE_MAX;
    while !token.is_char_boundary(cut) {
        cut -= 1;
    }
    token.truncate(cut);
    token.push('\0');
    token.push_str(hash.get(..HASH_DIGITS).unwrap_or_default());
}

/// A character has at most 4 bytes, so a cut loses at most 3.
const _: () = assert!(HASH_DIGITS + 1 > 3);

/// [`Tokens`] as tantivy wants them.
#[derive(Debug, Clone)]
pub(super) struct BodyTokenizer;

/// One body on its way into the index.
#[derive(Debug)]
pub(super) struct BodyTokens<'a> {
    tokens: Tokens<'a>,
    token: Token,
}

impl Tokenizer for BodyTokenizer {
    type TokenStream<'a> = BodyTokens<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> BodyTokens<'a> {
        BodyTokens {
            tokens: Tokens::new(text),
            token: Token::default(),
        }
    }
}

impl TokenStream for BodyTokens<'_> {
    fn advance(&mut self) -> bool {
        if !self.tokens.advance() {
            return false;
        }
        let range = self.tokens.range();
        self.token.offset_from = range.start;
        self.token.offset_to = range.end;
        // `Token::default` stands one before the first position.
        self.token.position = self.token.position.wrapping_add(1);
        self.token.text.clear();
        self.token.text.push_str(self.tokens.token());
        true
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_letters_and_digits_are_lower_cased_tokens() {
        assert_eq!(
            tokens("10.251.73.220 dfs.DataNode$Packet user_id=Ärger"),
            [
                "10", "251", "73", "220", "dfs", "datanode", "packet", "user", "id", "ärger"
            ]
        );
        assert!(tokens(" -- == ").is_empty());
    }

    #[test]
    fn ranges_are_those_of_the_original_text() {
        let text = "İstanbul, Öl";
        let mut walk = Tokens::new(text);
        assert!(walk.advance());
        assert_eq!(&text[walk.range()], "İstanbul");
        assert!(walk.advance());
        assert_eq!((&text[walk.range()], walk.token()), ("Öl", "öl"));
        assert!(!walk.advance());
    }

    #[test]
    fn long_tokens_that_differ_at_the_end_stay_different() {
        let long = "é".repeat(5_000);
        let (one, two) = (tokens(&format!("{long}a")), tokens(&format!("{long}b")));
        assert_ne!(one, two);
        assert!(one[0].len() > TOKEN_SIZE_MAX && one[0].len() < TOKEN_SIZE_MAX + 40);
        assert_eq!(one, tokens(&format!("{}A", long.to_uppercase())));
    }

    #[test]
    fn keywords_of_different_pairs_never_meet() {
        assert_eq!(keyword("level", "ERROR"), keyword("level", "error"));
        assert_ne!(keyword("level", "error"), keyword("Level", "error"));
        assert_ne!(keyword("a:b", "c"), keyword("a", ":bc"));
        let long = keyword("k", &"v".repeat(1_000));
        assert_ne!(long, keyword("k", long.strip_prefix("1:k").unwrap()));
    }
}
