//! The segment store of Inkstone, and the search index derived from it. Synchronous: no runtime, no network, no clock.
//!
//! Read [`types`] first (the words), then `FORMAT.md` beside this crate (the bytes), then [`mod@format`] (bytes to values
//! and back), [`io`] (the disk as a trait), [`log`] (the engine: open, append, read, truncate, purge) and last
//! [`search`], which never names `log`: the log is the truth, the index a cache of it, and only the server joins them.

#![deny(clippy::indexing_slicing)]

pub mod error;
pub mod format;
pub mod io;
pub mod limits;
pub mod log;
pub mod search;
pub mod types;
