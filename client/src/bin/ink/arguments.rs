//! Values on the command line that more than one command takes.

use inkstone_client::{Bound, Consistency, Start};
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
        format!("`{text}` is not a position in a log: use first, an OFFSET, -N for the last N, or a time (15m, 2026-01-31)")
    })
}

/// A time, ages counting back from now.
pub(crate) fn time(text: &str) -> Result<i64, String> {
    parse_time(text, Timestamp::now())
}

/// Bytes: a whole number above 0, with KiB, MiB, GiB or TiB behind it or nothing.
pub(crate) fn byte_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size: use bytes, or 64KiB, 512MiB, 10GiB, 2TiB");
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let shift = match unit {
        "" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err(wrong()),
    };
    let size = number.checked_mul(1 << shift);
    size.filter(|size| *size > 0).ok_or_else(wrong)
}

/// What `parse` takes, or `none`.
pub(crate) fn or_none<T>(
    parse: impl Fn(&str) -> Result<T, String> + Clone,
) -> impl Fn(&str) -> Result<Bound<T>, String> + Clone {
    move |text| match text {
        "none" => Ok(Bound::Remove),
        text => parse(text).map(Bound::Set),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_bytes_or_has_a_unit_and_a_bound_may_be_none() {
        assert_eq!(byte_size("1"), Ok(1));
        assert_eq!(byte_size("10GiB"), Ok(10 << 30));
        assert_eq!(byte_size("2TiB"), Ok(2 << 40));
        for text in ["", "0", "0GiB", "GiB", "1.5GiB", "1GB", "-1", "99999999TiB"] {
            assert!(byte_size(text).is_err(), "{text:?}");
        }
        assert_eq!(or_none(byte_size)("none"), Ok(Bound::Remove));
        assert_eq!(or_none(byte_size)("5"), Ok(Bound::Set(5)));
        assert!(or_none(byte_size)("never").is_err());
    }

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
