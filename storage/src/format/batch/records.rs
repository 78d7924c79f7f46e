//! Records as bytes, before compression: varints and the bytes they count (FORMAT.md, "Batches payload").
//!
//! Promises: decoding takes nothing on trust: every length is checked against the bytes that are left, and all bytes
//! must be used. Bodies are slices of the given buffer, not copies.

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::limits::{ATTRIBUTES_MAX, BATCH_RECORDS_MAX, BATCH_SIZE_MAX};
use crate::types::{Attributes, BatchHeader, NewRecord, Record};

/// Bytes of the shortest record: timestamp, attribute count and body length, a byte each.
pub(super) const RECORD_ENCODED_SIZE_MIN: usize = 3;
/// Bytes that a record's encoding adds to its attributes and body at most: a timestamp (10), an attribute count (1), a
/// body length (3), and for each attribute the lengths of its key (2) and value (3).
const RECORD_OVERHEAD_MAX: usize = 10 + 1 + 3 + ATTRIBUTES_MAX * (2 + 3);
/// Bytes of the largest batch's encoded records.
pub(super) const PLAIN_SIZE_MAX: usize = BATCH_SIZE_MAX + BATCH_RECORDS_MAX * RECORD_OVERHEAD_MAX;

/// The most bytes of a varint: 64 bits, 7 in each.
const VARINT_SIZE_MAX: u32 = 10;

/// The records' bytes. The first timestamp is a difference to `timestamp_min`, each other one to the one before.
pub(super) fn encode(records: &[NewRecord], timestamp_min: i64) -> Vec<u8> {
    let size = encoded_size(records, timestamp_min);
    assert!(
        size <= PLAIN_SIZE_MAX,
        "the caller checks RECORD_SIZE_MAX and BATCH_SIZE_MAX"
    );
    let mut out = Vec::with_capacity(size);
    let mut previous = timestamp_min;
    for record in records {
        put_varint(&mut out, zigzag(record.timestamp.wrapping_sub(previous)));
        previous = record.timestamp;
        put_varint(&mut out, record.attributes.len() as u64);
        for (key, value) in &record.attributes {
            put_counted(&mut out, key.as_bytes());
            put_counted(&mut out, value.as_bytes());
        }
        put_counted(&mut out, &record.body);
    }
    debug_assert_eq!(
        out.len(),
        size,
        "the size was computed, so that nothing is moved twice"
    );
    out
}

fn encoded_size(records: &[NewRecord], timestamp_min: i64) -> usize {
    let mut previous = timestamp_min;
    let mut size = 0;
    for record in records {
        size += varint_size(zigzag(record.timestamp.wrapping_sub(previous)));
        previous = record.timestamp;
        size += varint_size(record.attributes.len() as u64);
        for (key, value) in &record.attributes {
            size += counted_size(key.len()) + counted_size(value.len());
        }
        size += counted_size(record.body.len());
    }
    size
}

/// The records in these bytes, numbered from `base_offset`, as far as their offsets are in `wanted`; what is wrong with
/// any of them, otherwise. Those that are not wanted are walked over: they cost no allocation.
pub(super) fn decode(
    plain: &Bytes,
    header: &BatchHeader,
    base_offset: u64,
    wanted: &RangeInclusive<u64>,
) -> Result<Vec<Record>, String> {
    let mut rest = Rest {
        bytes: plain,
        left: plain,
    };
    let end = base_offset.saturating_add(u64::from(header.records));
    let from = base_offset.max(*wanted.start());
    let count = wanted.end().saturating_add(1).min(end).saturating_sub(from);
    let mut records = Vec::with_capacity(usize::try_from(count).unwrap_or_default());
    let mut previous = header.timestamp_min;
    for number in 0..header.records {
        let wrong = |field: &str| format!("record {number}: bad {field}");
        let delta = rest.varint().ok_or_else(|| wrong("timestamp"))?;
        let timestamp = previous.wrapping_add(unzigzag(delta));
        if timestamp < header.timestamp_min || timestamp > header.timestamp_max {
            return Err(wrong("timestamp"));
        }
        previous = timestamp;
        let offset = base_offset
            .checked_add(u64::from(number))
            .ok_or_else(|| wrong("offset: beyond the largest"))?;
        if !wanted.contains(&offset) {
            rest.skip_attributes().ok_or_else(|| wrong("attributes"))?;
            rest.counted().ok_or_else(|| wrong("body"))?;
            continue;
        }
        let attributes = rest.attributes().ok_or_else(|| wrong("attributes"))?;
        let body = rest.body().ok_or_else(|| wrong("body"))?;
        records.push(Record {
            offset,
            timestamp,
            attributes,
            body,
        });
    }
    if !rest.left.is_empty() {
        return Err(format!("{} bytes behind the last record", rest.left.len()));
    }
    Ok(records)
}

/// What is still to be decoded, and the buffer that it is the end of.
struct Rest<'a> {
    bytes: &'a Bytes,
    left: &'a [u8],
}

impl<'a> Rest<'a> {
    #[inline]
    fn varint(&mut self) -> Option<u64> {
        let (&first, left) = self.left.split_first()?;
        self.left = left;
        if first < 0x80 {
            return Some(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        for place in 1..VARINT_SIZE_MAX {
            let (&byte, left) = self.left.split_first()?;
            self.left = left;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if place == VARINT_SIZE_MAX - 1 && byte > 1 {
                return None;
            }
            value |= bits << (7 * place);
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    #[inline]
    fn counted(&mut self) -> Option<&'a [u8]> {
        let size = usize::try_from(self.varint()?).ok()?;
        let (counted, left) = self.left.split_at_checked(size)?;
        self.left = left;
        Some(counted)
    }

    fn text(&mut self) -> Option<String> {
        Some(str::from_utf8(self.counted()?).ok()?.to_owned())
    }

    #[inline]
    fn attributes(&mut self) -> Option<Attributes> {
        let count = usize::try_from(self.varint()?).ok()?;
        if count > ATTRIBUTES_MAX {
            return None;
        }
        let mut attributes = Vec::with_capacity(count);
        for _ in 0..count {
            attributes.push((self.text()?, self.text()?));
        }
        Some(attributes)
    }

    /// Checks what [`Self::attributes`] checks.
    #[inline]
    fn skip_attributes(&mut self) -> Option<()> {
        let count = usize::try_from(self.varint()?).ok()?;
        if count > ATTRIBUTES_MAX {
            return None;
        }
        for _ in 0..2 * count {
            str::from_utf8(self.counted()?).ok()?;
        }
        Some(())
    }

    #[inline]
    fn body(&mut self) -> Option<Bytes> {
        let size = self.counted()?.len();
        let end = self.bytes.len() - self.left.len();
        Some(self.bytes.slice(end - size..end))
    }
}

#[inline]
fn put_counted(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn counted_size(size: usize) -> usize {
    varint_size(size as u64) + size
}

/// Least significant 7 bits first; the high bit says that more follow (LEB128, as in protobuf).
#[inline]
fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        let [low, ..] = value.to_le_bytes();
        out.push(low | 0x80);
        value >>= 7;
    }
    let [low, ..] = value.to_le_bytes();
    out.push(low);
}

fn varint_size(value: u64) -> usize {
    let bits = u64::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Small numbers of either sign become small numbers.
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}
