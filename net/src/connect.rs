//! Connections of a gRPC client whose sockets gather what is written.

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use tower::ServiceExt as _;

use crate::gathered::Gathered;

/// A connection that is opened by its first call, without Nagle's delay. Everything else is as `endpoint` says.
pub fn connect_lazily(endpoint: &Endpoint) -> Channel {
    let mut tcp = HttpConnector::new();
    // Which schemes are spoken is the endpoint's to say.
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let gathering = tcp.map_response(|socket: TokioIo<TcpStream>| {
        TokioIo::new(Gathered::new(socket.into_inner()))
    });
    endpoint.connect_with_connector_lazy(gathering)
}
