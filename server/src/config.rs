//! The configuration of one node: its keys, where their values come from, and what is allowed.
//!
//! Every key stands once in [`KEYS`]: it is a key of the TOML file, a flag and an environment variable. A flag wins over
//! the environment, that over the file, that over the default. Every error is one line that names the key, where the
//! value came from, what was found and what is allowed. Must not know: clap, files, the network.

mod keys;
mod parse;
mod settings;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::keys::{KEYS, Key};
pub use self::settings::{Origin, Settings};

/// What is wrong with a configuration: one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file is not TOML.
    #[error("{file}, line {line}: {what}", file = file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        what: String,
    },
    /// A key that there is not.
    #[error("{file}: unknown key `{key}`; did you mean `{nearest}`?", file = file.display())]
    UnknownKey {
        /// The file.
        file: PathBuf,
        /// As it was written, with its table.
        key: String,
        /// The known key that is spelled most like it.
        nearest: &'static str,
    },
    /// A value that is not allowed.
    #[error("{key} is `{found}` ({origin}); allowed: {allowed}")]
    Value {
        /// The key.
        key: &'static str,
        /// Its value.
        found: String,
        /// Where that came from.
        origin: Origin,
        /// What would do.
        allowed: String,
    },
}

/// One node's configuration, complete and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where everything of the node is kept.
    pub data_dir: PathBuf,
    /// Where it listens for clients; port 0: one that is free.
    pub client_listen: SocketAddr,
    /// Where it listens for other nodes; port 0: one that is free.
    pub peer_listen: SocketAddr,
    /// How clients reach it, `HOST:PORT`; `None`: at the address it listens on.
    pub client_advertise: Option<String>,
    /// How other nodes reach it, `HOST:PORT`; `None`: at the address it listens on.
    pub peer_advertise: Option<String>,
    /// Peer addresses, `HOST:PORT`, where it looks for its cluster; its own may be among them.
    pub seeds: Vec<String>,
    /// How many nodes must see each other before they form a cluster.
    pub bootstrap_expect: usize,
    /// Bytes per second that scrubbing reads; 0: it is off.
    pub scrub_rate: u64,
    /// Connections of clients.
    pub client_connections_max: usize,
    /// The log engine.
    pub log: LogConfig,
    /// Consensus.
    pub raft: RaftConfig,
    /// The search index.
    pub search: SearchConfig,
}

/// The log engine's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// Bytes of a segment file.
    pub segment_size: u64,
    /// Bytes of recent entries kept in memory.
    pub tail_size: usize,
    /// Bytes that must be free on the disk for an append to be taken; 0: none.
    pub free_size_min: u64,
    /// Between two looks for what retention removes.
    pub retention_interval: Duration,
}

/// The part of consensus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RaftConfig {
    /// Between two heartbeats of a leader.
    pub heartbeat: Duration,
    /// A follower campaigns after at least so long without one.
    pub election_min: Duration,
    /// And at most so long.
    pub election_max: Duration,
}

/// The search index's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchConfig {
    /// Whether this node indexes at all.
    pub enabled: bool,
    /// Between two commits of the index.
    pub commit_interval: Duration,
    /// Bytes of memory for the index's writer.
    pub writer_memory: usize,
}

/// The most nodes that `inkstone dev` runs, and that a cluster waits for.
pub const NODES_MAX: usize = 7;

impl Config {
    /// The values of `settings`, and the defaults of the other keys, checked one by one and against each other.
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        parse::config(settings)
    }

    /// The defaults.
    pub fn default_values() -> Self {
        parse::config(&Settings::default()).expect("the defaults are allowed: a test says so")
    }

    /// Node number `node` (from 1) of the `nodes` that `inkstone dev` runs: on neighbouring ports from `listen` on, in
    /// `<data_dir>/node-<node>`, with timings for one machine, so that it is ready at once. `None` when the ports
    /// would go beyond the last one.
    pub fn dev(data_dir: &Path, listen: SocketAddr, node: usize, nodes: usize) -> Option<Self> {
        let client_listen = dev_address(listen, 2 * (node - 1))?;
        let peer_listen = dev_address(listen, 2 * (node - 1) + 1)?;
        let mut seeds = Vec::new();
        for other in 0..nodes {
            seeds.push(dev_address(listen, 2 * other + 1)?.to_string());
        }
        let (heartbeat, election_min, election_max) = if nodes == 1 {
            (50, 250, 350)
        } else {
            (100, 1_000, 1_500)
        };
        Some(Self {
            data_dir: data_dir.join(format!("node-{node}")),
            client_listen,
            peer_listen,
            seeds: if nodes == 1 { Vec::new() } else { seeds },
            bootstrap_expect: nodes,
            raft: RaftConfig {
                heartbeat: Duration::from_millis(heartbeat),
                election_min: Duration::from_millis(election_min),
                election_max: Duration::from_millis(election_max),
            },
            ..Self::default_values()
        })
    }

    /// How clients reach a node that listens at `bound`.
    pub fn client_address(&self, bound: SocketAddr) -> String {
        self.client_advertise
            .clone()
            .unwrap_or_else(|| bound.to_string())
    }

    /// How other nodes reach a node that listens at `bound`.
    pub fn peer_address(&self, bound: SocketAddr) -> String {
        self.peer_advertise
            .clone()
            .unwrap_or_else(|| bound.to_string())
    }

    /// The whole configuration as a file that gives the same again; each line says where its value came from.
    pub fn to_toml(&self, settings: &Settings) -> String {
        parse::to_toml(self, settings)
    }
}

fn dev_address(listen: SocketAddr, behind: usize) -> Option<SocketAddr> {
    let port = usize::from(listen.port()) + behind;
    Some(SocketAddr::new(listen.ip(), u16::try_from(port).ok()?))
}

#[cfg(test)]
mod tests;
