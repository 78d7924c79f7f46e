//! What an append request takes in memory, counted while its bytes arrive: two bytes of a message can become a hundred.
//!
//! Promises: the count is known before the message is decoded, and is never below what decoding allocates; a message
//! with more records or attributes than any batch may have is refused before. Must not know: gRPC, permits.

use inkstone_proto::v1::AppendRequest;
use inkstone_storage::limits::{ATTRIBUTES_MAX, BATCH_RECORDS_MAX};

/// Bytes that a record takes beside its own: `NewRecord` has three fields, of 16, 24 and 32 bytes.
const RECORD_WEIGHT: usize = 80;
/// Bytes that an attribute takes beside its own: two strings of 24 bytes, and what their allocations are rounded up by.
const ATTRIBUTE_WEIGHT: usize = 80;
const BATCH_ATTRIBUTES_MAX: usize = BATCH_RECORDS_MAX * ATTRIBUTES_MAX;

/// What the largest request weighs of which every part is within its bound, in a message of so many bytes.
pub(crate) const fn weight_max(message_size_max: usize) -> usize {
    2 * message_size_max
        + BATCH_RECORDS_MAX * RECORD_WEIGHT
        + BATCH_ATTRIBUTES_MAX * ATTRIBUTE_WEIGHT
}

/// What a decoded request weighs that is `size` bytes as a message: the same as [`Scanner`] counts.
pub(crate) fn weight(request: &AppendRequest, size: usize) -> usize {
    let attributes = request.records.iter().flat_map(|record| &record.attributes);
    let of_attributes: usize = attributes
        .map(|attribute| ATTRIBUTE_WEIGHT + attribute.key.len() + attribute.value.len())
        .sum();
    size + request.records.len() * RECORD_WEIGHT + of_attributes
}

/// A message that is not to be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It has more records than a batch may have.
    TooManyRecords,
    /// It has more attributes than a batch may have.
    TooManyAttributes,
    /// It is no such message.
    Malformed,
}

/// Field numbers of `AppendRequest.records` and `NewRecord.attributes`.
const RECORDS: u64 = 2;
const ATTRIBUTES: u64 = 2;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// A field's number and type come next.
    Tag,
    /// A number is passed over.
    Number,
    /// The length of this field comes next.
    Length(u64),
    /// So many bytes are passed over.
    Skip(u64),
}

/// Walks over an `AppendRequest` as it arrives, piece by piece.
#[derive(Debug)]
pub(crate) struct Scanner {
    step: Step,
    /// Of the number that is being read.
    value: u64,
    shift: u32,
    /// Bytes that are left of the record that is walked through.
    record_left: Option<u64>,
    records: usize,
    attributes: usize,
}

impl Scanner {
    /// At the beginning of a message.
    pub(crate) fn new() -> Self {
        Self {
            step: Step::Tag,
            value: 0,
            shift: 0,
            record_left: None,
            records: 0,
            attributes: 0,
        }
    }

    /// The next piece: what it weighs beside its bytes.
    pub(crate) fn scan(&mut self, mut piece: &[u8]) -> Result<usize, Unfit> {
        let mut weight = 0;
        while let Some(byte) = piece.first().copied() {
            if let Step::Skip(left) = self.step {
                let here = left.min(piece.len() as u64);
                self.pass(here)?;
                piece = &piece[usize::try_from(here).map_err(|_| Unfit::Malformed)?..];
                self.skip(left - here);
                continue;
            }
            piece = &piece[1..];
            self.pass(1)?;
            if let Some(value) = self.number(byte)? {
                weight += self.take(value)?;
            }
        }
        Ok(weight)
    }

    /// So many bytes of the record that is walked through are behind.
    fn pass(&mut self, bytes: u64) -> Result<(), Unfit> {
        if let Some(left) = &mut self.record_left {
            *left = left.checked_sub(bytes).ok_or(Unfit::Malformed)?;
        }
        Ok(())
    }

    /// One more byte of a number: the number, if it was the last.
    fn number(&mut self, byte: u8) -> Result<Option<u64>, Unfit> {
        if self.shift >= 64 {
            return Err(Unfit::Malformed);
        }
        self.value |= u64::from(byte & 0x7f) << self.shift;
        self.shift += 7;
        if byte & 0x80 != 0 {
            return Ok(None);
        }
        self.shift = 0;
        Ok(Some(std::mem::take(&mut self.value)))
    }

    fn take(&mut self, value: u64) -> Result<usize, Unfit> {
        let (field, kind) = (value >> 3, value & 7);
        match self.step {
            Step::Tag => match kind {
                0 => self.step = Step::Number,
                1 => self.skip(8),
                2 => self.step = Step::Length(field),
                5 => self.skip(4),
                _ => return Err(Unfit::Malformed),
            },
            Step::Number => self.skip(0),
            Step::Length(field) => return self.enter(field, value),
            Step::Skip(_) => {}
        }
        Ok(0)
    }

