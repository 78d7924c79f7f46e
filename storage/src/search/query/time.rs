//! Times in a query: RFC 3339 dates and date-times, or nanoseconds since the Unix epoch.
//!
//! Promises: a range holds exactly the instants that its text says; a date is the whole day in UTC; what lies outside
//! of what a record's timestamp can be is cut to it. Must not know: the present time.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::super::QueryError;
use super::syntax;

const DAY_NANOSECONDS: i128 = 24 * 3_600 * 1_000_000_000;

/// Event times from `min` to `max`, both included; none when `min` is above `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct TimeRange {
    pub(in super::super) min: i64,
    pub(in super::super) max: i64,
}

impl TimeRange {
    /// All times.
    pub(in super::super) const ALL: Self = Self {
        min: i64::MIN,
        max: i64::MAX,
    };
    /// No time.
    const NONE: Self = Self {
        min: i64::MAX,
        max: i64::MIN,
    };

    pub(in super::super) fn contains(self, timestamp: i64) -> bool {
        self.min <= timestamp && timestamp <= self.max
    }

    /// The times in both.
    pub(in super::super) fn and(self, other: Self) -> Self {
        Self {
            min: self.min.max(other.min),
            max: self.max.min(other.max),
        }
    }

    /// From `since`, and before `until`.
    pub(in super::super) fn between(since: Option<i64>, until: Option<i64>) -> Self {
        let range = |min: i64, end: Option<i64>| match end.map(|end| end.checked_sub(1)) {
            None => Self { min, max: i64::MAX },
            Some(Some(max)) => Self { min, max },
            Some(None) => Self::NONE,
        };
        range(since.unwrap_or(i64::MIN), until)
    }

    fn of(min: i128, max: i128) -> Self {
        let (floor, ceiling) = (i128::from(i64::MIN), i128::from(i64::MAX));
        if min > max || min > ceiling || max < floor {
            return Self::NONE;
        }
        let cut = |time: i128| i64::try_from(time.clamp(floor, ceiling));
        match (cut(min), cut(max)) {
            (Ok(min), Ok(max)) => Self { min, max },
            _ => Self::NONE,
        }
    }
}

/// A range with its brackets, `[a TO b}`, that begins at this byte of the query.
pub(super) fn range(position: usize, text: &str) -> Result<TimeRange, QueryError> {
    let inner = text.get(1..text.len() - 1).unwrap_or_default();
    let words: Vec<&str> = inner.split_whitespace().collect();
    let &[from, "TO" | "to", to] = words.as_slice() else {
        return Err(syntax(
            position,
            "expected a range like `[2026-01-01 TO 2026-02-01}`",
        ));
    };
    let min = match first_and_last(position, from)? {
        None => i128::from(i64::MIN),
        Some((first, _)) if text.starts_with('[') => first,
        Some((_, last)) => last + 1,
    };
    let max = match first_and_last(position, to)? {
        None => i128::from(i64::MAX),
        Some((_, last)) if text.ends_with(']') => last,
        Some((first, _)) => first - 1,
    };
    Ok(TimeRange::of(min, max))
}

/// One day or instant.
pub(super) fn instant(position: usize, text: &str) -> Result<TimeRange, QueryError> {
    Ok(
        first_and_last(position, text)?
            .map_or(TimeRange::ALL, |(min, max)| TimeRange::of(min, max)),
    )
}

/// The first and last nanosecond of a time; `None`: `*`, no bound.
fn first_and_last(position: usize, text: &str) -> Result<Option<(i128, i128)>, QueryError> {
    if text == "*" {
        return Ok(None);
    }
    if let Ok(nanoseconds) = text.parse::<i64>() {
        return Ok(Some((nanoseconds.into(), nanoseconds.into())));
    }
    let civil = |time: DateTime| TimeZone::UTC.to_timestamp(time).ok();
    if !text.contains(['T', 't'])
        && let Ok(date) = text.parse::<Date>()
        && let Some(midnight) = civil(date.to_datetime(jiff::civil::Time::midnight()))
    {
        let first = midnight.as_nanosecond();
        return Ok(Some((first, first + DAY_NANOSECONDS - 1)));
    }
    // A time without an offset is UTC.
    let instant = text
        .parse::<Timestamp>()
        .ok()
        .or_else(|| text.parse().ok().and_then(civil));
    match instant {
        Some(instant) => Ok(Some((instant.as_nanosecond(), instant.as_nanosecond()))),
        None => Err(syntax(
            position,
            format!(
                "`{text}` is not a time; expected `2026-01-31`, `2026-01-31T12:00:00Z`, \
                 nanoseconds since 1970 or `*`"
            ),
        )),
    }
}
