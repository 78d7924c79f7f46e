//! Turmoil's network as those who open connections see it.
//!
//! Promises: every byte between hosts goes through turmoil. Must not know: what is sent.

use std::io;

use turmoil::net::TcpStream;

/// Every node listens for clients here...
pub(crate) const CLIENT_PORT: u16 = 7_420;
/// ...and for other nodes here.
pub(crate) const PEER_PORT: u16 = 7_421;

/// Opens a connection to HOST:PORT from whatever turmoil host the caller runs on.
pub(crate) async fn connect(address: String) -> io::Result<TcpStream> {
    let (host, port) = address.split_once(':').ok_or(io::ErrorKind::InvalidInput)?;
    let port: u16 = port
        .parse()
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    TcpStream::connect((host, port)).await
}
