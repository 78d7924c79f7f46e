//! The messages and services of Inkstone, generated from `proto/`: the contract between its parts.
//!
//! The `.proto` files document every field; this crate only makes them Rust. [`v1`] is public and stable; [`peer_v1`]
//! is what nodes say to each other and what they store, and is not for clients. Nothing here is a domain type: the
//! server and the client convert at their edges.

/// The module tree that the generated code expects: one module for each part of a package's name.
mod inkstone {
    /// The public API: `inkstone.v1`.
    pub mod v1 {
        tonic::include_proto!("inkstone.v1");
    }
    pub mod peer {
        /// Between nodes, and on their disks: `inkstone.peer.v1`.
        pub mod v1 {
            tonic::include_proto!("inkstone.peer.v1");
        }
    }
}

pub use inkstone::peer::v1 as peer_v1;
pub use inkstone::v1;

/// The encoded `FileDescriptorSet` of every file, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/inkstone_descriptor.bin"));
