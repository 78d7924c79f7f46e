//! A checkpoint or snapshot file: a header and an opaque body (FORMAT.md, "Checkpoint and snapshot").
//!
//! Promises: what decodes is whole. Must not know: what the body says.

use bytes::Bytes;

use super::fields::{
    FormatError, array_at, check_counted, check_envelope, crc_before, put, u32_at, u64_at,
};
use crate::types::EntryId;

const MAGIC: [u8; 8] = *b"INKCKPNT";
/// The newest version of checkpoint files.
pub const CHECKPOINT_VERSION: u32 = 1;

const VERSION_AT: usize = 8;
const GROUP_AT: usize = VERSION_AT + 4;
const CLUSTER_AT: usize = GROUP_AT + 4;
const TERM_AT: usize = CLUSTER_AT + 16;
const NODE_AT: usize = TERM_AT + 8;
const INDEX_AT: usize = NODE_AT + 8;
const BODY_SIZE_AT: usize = INDEX_AT + 8;
const BODY_CRC_AT: usize = BODY_SIZE_AT + 8;
const CRC_AT: usize = BODY_CRC_AT + 4;

/// Bytes in front of the body.
pub const CHECKPOINT_HEADER_SIZE: usize = CRC_AT + 4;
const _: () = assert!(CHECKPOINT_HEADER_SIZE == 72);

/// A checkpoint file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointFile {
    /// The Raft group.
    pub group: u32,
    /// The cluster.
    pub cluster_id: [u8; 16],
    /// The last entry that it contains.
    pub applied: EntryId,
    /// Opaque.
    pub body: Bytes,
}

impl CheckpointFile {
    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; CHECKPOINT_HEADER_SIZE];
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, VERSION_AT, &CHECKPOINT_VERSION.to_le_bytes());
        put(&mut bytes, GROUP_AT, &self.group.to_le_bytes());
        put(&mut bytes, CLUSTER_AT, &self.cluster_id);
        put(&mut bytes, TERM_AT, &self.applied.term.to_le_bytes());
        put(&mut bytes, NODE_AT, &self.applied.node.to_le_bytes());
        put(&mut bytes, INDEX_AT, &self.applied.index.to_le_bytes());
        let size = self.body.len() as u64;
        put(&mut bytes, BODY_SIZE_AT, &size.to_le_bytes());
        let body_crc = crc32fast::hash(&self.body);
        put(&mut bytes, BODY_CRC_AT, &body_crc.to_le_bytes());
        let crc = crc_before(&bytes, CRC_AT);
        put(&mut bytes, CRC_AT, &crc.to_le_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Decodes and checks a whole file.
    pub fn decode(bytes: &Bytes) -> Result<Self, FormatError> {
        let header = CheckpointHeader::decode(bytes)?;
        let body = bytes.slice(CHECKPOINT_HEADER_SIZE..);
        header.check_body(body.len() as u64, crc32fast::hash(&body))?;
        Ok(Self {
            group: header.group,
            cluster_id: header.cluster_id,
            applied: header.applied,
            body,
        })
    }
}

/// What stands in front of a checkpoint's body, for one who reads that bit by bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointHeader {
    /// The Raft group.
    pub group: u32,
    /// The cluster.
    pub cluster_id: [u8; 16],
    /// The last entry that it contains.
    pub applied: EntryId,
    /// Bytes of the body.
    pub body_size: u64,
    /// crc32 of the body.
    pub body_crc: u32,
}

impl CheckpointHeader {
    /// Decodes and checks the header at the start of these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let Some(bytes) = bytes.get(..CHECKPOINT_HEADER_SIZE) else {
            return Err(FormatError::bad(bytes.len(), "checkpoint: cut short"));
        };
        check_envelope(bytes, MAGIC, CHECKPOINT_VERSION, CRC_AT, "checkpoint")?;
        check_counted([u64_at(bytes, INDEX_AT)], "checkpoint")?;
        Ok(Self {
            group: u32_at(bytes, GROUP_AT),
            cluster_id: array_at(bytes, CLUSTER_AT),
            applied: EntryId {
                term: u64_at(bytes, TERM_AT),
                node: u64_at(bytes, NODE_AT),
                index: u64_at(bytes, INDEX_AT),
            },
            body_size: u64_at(bytes, BODY_SIZE_AT),
            body_crc: u32_at(bytes, BODY_CRC_AT),
        })
    }

    /// Whether a body of that size and crc is the one that was written.
    pub fn check_body(&self, size: u64, crc: u32) -> Result<(), FormatError> {
        if size != self.body_size {
            let expected = self.body_size;
            return Err(FormatError::bad(
                CHECKPOINT_HEADER_SIZE,
                format!("checkpoint: body of {expected} bytes expected, {size} found"),
            ));
        }
        if crc != self.body_crc {
            let expected = self.body_crc;
            return Err(FormatError::bad(
                CHECKPOINT_HEADER_SIZE,
                format!("checkpoint body: crc {expected:08x} expected, {crc:08x} found"),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> CheckpointFile {
        CheckpointFile {
            group: 1,
            cluster_id: [3; 16],
            applied: EntryId {
                term: 7,
                node: 1,
                index: 100,
            },
            body: Bytes::from_static(b"small state"),
        }
    }

    #[test]
    fn round_trips() {
        let bytes = Bytes::from(sample().encode());
        assert_eq!(CheckpointFile::decode(&bytes), Ok(sample()));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_detected() {
        let bytes = sample().encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(
                CheckpointFile::decode(&flipped.into()).is_err(),
                "bit {bit}"
            );
        }
        for size in 0..bytes.len() {
            let cut = Bytes::copy_from_slice(&bytes[..size]);
            assert!(CheckpointFile::decode(&cut).is_err(), "{size} bytes");
        }
    }
}
