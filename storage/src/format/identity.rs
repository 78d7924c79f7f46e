//! The identity file: which cluster and node a data directory belongs to (FORMAT.md, "Identity").
//!
//! Promises: bytes that parse are exactly what [`encode`] made; any flipped bit is reported. Must not know: files.

use crate::format::layout::{get, put};
use crate::types::Identity;

/// The format of the whole data directory.
pub const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"INKIDENT";

const MAGIC_AT: usize = 0;
const VERSION_AT: usize = MAGIC_AT + MAGIC.len();
const RESERVED_AT: usize = VERSION_AT + size_of::<u32>();
const CLUSTER_ID_AT: usize = RESERVED_AT + size_of::<u32>();
const NODE_ID_AT: usize = CLUSTER_ID_AT + size_of::<[u8; 16]>();
const RESERVED_2_AT: usize = NODE_ID_AT + size_of::<u64>();
const CRC_AT: usize = RESERVED_2_AT + size_of::<u32>();
/// Bytes of the file.
pub const SIZE: usize = CRC_AT + size_of::<u32>();
/// No version's file is larger: nobody reads more than this of what claims to be one.
pub const SIZE_MAX: usize = 4_096;

const _: () = assert!(SIZE == 48 && SIZE.is_multiple_of(8), "FORMAT.md says so");

/// Bytes that are not an identity this release can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadIdentity {
    /// Whole, and of another version.
    Version(u32),
    /// Not what was written: where, and what.
    Damaged {
        /// Position in the file.
        position: usize,
        /// What was expected and found.
        what: String,
    },
}

/// The bytes of the file.
pub fn encode(identity: Identity) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    put(&mut bytes, MAGIC_AT, MAGIC);
    put(&mut bytes, VERSION_AT, VERSION.to_le_bytes());
    put(&mut bytes, CLUSTER_ID_AT, identity.cluster_id);
    put(&mut bytes, NODE_ID_AT, identity.node_id.to_le_bytes());
    let (covered, _) = bytes.split_at(CRC_AT);
    let crc = crc32fast::hash(covered);
    put(&mut bytes, CRC_AT, crc.to_le_bytes());
    bytes
}

/// Decodes and checks a whole file.
pub fn parse(bytes: &[u8]) -> Result<Identity, BadIdentity> {
    let damaged = |position, what| Err(BadIdentity::Damaged { position, what });
    // Magic and version stand in front and the crc at the end in every version, so that a newer file and a damaged one
    // are told apart.
    let Some((covered, crc)) = bytes.split_last_chunk() else {
        return damaged(0, format!("{} bytes, {SIZE} expected", bytes.len()));
    };
    if covered.len() < RESERVED_AT {
        return damaged(0, format!("{} bytes, {SIZE} expected", bytes.len()));
    }
    let magic: [u8; MAGIC.len()] = get(covered, MAGIC_AT);
    if magic != MAGIC {
        return damaged(
            MAGIC_AT,
            format!("magic {magic:02x?}, {MAGIC:02x?} expected"),
        );
    }
    let (expected, found) = (u32::from_le_bytes(*crc), crc32fast::hash(covered));
    if found != expected {
        return damaged(
            covered.len(),
            format!("crc {found:#010x}, {expected:#010x} expected"),
        );
    }
    let version = u32::from_le_bytes(get(covered, VERSION_AT));
    if version != VERSION {
        return Err(BadIdentity::Version(version));
    }
    if bytes.len() != SIZE {
        return damaged(0, format!("{} bytes, {SIZE} expected", bytes.len()));
    }
    let reserved: [[u8; 4]; 2] = [get(covered, RESERVED_AT), get(covered, RESERVED_2_AT)];
    if reserved != [[0; 4]; 2] {
        return damaged(
            RESERVED_AT,
            format!("reserved bytes {reserved:02x?}, zeroes expected"),
        );
    }
    Ok(Identity {
        cluster_id: get(covered, CLUSTER_ID_AT),
        node_id: u64::from_le_bytes(get(covered, NODE_ID_AT)),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDENTITY: Identity = Identity {
        cluster_id: *b"0123456789abcdef",
        node_id: 0x0102_0304,
    };

    fn with_crc(mut covered: Vec<u8>) -> Vec<u8> {
        covered.extend(crc32fast::hash(&covered).to_le_bytes());
        covered
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_parsed_back(cluster_id: [u8; 16], node_id: u64) {
            let identity = Identity { cluster_id, node_id };
            prop_assert_eq!(parse(&encode(identity)), Ok(identity));
        }

        #[test]
        fn what_parses_is_what_encode_made(
            bytes in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            prop_assert!(parse(&bytes).is_err());
            let bytes = with_crc([&MAGIC[..], &VERSION.to_le_bytes(), &bytes].concat());
            if let Ok(identity) = parse(&bytes) {
                prop_assert_eq!(&encode(identity)[..], &bytes[..]);
            }
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_damage() {
        let bytes = encode(IDENTITY);
        for bit in 0..SIZE * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(
                matches!(parse(&flipped), Err(BadIdentity::Damaged { .. })),
                "bit {bit}"
            );
        }
        for size in 0..SIZE {
            assert!(
                matches!(parse(&bytes[..size]), Err(BadIdentity::Damaged { .. })),
                "{size}"
            );
        }
    }

    #[test]
    fn a_whole_file_of_another_version_is_told_from_damage() {
        let newer = [&MAGIC[..], &7_u32.to_le_bytes(), b"and what it may hold"].concat();
        assert_eq!(parse(&with_crc(newer)), Err(BadIdentity::Version(7)));
    }

    #[test]
    fn a_longer_file_of_this_version_is_damage() {
        let mut covered = encode(IDENTITY)[..CRC_AT].to_vec();
        covered.extend([0; 4]);
        assert!(matches!(
            parse(&with_crc(covered)),
            Err(BadIdentity::Damaged { .. })
        ));
    }

    #[test]
    fn version_1_is_these_bytes() {
        let bytes = encode(Identity {
            cluster_id: [0xab; 16],
            node_id: 5,
        });
        let mut expected = b"INKIDENT\x01\0\0\0\0\0\0\0".to_vec();
        expected.extend([0xab; 16]);
        expected.extend(b"\x05\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(bytes[..], with_crc(expected));
    }
}
