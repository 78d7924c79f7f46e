//! The server of Inkstone: one process, one Raft group, gRPC in front.

pub mod blocking;
pub mod clock;
pub mod config;
pub mod discovery;
pub mod grpc;
pub mod indexer;
pub mod node;
pub mod raft;
pub mod scrub;
pub mod tail;
