//! One slot of the watermark: how far the log was durable when it was written (FORMAT.md, "Watermark").
//!
//! Promises: a slot that decodes is whole. Must not know: which of the two slots counts.

use super::fields::{
    FormatError, array_at, check_counted, check_envelope, crc_before, put, u32_at, u64_at,
};
use crate::types::EntryId;

const MAGIC: [u8; 8] = *b"INKWATER";
/// The newest version of the watermark.
pub const WATERMARK_VERSION: u32 = 1;

const VERSION_AT: usize = 8;
const GROUP_AT: usize = VERSION_AT + 4;
const CLUSTER_AT: usize = GROUP_AT + 4;
const SEQUENCE_AT: usize = CLUSTER_AT + 16;
const SYNC_GROUP_AT: usize = SEQUENCE_AT + 8;
const TERM_AT: usize = SYNC_GROUP_AT + 8;
const NODE_AT: usize = TERM_AT + 8;
const INDEX_AT: usize = NODE_AT + 8;
const BASE_AT: usize = INDEX_AT + 8;
const POSITION_AT: usize = BASE_AT + 8;
const CHAIN_AT: usize = POSITION_AT + 8;
const FLAGS_AT: usize = CHAIN_AT + 4;
const CRC_AT: usize = WATERMARK_SIZE - 4;

/// Bytes of a slot: less than a sector.
pub const WATERMARK_SIZE: usize = 128;
/// Distance of the slots.
pub const WATERMARK_SLOT: u64 = 4096;
const _: () = assert!(FLAGS_AT + 4 <= CRC_AT);

const HAS_LAST: u32 = 1;

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    /// The Raft group.
    pub group: u32,
    /// The cluster.
    pub cluster_id: [u8; 16],
    /// Rises with each slot that is written.
    pub sequence: u64,
    /// The last sync group that is durable.
    pub sync_group: u64,
    /// The last durable entry; none when the log is empty.
    pub last: Option<EntryId>,
    /// Base index of the segment that holds it.
    pub base: u64,
    /// Position behind its frame.
    pub position: u64,
    /// Its chain crc.
    pub chain_crc: u32,
}

impl Watermark {
    /// The slot's bytes.
    pub fn encode(&self) -> [u8; WATERMARK_SIZE] {
        let mut bytes = [0; WATERMARK_SIZE];
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, VERSION_AT, &WATERMARK_VERSION.to_le_bytes());
        put(&mut bytes, GROUP_AT, &self.group.to_le_bytes());
        put(&mut bytes, CLUSTER_AT, &self.cluster_id);
        put(&mut bytes, SEQUENCE_AT, &self.sequence.to_le_bytes());
        put(&mut bytes, SYNC_GROUP_AT, &self.sync_group.to_le_bytes());
        if let Some(last) = self.last {
            put(&mut bytes, TERM_AT, &last.term.to_le_bytes());
            put(&mut bytes, NODE_AT, &last.node.to_le_bytes());
            put(&mut bytes, INDEX_AT, &last.index.to_le_bytes());
            put(&mut bytes, FLAGS_AT, &HAS_LAST.to_le_bytes());
        }
        put(&mut bytes, BASE_AT, &self.base.to_le_bytes());
        put(&mut bytes, POSITION_AT, &self.position.to_le_bytes());
        put(&mut bytes, CHAIN_AT, &self.chain_crc.to_le_bytes());
        let crc = crc_before(&bytes, CRC_AT);
        put(&mut bytes, CRC_AT, &crc.to_le_bytes());
        bytes
    }

    /// Decodes and checks slot 0 or 1. The slots are written in turn: one in the other's place is a copy, and what it took
    /// the place of may have been the newer.
    pub fn decode_slot(bytes: &[u8; WATERMARK_SIZE], slot: u64) -> Result<Self, FormatError> {
        let mark = Self::decode(bytes)?;
        if mark.sequence % 2 != slot {
            let sequence = mark.sequence;
            let what = format!("watermark: sequence {sequence} does not belong in slot {slot}");
            return Err(FormatError::bad(SEQUENCE_AT, what));
        }
        Ok(mark)
    }

    /// Decodes and checks a slot.
    pub fn decode(bytes: &[u8; WATERMARK_SIZE]) -> Result<Self, FormatError> {
        check_envelope(bytes, MAGIC, WATERMARK_VERSION, CRC_AT, "watermark")?;
        let counted = [SEQUENCE_AT, SYNC_GROUP_AT, INDEX_AT].map(|at| u64_at(bytes, at));
        check_counted(counted, "watermark")?;
        let has_last = u32_at(bytes, FLAGS_AT) & HAS_LAST != 0;
        Ok(Self {
            group: u32_at(bytes, GROUP_AT),
            cluster_id: array_at(bytes, CLUSTER_AT),
            sequence: u64_at(bytes, SEQUENCE_AT),
            sync_group: u64_at(bytes, SYNC_GROUP_AT),
            last: has_last.then(|| EntryId {
                term: u64_at(bytes, TERM_AT),
                node: u64_at(bytes, NODE_AT),
                index: u64_at(bytes, INDEX_AT),
            }),
            base: u64_at(bytes, BASE_AT),
            position: u64_at(bytes, POSITION_AT),
            chain_crc: u32_at(bytes, CHAIN_AT),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Watermark {
        Watermark {
            group: 1,
            cluster_id: [3; 16],
            sequence: 5,
            sync_group: 6,
            last: Some(EntryId {
                term: 7,
                node: 1,
                index: 100,
            }),
            base: 90,
            position: 8192,
            chain_crc: 4,
        }
    }

    #[test]
    fn round_trips() {
        let empty = Watermark {
            last: None,
            ..sample()
        };
        assert_eq!(Watermark::decode(&sample().encode()), Ok(sample()));
        assert_eq!(Watermark::decode(&empty.encode()), Ok(empty));
    }

    #[test]
    fn a_slot_in_the_other_s_place_is_bad() {
        let bytes = sample().encode();
        assert_eq!(sample().sequence, 5);
        assert_eq!(Watermark::decode_slot(&bytes, 1), Ok(sample()));
        assert!(Watermark::decode_slot(&bytes, 0).is_err());
    }

    #[test]
    fn every_flipped_bit_is_detected() {
        let bytes = sample().encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Watermark::decode(&flipped).is_err(), "bit {bit}");
        }
    }
}
