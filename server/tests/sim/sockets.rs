//! A machine's sockets: what its kernel does for the process on it, whether that runs or stands still.
//!
//! Promises: connections are accepted and bytes are taken up to a bound while the process does nothing, as a kernel does;
//! every byte between hosts goes through turmoil. Must not know: what is sent, who stands still.

use std::io;

use inkstone_net::Dial;
use inkstone_server::node::Listener;
use tokio::io::{DuplexStream, copy_bidirectional, duplex};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use turmoil::net::{TcpListener, TcpStream};

use crate::network::{self, CLIENT_PORT, PEER_PORT};

/// Bytes in a socket's buffer, each way.
const BUFFER_SIZE: usize = 64 << 10;
/// Connections that wait to be accepted, or to be opened.
const BACKLOG: usize = 128;

type Asked = (String, oneshot::Sender<io::Result<DuplexStream>>);

/// The sockets as the process has them.
pub(crate) struct Sockets {
    pub(crate) clients: Port,
    pub(crate) peers: Port,
    pub(crate) dial: Dial,
}

/// The same as the machine has them.
pub(crate) struct Kernel {
    clients: mpsc::Sender<DuplexStream>,
    peers: mpsc::Sender<DuplexStream>,
    asked: mpsc::Receiver<Asked>,
}

/// A port that is listened on.
pub(crate) struct Port(mpsc::Receiver<DuplexStream>);

impl Listener for Port {
    type Socket = DuplexStream;

    async fn accept(&mut self) -> io::Result<DuplexStream> {
        match self.0.recv().await {
            Some(socket) => Ok(socket),
            // The machine is about to go down, and with it the one who waits here.
            None => std::future::pending().await,
        }
    }
}

/// Both sides of a machine's sockets, from one start to the next crash.
pub(crate) fn sockets() -> (Kernel, Sockets) {
    let (clients, client_port) = mpsc::channel(BACKLOG);
    let (peers, peer_port) = mpsc::channel(BACKLOG);
    let (ask, asked) = mpsc::channel(BACKLOG);
    let kernel = Kernel {
        clients,
        peers,
        asked,
    };
    let dial = Dial::through(move |address| open(ask.clone(), address));
    let sockets = Sockets {
        clients: Port(client_port),
        peers: Port(peer_port),
        dial,
    };
    (kernel, sockets)
}

async fn open(ask: mpsc::Sender<Asked>, address: String) -> io::Result<DuplexStream> {
    let down = |_| io::Error::from(io::ErrorKind::NetworkDown);
    let (opened, answer) = oneshot::channel();
    let asked = ask.send((address, opened)).await;
    asked.map_err(|_| io::Error::from(io::ErrorKind::NetworkDown))?;
    answer.await.map_err(down)?
}

impl Kernel {
    /// Runs on the machine's turmoil host until that crashes.
    pub(crate) async fn run(mut self) -> turmoil::Result {
        let clients = TcpListener::bind(("0.0.0.0", CLIENT_PORT)).await?;
        let peers = TcpListener::bind(("0.0.0.0", PEER_PORT)).await?;
        loop {
            // Where nobody accepts any more the connection is closed again.
            tokio::select! {
                biased;
                accepted = clients.accept() => drop(self.clients.try_send(bridge(accepted?.0))),
                accepted = peers.accept() => drop(self.peers.try_send(bridge(accepted?.0))),
                Some((address, opened)) = self.asked.recv() => {
                    spawn_local(async move {
                        let socket = network::connect(address).await.map(bridge);
                        // Who does not wait any more has given up.
                        drop(opened.send(socket));
                    });
                }
            }
        }
    }
}

/// The process's side of a connection.
fn bridge(mut connection: TcpStream) -> DuplexStream {
    let (mut here, there) = duplex(BUFFER_SIZE);
    spawn_local(async move {
        // However it ends, both sides are closed, and that says so.
        drop(copy_bidirectional(&mut connection, &mut here).await);
    });
    there
}
