//! What the batches payload promises, on generated batches, on forged headers and on arbitrary bytes.

mod forged;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::header::{
    HEADER_SIZE, PREAMBLE_SIZE, VERSION, encode as encode_header, encode_preamble,
};
use super::records::PLAIN_SIZE_MAX;
use super::{Batches, EncodedBatch, join};
use crate::limits::{ATTRIBUTES_MAX, BATCH_RECORDS_MAX, BATCH_SIZE_MAX, RECORD_SIZE_MAX};
use crate::types::{BatchHeader, Codec, LogId, NewRecord, Producer, Record};

fn record(timestamp: i64, body: impl Into<Bytes>) -> NewRecord {
    NewRecord {
        timestamp,
        attributes: Vec::new(),
        body: body.into(),
    }
}

fn timestamp(number: usize) -> i64 {
    1_000 * i64::try_from(number).unwrap()
}

fn lines(count: usize) -> Vec<NewRecord> {
    (0..count)
        .map(|n| {
            record(
                timestamp(n),
                format!("GET /index/{n} 200 from 10.0.0.{}", n % 250),
            )
        })
        .collect()
}

/// So few bytes that LZ4 is not tried.
fn short_lines(count: usize) -> Vec<NewRecord> {
    (0..count)
        .map(|n| record(timestamp(n), format!("line {n}")))
        .collect()
}

fn numbered(records: &[NewRecord], base_offset: u64) -> Vec<Record> {
    (base_offset..)
        .zip(records.iter().cloned())
        .map(
            |(
                offset,
                NewRecord {
                    timestamp,
                    attributes,
                    body,
                },
            )| Record {
                offset,
                timestamp,
                attributes,
                body,
            },
        )
        .collect()
}

fn encode(records: &[NewRecord]) -> EncodedBatch {
    EncodedBatch::encode(LogId(7), None, None, records)
}

/// A payload of one batch whose header says what it wants.
fn forged(header: &BatchHeader, records: &[u8]) -> Bytes {
    let mut payload = encode_preamble(1).to_vec();
    payload.extend_from_slice(&encode_header(header));
    payload.extend_from_slice(records);
    Bytes::from(payload)
}

fn arb_record() -> impl Strategy<Value = NewRecord> {
    let timestamp = prop_oneof![any::<i64>(), 0..1_000_i64];
    let text = prop_oneof!["[a-z]{0,8}", "\\PC{0,40}"];
    let body = prop_oneof![
        vec(any::<u8>(), 0..40),
        (any::<u8>(), 0..2_000_usize).prop_map(|(byte, size)| vec![byte; size]),
    ];
    (timestamp, vec((text.clone(), text), 0..4), body).prop_map(|(timestamp, attributes, body)| {
        NewRecord {
            timestamp,
            attributes,
            body: Bytes::from(body),
        }
    })
}

#[derive(Debug, Clone)]
struct Batch {
    log: LogId,
    producer: Option<Producer>,
    expected_offset: Option<u64>,
    records: Vec<NewRecord>,
}

impl Batch {
    fn encode(&self) -> EncodedBatch {
        EncodedBatch::encode(self.log, self.producer, self.expected_offset, &self.records)
    }
}

fn arb_batch() -> impl Strategy<Value = Batch> {
    let producer =
        (any::<u64>(), any::<u32>(), any::<u64>()).prop_map(|(id, epoch, sequence)| Producer {
            id,
            epoch,
            sequence,
        });
    let producer = proptest::option::of(producer);
    let expected_offset = proptest::option::of(any::<u64>());
    (
        any::<u64>(),
        producer,
        expected_offset,
        vec(arb_record(), 1..12),
    )
        .prop_map(|(log, producer, expected_offset, records)| Batch {
            log: LogId(log),
            producer,
            expected_offset,
            records,
        })
}

