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
        self.any().timeout(PATIENCE).build()
    }

    /// A client that asks whoever can answer, and gives up after `timeout`.
    pub fn client_within(&self, timeout: Duration) -> Result<Client> {
        self.any().timeout(timeout).build()
    }

    /// A client that asks this node only, and gives up after `timeout`.
    pub fn client_of(&self, node: usize, timeout: Duration) -> Result<Client> {
        self.any()
            .stick_to(self.addresses[node].clone())
            .timeout(timeout)
            .build()
    }

    fn any(&self) -> ClientBuilder {
        Client::builder()
            .servers(self.addresses.clone())
            .dial(self.dial.clone())
    }
}
