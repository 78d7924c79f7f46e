//! A frame: one entry on disk, as a 64-byte header and the entry's payload (FORMAT.md, "Frame").
//!
//! Promises: the entry's identity is checked apart from its payload; the chain crc is the same on every node; the sync
//! stamp, which is local to a node, has a check of its own. Decoding never panics. Must not know: files.

use bytes::Bytes;

use super::batch::Batches;
use super::fields::{FormatError, array_at, check_counted, check_crc, put, u16_at, u32_at, u64_at};
use crate::limits::PAYLOAD_SIZE_MAX;
use crate::types::{EntryId, EntryKind};

const MAGIC: u16 = 0x4b49;

const MAGIC_AT: usize = 0;
const KIND_AT: usize = MAGIC_AT + 2;
const RESERVED_AT: usize = KIND_AT + 1;
const GROUP_AT: usize = RESERVED_AT + 1;
const PAYLOAD_SIZE_AT: usize = GROUP_AT + 4;
const PAYLOAD_CRC_AT: usize = PAYLOAD_SIZE_AT + 4;
const INDEX_AT: usize = PAYLOAD_CRC_AT + 4;
const TERM_AT: usize = INDEX_AT + 8;
const NODE_AT: usize = TERM_AT + 8;
const CHAIN_CRC_AT: usize = NODE_AT + 8;
const HEADER_CRC_AT: usize = CHAIN_CRC_AT + 4;
const SYNC_GROUP_AT: usize = HEADER_CRC_AT + 4;
const SYNC_START_AT: usize = SYNC_GROUP_AT + 8;
const SYNC_CRC_AT: usize = SYNC_START_AT + 4;

/// Bytes of a frame's header.
pub const FRAME_HEADER_SIZE: usize = SYNC_CRC_AT + 4;
const _: () = assert!(FRAME_HEADER_SIZE == 64);

/// Frames stand at multiples of this.
pub const ALIGNMENT: u64 = 8;

/// A frame's header as bytes.
pub type FrameHeaderBytes = [u8; FRAME_HEADER_SIZE];

/// What a frame says of its entry, the same on every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// The Raft group.
    pub group: u32,
    /// The entry.
    pub id: EntryId,
    /// How to read the payload.
    pub kind: EntryKind,
    /// Bytes of the payload.
    pub payload_size: u32,
    /// See [`payload_crc`].
    pub payload_crc: u32,
    /// crc32 over the chain crc of the frame before and the fields above.
    pub chain_crc: u32,
}

/// Which fsync made a frame durable: local to a node, outside of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncStamp {
    /// Rises by 1 with each group of frames that is written and synced together.
    pub group: u64,
    /// Position in the file of that group's first frame.
    pub start: u64,
}

impl FrameHeader {
    /// Encodes a header behind a frame with `chain_before`, setting `chain_crc`. The stamp is still zero.
    #[must_use]
    pub fn encode(mut self, chain_before: u32) -> (Self, FrameHeaderBytes) {
        let bytes = self.chained();
        self.chain_crc = chain_crc(chain_before, &bytes);
        (self, self.finish(bytes))
    }

    /// The header's bytes, with `chain_crc` as it is. The stamp is still zero.
    pub fn to_bytes(&self) -> FrameHeaderBytes {
        self.finish(self.chained())
    }

    /// The fields that the chain crc covers.
    fn chained(&self) -> FrameHeaderBytes {
        let mut bytes = [0; FRAME_HEADER_SIZE];
        put(&mut bytes, MAGIC_AT, &MAGIC.to_le_bytes());
        put(&mut bytes, KIND_AT, &[self.kind as u8]);
        put(&mut bytes, GROUP_AT, &self.group.to_le_bytes());
        put(
            &mut bytes,
            PAYLOAD_SIZE_AT,
            &self.payload_size.to_le_bytes(),
        );
        put(&mut bytes, PAYLOAD_CRC_AT, &self.payload_crc.to_le_bytes());
        put(&mut bytes, INDEX_AT, &self.id.index.to_le_bytes());
        put(&mut bytes, TERM_AT, &self.id.term.to_le_bytes());
        put(&mut bytes, NODE_AT, &self.id.node.to_le_bytes());
        bytes
    }

