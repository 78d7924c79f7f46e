//! What every commit of a shard carries beside its documents: how far the index has come.
//!
//! Promises: [`Payload::decode`] gives back only what [`Payload::encode`] wrote, of this very version; anything else is
//! an error, and the shard is rebuilt. Must not know: tantivy, files.

use std::collections::BTreeMap;

use super::gaps::IndexGap;
use super::schema::FORMAT_VERSION;
use super::tokenizer::ANALYZER_VERSION;
use crate::types::LogId;

/// The state of a shard as of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Payload {
    /// The index of the first entry fed.
    pub(super) from: u64,
    /// The index of the entry to feed next.
    pub(super) next: u64,
    /// Documents in the shard.
    pub(super) documents: u64,
    /// Bytes of bodies and attributes fed.
    pub(super) size: u64,
    /// The next offset of every log, those without a record in this shard too.
    pub(super) logs: BTreeMap<LogId, u64>,
    /// What was left out of this shard, in the order of the entries.
    pub(super) gaps: Vec<IndexGap>,
}

impl Payload {
    /// Lines of text, the last one the crc of those before: tantivy keeps it in a file that has none of its own.
    pub(super) fn encode(&self) -> String {
        let Self {
            from,
            next,
            documents,
            size,
            logs,
            gaps,
        } = self;
        let version = format!("inkstone-search {FORMAT_VERSION} {ANALYZER_VERSION}\n");
        let shard = format!("shard {from} {next} {documents} {size}\n");
        let logs = logs
            .iter()
            .map(|(log, next)| format!("log {} {next}\n", log.0));
        let gaps = gaps.iter().map(|gap| {
            let IndexGap {
                index,
                log,
                from,
                to,
            } = gap;
            format!("gap {index} {} {from} {to}\n", log.0)
        });
        let text: String = [version, shard]
            .into_iter()
            .chain(logs)
            .chain(gaps)
            .collect();
        let crc = crc32fast::hash(text.as_bytes());
        text + &format!("crc {crc}")
    }

    /// Reads back; the error says what is wrong.
    pub(super) fn decode(text: &str) -> Result<Self, String> {
        let (content, crc) = text.rsplit_once("crc ").ok_or("payload without a crc")?;
        if crc.parse() != Ok(crc32fast::hash(content.as_bytes())) {
            return Err("the payload's crc does not match".to_owned());
        }
        let mut lines = content.lines();
        let version = format!("inkstone-search {FORMAT_VERSION} {ANALYZER_VERSION}");
        let found = lines.next().unwrap_or_default();
        if found != version {
            return Err(format!("format `{found}`, not `{version}`"));
        }
        let shard = numbers::<4>(lines.next().unwrap_or_default(), "shard")?;
        let [from, next, documents, size] = shard;
        let mut logs = BTreeMap::new();
        let mut gaps = Vec::new();
        for line in lines {
            if line.starts_with("gap ") {
                let [index, log, from, to] = numbers::<4>(line, "gap")?;
                let log = LogId(log);
                gaps.push(IndexGap {
                    index,
                    log,
                    from,
                    to,
                });
            } else {
                let [log, next] = numbers::<2>(line, "log")?;
                logs.insert(LogId(log), next);
            }
        }
        Ok(Self {
            from,
            next,
            documents,
            size,
            logs,
            gaps,
        })
    }
}

/// The numbers behind a line's first word.
fn numbers<const N: usize>(line: &str, word: &str) -> Result<[u64; N], String> {
    let bad = || format!("payload: `{line}` where a line `{word}` was expected");
    let mut words = line.split(' ');
    if words.next() != Some(word) {
        return Err(bad());
    }
    let numbers: Vec<u64> = words
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map_err(|_| bad())?;
    numbers.try_into().map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload() -> Payload {
        let logs = BTreeMap::from([(LogId(3), 40), (LogId(u64::MAX), 0)]);
        Payload {
            from: 7,
            next: 19,
            documents: 40,
            size: 12_345,
            logs,
            gaps: vec![IndexGap {
                index: 9,
                log: LogId(3),
                from: 11,
                to: 31,
            }],
        }
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        assert_eq!(Payload::decode(&payload().encode()), Ok(payload()));
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let text = payload().encode();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(Payload::decode(&changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn another_version_is_refused() {
        let text = payload().encode().replacen(" 1 1\n", " 1 2\n", 1);
        let (content, _) = text.rsplit_once("crc ").unwrap();
        let text = format!("{content}crc {}", crc32fast::hash(content.as_bytes()));
        assert!(Payload::decode(&text).unwrap_err().contains("format"));
    }
}
