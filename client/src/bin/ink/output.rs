//! All that `ink` prints: data on standard output, everything else on standard error.
//!
//! It promises that a body in text form is written byte for byte, and that JSON is one object per line. It is the only
//! file that prints, and it must not know where data comes from.

use std::io::{self, BufWriter, IsTerminal, Stderr, Stdout, Write};
use std::ops::Range;

use anstyle::{AnsiColor, Style};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use inkstone_client::{Gap, Hit, Record};
use serde_json::{Map, Value, json};

use crate::time;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Plain lines; a body byte for byte
    Text,
    /// Aligned columns
    Table,
    /// One JSON object per line
    Json,
}

/// Where `ink` prints.
#[derive(Debug)]
pub(crate) struct Output {
    asked: Option<Format>,
    out: BufWriter<StandardOutput>,
    err: Stderr,
    terminal: bool,
    coloured: bool,
}

/// Says of an error that it is standard output's: a full disk behind it is not one of the servers'.
#[derive(Debug)]
struct StandardOutput(Stdout);

fn of_standard_output(error: &io::Error) -> io::Error {
    // The kind is kept: that of a reader that went away is asked for.
    io::Error::new(
        error.kind(),
        format!("can't write to standard output: {error}"),
    )
}

impl Write for StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .write(bytes)
            .map_err(|error| of_standard_output(&error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(|error| of_standard_output(&error))
    }
}

const HIGHLIGHT: Style = AnsiColor::Red.on_default().bold();
const DIM: Style = Style::new().dimmed();

impl Output {
    pub(crate) fn new(asked: Option<Format>) -> Self {
        let terminal = io::stdout().is_terminal();
        let choice = anstream::AutoStream::choice(&io::stdout());
        let coloured = terminal && choice != anstream::ColorChoice::Never;
        Self {
            asked,
            out: BufWriter::new(StandardOutput(io::stdout())),
            err: io::stderr(),
            terminal,
            coloured,
        }
    }

    /// The format that was asked for, or else what suits the command.
    pub(crate) fn format(&self, default: Format) -> Format {
        self.asked.unwrap_or(default)
    }

    /// One line of text.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// One JSON object on a line of its own.
    pub(crate) fn json(&mut self, value: &Value) -> io::Result<()> {
        writeln!(self.out, "{value}")
    }

    /// A table with a heading.
    pub(crate) fn table(&mut self, heading: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header(heading.iter().map(|name| name.to_uppercase()));
        for row in rows {
            table.add_row(row);
        }
        for line in table.to_string().lines() {
            writeln!(self.out, "{}", line.trim())?;
        }
        Ok(())
    }

    /// One record.
    pub(crate) fn record(&mut self, record: &Record, format: Format) -> io::Result<()> {
        self.found(record, &[], format)
    }

    /// One hit, its terms coloured on a terminal.
    pub(crate) fn hit(&mut self, hit: &Hit, format: Format) -> io::Result<()> {
        if format != Format::Json {
            return self.found(&hit.record, &hit.highlights, format);
        }
        let mut value = record_json(&hit.record);
        let highlights: Vec<Value> = hit
            .highlights
            .iter()
            .map(|h| json!([h.start, h.end]))
            .collect();
        value.insert("highlights".to_owned(), highlights.into());
        self.json(&value.into())
    }

    fn found(
        &mut self,
        record: &Record,
        highlights: &[Range<u32>],
        format: Format,
    ) -> io::Result<()> {
        match format {
            Format::Json => return self.json(&record_json(record).into()),
            Format::Table => {
                let time = time::format(record.timestamp);
                let (on, off) = if self.coloured {
                    (DIM, DIM)
                } else {
                    (Style::new(), Style::new())
                };
                write!(self.out, "{on}{:>10}  {time}{off:#}  ", record.offset)?;
                for (key, value) in &record.attributes {
                    write!(self.out, "{key}={value} ")?;
                }
            }
            Format::Text => {}
        }
        let highlights = if self.coloured { highlights } else { &[] };
        self.out.write_all(&highlighted(&record.body, highlights))?;
        self.out.write_all(b"\n")
    }

    /// Hands everything so far to the reader, as a follower wants it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// The end of the data.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// A remark on standard error.
    pub(crate) fn note(&mut self, text: &str) {
        // There is nowhere left to say that standard error is gone.
        drop(writeln!(self.err, "{text}"));
    }

