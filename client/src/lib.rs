//! The client library of Inkstone.

mod client;
mod error;
mod read;
mod retry;
mod session;
mod types;

pub use client::{Addresses, Client, ClientBuilder, Routing};
pub use error::{Detail, Error, Reason, Result};
pub use read::ReadStream;
pub use retry::RetryPolicy;
pub use session::{AppendSession, Ticket};
pub use types::{
    AppendOptions, ClusterStatus, Consistency, Created, Follow, Gap, GapReason, Hit, IfExists,
    LogInfo, NewRecord, NodeInfo, NodeRole, NodeStatus, Producer, ProducerChoice, ReadEvent,
    ReadOptions, Receipt, Record, Retry, SearchAnswer, SearchOptions, SessionOptions, Start, Tail,
    WhenBehind,
};
