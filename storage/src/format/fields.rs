//! Little-endian fields at fixed places, and the one error that all decoders share.
//!
//! Promises: reading never panics; a field outside of the bytes reads as 0, which the crc of the whole then refuses.
//! Must not know: what the fields mean.

/// Bytes that are not what the format says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Damaged, or never written.
    #[error("byte {position}: {what}")]
    Bad {
        /// Position in the bytes that were to be decoded.
        position: u64,
        /// What was expected and what was found.
        what: String,
    },
    /// Intact, of a version that this release does not know.
    #[error("format version {found}")]
    Version {
        /// Its version.
        found: u32,
    },
}

impl FormatError {
    pub(crate) fn bad(position: usize, what: impl Into<String>) -> Self {
        Self::Bad {
            position: position as u64,
            what: what.into(),
        }
    }
}

pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .unwrap_or([0; N])
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(array_at(bytes, at))
}

/// Writes a field. The places are constants of the layouts, and every layout's test writes all of them.
pub(crate) fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes
        .get_mut(at..at + field.len())
        .expect("a layout's fields lie inside of it")
        .copy_from_slice(field);
}

/// crc32 of the bytes before `end`.
pub(crate) fn crc_before(bytes: &[u8], end: usize) -> u32 {
    crc32fast::hash(bytes.get(..end).unwrap_or(bytes))
}

/// Checks that the 4 bytes at `at` are the crc of all before them.
pub(crate) fn check_crc(bytes: &[u8], at: usize, of: &str) -> Result<(), FormatError> {
    let (expected, found) = (crc_before(bytes, at), u32_at(bytes, at));
    if expected == found {
        return Ok(());
    }
    Err(FormatError::bad(
        at,
        format!("{of}: crc {expected:08x} expected, {found:08x} found"),
    ))
}

/// What is counted, indexes and sequences, stays below this: whoever adds 1 to it need not ask whether that fits.
const COUNTED_MAX: u64 = 1 << 63;

/// Checks numbers that are counted up, of a structure whose crc is right.
pub(crate) fn check_counted(
    numbers: impl IntoIterator<Item = u64>,
    of: &str,
) -> Result<(), FormatError> {
    match numbers.into_iter().find(|number| *number >= COUNTED_MAX) {
        Some(number) => Err(FormatError::bad(
            0,
            format!("{of}: nothing was ever counted up to {number}"),
        )),
        None => Ok(()),
    }
}

/// Checks magic, crc and version, in this order, of a structure that ends with its crc.
pub(crate) fn check_envelope(
    bytes: &[u8],
    magic: [u8; 8],
    version: u32,
    crc_at: usize,
    of: &str,
) -> Result<(), FormatError> {
    if array_at::<8>(bytes, 0) != magic {
        let found = array_at::<8>(bytes, 0);
        return Err(FormatError::bad(
            0,
            format!("{of}: magic {magic:02x?} expected, {found:02x?} found"),
        ));
    }
    check_crc(bytes, crc_at, of)?;
    match u32_at(bytes, 8) {
        found if found == version => Ok(()),
        found => Err(FormatError::Version { found }),
    }
}