    fn finish(&self, mut bytes: FrameHeaderBytes) -> FrameHeaderBytes {
        put(&mut bytes, CHAIN_CRC_AT, &self.chain_crc.to_le_bytes());
        let crc = crc32fast::hash(&array_at::<HEADER_CRC_AT>(&bytes, 0));
        put(&mut bytes, HEADER_CRC_AT, &crc.to_le_bytes());
        bytes
    }

    /// Whether bytes begin as a header does: a quick look, before they are decoded.
    pub fn is_present(bytes: &FrameHeaderBytes) -> bool {
        u16_at(bytes, MAGIC_AT) == MAGIC
    }

    /// Decodes and checks a header, all but its stamp and its place in the chain.
    pub fn decode(bytes: &FrameHeaderBytes) -> Result<Self, FormatError> {
        if u16_at(bytes, MAGIC_AT) != MAGIC {
            let found = u16_at(bytes, MAGIC_AT);
            return Err(FormatError::bad(
                MAGIC_AT,
                format!("frame header: magic {MAGIC:04x} expected, {found:04x} found"),
            ));
        }
        check_crc(bytes, HEADER_CRC_AT, "frame header")?;
        let [number, reserved] = array_at(bytes, KIND_AT);
        let kind = EntryKind::from_number(number)
            .filter(|_| reserved == 0)
            .ok_or_else(|| {
                FormatError::bad(KIND_AT, format!("frame header: unknown kind {number}"))
            })?;
        let payload_size = u32_at(bytes, PAYLOAD_SIZE_AT);
        if payload_size as usize > PAYLOAD_SIZE_MAX {
            return Err(FormatError::bad(
                PAYLOAD_SIZE_AT,
                format!("frame header: payload of {payload_size} bytes"),
            ));
        }
        Ok(Self {
            group: u32_at(bytes, GROUP_AT),
            id: EntryId {
                term: u64_at(bytes, TERM_AT),
                node: u64_at(bytes, NODE_AT),
                index: u64_at(bytes, INDEX_AT),
            },
            kind,
            payload_size,
            payload_crc: u32_at(bytes, PAYLOAD_CRC_AT),
            chain_crc: u32_at(bytes, CHAIN_CRC_AT),
        })
    }

    /// Bytes of the frame: header, payload, and zeros up to the next multiple of [`ALIGNMENT`].
    pub fn frame_size(&self) -> u64 {
        frame_size(self.payload_size)
    }
}

/// Bytes of a frame with that much payload.
pub fn frame_size(payload_size: u32) -> u64 {
    (FRAME_HEADER_SIZE as u64 + u64::from(payload_size)).next_multiple_of(ALIGNMENT)
}

/// The chain value of the frame with this header behind one with `chain_before`.
pub fn chain_crc(chain_before: u32, bytes: &FrameHeaderBytes) -> u32 {
    let mut covered = [0; 4 + CHAIN_CRC_AT];
    put(&mut covered, 0, &chain_before.to_le_bytes());
    put(&mut covered, 4, &array_at::<CHAIN_CRC_AT>(bytes, 0));
    crc32fast::hash(&covered)
}

/// The chain value of the frame before the one with this header, as that one has it.
///
/// A crc of known bytes can be run backwards: of 4 bytes in front of the others, one value alone gives it.
pub fn chain_before(bytes: &FrameHeaderBytes) -> u32 {
    let covered = array_at::<CHAIN_CRC_AT>(bytes, 0);
    let end = !u32_at(bytes, CHAIN_CRC_AT);
    let behind_chain = covered
        .iter()
        .rev()
        .fold(end, |state, byte| back(state, *byte));
    !(0..4).fold(behind_chain, |state, _| back(state, 0))
}

