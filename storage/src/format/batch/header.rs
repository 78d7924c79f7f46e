//! The fixed-size part of a batches payload: its preamble and the batch headers, little-endian, 8-byte aligned.
//!
//! Promises: a header that parses is bounded: its sizes and counts fit `limits` and each other, so that whoever
//! allocates by them allocates no more than that. One value has one encoding: absent and reserved fields are zero.

use super::BadBatch;
use super::records::{PLAIN_SIZE_MAX, RECORD_ENCODED_SIZE_MIN};
use crate::format::layout::{get, put};
use crate::limits::{BATCH_RECORDS_MAX, ENTRY_BATCHES_MAX};
use crate::types::{BatchHeader, Codec, LogId, Producer};

/// The version of preamble, headers and record encoding together.
pub(in crate::format) const VERSION: u32 = 1;

// The preamble.
const PREAMBLE_VERSION: usize = 0;
const PREAMBLE_COUNT: usize = PREAMBLE_VERSION + size_of::<u32>();
pub(super) const PREAMBLE_SIZE: usize = PREAMBLE_COUNT + size_of::<u32>();

// A batch header.
const LOG: usize = 0;
const PRODUCER_ID: usize = LOG + size_of::<u64>();
const PRODUCER_SEQUENCE: usize = PRODUCER_ID + size_of::<u64>();
const EXPECTED_OFFSET: usize = PRODUCER_SEQUENCE + size_of::<u64>();
const APPEND_TIME: usize = EXPECTED_OFFSET + size_of::<u64>();
const TIMESTAMP_MIN: usize = APPEND_TIME + size_of::<i64>();
const TIMESTAMP_MAX: usize = TIMESTAMP_MIN + size_of::<i64>();
const RECORDS: usize = TIMESTAMP_MAX + size_of::<i64>();
const PRODUCER_EPOCH: usize = RECORDS + size_of::<u32>();
const ENCODED_SIZE: usize = PRODUCER_EPOCH + size_of::<u32>();
const PLAIN_SIZE: usize = ENCODED_SIZE + size_of::<u32>();
const CRC: usize = PLAIN_SIZE + size_of::<u32>();
const CODEC: usize = CRC + size_of::<u32>();
const FLAGS: usize = CODEC + size_of::<u8>();
const RESERVED: usize = FLAGS + size_of::<u8>();
pub(super) const HEADER_SIZE: usize = RESERVED + size_of::<u16>();

const _: () = assert!(PREAMBLE_SIZE.is_multiple_of(8) && HEADER_SIZE.is_multiple_of(8));
const _: () = assert!(PREAMBLE_SIZE == 8 && HEADER_SIZE == 80, "FORMAT.md says so");

const FLAG_PRODUCER: u8 = 1;
const FLAG_EXPECTED_OFFSET: u8 = 1 << 1;
const FLAGS_KNOWN: u8 = FLAG_PRODUCER | FLAG_EXPECTED_OFFSET;

/// No LZ4 block is more than so many times smaller than what it stands for: a length grows by 255 for each byte.
const LZ4_RATIO_MAX: u32 = 255;

pub(super) fn encode_preamble(count: u32) -> [u8; PREAMBLE_SIZE] {
    let mut bytes = [0; PREAMBLE_SIZE];
    put(&mut bytes, PREAMBLE_VERSION, VERSION.to_le_bytes());
    put(&mut bytes, PREAMBLE_COUNT, count.to_le_bytes());
    bytes
}

/// The number of batches, for which there is room in the payload, and what stands behind the preamble.
pub(super) fn parse_preamble(payload: &[u8]) -> Result<(usize, &[u8]), BadBatch> {
    let Some((bytes, rest)) = payload.split_first_chunk::<PREAMBLE_SIZE>() else {
        let found = payload.len();
        return Err(BadBatch::at(
            0,
            format!("a payload of {found} bytes has no preamble"),
        ));
    };
    let version = u32::from_le_bytes(get(bytes, PREAMBLE_VERSION));
    if version != VERSION {
        return Err(BadBatch::at(
            PREAMBLE_VERSION,
            format!("batches version {version}, this release reads {VERSION}"),
        ));
    }
    let count = u32::from_le_bytes(get(bytes, PREAMBLE_COUNT)) as usize;
    let room = rest.len() / HEADER_SIZE;
    if count == 0 || count > ENTRY_BATCHES_MAX || count > room {
        return Err(BadBatch::at(
            PREAMBLE_COUNT,
            format!("{count} batches: 1 to {ENTRY_BATCHES_MAX} may be, and {room} have room"),
        ));
    }
    Ok((count, rest))
}