proptest! {
    #[test]
    fn what_was_joined_is_read_back(
        batches in vec(arb_batch(), 1..6),
        append_time: i64,
        base_offset in 0..u64::MAX / 2,
        from in 0..14_u64,
        more in 0..14_u64,
    ) {
        let encoded: Vec<_> = batches.iter().map(Batch::encode).collect();
        let payload = join(&encoded, append_time);
        let added: usize = encoded.iter().map(EncodedBatch::size).sum();
        prop_assert_eq!(payload.len(), PREAMBLE_SIZE + added);
        let read = Batches::parse(payload)?;
        prop_assert_eq!(read.headers().len(), batches.len());
        for (number, (batch, encoded)) in batches.iter().zip(&encoded).enumerate() {
            let header = read.headers()[number];
            prop_assert_eq!(header, BatchHeader { append_time, ..encoded.header });
            prop_assert_eq!(header.log, batch.log);
            prop_assert_eq!(header.producer, batch.producer);
            prop_assert_eq!(header.expected_offset, batch.expected_offset);
            let timestamps = || batch.records.iter().map(|record| record.timestamp);
            prop_assert_eq!(Some(header.timestamp_min), timestamps().min());
            prop_assert_eq!(Some(header.timestamp_max), timestamps().max());
            let all = numbered(&batch.records, base_offset);
            prop_assert_eq!(&read.records(number, base_offset)?, &all);
            let wanted = (base_offset + from)..=(base_offset + from + more);
            let within: Vec<_> = all.into_iter().filter(|record| wanted.contains(&record.offset)).collect();
            prop_assert_eq!(read.records_within(number, base_offset, &wanted)?, within);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..600)) {
        if let Ok(batches) = Batches::parse(Bytes::from(bytes)) {
            for number in 0..batches.headers().len() {
                drop(batches.records(number, 0));
            }
        }
    }

    #[test]
    fn arbitrary_records_with_a_valid_crc_never_panic(
        bytes in vec(any::<u8>(), 1..300),
        lz4: bool,
        records in 1..40_u32,
        plain_size in 1..5_000_u32,
    ) {
        let size = u32::try_from(bytes.len())?;
        let (codec, plain_size) = if lz4 { (Codec::Lz4, plain_size) } else { (Codec::Plain, size) };
        let header = BatchHeader {
            records,
            codec,
            encoded_size: size,
            plain_size,
            timestamp_min: i64::MIN,
            timestamp_max: i64::MAX,
            crc: crc32fast::hash(&bytes),
            ..encode(&lines(1)).header
        };
        if let Ok(batches) = Batches::parse(forged(&header, &bytes)) {
            drop(batches.records(0, u64::MAX - 3));
            let all = batches.records(0, 7).map_err(|bad| bad.what);
            let none = batches.records_within(0, 7, &(0..=6)).map_err(|bad| bad.what);
            prop_assert_eq!(all.map(|_| Vec::new()), none, "what is not wanted is verified too");
        }
    }

    #[test]
    fn a_damaged_payload_never_panics_and_keeps_its_bounds(
        batch in arb_batch(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut payload = join(&[batch.encode()], 0).to_vec();
        for (place, byte) in damage {
            let place = place.index(payload.len());
            payload[place] = byte;
        }
        payload.truncate(cut.index(payload.len() + 1));
        if let Ok(batches) = Batches::parse(Bytes::from(payload)) {
            for (number, header) in batches.headers().iter().enumerate() {
                prop_assert!(header.plain_size as usize <= PLAIN_SIZE_MAX);
                prop_assert!(header.records as usize <= BATCH_RECORDS_MAX);
                prop_assert!(header.records <= header.plain_size);
                drop(batches.records(number, 0));
            }
        }
    }
}

#[test]
fn every_flipped_bit_in_the_records_is_caught() {
    let compressed = encode(&lines(30));
    assert_eq!(compressed.header.codec, Codec::Lz4);
    let plain = encode(&lines(1));
    assert_eq!(plain.header.codec, Codec::Plain);
    let payload = join(&[compressed, plain], 5);
    let start = PREAMBLE_SIZE + 2 * HEADER_SIZE;
    let boundary =
        start + Batches::parse(payload.clone()).unwrap().headers()[0].encoded_size as usize;
    for place in start..payload.len() {
        for bit in 0..8 {
            let mut flipped = payload.to_vec();
            flipped[place] ^= 1 << bit;
            let batches = Batches::parse(Bytes::from(flipped)).unwrap();
            let (hit, other) = if place < boundary { (0, 1) } else { (1, 0) };
            let error = batches.records(hit, 0).unwrap_err();
            assert!(error.what.contains("crc"), "{error}");
            assert!(
                batches.records(other, 0).is_ok(),
                "one batch's damage is its own"
            );
        }
    }
}

#[test]
fn every_truncation_of_a_payload_is_refused() {
    let payload = join(&[encode(&lines(3)), encode(&lines(40))], 5);
    for size in 0..payload.len() {
        assert!(
            Batches::parse(payload.slice(..size)).is_err(),
            "{size} bytes"
        );
    }
    let mut longer = payload.to_vec();
    longer.push(0);
    assert!(Batches::parse(Bytes::from(longer)).is_err());
}

#[test]
fn lz4_is_used_when_it_is_worth_it() {
    let compressible = encode(&lines(100));
    assert_eq!(compressible.header.codec, Codec::Lz4);
    assert!(compressible.header.encoded_size < compressible.header.plain_size);

    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()[7]
    })
    .take(20_000)
    .collect();
    // In many records, so that what stands between them repeats: LZ4 would save a percent.
    let records: Vec<_> = noise
        .chunks(200)
        .map(|body| record(7, body.to_vec()))
        .collect();
    let random = encode(&records);
    assert_eq!(random.header.codec, Codec::Plain);
    assert_eq!(random.header.encoded_size, random.header.plain_size);
}

