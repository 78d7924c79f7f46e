//! A frame: 64 bytes of header and stamp, then a payload.
//!
//! Claims: what decodes is encoded back to the same bytes; a payload that is found whole is whole, batch by batch; records
//! are dense, inside of their header's bounds, and the same after they were encoded again; memory is bounded by the
//! sizes that the payload has room for.

use bytes::Bytes;
use inkstone_storage::format::batch::{Batches, EncodedBatch, join};
use inkstone_storage::format::frame::{
    ALIGNMENT, FRAME_HEADER_SIZE, FrameHeader, FrameHeaderBytes, SyncStamp, check_payload,
    check_payload_crc, payload_crc, put_stamp, stamp,
};
use inkstone_storage::limits::{
    ATTRIBUTES_MAX, BATCH_RECORDS_MAX, ENTRY_BATCHES_MAX, PAYLOAD_SIZE_MAX,
};
use inkstone_storage::types::{BatchHeader, EntryKind, NewRecord, Record};

use super::{set_crc, u32_at};
use crate::memory::within;

/// Every cluster has a seed of its own; the fuzzer knows this one.
const SEED: u32 = 0;

const CHAIN_CRC_AT: usize = 40;
const HEADER_CRC_AT: usize = 44;
const SYNC_GROUP_AT: usize = 48;
const PREAMBLE_SIZE: usize = 8;
const BATCH_HEADER_SIZE: usize = 80;
const ENCODED_SIZE_AT: usize = 64;
const BATCH_CRC_AT: usize = 72;

/// Messages of errors, and a header for each batch that the payload has room for.
fn headers_memory(payload: &Bytes) -> usize {
    4096 + 4 * payload.len()
}

/// Looks at any bytes as a frame: as they are, and with their crcs set right.
pub(crate) fn run(input: &[u8]) {
    let Some((header, payload)) = input.split_first_chunk() else {
        return check_batches(&Bytes::copy_from_slice(input));
    };
    let payload = Bytes::copy_from_slice(payload);
    check_frame(header, &payload);
    let payload = forge_batches(&payload);
    check_frame(&forge_header(*header, &payload), &payload);
    check_batches(&payload);
}

/// The header that a leader and a disk would have given this payload.
fn forge_header(mut header: FrameHeaderBytes, payload: &Bytes) -> FrameHeaderBytes {
    let kind = EntryKind::from_number(header[2]).unwrap_or(EntryKind::Batches);
    header[..2].copy_from_slice(b"IK");
    header[2..4].copy_from_slice(&[kind as u8, 0]);
    let size = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    header[8..12].copy_from_slice(&size.to_le_bytes());
    header[12..16].copy_from_slice(&payload_crc(kind, payload).to_le_bytes());
    set_crc(&mut header, 0, HEADER_CRC_AT);
    let group = u64::from_le_bytes(header[48..56].try_into().expect("8 bytes"));
    let start = u32_at(&header, 56) as u64 * ALIGNMENT;
    put_stamp(&mut header, SyncStamp { group, start }, SEED);
    header
}

/// The payload with each batch's crc made that of its records.
pub(crate) fn forge_batches(payload: &Bytes) -> Bytes {
    let mut bytes = payload.to_vec();
    let count = u32_at(&bytes, 4).min(bytes.len() / BATCH_HEADER_SIZE);
    let mut records = PREAMBLE_SIZE + count * BATCH_HEADER_SIZE;
    for number in 0..count {
        let header = PREAMBLE_SIZE + number * BATCH_HEADER_SIZE;
        let size = u32_at(&bytes, header + ENCODED_SIZE_AT);
        let Some(crc) = bytes.get(records..records + size).map(crc32fast::hash) else {
            break;
        };
        let at = header + BATCH_CRC_AT;
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        records += size;
    }
    bytes.into()
}

fn check_frame(bytes: &FrameHeaderBytes, payload: &Bytes) {
    check_stamp(bytes);
    let Ok(header) = within(4096, || FrameHeader::decode(bytes)) else {
        return;
    };
    assert!(header.payload_size as usize <= PAYLOAD_SIZE_MAX);
    let size = FRAME_HEADER_SIZE as u64 + u64::from(header.payload_size);
    assert_eq!(header.frame_size(), size.next_multiple_of(ALIGNMENT));
    // The chain goes on from a frame that is not here; all else is in the header.
    let (_, encoded) = header.encode(0);
    assert_eq!(encoded[..CHAIN_CRC_AT], bytes[..CHAIN_CRC_AT]);
    let chain = header.chain_crc.to_le_bytes();
    assert_eq!(chain, bytes[CHAIN_CRC_AT..HEADER_CRC_AT]);
    let crc = crc32fast::hash(&bytes[..HEADER_CRC_AT]).to_le_bytes();
    assert_eq!(crc, bytes[HEADER_CRC_AT..SYNC_GROUP_AT]);

    let memory = headers_memory(payload);
    let crc_matches = payload_crc(header.kind, payload) == header.payload_crc;
    let covered = within(memory, || {
        check_payload_crc(header.kind, payload, header.payload_crc)
    });
    assert_eq!(covered.is_ok(), crc_matches);
    let whole = within(memory, || {
        check_payload(header.kind, payload, header.payload_crc)
    });
    if header.kind == EntryKind::Batches {
        assert_eq!(whole.is_ok(), crc_matches && batches_are_whole(payload));
    } else {
        assert_eq!(whole.is_ok(), crc_matches);
    }
}

