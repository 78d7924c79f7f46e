//! Bytes to values and back, as `FORMAT.md` lays them out: pure functions, no I/O.

pub mod batch;
pub(crate) mod identity;
pub(crate) mod layout;
