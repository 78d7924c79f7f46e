//! The server of Inkstone: one process, one Raft group, gRPC in front.
//!
//! # Layers
//!
//! Each may name those in front of it (`tests/tidy.rs` sees to it): [`clock`] and [`config`]; [`blocking`] (where work
//! runs that may touch a disk), [`tail`] (how far apply has come), [`indexer`] (feeds the search index) and [`scrub`]
//! (looks for rot); [`raft`] (the group over the log of `inkstone_storage`); [`discovery`] (which cluster this node is
//! in); [`grpc`] (what clients and other nodes call); [`node`] (starts all of it, in that order). `cli` is the
//! binary's own.
//!
//! # An append, and a search
//!
//! `grpc/front.rs` admits a request and `grpc/service.rs` takes it to its verb. `grpc/append.rs` checks an append and
//! finds the leader, there `raft/ingest.rs` merges it with others into an entry, `raft/log_store.rs` hands the entry
//! to the log, and when a majority has it on disk `raft/state_machine.rs` applies it and makes the receipt.
//! `grpc/search.rs` takes a search to a node that indexes, `grpc/search/coverage.rs` waits until `raft/read_index.rs`
//! and the indexer cover what was asked for, the index gives offsets, and `grpc/search/hits.rs` reads their records
//! from the log.
//!
//! # Where to start reading
//!
//! [`raft`] says in which order it is read, then `grpc/service.rs`, `grpc/error.rs` and one verb, then `node.rs`.

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
