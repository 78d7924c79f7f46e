//! What the benchmarks share: how a run is asked for, which program is measured, what the disk can do by itself, and the
//! table that is printed.
//!
//! The cluster benchmarks (`append`, `read`, `search`, `recovery`, `failover`, `catch_up`, `idle`) each start a real cluster of three processes
//! on this machine and measure through the client library, as a user would. Clients and servers share the processors,
//! so throughput is that of the whole machine. Every run prints the raw cost of a `fdatasync` on the same file system,
//! because that is what an append waits for: figures of different machines compare only relative to it.
//!
//! ```text
//! cargo build --release -p inkstone-server && cargo bench -p inkstone-benches
//! ```
//!
//! Under `cargo test` nothing is measured: only `cargo bench` passes the flag that starts a run.

mod corpus;
mod probe;
mod run;
mod table;

pub use corpus::{append_corpus, corpus};
pub use probe::{SyncCost, probe};
pub use run::{Bench, Extent, measure, program, run};
pub use table::{Table, millis, per_second};
