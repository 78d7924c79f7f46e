//! Bodies that say who wrote them and whether they are whole, so that a reader needs no memory of what was sent.
//!
//! Promises: an id is used for one record of a run only; a body that was changed in any byte decodes to nothing.
//! A body is plain words, the first of them the id, so that the same workload can be searched.

use std::fmt;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::lines::Numbers;

/// Which record this is: the client that wrote it, and its how-manieth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PayloadId(u64);

impl PayloadId {
    /// The id of a client's `sequence`-th record.
    pub fn new(client: u32, sequence: u32) -> Self {
        Self(u64::from(client) << 32 | u64::from(sequence))
    }

    /// The word that stands for it at the start of a body: one token of the search index, in no other body.
    pub fn word(self) -> String {
        format!("p{:016x}", self.0)
    }

    fn from_word(word: &str) -> Option<Self> {
        let digits = word.strip_prefix('p').filter(|digits| digits.len() == 16)?;
        u64::from_str_radix(digits, 16).ok().map(Self)
    }
}

impl fmt::Display for PayloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 32, self.0 & u64::from(u32::MAX))
    }
}

const WORDS: [&str; 8] = [
    "request", "served", "timeout", "while", "reading", "from", "upstream", "retry",
];

/// Bytes of a body up to which its filler is words; what follows is digits that no compression makes much smaller.
const WORDS_SIZE: usize = 400;

/// A body of at least `size` bytes for this id: the id's word, filler that depends on the id, and a crc over both.
pub fn encode(id: PayloadId, size: usize) -> Vec<u8> {
    let mut body = id.word();
    let mut turn = usize::try_from(id.0 % 8).expect("below 8");
    // The crc adds a space and eight digits.
    while body.len() + 9 < size.min(WORDS_SIZE) {
        body.push(' ');
        body.push_str(WORDS[turn]);
        turn = (turn + 1) % WORDS.len();
    }
    let mut digits = Numbers::new(id.0);
    while body.len() + 9 < size {
        write!(body, " {:016x}", digits.next()).expect("a String takes all");
    }
    let crc = crc32fast::hash(body.as_bytes());
    write!(body, " {crc:08x}").expect("a String takes all");
    body.into_bytes()
}

/// The id of a body that [`encode`] made; `None` when these bytes are not exactly such a body.
pub fn decode(body: &[u8]) -> Option<PayloadId> {
    let text = std::str::from_utf8(body).ok()?;
    let (content, crc) = text.rsplit_once(' ')?;
    let expected = format!("{:08x}", crc32fast::hash(content.as_bytes()));
    if crc != expected {
        return None;
    }
    PayloadId::from_word(content.split(' ').next()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_body_decodes_to_its_id(client: u32, sequence: u32, size in 0_usize..5_000) {
            let id = PayloadId::new(client, sequence);
            let body = encode(id, size);
            prop_assert!(body.len() >= size);
            prop_assert_eq!(decode(&body), Some(id));
        }

        #[test]
        fn a_changed_byte_decodes_to_nothing(sequence: u32, at: prop::sample::Index, flip in 1_u8..) {
            let mut body = encode(PayloadId::new(7, sequence), 100);
            let at = at.index(body.len());
            body[at] ^= flip;
            prop_assert_eq!(decode(&body), None);
        }
    }
}