    /// The line that says what went wrong, after the data that came before it.
    pub(crate) fn error(&mut self, text: &str) {
        drop(self.out.flush());
        let line = text.lines().collect::<Vec<_>>().join(" ");
        drop(writeln!(self.err, "error: {line}"));
    }

    /// A progress bar in bytes, or a counter when their number is not known; hidden unless standard error is a
    /// terminal and standard output is not busy with data.
    pub(crate) fn progress(&self, bytes: Option<u64>) -> ProgressBar {
        let (bar, style) = match bytes {
            Some(bytes) => (
                ProgressBar::new(bytes),
                "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} {msg}",
            ),
            None => (
                ProgressBar::no_length(),
                "{spinner} {bytes} {bytes_per_sec} {msg}",
            ),
        };
        if self.err.is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        } else {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.with_style(
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
        )
    }

    /// Whether standard output is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }
}

/// `1 record`, `2 records`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// `offset 3`, `offsets 3 to 4`.
pub(crate) fn offsets(gap: &Gap) -> String {
    match gap.to.saturating_sub(1) {
        last if last <= gap.from => format!("offset {}", gap.from),
        last => format!("offsets {} to {last}", gap.from),
    }
}

/// The body with its ranges coloured. Ranges that do not fit are left out.
fn highlighted(body: &[u8], ranges: &[Range<u32>]) -> Vec<u8> {
    let mut text = Vec::with_capacity(body.len() + 16 * ranges.len());
    let mut done = 0;
    for range in ranges {
        let (Ok(from), Ok(to)) = (usize::try_from(range.start), usize::try_from(range.end)) else {
            continue;
        };
        let (Some(before), Some(term)) = (body.get(done..from), body.get(from..to)) else {
            continue;
        };
        text.extend_from_slice(before);
        text.extend_from_slice(HIGHLIGHT.render().to_string().as_bytes());
        text.extend_from_slice(term);
        text.extend_from_slice(HIGHLIGHT.render_reset().to_string().as_bytes());
        done = to;
    }
    text.extend_from_slice(body.get(done..).unwrap_or_default());
    text
}

/// A record as JSON: `body` if it is UTF-8, else `body_base64`.
fn record_json(record: &Record) -> Map<String, Value> {
    let mut value = Map::new();
    value.insert("offset".to_owned(), record.offset.into());
    value.insert("timestamp".to_owned(), record.timestamp.into());
    if !record.attributes.is_empty() {
        let pairs = record
            .attributes
            .iter()
            .map(|(k, v)| (k.clone(), Value::from(v.as_str())));
        let distinct: Map<String, Value> = pairs.collect();
        // An object can't hold a key twice; then the pairs are listed.
        let attributes = if distinct.len() == record.attributes.len() {
            Value::Object(distinct)
        } else {
            record
                .attributes
                .iter()
                .map(|(k, v)| json!([k, v]))
                .collect()
        };
        value.insert("attributes".to_owned(), attributes);
    }
    match std::str::from_utf8(&record.body) {
        Ok(body) => value.insert("body".to_owned(), body.into()),
        Err(_) => value.insert(
            "body_base64".to_owned(),
            STANDARD.encode(&record.body).into(),
        ),
    };
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_not_utf8_becomes_base64() {
        let record = Record {
            offset: 7,
            timestamp: 1,
            attributes: vec![],
            body: vec![0xff, 0xfe].into(),
        };
        let value = record_json(&record);
        assert_eq!(value.get("body_base64"), Some(&Value::from("//4=")));
        assert_eq!(value.get("body"), None);
    }

    #[test]
    fn attributes_with_a_key_twice_lose_nothing() {
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        let attributes = vec![pair("a", "1"), pair("a", "2")];
        let record = Record {
            offset: 0,
            timestamp: 0,
            attributes,
            body: "x".into(),
        };
        assert_eq!(
            record_json(&record)["attributes"],
            json!([["a", "1"], ["a", "2"]])
        );
    }

    #[test]
    fn highlights_change_no_byte_of_the_text() {
        let body = b"disk full on web-3";
        let coloured = highlighted(body, &[0..4, 5..9, 100..200]);
        let plain = anstream::adapter::strip_bytes(&coloured).into_vec();
        assert_eq!(plain, body);
        assert!(coloured.len() > body.len());
    }
}
