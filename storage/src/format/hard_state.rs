//! One slot of the hard state: what a node must never forget (FORMAT.md, "Hard state").
//!
//! Promises: a slot that decodes is whole. Must not know: which of the two slots counts.

use super::fields::{
    FormatError, array_at, check_counted, check_envelope, crc_before, put, u32_at, u64_at,
};
use crate::types::{EntryId, Identity, Vote};

const MAGIC: [u8; 8] = *b"INKHARDS";
/// The newest version of the hard state.
pub const HARD_STATE_VERSION: u32 = 1;

const VERSION_AT: usize = 8;
const GROUP_AT: usize = VERSION_AT + 4;
const CLUSTER_AT: usize = GROUP_AT + 4;
const OWNER_AT: usize = CLUSTER_AT + 16;
const SEQUENCE_AT: usize = OWNER_AT + 8;
const VOTE_TERM_AT: usize = SEQUENCE_AT + 8;
const VOTE_NODE_AT: usize = VOTE_TERM_AT + 8;
const PURGED_TERM_AT: usize = VOTE_NODE_AT + 8;
const PURGED_NODE_AT: usize = PURGED_TERM_AT + 8;
const PURGED_INDEX_AT: usize = PURGED_NODE_AT + 8;
const FIRST_AT: usize = PURGED_INDEX_AT + 8;
const CHAIN_AT: usize = FIRST_AT + 8;
const FLAGS_AT: usize = CHAIN_AT + 4;
const CRC_AT: usize = HARD_STATE_SIZE - 4;

/// Bytes of a slot: less than a sector, so that a crash leaves it whole or as it was.
pub const HARD_STATE_SIZE: usize = 128;
/// Distance of the slots: they never share a block.
pub const HARD_STATE_SLOT: u64 = 4096;
const _: () = assert!(FLAGS_AT + 4 <= CRC_AT);

const HAS_VOTE: u32 = 1;
const VOTE_COMMITTED: u32 = 2;
const HAS_PURGED: u32 = 4;
const RESTARTED: u32 = 8;

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HardState {
    /// The Raft group.
    pub group: u32,
    /// Whose vote it is.
    pub owner: Identity,
    /// Rises with each change.
    pub sequence: u64,
    /// The last vote.
    pub vote: Option<Vote>,
    /// The last purged entry.
    pub purged: Option<EntryId>,
    /// The lowest index that the log can hold.
    pub first: u64,
    /// Chain crc before `first`.
    pub chain_start: u32,
    /// The last purge dropped everything: no segment with a base below `first` belongs to the log.
    pub restarted: bool,
}

impl HardState {
    /// The slot's bytes.
    pub fn encode(&self) -> [u8; HARD_STATE_SIZE] {
        let mut bytes = [0; HARD_STATE_SIZE];
        let mut flags = 0;
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, VERSION_AT, &HARD_STATE_VERSION.to_le_bytes());
        put(&mut bytes, GROUP_AT, &self.group.to_le_bytes());
        put(&mut bytes, CLUSTER_AT, &self.owner.cluster_id);
        put(&mut bytes, OWNER_AT, &self.owner.node_id.to_le_bytes());
        put(&mut bytes, SEQUENCE_AT, &self.sequence.to_le_bytes());
        if let Some(vote) = self.vote {
            flags |= HAS_VOTE | if vote.committed { VOTE_COMMITTED } else { 0 };
            put(&mut bytes, VOTE_TERM_AT, &vote.term.to_le_bytes());
            put(&mut bytes, VOTE_NODE_AT, &vote.node.to_le_bytes());
        }
        if let Some(purged) = self.purged {
            flags |= HAS_PURGED;
            put(&mut bytes, PURGED_TERM_AT, &purged.term.to_le_bytes());
            put(&mut bytes, PURGED_NODE_AT, &purged.node.to_le_bytes());
            put(&mut bytes, PURGED_INDEX_AT, &purged.index.to_le_bytes());
        }
        if self.restarted {
            flags |= RESTARTED;
        }
        put(&mut bytes, FIRST_AT, &self.first.to_le_bytes());
        put(&mut bytes, CHAIN_AT, &self.chain_start.to_le_bytes());
        put(&mut bytes, FLAGS_AT, &flags.to_le_bytes());
        let crc = crc_before(&bytes, CRC_AT);
        put(&mut bytes, CRC_AT, &crc.to_le_bytes());
        bytes
    }

    /// Decodes and checks a slot.
    pub fn decode(bytes: &[u8; HARD_STATE_SIZE]) -> Result<Self, FormatError> {
        check_envelope(bytes, MAGIC, HARD_STATE_VERSION, CRC_AT, "hard state")?;
        let counted = [SEQUENCE_AT, PURGED_INDEX_AT, FIRST_AT].map(|at| u64_at(bytes, at));
        check_counted(counted, "hard state")?;
        let flags = u32_at(bytes, FLAGS_AT);
        Ok(Self {
            group: u32_at(bytes, GROUP_AT),
            owner: Identity {
                cluster_id: array_at(bytes, CLUSTER_AT),
                node_id: u64_at(bytes, OWNER_AT),
            },
            sequence: u64_at(bytes, SEQUENCE_AT),
            vote: (flags & HAS_VOTE != 0).then(|| Vote {
                term: u64_at(bytes, VOTE_TERM_AT),
                node: u64_at(bytes, VOTE_NODE_AT),
                committed: flags & VOTE_COMMITTED != 0,
            }),
            purged: (flags & HAS_PURGED != 0).then(|| EntryId {
                term: u64_at(bytes, PURGED_TERM_AT),
                node: u64_at(bytes, PURGED_NODE_AT),
                index: u64_at(bytes, PURGED_INDEX_AT),
            }),
            first: u64_at(bytes, FIRST_AT),
            chain_start: u32_at(bytes, CHAIN_AT),
            restarted: flags & RESTARTED != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> HardState {
        HardState {
            group: 1,
            owner: Identity {
                cluster_id: [3; 16],
                node_id: 11,
            },
            sequence: 5,
            vote: Some(Vote {
                term: 8,
                node: 2,
                committed: true,
            }),
            purged: Some(EntryId {
                term: 7,
                node: 1,
                index: 100,
            }),
            first: 101,
            chain_start: 4,
            restarted: true,
        }
    }

    #[test]
    fn round_trips_with_and_without_vote_and_purged() {
        let full = sample();
        let empty = HardState {
            vote: None,
            purged: None,
            restarted: false,
            ..full
        };
        assert_eq!(HardState::decode(&full.encode()), Ok(full));
        assert_eq!(HardState::decode(&empty.encode()), Ok(empty));
    }

    #[test]
    fn every_flipped_bit_is_detected() {
        let bytes = sample().encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(HardState::decode(&flipped).is_err(), "bit {bit}");
        }
    }
}
