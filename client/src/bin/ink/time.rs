//! Times as people write them, and as `ink` prints them. The present time is an argument.

use std::time::Duration;

use jiff::civil;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Nanoseconds since the Unix epoch for an RFC 3339 time, a date or a time without zone (UTC), or an age such as `15m`.
pub(crate) fn parse_time(text: &str, now: Timestamp) -> Result<i64, String> {
    let wrong = || {
        format!(
            "`{text}` is not a time: use 2026-01-31, 2026-01-31T12:00:00Z, or an age like 15m, 2h or 1d"
        )
    };
    let time = if text == "now" {
        now
    } else if let Some(age) = parse_amount(text) {
        now.checked_sub(age).map_err(|_| wrong())?
    } else if let Ok(time) = text.parse::<Timestamp>() {
        time
    } else if let Ok(time) = text.parse::<civil::DateTime>() {
        time.to_zoned(TimeZone::UTC)
            .map_err(|_| wrong())?
            .timestamp()
    } else {
        return Err(wrong());
    };
    i64::try_from(time.as_nanosecond()).map_err(|_| wrong())
}

/// A duration such as `500ms`, `10s` or `2m`, more than nothing.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    parse_amount(text)
        .filter(SignedDuration::is_positive)
        .and_then(|amount| Duration::try_from(amount).ok())
        .ok_or_else(|| format!("`{text}` is not a duration: use 500ms, 10s or 2m"))
}

/// A whole number and a unit.
fn parse_amount(text: &str) -> Option<SignedDuration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: i64 = number.parse().ok()?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        _ => return None,
    };
    number.checked_mul(unit_ms).map(SignedDuration::from_millis)
}

/// A duration as [`parse_duration`] takes it, in the largest unit that it is a whole number of.
pub(crate) fn format_duration(time: Duration) -> String {
    let ms = time.as_millis();
    let units = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
    ];
    let unit = units
        .into_iter()
        .find(|(unit, _)| ms >= *unit && ms.is_multiple_of(*unit));
    let (unit, name) = unit.unwrap_or((1, "ms"));
    format!("{}{name}", ms / unit)
}

/// RFC 3339 in UTC, as precise as the time is.
pub(crate) fn format(nanoseconds: i64) -> String {
    Timestamp::from_nanosecond(nanoseconds.into())
        .map_or_else(|_| nanoseconds.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn now() -> Timestamp {
        "2026-02-01T00:00:00Z".parse().unwrap()
    }

    fn parse(text: &str) -> Result<i64, String> {
        parse_time(text, now())
    }

    #[test]
    fn an_age_counts_back_from_now() {
        let now_ns = parse("now").unwrap();
        assert_eq!(parse("15m").unwrap(), now_ns - 15 * 60 * SECOND);
        assert_eq!(parse("2h").unwrap(), now_ns - 2 * 3_600 * SECOND);
        assert_eq!(parse("1d").unwrap(), parse("2026-01-31").unwrap());
    }

    #[test]
    fn a_date_and_a_time_without_zone_are_utc() {
        assert_eq!(parse("2026-01-31"), parse("2026-01-31T00:00:00Z"));
        assert_eq!(
            parse("2026-01-31T10:00:00"),
            parse("2026-01-31T12:00:00+02:00")
        );
        assert_eq!(parse("2026-01-31 10:00:00"), parse("2026-01-31T10:00:00Z"));
    }

    #[test]
    fn what_is_no_time_is_refused_with_examples() {
        for text in [
            "",
            "yesterday",
            "15",
            "m",
            "-5m",
            "2026-13-01",
            "15x",
            "99999999999999999d",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("15m"), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_duration_is_positive() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert!(parse_duration("0s").is_err());
        assert!(parse_duration("10").is_err());
    }

    #[test]
    fn times_print_as_they_parse() {
        let ns = 1_767_225_600_123_456_789;
        assert_eq!(format(ns), "2026-01-01T00:00:00.123456789Z");
        assert_eq!(parse(&format(ns)), Ok(ns));
    }
}