#[test]
fn bodies_of_a_plain_batch_are_slices_of_the_payload() {
    let payload = join(
        &[encode(&[record(1, "a short line"), record(2, "another")])],
        0,
    );
    let start = payload.as_ptr() as usize;
    let range = start..start + payload.len();
    let records = Batches::parse(payload).unwrap().records(0, 0).unwrap();
    assert!(
        records
            .iter()
            .all(|record| range.contains(&(record.body.as_ptr() as usize)))
    );
}

#[test]
fn the_largest_batch_fits_the_payload_bound() {
    // Every record carries the most attributes, each with the shortest key and value that cost two length bytes more.
    let attributes = vec![("k".to_owned(), "v".repeat(4)); ATTRIBUTES_MAX];
    let body = Bytes::from(vec![
        b'x';
        BATCH_SIZE_MAX / BATCH_RECORDS_MAX - 5 * ATTRIBUTES_MAX
    ]);
    let timestamps = [i64::MIN, i64::MAX];
    let records: Vec<_> = (0..BATCH_RECORDS_MAX)
        .map(|n| NewRecord {
            timestamp: timestamps[n % 2],
            attributes: attributes.clone(),
            body: body.clone(),
        })
        .collect();
    let batch = encode(&records);
    let read = Batches::parse(join(&[batch], 0)).unwrap();
    assert_eq!(read.records(0, 9).unwrap(), numbered(&records, 9));
}

#[test]
fn the_largest_record_is_read_back() {
    let records = vec![record(-1, vec![7; RECORD_SIZE_MAX]); BATCH_SIZE_MAX / RECORD_SIZE_MAX];
    let read = Batches::parse(join(&[encode(&records)], 0)).unwrap();
    assert_eq!(read.records(0, 0).unwrap(), numbered(&records, 0));
}

/// The bytes that FORMAT.md promises. When this test must change, so must the version, and the old bytes stay readable.
#[test]
fn version_1_is_these_bytes() {
    let producer = Producer {
        id: 0x0102,
        epoch: 3,
        sequence: 4,
    };
    let records = [
        NewRecord {
            timestamp: 1_000,
            attributes: vec![("level".to_owned(), "error".to_owned())],
            body: Bytes::from_static(b"disk full"),
        },
        record(999, "x"),
    ];
    let batch = EncodedBatch::encode(LogId(5), Some(producer), Some(6), &records);
    let payload = join(&[batch], 7);
    let mut expected = Vec::new();
    expected.extend([1_u32, 1].map(u32::to_le_bytes).concat());
    expected.extend(
        [5_u64, 0x0102, 4, 6, 7, 999, 1_000]
            .map(u64::to_le_bytes)
            .concat(),
    );
    let encoded = b"\x02\x01\x05level\x05error\x09disk full\x01\x00\x01x";
    let crc = crc32fast::hash(encoded);
    let size = u32::try_from(encoded.len()).unwrap();
    expected.extend([2, 3, size, size, crc].map(u32::to_le_bytes).concat());
    expected.extend([0, 0b11, 0, 0]);
    expected.extend(encoded);
    assert_eq!(payload[..], expected[..]);
    assert_eq!(crc, 0x0c2e_8ced, "crc32 as zlib has it");
}
