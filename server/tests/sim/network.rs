//! Turmoil's network as the server and the client library see it.
//!
//! Promises: every byte between hosts goes through turmoil. Must not know: what is sent.

use std::io;

use inkstone_server::node::Listener;
use turmoil::net::{TcpListener, TcpStream};

/// Every node listens for clients here...
pub(crate) const CLIENT_PORT: u16 = 7_420;
/// ...and for other nodes here.
pub(crate) const PEER_PORT: u16 = 7_421;

/// Opens a connection to HOST:PORT from whatever host the caller runs on.
pub(crate) async fn connect(address: String) -> io::Result<TcpStream> {
    let (host, port) = address.split_once(':').ok_or(io::ErrorKind::InvalidInput)?;
    let port: u16 = port
        .parse()
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    TcpStream::connect((host, port)).await
}

/// A port of the host that the caller runs on.
pub(crate) struct Port(TcpListener);

impl Port {
    pub(crate) async fn bind(port: u16) -> io::Result<Self> {
        Ok(Self(TcpListener::bind(("0.0.0.0", port)).await?))
    }
}

impl Listener for Port {
    type Socket = TcpStream;

    async fn accept(&mut self) -> io::Result<TcpStream> {
        Ok(self.0.accept().await?.0)
    }
}