fn check_stamp(bytes: &FrameHeaderBytes) {
    if let Ok(given) = stamp(bytes, SEED) {
        let mut stamped = *bytes;
        stamped[SYNC_GROUP_AT..].fill(0);
        put_stamp(&mut stamped, given, SEED);
        assert_eq!(stamped, *bytes);
        // Of another frame.
        let mut moved = *bytes;
        moved[HEADER_CRC_AT] ^= 1;
        assert!(stamp(&moved, SEED).is_err());
    }
}

/// Whether every batch's records have the crc that its header says, by a second way to find them.
fn batches_are_whole(payload: &Bytes) -> bool {
    let Ok(batches) = Batches::parse(payload.clone()) else {
        return false;
    };
    let mut at = PREAMBLE_SIZE + batches.headers().len() * BATCH_HEADER_SIZE;
    batches.headers().iter().all(|header| {
        let records = &payload[at..at + header.encoded_size as usize];
        at += records.len();
        crc32fast::hash(records) == header.crc
    })
}

fn check_batches(payload: &Bytes) {
    let parsed = within(headers_memory(payload), || Batches::parse(payload.clone()));
    let Ok(batches) = parsed else {
        return;
    };
    let headers = batches.headers();
    assert!((1..=ENTRY_BATCHES_MAX).contains(&headers.len()));
    let mut at = PREAMBLE_SIZE + headers.len() * BATCH_HEADER_SIZE;
    for (number, header) in headers.iter().enumerate() {
        let records = payload.slice(at..at + header.encoded_size as usize);
        at += records.len();
        let place = PREAMBLE_SIZE + number * BATCH_HEADER_SIZE;
        let batch = EncodedBatch {
            header: *header,
            records,
        };
        let alone = join(&[batch], header.append_time);
        assert_eq!(
            alone[PREAMBLE_SIZE..][..BATCH_HEADER_SIZE],
            payload[place..place + BATCH_HEADER_SIZE]
        );
        check_records(&batches, number, header);
    }
    assert_eq!(at, payload.len());
    assert!(batches.records(headers.len(), 0).is_err());
}

/// A record takes 3 bytes or more, an attribute 2.
fn records_memory(header: &BatchHeader) -> usize {
    let plain = header.plain_size as usize;
    let records = header.records as usize * size_of::<Record>();
    let attributes = plain / 2 * size_of::<(String, String)>();
    // An attribute list is reserved by its count before its first text is looked at: one that is cut short is the last.
    let reserved = ATTRIBUTES_MAX * size_of::<(String, String)>();
    4096 + 2 * plain + records + attributes + reserved
}

fn check_records(batches: &Batches, number: usize, header: &BatchHeader) {
    assert!((1..=BATCH_RECORDS_MAX).contains(&(header.records as usize)));
    let base = u64::from(header.crc);
    let decoded = within(records_memory(header), || batches.records(number, base));
    let Ok(records) = decoded else {
        return;
    };
    assert_eq!(records.len(), header.records as usize);
    let times = header.timestamp_min..=header.timestamp_max;
    for (offset, record) in (base..).zip(&records) {
        assert_eq!(record.offset, offset);
        assert!(times.contains(&record.timestamp));
        assert!(record.attributes.len() <= ATTRIBUTES_MAX);
    }
    let last = u64::MAX - (u64::from(header.records) - 1);
    assert!(batches.records(number, last).is_ok());
    if let Some(beyond) = last.checked_add(1) {
        assert!(batches.records(number, beyond).is_err());
    }
    check_encoded_again(records, header, base);
}

/// A varint may be longer than it need be, and bounds wider: the bytes may differ, what they say must not.
fn check_encoded_again(records: Vec<Record>, header: &BatchHeader, base: u64) {
    let again: Vec<NewRecord> = records
        .iter()
        .map(|record| NewRecord {
            timestamp: record.timestamp,
            attributes: record.attributes.clone(),
            body: record.body.clone(),
        })
        .collect();
    let encoded = EncodedBatch::encode(header.log, header.producer, header.expected_offset, &again);
    assert!(encoded.header.plain_size <= header.plain_size);
    let payload = join(&[encoded], header.append_time);
    let decoded = Batches::parse(payload).expect("what was encoded parses");
    assert_eq!(decoded.records(0, base), Ok(records));
}
