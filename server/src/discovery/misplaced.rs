//! Why a node can't be where it is: what ends it.

use uuid::Uuid;

use crate::discovery::PROTOCOL;
use crate::raft::Incompatible;

/// Why a node can't be where it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misplaced {
    /// A seed is in another cluster.
    #[error(
        "this data directory belongs to cluster {own}, but {address} is in cluster {other}; use the data directory of \
         that cluster, or give `seeds` of this one"
    )]
    OtherCluster {
        /// Whose the directory is.
        own: Uuid,
        /// The seed.
        address: String,
        /// Whose the seed is.
        other: Uuid,
    },
    /// It was a member, and is none any more.
    #[error(transparent)]
    Removed(#[from] Removed),
    /// Another process runs as this node: its data directory was copied.
    #[error(
        "{address} runs as node {node}, too: a data directory was copied; stop one of the two, and never start a copy"
    )]
    Copied {
        /// This node.
        node: u64,
        /// Where the other process is reached.
        address: String,
    },
    /// A seed is of a release that this one can't work with.
    #[error("{address}: {refused}")]
    Incompatible {
        /// The seed.
        address: String,
        /// What each speaks, and what to do.
        refused: Box<Incompatible>,
    },
    /// A seed speaks only a protocol that this release does not.
    #[error(
        "{address} speaks peer protocol {found}, this release up to {PROTOCOL}; upgrade this node"
    )]
    Protocol {
        /// The seed.
        address: String,
        /// Its protocol.
        found: u32,
    },
}

/// An operator has removed this node from its cluster. Its id never comes back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "node {node} was removed from cluster {cluster} and takes no part any more; to use this machine as a new node, start \
     it with an empty data directory and add it with `ink cluster add`"
)]
pub struct Removed {
    /// This node.
    pub node: u64,
    /// The cluster.
    pub cluster: Uuid,
}
