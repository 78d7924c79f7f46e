//! The first 4 KiB of a segment file (FORMAT.md, "Segment header").
//!
//! Promises: a header that decodes is whole. Must not know: whether the file belongs where it was found.

use super::fields::{FormatError, array_at, check_envelope, crc_before, put, u32_at, u64_at};

const MAGIC: [u8; 8] = *b"INKSEGMT";
/// The newest version of segment files, footers included.
pub const SEGMENT_VERSION: u32 = 1;

const VERSION_AT: usize = 8;
const GROUP_AT: usize = VERSION_AT + 4;
const CLUSTER_AT: usize = GROUP_AT + 4;
const BASE_AT: usize = CLUSTER_AT + 16;
const CHAIN_AT: usize = BASE_AT + 8;
const CRC_AT: usize = SEGMENT_HEADER_SIZE - 4;

/// Bytes of a segment file: positions are kept as 32 bits of units of 8.
pub const SEGMENT_SIZE_MAX: u64 = 32 << 30;

/// Bytes of the header, and the position of the first frame.
pub const SEGMENT_HEADER_SIZE: usize = 4096;
const _: () = assert!(CHAIN_AT + 4 < CRC_AT);

/// Whose segment it is, and where it stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The Raft group.
    pub group: u32,
    /// The cluster.
    pub cluster_id: [u8; 16],
    /// Index of the first frame's entry.
    pub base: u64,
    /// Chain crc of the entry before it.
    pub chain_start: u32,
}

impl SegmentHeader {
    /// The header's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; SEGMENT_HEADER_SIZE];
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, VERSION_AT, &SEGMENT_VERSION.to_le_bytes());
        put(&mut bytes, GROUP_AT, &self.group.to_le_bytes());
        put(&mut bytes, CLUSTER_AT, &self.cluster_id);
        put(&mut bytes, BASE_AT, &self.base.to_le_bytes());
        put(&mut bytes, CHAIN_AT, &self.chain_start.to_le_bytes());
        let crc = crc_before(&bytes, CRC_AT);
        put(&mut bytes, CRC_AT, &crc.to_le_bytes());
        bytes
    }

    /// Decodes and checks a header of [`SEGMENT_HEADER_SIZE`] bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() != SEGMENT_HEADER_SIZE {
            return Err(FormatError::bad(
                bytes.len(),
                "segment header: cut short".to_owned(),
            ));
        }
        check_envelope(bytes, MAGIC, SEGMENT_VERSION, CRC_AT, "segment header")?;
        Ok(Self {
            group: u32_at(bytes, GROUP_AT),
            cluster_id: array_at(bytes, CLUSTER_AT),
            base: u64_at(bytes, BASE_AT),
            chain_start: u32_at(bytes, CHAIN_AT),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SegmentHeader {
        SegmentHeader {
            group: 1,
            cluster_id: [7; 16],
            base: 99,
            chain_start: 5,
        }
    }

    #[test]
    fn round_trips() {
        assert_eq!(SegmentHeader::decode(&sample().encode()), Ok(sample()));
    }

    #[test]
    fn every_flipped_bit_is_detected() {
        let bytes = sample().encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut bytes = sample().encode();
        put(&mut bytes, VERSION_AT, &2_u32.to_le_bytes());
        let crc = crc_before(&bytes, CRC_AT);
        put(&mut bytes, CRC_AT, &crc.to_le_bytes());
        assert_eq!(
            SegmentHeader::decode(&bytes),
            Err(FormatError::Version { found: 2 })
        );
    }
}
