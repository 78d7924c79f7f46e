//! A plain table of two columns: what, and how much.

use std::fmt;
use std::io::{self, Write as _};
use std::time::Duration;

use hdrhistogram::Histogram;

/// Rows that are printed together, with their values in one column.
#[derive(Debug, Default)]
pub struct Table {
    title: String,
    rows: Vec<(String, String)>,
}

impl Table {
    /// An empty table.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row(&mut self, what: impl Into<String>, how_much: impl fmt::Display) {
        self.rows.push((what.into(), how_much.to_string()));
    }

    /// Adds the median, the 99th percentile and the maximum of a histogram of nanoseconds.
    pub fn latency(&mut self, what: &str, nanos: &Histogram<u64>) {
        for (name, value) in [
            ("p50", nanos.value_at_quantile(0.5)),
            ("p99", nanos.value_at_quantile(0.99)),
            ("max", nanos.max()),
        ] {
            self.row(
                format!("{what}, {name}"),
                millis(Duration::from_nanos(value)),
            );
        }
    }

    /// Prints it to standard output.
    pub fn print(&self) -> io::Result<()> {
        write!(io::stdout().lock(), "{self}")
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .rows
            .iter()
            .map(|(what, _)| what.chars().count())
            .max()
            .unwrap_or(0);
        writeln!(f, "{}", self.title)?;
        for (what, how_much) in &self.rows {
            writeln!(f, "  {what:width$}  {how_much:>16}")?;
        }
        Ok(())
    }
}

/// A duration in milliseconds.
pub fn millis(duration: Duration) -> String {
    format!("{:.3} ms", duration.as_secs_f64() * 1_000.0)
}

/// How many per second.
pub fn per_second(count: u64, within: Duration) -> String {
    let seconds = within.as_secs_f64().max(f64::MIN_POSITIVE);
    // A count of a benchmark is far below what a double holds exactly.
    #[expect(clippy::cast_precision_loss, reason = "a rounded figure for people")]
    let rate = count as f64 / seconds;
    format!("{rate:.0}/s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_in_one_column() {
        let mut table = Table::new("append");
        table.row("one", millis(Duration::from_micros(1_500)));
        table.row("thirteen more", per_second(900, Duration::from_secs(3)));
        let text = table.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "append");
        assert!(
            lines[1].ends_with("1.500 ms") && lines[2].ends_with("300/s"),
            "{text}"
        );
        assert_eq!(lines[1].len(), lines[2].len());
    }
}
