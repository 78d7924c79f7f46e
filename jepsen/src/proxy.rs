//! The network between the nodes, in our hands: every connection from node to node goes through a relay of this
//! process, and each direction between two nodes has a switch of its own.
//!
//! Promises: while a direction is held no byte of it is delivered, and none is lost if the connection lives until it is
//! released: what was on its way arrives late, as TCP would have it. A connection is made only while both directions
//! pass, because it takes packets both ways. Nothing is buffered but one read per direction; the rest waits in the
//! sender. Must not know: what the bytes say.
//!
//! A node knows one address of each other node, so a relay stands in front of each *target*; who dials is found out by
//! the connection's source port, of which the kernel knows the process (`dialer`). So nothing is asked of the nodes but
//! to advertise the relay's address, and every directed edge can be held alone.

mod dialer;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cluster::ports;

/// Bytes that a relay reads at once.
const READ_SIZE: usize = 64 << 10;

/// Whether bytes go from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Passes,
    Held,
}

/// The switches between the nodes of a cluster, and who the nodes are. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Links {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    nodes: usize,
    /// From node, to node: row by row.
    links: Vec<watch::Sender<Link>>,
    /// The running processes, by node.
    processes: Mutex<Vec<Option<u32>>>,
}

impl Links {
    fn new(nodes: usize) -> Self {
        let shared = Shared {
            nodes,
            links: (0..nodes * nodes)
                .map(|_| watch::Sender::new(Link::Passes))
                .collect(),
            processes: Mutex::new(vec![None; nodes]),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    fn link(&self, from: usize, to: usize) -> &watch::Sender<Link> {
        &self.shared.links[from * self.shared.nodes + to]
    }

    /// Nothing from the one to the other arrives any more.
    pub fn hold(&self, from: usize, to: usize) {
        self.link(from, to).send_replace(Link::Held);
    }

    /// Nothing passes between these nodes and the others, in neither direction.
    pub fn split(&self, side: &[usize]) {
        for one in side {
            for other in (0..self.shared.nodes).filter(|other| !side.contains(other)) {
                self.hold(*one, other);
                self.hold(other, *one);
            }
        }
    }

    /// Everything passes; what was held arrives now.
    pub fn heal(&self) {
        for link in &self.shared.links {
            link.send_replace(Link::Passes);
        }
    }

    /// Tells which process a node is from now on, before it dials anybody.
    pub(crate) fn set_process(&self, node: usize, process: Option<u32>) {
        self.shared.processes.lock()[node] = process;
    }

    async fn dialer(&self, source: SocketAddr, relay: SocketAddr) -> Result<usize> {
        let processes = self.shared.processes.lock().clone();
        tokio::task::spawn_blocking(move || dialer::find(source, relay, &processes)).await?
    }
}

/// Relays in front of the peer ports of all nodes; they end when this is dropped.
#[derive(Debug)]
pub struct Proxies {
    links: Links,
    addresses: Vec<String>,
    _tasks: JoinSet<()>,
}

impl Proxies {
    /// Starts a relay for each target. Must be called on a tokio runtime.
    pub fn start(targets: &[String]) -> Result<Self> {
        let links = Links::new(targets.len());
        let mut addresses = Vec::new();
        let mut tasks = JoinSet::new();
        for (node, target) in targets.iter().enumerate() {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, ports::free()?))
                .context("the port of a relay is in use")?;
            listener.set_nonblocking(true)?;
            addresses.push(listener.local_addr()?.to_string());
            let relay = Relay {
                links: links.clone(),
                node,
                target: target.clone(),
            };
            tasks.spawn(relay.serve(TcpListener::from_std(listener)?));
        }
        Ok(Self {
            links,
            addresses,
            _tasks: tasks,
        })
    }

    /// The switches.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// What a node is to advertise as its peer address.
    pub fn address(&self, node: usize) -> &str {
        &self.addresses[node]
    }
}

/// What stands in front of one node.
#[derive(Debug, Clone)]
struct Relay {
    links: Links,
    node: usize,
    target: String,
}

impl Relay {
    async fn serve(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    // A connection that was gone before it was accepted concerns nobody.
                    let Ok((stream, source)) = accepted else { continue };
                    let relay = self.clone();
                    connections.spawn(async move {
                        // However it ended, both nodes see their ends closed; nobody else needs to know.
                        relay.carry(stream, source).await.ok();
                    });
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }

    /// One connection, from its first byte to its last.
    async fn carry(&self, stream: TcpStream, source: SocketAddr) -> Result<()> {
        let from = self.links.dialer(source, stream.local_addr()?).await?;
        let mut there = self.links.link(from, self.node).subscribe();
        let mut back = self.links.link(self.node, from).subscribe();
        passes(&mut there).await?;
        passes(&mut back).await?;
        let target = TcpStream::connect(&self.target).await?;
        target.set_nodelay(true)?;
        stream.set_nodelay(true)?;
        let (from_dialer, to_dialer) = stream.into_split();
        let (from_target, to_target) = target.into_split();
        tokio::try_join!(
            pump(from_dialer, to_target, there),
            pump(from_target, to_dialer, back),
        )?;
        Ok(())
    }
}

async fn passes(link: &mut watch::Receiver<Link>) -> io::Result<()> {
    let gone = || io::Error::other("the cluster is gone");
    link.wait_for(|link| *link == Link::Passes)
        .await
        .map_err(|_| gone())?;
    Ok(())
}

/// Carries one direction of one connection until its sender ends it.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut link: watch::Receiver<Link>,
) -> io::Result<()> {
    let mut buffer = vec![0; READ_SIZE];
    loop {
        passes(&mut link).await?;
        let size = from.read(&mut buffer).await?;
        // The link may have been held while nothing came.
        passes(&mut link).await?;
        if size == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..size]).await?;
    }
}

#[cfg(test)]
mod tests;