    fn enter(&mut self, field: u64, length: u64) -> Result<usize, Unfit> {
        if self.record_left.is_none() && field == RECORDS {
            self.records += 1;
            if self.records > BATCH_RECORDS_MAX {
                return Err(Unfit::TooManyRecords);
            }
            self.record_left = Some(length);
            self.skip(0);
            return Ok(RECORD_WEIGHT);
        }
        let is_attribute = self.record_left.is_some() && field == ATTRIBUTES;
        self.skip(length);
        if !is_attribute {
            return Ok(0);
        }
        self.attributes += 1;
        if self.attributes > BATCH_ATTRIBUTES_MAX {
            return Err(Unfit::TooManyAttributes);
        }
        let length = usize::try_from(length).map_err(|_| Unfit::Malformed)?;
        Ok(ATTRIBUTE_WEIGHT.saturating_add(length))
    }

    fn skip(&mut self, bytes: u64) {
        self.step = if bytes == 0 {
            Step::Tag
        } else {
            Step::Skip(bytes)
        };
        if bytes == 0 && self.record_left == Some(0) {
            self.record_left = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use inkstone_proto::v1::{Attribute, NewRecord, Producer};
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    fn scan(bytes: &[u8], piece: usize) -> Result<usize, Unfit> {
        let mut scanner = Scanner::new();
        bytes
            .chunks(piece.max(1))
            .try_fold(0, |sum, piece| Ok(sum + scanner.scan(piece)?))
    }

    fn request(records: Vec<NewRecord>) -> AppendRequest {
        AppendRequest {
            log: "a/log".to_owned(),
            records,
            expected_offset: Some(1 << 40),
            producer: Some(Producer {
                id: u64::MAX,
                epoch: 3,
                sequence: 300,
            }),
        }
    }

    fn record() -> impl Strategy<Value = NewRecord> {
        let attribute =
            ("[a-z]{0,4}", "[a-z]{0,200}").prop_map(|(key, value)| Attribute { key, value });
        let attributes = prop::collection::vec(attribute, 0..5);
        let body = prop::collection::vec(any::<u8>(), 0..300);
        (any::<Option<i64>>(), attributes, body).prop_map(|(timestamp, attributes, body)| {
            NewRecord {
                timestamp,
                attributes,
                body: body.into(),
            }
        })
    }

    proptest! {
        #[test]
        fn the_bytes_weigh_at_least_what_the_request_does_however_they_arrive(
            records in prop::collection::vec(record(), 0..6), piece in 1_usize..50
        ) {
            let request = request(records);
            let bytes = request.encode_to_vec();
            let scanned = bytes.len() + scan(&bytes, piece).expect("it is one");
            prop_assert!(scanned >= weight(&request, bytes.len()));
            // An attribute's own framing, at most 8 bytes of each, is all that it counts besides.
            let attributes: usize = request.records.iter().map(|record| record.attributes.len()).sum();
            prop_assert!(scanned <= weight(&request, bytes.len()) + 8 * attributes);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), piece in 1_usize..50) {
            // Refused or not: it ends.
            prop_assert!(scan(&bytes, piece).is_ok_and(|weight| weight < 1 << 20) || scan(&bytes, piece).is_err());
        }
    }

    #[test]
    fn what_becomes_a_hundred_times_larger_is_refused_before_it_is_decoded() {
        let records = vec![NewRecord::default(); BATCH_RECORDS_MAX];
        let mut bytes = request(records).encode_to_vec();
        scan(&bytes, 4_096).expect("as many as a batch may have");
        bytes.extend([0x12, 0]);
        assert_eq!(scan(&bytes, 4_096), Err(Unfit::TooManyRecords));
        // One record of nothing but empty attributes: two bytes each, and 48 in memory.
        let attributes = vec![Attribute::default(); BATCH_ATTRIBUTES_MAX + 1];
        let record = NewRecord {
            attributes,
            ..NewRecord::default()
        };
        let bytes = request(vec![record]).encode_to_vec();
        assert!(bytes.len() < 2 << 20);
        assert_eq!(scan(&bytes, 4_096), Err(Unfit::TooManyAttributes));
    }

    #[test]
    fn a_group_that_hides_what_follows_is_refused() {
        assert_eq!(scan(&[0x0b, 0x12, 0], 9), Err(Unfit::Malformed));
    }

    #[test]
    fn the_bounds_are_those_of_the_types_in_memory() {
        assert!(size_of::<NewRecord>() <= RECORD_WEIGHT);
        assert!(size_of::<Attribute>() + 32 <= ATTRIBUTE_WEIGHT);
    }
}
