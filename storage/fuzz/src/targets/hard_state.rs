//! The small structures that stand alone: hard state, watermark, checkpoint, identity and segment header.
//!
//! Claims: what decodes is encoded back to the same bytes, but for reserved ones; a wrong size, and any flipped bit, is
//! found; a newer version is told from damage.

use std::ops::Range;

use bytes::Bytes;
use inkstone_storage::format::checkpoint::{CHECKPOINT_HEADER_SIZE, CheckpointFile};
use inkstone_storage::format::fields::FormatError;
use inkstone_storage::format::hard_state::{HARD_STATE_SIZE, HardState};
use inkstone_storage::format::identity;
use inkstone_storage::format::segment_header::{SEGMENT_HEADER_SIZE, SegmentHeader};
use inkstone_storage::format::watermark::{WATERMARK_SIZE, Watermark};

use super::{set_crc, u32_at};
use crate::memory::within;

const VERSION_AT: usize = 8;
/// Messages of errors.
const MEMORY: usize = 4096;

/// The first byte chooses the structure, the others are its bytes.
pub(crate) fn run(input: &[u8]) {
    let Some((choice, bytes)) = input.split_first() else {
        return;
    };
    let look: fn(&[u8]) = match choice % 5 {
        0 => hard_state,
        1 => watermark,
        2 => checkpoint,
        3 => whose,
        _ => segment_header,
    };
    look(bytes);
    look(&forged(*choice, bytes));
}

/// The bytes with magic and crc set right.
fn forged(choice: u8, bytes: &[u8]) -> Vec<u8> {
    let (magic, size) = match choice % 5 {
        0 => (b"INKHARDS", HARD_STATE_SIZE),
        1 => (b"INKWATER", WATERMARK_SIZE),
        2 => (b"INKCKPNT", CHECKPOINT_HEADER_SIZE.max(bytes.len())),
        3 => (b"INKIDENT", bytes.len().clamp(20, identity::SIZE_MAX)),
        _ => (b"INKSEGMT", SEGMENT_HEADER_SIZE),
    };
    let mut forged = bytes.to_vec();
    forged.resize(size, 0);
    forged[..8].copy_from_slice(magic);
    if choice % 5 == 2 {
        let body = forged.len() - CHECKPOINT_HEADER_SIZE;
        forged[56..64].copy_from_slice(&(body as u64).to_le_bytes());
        let crc = crc32fast::hash(&forged[CHECKPOINT_HEADER_SIZE..]);
        forged[64..68].copy_from_slice(&crc.to_le_bytes());
        set_crc(&mut forged, 0, CHECKPOINT_HEADER_SIZE - 4);
    } else {
        set_crc(&mut forged, 0, size - 4);
    }
    forged
}

/// What an error may be: a newer version only when the bytes are whole, and are of one.
fn check_error(error: &FormatError, bytes: &[u8]) {
    if let FormatError::Version { found } = error {
        assert_ne!(*found, 1);
        assert_eq!(*found as usize, u32_at(bytes, VERSION_AT));
    }
}

/// Where the bytes differ, all of them stand in what is reserved or absent.
fn assert_same(bytes: &[u8], encoded: &[u8], free: &[Option<Range<usize>>]) {
    assert_eq!(bytes.len(), encoded.len());
    for (at, (found, encoded)) in bytes.iter().zip(encoded).enumerate() {
        let is_free = free.iter().flatten().any(|free| free.contains(&at));
        assert!(found == encoded || is_free, "byte {at}");
    }
}

/// A flipped bit, chosen by the bytes themselves.
fn flipped<const SIZE: usize>(bytes: &[u8; SIZE]) -> [u8; SIZE] {
    let mut flipped = *bytes;
    let bit = crc32fast::hash(bytes) as usize % (SIZE * 8);
    flipped[bit / 8] ^= 1 << (bit % 8);
    flipped
}

fn hard_state(bytes: &[u8]) {
    let Some(bytes) = bytes.first_chunk() else {
        return;
    };
    match within(MEMORY, || HardState::decode(bytes)) {
        Ok(state) => {
            let encoded = state.encode();
            assert_eq!(HardState::decode(&encoded), Ok(state));
            let free = [
                Some(100..128),
                state.vote.is_none().then_some(48..64),
                state.purged.is_none().then_some(64..88),
            ];
            assert_same(bytes, &encoded, &free);
            assert!(HardState::decode(&flipped(bytes)).is_err());
        }
        Err(error) => check_error(&error, bytes),
    }
}

fn watermark(bytes: &[u8]) {
    let Some(bytes) = bytes.first_chunk() else {
        return;
    };
    match within(MEMORY, || Watermark::decode(bytes)) {
        Ok(mark) => {
            let encoded = mark.encode();
            assert_eq!(Watermark::decode(&encoded), Ok(mark));
            let free = [Some(92..128), mark.last.is_none().then_some(48..72)];
            assert_same(bytes, &encoded, &free);
            assert!(Watermark::decode(&flipped(bytes)).is_err());
        }
        Err(error) => check_error(&error, bytes),
    }
}

fn checkpoint(bytes: &[u8]) {
    let file = Bytes::copy_from_slice(bytes);
    match within(MEMORY, || CheckpointFile::decode(&file)) {
        Ok(checkpoint) => {
            assert_eq!(checkpoint.encode(), bytes);
            let cut = file.slice(..file.len() - 1);
            assert!(CheckpointFile::decode(&cut).is_err());
            let longer = [bytes, &[0]].concat();
            assert!(CheckpointFile::decode(&longer.into()).is_err());
        }
        Err(error) => check_error(&error, bytes),
    }
}

fn whose(bytes: &[u8]) {
    match within(MEMORY, || identity::parse(bytes)) {
        Ok(identity) => {
            let encoded = identity::encode(identity);
            assert_eq!(encoded[..], *bytes);
            assert!(identity::parse(&flipped(&encoded)).is_err());
            assert!(identity::parse(&bytes[1..]).is_err());
        }
        Err(identity::BadIdentity::Version(found)) => {
            assert_ne!(found, identity::VERSION);
        }
        Err(identity::BadIdentity::Damaged { position, .. }) => {
            assert!(position <= bytes.len());
        }
    }
}

fn segment_header(bytes: &[u8]) {
    match within(MEMORY, || SegmentHeader::decode(bytes)) {
        Ok(header) => {
            let encoded = header.encode();
            assert_same(bytes, &encoded, &[Some(44..4096)]);
            assert_eq!(SegmentHeader::decode(&encoded), Ok(header));
        }
        Err(error) => check_error(&error, bytes),
    }
}
