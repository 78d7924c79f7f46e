//! Lines of an input, the records that they stand for, and the batches that these are cut into.
//!
//! It promises that the same lines are always cut into the same batches (unless a linger is given), that no more than
//! one batch is in memory, and that a line is never split. It knows nothing of logs.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use inkstone_client::NewRecord;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use tokio::io::{AsyncBufRead, AsyncBufReadExt};
use tokio::time::{Instant, timeout_at};

/// Bytes of a record: the server takes no larger one.
const RECORD_SIZE_MAX: usize = 1 << 20;
/// Bytes of a JSON line: a record's body escaped byte by byte, and its attributes.
const JSON_SIZE_MAX: usize = 8 << 20;

/// What stands in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    /// The record's body, any bytes.
    Text,
    /// A JSON object.
    Json,
}

/// An input, line by line.
pub(super) struct Lines {
    input: Box<dyn AsyncBufRead + Send + Unpin>,
    syntax: Syntax,
    /// The beginning of the next line. It is kept here, so that dropping a call to `next` loses nothing.
    partial: Vec<u8>,
    number: u64,
    position: u64,
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl Lines {
    pub(super) fn new(input: Box<dyn AsyncBufRead + Send + Unpin>, syntax: Syntax) -> Self {
        Self {
            input,
            syntax,
            partial: Vec::new(),
            number: 0,
            position: 0,
        }
    }

    /// The next record. Cancelling loses nothing.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<NewRecord>> {
        loop {
            let Some(line) = self.next_line().await? else {
                return Ok(None);
            };
            match self.syntax {
                Syntax::Text => return Ok(Some(NewRecord::new(line))),
                Syntax::Json if line.iter().all(u8::is_ascii_whitespace) => {}
                Syntax::Json => {
                    let record = parse_json(&line).with_context(|| format!("line {}", self.number));
                    return record.map(Some);
                }
            }
        }
    }

    /// The next line without its end, LF or CRLF; the last one may lack it.
    pub(super) async fn next_line(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let size_max = match self.syntax {
            Syntax::Text => RECORD_SIZE_MAX,
            Syntax::Json => JSON_SIZE_MAX,
        };
        loop {
            let chunk = self
                .input
                .fill_buf()
                .await
                .context("can't read the input")?;
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let is_over = chunk.is_empty();
            let used = end.map_or(chunk.len(), |end| end + 1);
            self.partial
                .extend_from_slice(chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default());
            self.input.consume(used);
            self.position += used as u64;
            if self.partial.len() > size_max + 1 {
                bail!(
                    "line {} is longer than {size_max} bytes, the most that a record may have",
                    self.number + 1
                );
            }
            if is_over && self.partial.is_empty() {
                return Ok(None);
            }
            if is_over || end.is_some() {
                let mut line = std::mem::take(&mut self.partial);
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                self.number += 1;
                return Ok(Some(line));
            }
        }
    }
}

/// Where batches end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) records: usize,
    pub(super) bytes: usize,
    /// How long the first record of a batch may wait for more; `None`: until the batch is full or the input ends.
    pub(super) linger: Option<Duration>,
}

/// Cuts an input into batches.
#[derive(Debug)]
pub(super) struct Cutter {
    lines: Lines,
    bounds: Bounds,
    /// Records that were read and belong to the next batch.
    ahead: VecDeque<NewRecord>,
    /// Why the input can't be read further, once the records before it are out.
    failed: Option<anyhow::Error>,
}

impl Cutter {
    pub(super) fn new(lines: Lines, bounds: Bounds) -> Self {
        Self {
            lines,
            bounds,
            ahead: VecDeque::new(),
            failed: None,
        }
    }

    /// How many bytes of the input were read.
    pub(super) fn position(&self) -> u64 {
        self.lines.position
    }

    /// Reads past so many records; false if there are fewer.
    pub(super) async fn skip(&mut self, records: u64) -> anyhow::Result<bool> {
        for _ in 0..records {
            if self.next_record(None).await?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives records back, to be the first of the next batch.
    pub(super) fn put_back(&mut self, records: Vec<NewRecord>) {
        for record in records.into_iter().rev() {
            self.ahead.push_front(record);
        }
    }

    /// The next batch; `None`: the input has ended.
    pub(super) async fn next_batch(&mut self) -> anyhow::Result<Option<Vec<NewRecord>>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut deadline = None;
        while batch.len() < self.bounds.records {
            let record = match self.next_record(deadline).await {
                Ok(Some(record)) => record,
                Ok(None) => break,
                // Without a linger the cut must not depend on where reading failed, so the batch is not sent.
                Err(error) if batch.is_empty() || self.bounds.linger.is_none() => {
                    return Err(error);
                }
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            };
            if !batch.is_empty() && bytes + record.size() > self.bounds.bytes {
                self.ahead.push_front(record);
                break;
            }
            bytes += record.size();
            batch.push(record);
            let linger = self.bounds.linger;
            deadline = deadline.or_else(|| linger.map(|linger| Instant::now() + linger));
        }
        Ok((!batch.is_empty()).then_some(batch))
    }

    /// The next record; `None`: the input has ended, or the deadline has passed.
    async fn next_record(
        &mut self,
        deadline: Option<Instant>,
    ) -> anyhow::Result<Option<NewRecord>> {
        if let Some(record) = self.ahead.pop_front() {
            return Ok(Some(record));
        }
        match deadline {
            None => self.lines.next().await,
            Some(deadline) => timeout_at(deadline, self.lines.next())
                .await
                .unwrap_or(Ok(None)),
        }
    }
}

/// One line of `--json`. `ink read -o json` prints such lines, so their `offset` is taken and ignored.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonRecord {
    #[serde(default, rename = "offset")]
    _offset: IgnoredAny,
    timestamp: Option<JsonTime>,
    #[serde(default)]
    attributes: JsonAttributes,
    body: Option<String>,
    body_base64: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum JsonTime {
    Nanoseconds(i64),
    Text(String),
}

fn parse_json(line: &[u8]) -> anyhow::Result<NewRecord> {
    let json: JsonRecord = serde_json::from_slice(line).context("not a record in JSON")?;
    let body = match (json.body, json.body_base64) {
        (Some(body), None) => body.into_bytes(),
        (None, Some(coded)) => STANDARD
            .decode(coded)
            .context("`body_base64` is not base64")?,
        _ => bail!("either `body` or `body_base64` is needed"),
    };
    let timestamp = match json.timestamp {
        None => None,
        Some(JsonTime::Nanoseconds(time)) => Some(time),
        Some(JsonTime::Text(text)) => {
            let time: Timestamp = text.parse().context("`timestamp` is not RFC 3339")?;
            Some(i64::try_from(time.as_nanosecond()).context("`timestamp` is out of range")?)
        }
    };
    Ok(NewRecord {
        timestamp,
        attributes: json.attributes.0,
        body: body.into(),
    })
}

/// An object of strings, or a list of pairs of them; in either case in the order of the line.
#[derive(Debug, Default)]
struct JsonAttributes(Vec<(String, String)>);

impl<'de> Deserialize<'de> for JsonAttributes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonAttributesVisitor)
    }
}

struct JsonAttributesVisitor;

impl<'de> Visitor<'de> for JsonAttributesVisitor {
    type Value = JsonAttributes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonAttributes, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(JsonAttributes(pairs))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<JsonAttributes, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = list.next_element()? {
            pairs.push(pair);
        }
        Ok(JsonAttributes(pairs))
    }
}

#[cfg(test)]
mod tests;
