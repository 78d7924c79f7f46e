//! The client library of Inkstone, a replicated, append-only log that you can search.
//!
//! A [`Client`] stands for a cluster. It connects when it is first used, not when it is made, finds the leader, goes
//! to another server when one fails, and tries again where that is safe, which by default it always is: every append
//! carries a producer and a sequence, so that it takes effect once however often it is sent.
//!
//! ```no_run
//! # async fn example() -> inkstone_client::Result<()> {
//! use inkstone_client::{Client, IfExists, SearchOptions};
//!
//! let client = Client::connect("127.0.0.1:7420")?;
//! client.create_log("audit", IfExists::Keep).await?;
//! let receipt = client.append("audit", vec!["login alice".into()]).await?;
//! let answer = client.search(SearchOptions::new("audit", "alice")).await?;
//! assert!(answer.indexed_next_offset >= receipt.next_offset);
//! # Ok(())
//! # }
//! ```
//!
//! # What an error means
//!
//! [`Error::Refused`] and [`Error::Unavailable`]: nothing happened and nothing will. [`Error::Unknown`]: it may have
//! happened. A timeout is never reported as a failure of something that may have been done.
//!
//! # Order of reading
//!
//! `types.rs` and `error.rs` are the words. `retry.rs` decides what may be tried again and what the caller is told;
//! `route.rs` which server is asked; `call.rs` joins the two. Then one file per verb: `append.rs`, `session.rs` (with
//! its task in `session/driver.rs`), `read.rs`, `search.rs`, `admin.rs`, `members.rs`. `wire.rs` converts from and to protobuf.

mod admin;
mod append;
mod call;
mod client;
mod error;
mod members;
mod read;
mod retention;
mod retry;
mod route;
mod search;
mod session;
mod status;
mod types;
mod wire;

pub use client::{Addresses, Client, ClientBuilder, Routing};
pub use error::{Detail, Error, Reason, Result};
pub use inkstone_net::Dial;
pub use members::{Able, Transfer};
pub use read::ReadStream;
pub use retention::{Bound, Retention};
pub use retry::RetryPolicy;
pub use session::{AppendSession, Ticket};
pub use status::{
    ClusterStatus, DamagedPlace, NodeRole, NodeStatus, RepairStatus, ReplicationProgress,
    ScrubPass, ScrubStatus,
};
pub use types::{
    AppendOptions, Consistency, Created, Follow, Gap, GapReason, Hit, IfExists, LogInfo, NewRecord,
    NodeInfo, Producer, ProducerChoice, ReadEvent, ReadOptions, Receipt, Record, Retry,
    SearchAnswer, SearchOptions, SessionOptions, Start, Tail, WhenBehind,
};
