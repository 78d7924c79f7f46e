//! Connections to the other members: one for each purpose, shared, opened when first used.
//!
//! Promises: heartbeats never wait behind appends, nor appends behind snapshots or forwarded requests; a peer that is
//! gone is noticed by keep-alive even when TCP says nothing. Must not know: openraft.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use inkstone_net::Dial;
use inkstone_proto::peer_v1::Header;
use inkstone_proto::peer_v1::peer_client::PeerClient;
use inkstone_storage::limits::PEER_MESSAGE_SIZE_MAX;
use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint};

use crate::raft::Versions;

/// The one group of this release.
pub const GROUP: u64 = 1;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes in flight on one stream, and on all streams of a connection.
const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Raft's entries.
    Append,
    /// Heartbeats and votes.
    Heartbeat,
    /// Snapshots.
    Snapshot,
    /// Requests of clients that are passed on, read indexes, status.
    Request,
    /// Entries that are damaged here.
    Repair,
}

/// All connections of this node to others. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Peers {
    cluster_id: [u8; 16],
    node_id: u64,
    versions: Versions,
    dial: Dial,
    channels: Arc<Mutex<HashMap<(String, Purpose), Channel>>>,
    /// Where nodes are that were started with other addresses than the membership has, or had when openraft was told.
    moved: Arc<Mutex<HashMap<u64, String>>>,
    /// Nodes that are being looked for at a new address.
    moving: Arc<Mutex<HashSet<u64>>>,
}

/// The right to look for a moved node; given back when dropped.
#[derive(Debug)]
pub struct MoveTurn {
    node: u64,
    moving: Arc<Mutex<HashSet<u64>>>,
}

impl Drop for MoveTurn {
    fn drop(&mut self) {
        self.moving.lock().remove(&self.node);
    }
}

impl Peers {
    /// None open yet.
    pub fn new(cluster_id: [u8; 16], node_id: u64, versions: Versions) -> Self {
        Self {
            cluster_id,
            node_id,
            versions,
            dial: Dial::default(),
            channels: Arc::default(),
            moved: Arc::default(),
            moving: Arc::default(),
        }
    }

    /// Connections are opened in this way.
    pub(super) fn dialing(self, dial: Dial) -> Self {
        Self { dial, ..self }
    }

    /// From now on this node is reached at that address, whatever the membership says.
    pub(super) fn moved(&self, node: u64, address: &str) {
        self.moved.lock().insert(node, address.to_owned());
    }

    /// The turn to look for a node at a new address, if nobody has it.
    pub(super) fn begin_move(&self, node: u64) -> Option<MoveTurn> {
        self.moving.lock().insert(node).then(|| MoveTurn {
            node,
            moving: Arc::clone(&self.moving),
        })
    }

    /// A client for that node, which is at `address` unless it has moved.
    pub(super) fn client_of(
        &self,
        node: u64,
        address: &str,
        purpose: Purpose,
    ) -> PeerClient<Channel> {
        let moved = self.moved.lock().get(&node).cloned();
        self.client(moved.as_deref().unwrap_or(address), purpose)
    }

    /// A client for the peer service at that address. Does not wait for the connection; a call fails if there is none.
    pub fn client(&self, address: &str, purpose: Purpose) -> PeerClient<Channel> {
        let mut channels = self.channels.lock();
        let channel = channels
            .entry((address.to_owned(), purpose))
            .or_insert_with(|| connect_lazily(&self.dial, address))
            .clone();
        PeerClient::new(channel)
            .max_decoding_message_size(PEER_MESSAGE_SIZE_MAX)
            .max_encoding_message_size(PEER_MESSAGE_SIZE_MAX)
    }

    /// What stands before every request to node `to`.
    pub fn header(&self, to: u64) -> Header {
        Header {
            cluster_id: self.cluster_id.to_vec().into(),
            group: GROUP,
            from: self.node_id,
            to,
            versions: Some(self.versions.own().to_wire()),
        }
    }

    /// What this node speaks, and what the others do.
    pub fn versions(&self) -> &Versions {
        &self.versions
    }
}

/// A connection that is opened by its first call. An address that is not one is a peer that never answers: calls to it
/// run into their deadlines, as to any node that is away.
pub fn connect_lazily(dial: &Dial, address: &str) -> Channel {
    let Ok(endpoint) = Endpoint::from_shared(format!("http://{address}")) else {
        tracing::warn!(address, "not an address of a peer");
        return Channel::balance_list(std::iter::empty());
    };
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    dial.channel(&endpoint)
}
