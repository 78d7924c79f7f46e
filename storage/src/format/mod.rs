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
