//! Entries for a damaged log: `give` answers a peer that lacks some, `take` asks the peers for ours.
//!
//! Promises: what is given was verified when it was read, and is the entry that was asked for by its identity, or a
//! committed one, or one of a log that is the asker's up to there; what is taken is checked again, and a last time by
//! the store. Must not know: how damage is found, or written back.

mod give;
mod holders;
mod superseded;
mod take;

pub(crate) use give::{Running, give};
pub use holders::Holders;
pub(crate) use take::{Fetcher, Lacking};
