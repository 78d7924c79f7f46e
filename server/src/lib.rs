//! The server of Inkstone: one process, one Raft group, gRPC in front.

// A call's future holds those of all layers below it, tonic's and hyper's, too: the compiler asks for more than its 128.
#![recursion_limit = "256"]

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
