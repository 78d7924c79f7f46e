//! How clients reach the nodes of a cluster, whatever it runs in.
//!
//! Promises: nodes are told apart by their place among the addresses. Must not know: what the nodes are.

use std::time::Duration;

use inkstone_client::{Client, ClientBuilder, Dial, Result};

use crate::cluster::{Cluster, PATIENCE};

/// The nodes' addresses for clients, and the way there. Cheap enough to clone.
#[derive(Debug, Clone)]
pub struct Reach {
    /// Of all nodes, by number.
    pub addresses: Vec<String>,
    /// The numbers of those that were not retired.
    pub active: Vec<usize>,
    /// How connections are opened.
    pub dial: Dial,
}

impl From<&Cluster> for Reach {
    fn from(cluster: &Cluster) -> Self {
        Self {
            addresses: cluster.addresses(),
            active: cluster.active(),
            dial: Dial::default(),
        }
    }
}

impl From<&Self> for Reach {
    fn from(reach: &Self) -> Self {
        reach.clone()
    }
}

impl Reach {
    /// A client that asks whoever can answer.
    pub fn client(&self) -> Result<Client> {
        self.client_within(PATIENCE)
    }

    /// A client that asks whoever can answer, and gives up after `timeout`.
    pub fn client_within(&self, timeout: Duration) -> Result<Client> {
        let active = self.active.iter();
        let active = active.map(|node| self.addresses[*node].clone());
        self.asking(active.collect()).timeout(timeout).build()
    }

    /// A client that asks this node only, and gives up after `timeout`.
    pub fn client_of(&self, node: usize, timeout: Duration) -> Result<Client> {
        self.asking(self.addresses.clone())
            .stick_to(self.addresses[node].clone())
            .timeout(timeout)
            .build()
    }

    fn asking(&self, servers: Vec<String>) -> ClientBuilder {
        Client::builder().servers(servers).dial(self.dial.clone())
    }
}
