//! Nodes that come and go while a cluster runs: laid out, moved, wiped, counted out.
//!
//! Must not know: how a node becomes a member.

use anyhow::{Result, ensure};

use super::{Cluster, Node, Place, ports};

impl Cluster {
    /// Lays a further node out, with a directory and ports of its own: its number. It is not started, and is no member
    /// until somebody adds it.
    pub fn add_node(&mut self) -> Result<usize> {
        ensure!(
            self.proxies.is_none(),
            "relays stand between the first nodes only"
        );
        let number = self.nodes.len();
        self.nodes.push(Node::lay_out(&self.dir, number)?);
        self.write_config(number, "")?;
        Ok(number)
    }

    /// Gives a node that does not run other ports, under which it is started next.
    pub fn move_node(&mut self, node: usize) -> Result<()> {
        ensure!(self.proxies.is_none(), "a relay keeps its address");
        ensure!(self.nodes[node].process.is_none(), "node {node} runs");
        self.nodes[node].client_address = format!("127.0.0.1:{}", ports::free()?);
        self.nodes[node].peer_address = format!("127.0.0.1:{}", ports::free()?);
        self.write_config(node, "")
    }

    /// Deletes the data of a node that does not run: it comes back as a new one.
    pub fn wipe(&mut self, node: usize) -> Result<()> {
        ensure!(self.nodes[node].process.is_none(), "node {node} runs");
        Ok(std::fs::remove_dir_all(self.data_dir(node))?)
    }

    /// Counts a node that was removed out, once its process has ended: nothing is read from it any more.
    pub fn retire(&mut self, node: usize) {
        self.nodes[node].process = None;
        self.nodes[node].place = Place::Retired;
    }

    /// The nodes that were not retired.
    pub fn active(&self) -> Vec<usize> {
        let nodes = self.nodes.iter().enumerate();
        let active = nodes.filter(|(_, node)| node.place == Place::Member);
        active.map(|(number, _)| number).collect()
    }

    /// A node's address for other nodes.
    pub fn peer_address(&self, node: usize) -> &str {
        self.peer_advertise(node)
    }
}
