//! Bytes to values and back, as `FORMAT.md` lays them out: pure functions, no I/O.

pub mod batch;
pub mod checkpoint;
pub mod fields;
pub mod frame;
pub mod hard_state;
pub mod identity;
pub(crate) mod layout;
pub mod segment_footer;
pub mod segment_header;
pub mod watermark;

/// The newest format of what nodes send each other as it stands on disk: entries and checkpoints. Raised with the version
/// of either.
pub const TRAVELLING_VERSION: u32 = 1;

const _: () = assert!(TRAVELLING_VERSION >= batch::header::VERSION);
const _: () = assert!(TRAVELLING_VERSION >= checkpoint::CHECKPOINT_VERSION);
