//! A checkpoint or snapshot file: a header and an opaque body (FORMAT.md, "Checkpoint and snapshot").
//!
//! Promises: what decodes is whole. Must not know: what the body says.

use bytes::Bytes;

use super::fields::{FormatError, array_at, check_envelope, crc_before, put, u32_at, u64_at};
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
        if bytes.len() < CHECKPOINT_HEADER_SIZE {
            return Err(FormatError::bad(bytes.len(), "checkpoint: cut short"));
        }
        check_envelope(bytes, MAGIC, CHECKPOINT_VERSION, CRC_AT, "checkpoint")?;
        let body = bytes.slice(CHECKPOINT_HEADER_SIZE..);
        let size = u64_at(bytes, BODY_SIZE_AT);
        if body.len() as u64 != size {
            let found = body.len();
            return Err(FormatError::bad(
                CHECKPOINT_HEADER_SIZE,
                format!("checkpoint: body of {size} bytes expected, {found} found"),
            ));
        }
        let (expected, found) = (u32_at(bytes, BODY_CRC_AT), crc32fast::hash(&body));
        if expected != found {
            return Err(FormatError::bad(
                CHECKPOINT_HEADER_SIZE,
                format!("checkpoint body: crc {expected:08x} expected, {found:08x} found"),
            ));
        }
        Ok(Self {
            group: u32_at(bytes, GROUP_AT),
            cluster_id: array_at(bytes, CLUSTER_AT),
            applied: EntryId {
                term: u64_at(bytes, TERM_AT),
                node: u64_at(bytes, NODE_AT),
                index: u64_at(bytes, INDEX_AT),
            },
            body,
        })
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