/// The state of a crc32 before it took `byte` and became `state`.
fn back(state: u32, byte: u8) -> u32 {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let mut state = state;
    for _ in 0..8 {
        // A step forwards shifts a 0 in, and the polynomial sets the top bit exactly when a 1 was shifted out.
        state = if state >> 31 == 1 {
            (state ^ POLYNOMIAL) << 1 | 1
        } else {
            state << 1
        };
    }
    state ^ u32::from(byte)
}

/// The chain value at which a log starts behind an entry whose chain value is not known here: behind a snapshot.
pub fn chain_restart(id: EntryId) -> u32 {
    let mut covered = [0; 24];
    put(&mut covered, 0, &id.index.to_le_bytes());
    put(&mut covered, 8, &id.term.to_le_bytes());
    put(&mut covered, 16, &id.node.to_le_bytes());
    crc32fast::hash(&covered)
}

/// What the stamps of a cluster's frames are seeded with, so that bytes that someone appended as a record, and that
/// look like a frame, are not taken for one when a torn tail is searched.
pub fn stamp_seed(cluster_id: [u8; 16]) -> u32 {
    crc32fast::hash(&cluster_id)
}

fn stamp_crc(bytes: &FrameHeaderBytes, seed: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(&array_at::<{ SYNC_CRC_AT - HEADER_CRC_AT }>(
        bytes,
        HEADER_CRC_AT,
    ));
    hasher.finalize()
}

/// Stamps a header with the group in which it is written.
pub fn put_stamp(bytes: &mut FrameHeaderBytes, stamp: SyncStamp, seed: u32) {
    let start = u32::try_from(stamp.start / ALIGNMENT).expect("a segment is below 32 GiB");
    put(bytes, SYNC_GROUP_AT, &stamp.group.to_le_bytes());
    put(bytes, SYNC_START_AT, &start.to_le_bytes());
    let crc = stamp_crc(bytes, seed);
    put(bytes, SYNC_CRC_AT, &crc.to_le_bytes());
}

/// The stamp of a header, checked.
pub fn stamp(bytes: &FrameHeaderBytes, seed: u32) -> Result<SyncStamp, FormatError> {
    let (expected, found) = (stamp_crc(bytes, seed), u32_at(bytes, SYNC_CRC_AT));
    if expected != found {
        return Err(FormatError::bad(
            SYNC_CRC_AT,
            format!("sync stamp: crc {expected:08x} expected, {found:08x} found"),
        ));
    }
    let group = u64_at(bytes, SYNC_GROUP_AT);
    check_counted([group], "sync stamp")?;
    Ok(SyncStamp {
        group,
        start: u64::from(u32_at(bytes, SYNC_START_AT)) * ALIGNMENT,
    })
}

/// Bytes in front of a batches payload's headers, and of each header (FORMAT.md, "Batches payload").
const BATCHES_PREAMBLE_SIZE: usize = 8;
const BATCHES_COUNT_AT: usize = 4;
const BATCH_HEADER_SIZE: usize = 80;

/// The part of a payload that the frame's payload crc covers: of batches, their headers, each of which carries the crc
/// of its records, so that a batch can be verified without the others; of anything else, all of it.
fn covered(kind: EntryKind, payload: &[u8]) -> &[u8] {
    if kind != EntryKind::Batches || payload.len() < BATCHES_PREAMBLE_SIZE {
        return payload;
    }
    (u32_at(payload, BATCHES_COUNT_AT) as usize)
        .checked_mul(BATCH_HEADER_SIZE)
        .and_then(|size| size.checked_add(BATCHES_PREAMBLE_SIZE))
        .and_then(|size| payload.get(..size))
        .unwrap_or(payload)
}

/// The payload crc of a frame.
pub fn payload_crc(kind: EntryKind, payload: &[u8]) -> u32 {
    crc32fast::hash(covered(kind, payload))
}