pub(super) fn encode(header: &BatchHeader) -> [u8; HEADER_SIZE] {
    let mut bytes = [0; HEADER_SIZE];
    let mut flags = 0;
    put(&mut bytes, LOG, header.log.0.to_le_bytes());
    if let Some(producer) = header.producer {
        flags |= FLAG_PRODUCER;
        put(&mut bytes, PRODUCER_ID, producer.id.to_le_bytes());
        put(
            &mut bytes,
            PRODUCER_SEQUENCE,
            producer.sequence.to_le_bytes(),
        );
        put(&mut bytes, PRODUCER_EPOCH, producer.epoch.to_le_bytes());
    }
    if let Some(expected_offset) = header.expected_offset {
        flags |= FLAG_EXPECTED_OFFSET;
        put(&mut bytes, EXPECTED_OFFSET, expected_offset.to_le_bytes());
    }
    put(&mut bytes, APPEND_TIME, header.append_time.to_le_bytes());
    put(
        &mut bytes,
        TIMESTAMP_MIN,
        header.timestamp_min.to_le_bytes(),
    );
    put(
        &mut bytes,
        TIMESTAMP_MAX,
        header.timestamp_max.to_le_bytes(),
    );
    put(&mut bytes, RECORDS, header.records.to_le_bytes());
    put(&mut bytes, ENCODED_SIZE, header.encoded_size.to_le_bytes());
    put(&mut bytes, PLAIN_SIZE, header.plain_size.to_le_bytes());
    put(&mut bytes, CRC, header.crc.to_le_bytes());
    put(&mut bytes, CODEC, [header.codec as u8]);
    put(&mut bytes, FLAGS, [flags]);
    bytes
}

/// The header in these bytes, which stand at `position` of the payload.
pub(super) fn parse(bytes: &[u8; HEADER_SIZE], position: usize) -> Result<BatchHeader, BadBatch> {
    let u64_at = |offset| u64::from_le_bytes(get(bytes, offset));
    let i64_at = |offset| i64::from_le_bytes(get(bytes, offset));
    let u32_at = |offset| u32::from_le_bytes(get(bytes, offset));
    let [codec] = get(bytes, CODEC);
    let [flags] = get(bytes, FLAGS);
    let codec = match codec {
        0 => Codec::Plain,
        1 => Codec::Lz4,
        other => {
            return Err(BadBatch::at(
                position + CODEC,
                format!("codec {other} is not known"),
            ));
        }
    };
    let reserved = u16::from_le_bytes(get(bytes, RESERVED));
    if flags & !FLAGS_KNOWN != 0 || reserved != 0 {
        return Err(BadBatch::at(
            position + FLAGS,
            format!("flags {flags:#04x} and reserved bytes {reserved:#06x} are not known"),
        ));
    }
    let producer = Producer {
        id: u64_at(PRODUCER_ID),
        epoch: u32_at(PRODUCER_EPOCH),
        sequence: u64_at(PRODUCER_SEQUENCE),
    };
    let producer_present = flags & FLAG_PRODUCER != 0;
    if !producer_present && (producer.id, producer.epoch, producer.sequence) != (0, 0, 0) {
        return Err(BadBatch::at(
            position + PRODUCER_ID,
            format!("an absent {producer:?}"),
        ));
    }
    let expected_offset = u64_at(EXPECTED_OFFSET);
    let expected_offset_present = flags & FLAG_EXPECTED_OFFSET != 0;
    if !expected_offset_present && expected_offset != 0 {
        return Err(BadBatch::at(
            position + EXPECTED_OFFSET,
            format!("an absent expected offset {expected_offset}"),
        ));
    }
    let header = BatchHeader {
        log: LogId(u64_at(LOG)),
        records: u32_at(RECORDS),
        producer: producer_present.then_some(producer),
        expected_offset: expected_offset_present.then_some(expected_offset),
        append_time: i64_at(APPEND_TIME),
        timestamp_min: i64_at(TIMESTAMP_MIN),
        timestamp_max: i64_at(TIMESTAMP_MAX),
        codec,
        encoded_size: u32_at(ENCODED_SIZE),
        plain_size: u32_at(PLAIN_SIZE),
        crc: u32_at(CRC),
    };
    check_bounds(&header, position)?;
    Ok(header)
}

/// What is allocated by, is bounded: a forged header must not make a reader ask for more memory than a real one can.
fn check_bounds(header: &BatchHeader, position: usize) -> Result<(), BadBatch> {
    let (records, plain) = (header.records as usize, header.plain_size as usize);
    if records == 0 || records > BATCH_RECORDS_MAX {
        return Err(BadBatch::at(
            position + RECORDS,
            format!("{records} records: 1 to {BATCH_RECORDS_MAX} may be"),
        ));
    }
    if plain > PLAIN_SIZE_MAX || plain < records * RECORD_ENCODED_SIZE_MIN {
        return Err(BadBatch::at(
            position + PLAIN_SIZE,
            format!("{records} records do not have {plain} bytes"),
        ));
    }
    let encoded_fits = match header.codec {
        Codec::Plain => header.encoded_size == header.plain_size,
        Codec::Lz4 => {
            header.encoded_size < header.plain_size
                && header.plain_size.div_ceil(LZ4_RATIO_MAX) <= header.encoded_size
        }
    };
    if !encoded_fits {
        let encoded = header.encoded_size;
        return Err(BadBatch::at(
            position + ENCODED_SIZE,
            format!("{plain} bytes of records are not encoded in {encoded}"),
        ));
    }
    if header.timestamp_min > header.timestamp_max {
        return Err(BadBatch::at(
            position + TIMESTAMP_MIN,
            format!(
                "timestamps from {} to {}",
                header.timestamp_min, header.timestamp_max
            ),
        ));
    }
    Ok(())
}
