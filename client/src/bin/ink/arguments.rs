//! Values on the command line that more than one command takes.

use inkstone_client::{Consistency, Start};
use jiff::Timestamp;

use crate::time::parse_time;

/// `stale`, `lease`, `linearizable` or an offset that must be covered.
pub(crate) fn consistency(text: &str) -> Result<Consistency, String> {
    match text {
        "stale" => Ok(Consistency::Stale),
        "lease" => Ok(Consistency::Lease),
        "linearizable" => Ok(Consistency::Linearizable),
        offset => offset.parse().map(Consistency::AtLeast).map_err(|_| {
            "use stale, lease, linearizable, or the offset that must be covered".to_owned()
        }),
    }
}

/// `first`, an offset, `-N` for that many before the end, or a time.
pub(crate) fn start(text: &str) -> Result<Start, String> {
    if text == "first" {
        return Ok(Start::First);
    }
    if let Ok(offset) = text.parse() {
        return Ok(Start::Offset(offset));
    }
    if let Some(Ok(records)) = text.strip_prefix('-').map(str::parse) {
        return Ok(Start::Last(records));
    }
    time(text).map(Start::Timestamp).map_err(|_| {
        format!("`{text}` is no place in a log: use first, an OFFSET, -N for the last N, or a time (15m, 2026-01-31)")
    })
}

/// A time, ages counting back from now.
pub(crate) fn time(text: &str) -> Result<i64, String> {
    parse_time(text, Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_first_an_offset_a_count_or_a_time() {
        assert_eq!(start("first"), Ok(Start::First));
        assert_eq!(start("0"), Ok(Start::Offset(0)));
        assert_eq!(start("18446744073709551615"), Ok(Start::Offset(u64::MAX)));
        assert_eq!(start("-10"), Ok(Start::Last(10)));
        assert_eq!(
            start("1970-01-01T00:00:01Z"),
            Ok(Start::Timestamp(1_000_000_000))
        );
        for text in ["", "-", "--5", "last", "1.5", "18446744073709551616"] {
            assert!(start(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_consistency_is_a_word_or_an_offset() {
        assert_eq!(consistency("stale"), Ok(Consistency::Stale));
        assert_eq!(consistency("lease"), Ok(Consistency::Lease));
        assert_eq!(consistency("linearizable"), Ok(Consistency::Linearizable));
        assert_eq!(consistency("42"), Ok(Consistency::AtLeast(42)));
        assert!(consistency("strong").is_err());
    }
}