/// Checks what the frame's payload crc covers: enough to read batch headers, and then batches one by one.
pub fn check_payload_crc(kind: EntryKind, payload: &[u8], crc: u32) -> Result<(), FormatError> {
    let found = payload_crc(kind, payload);
    if found == crc {
        return Ok(());
    }
    Err(FormatError::bad(
        FRAME_HEADER_SIZE,
        format!("payload: crc {crc:08x} expected, {found:08x} found"),
    ))
}

/// Checks every byte of a payload: what the payload crc covers, and every batch against its header's crc.
pub fn check_payload(kind: EntryKind, payload: &Bytes, crc: u32) -> Result<(), FormatError> {
    check_payload_crc(kind, payload, crc)?;
    if kind != EntryKind::Batches {
        return Ok(());
    }
    let batches = Batches::parse(payload.clone()).map_err(|bad| FormatError::Bad {
        position: FRAME_HEADER_SIZE as u64 + bad.position,
        what: bad.what,
    })?;
    let mut at = BATCHES_PREAMBLE_SIZE + batches.headers().len() * BATCH_HEADER_SIZE;
    for (number, header) in batches.headers().iter().enumerate() {
        let end = at + header.encoded_size as usize;
        let found = crc32fast::hash(payload.get(at..end).unwrap_or_default());
        if found != header.crc {
            let expected = header.crc;
            return Err(FormatError::bad(
                FRAME_HEADER_SIZE + at,
                format!("batch {number}: crc {expected:08x} expected, {found:08x} found"),
            ));
        }
        at = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u32 = 77;

    fn sample() -> FrameHeader {
        FrameHeader {
            group: 1,
            id: EntryId {
                term: 3,
                node: 0xdead_beef_0102,
                index: 42,
            },
            kind: EntryKind::Command,
            payload_size: 1234,
            payload_crc: 0x1234_5678,
            chain_crc: 0,
        }
    }

    #[test]
    fn header_and_stamp_round_trip() {
        let (header, mut bytes) = sample().encode(9);
        let given = SyncStamp {
            group: 12,
            start: 4096,
        };
        put_stamp(&mut bytes, given, SEED);
        assert_eq!(FrameHeader::decode(&bytes), Ok(header));
        assert_eq!(stamp(&bytes, SEED), Ok(given));
        assert_eq!(chain_crc(9, &bytes), header.chain_crc);
        assert_ne!(chain_crc(10, &bytes), header.chain_crc);
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_detected() {
        let (_, mut bytes) = sample().encode(9);
        put_stamp(
            &mut bytes,
            SyncStamp {
                group: 12,
                start: 4096,
            },
            SEED,
        );
        for bit in 0..FRAME_HEADER_SIZE * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            let intact = FrameHeader::decode(&flipped).is_ok() && stamp(&flipped, SEED).is_ok();
            assert!(!intact, "bit {bit}");
        }
    }

    #[test]
    fn the_stamp_of_another_cluster_is_refused() {
        let (_, mut bytes) = sample().encode(9);
        put_stamp(&mut bytes, SyncStamp { group: 1, start: 8 }, SEED);
        assert!(stamp(&bytes, SEED + 1).is_err());
    }

    #[test]
    fn the_chain_is_the_same_whatever_the_stamp() {
        let (header, mut bytes) = sample().encode(9);
        put_stamp(
            &mut bytes,
            SyncStamp {
                group: 8,
                start: 64,
            },
            SEED,
        );
        assert_eq!(chain_crc(9, &bytes), header.chain_crc);
    }

    #[test]
    fn the_chain_before_a_frame_is_what_it_was_encoded_behind() {
        for before in [0, 1, 9, 0xdead_beef, u32::MAX] {
            assert_eq!(chain_before(&sample().encode(before).1), before);
        }
    }

    #[test]
    fn frames_are_aligned() {
        assert_eq!(frame_size(0), 64);
        assert_eq!(frame_size(1), 72);
        assert_eq!(frame_size(8), 72);
    }
}
