//! The bodies of the fuzz targets: each takes any bytes, and holds the store to what FORMAT.md says of them.
//!
//! A crc keeps a fuzzer out, so every target also looks at its input as a forger would have made it, with the crcs set
//! right. Promises: an input that breaks a claim panics. Must not know: where inputs come from.

pub(crate) mod footer;
pub(crate) mod forge;
pub(crate) mod frame;
pub(crate) mod hard_state;
pub(crate) mod open;

/// The little-endian number at a place that is inside of the bytes.
fn u32_at(bytes: &[u8], at: usize) -> usize {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize)
}

/// Writes the crc of the bytes `from..at` at `at`, if all of that is there.
fn set_crc(bytes: &mut [u8], from: usize, at: usize) {
    let crc = bytes.get(from..at).map(crc32fast::hash);
    if let (Some(crc), Some(field)) = (crc, bytes.get_mut(at..at + 4)) {
        field.copy_from_slice(&crc.to_le_bytes());
    }
}
