//! The two ports of a node, once they are bound and it has something to serve.
//!
//! Promises: a server ends when the node stops, after what is under way. Must not know: how the node came to be.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::server::HealthReporter;

use crate::grpc::peer::PeerService;
use crate::grpc::{self, Services};

/// Between questions whether a silent connection of a peer lives.
const PEER_KEEPALIVE: Duration = Duration::from_secs(5);

/// A server that runs, until it is told to stop or fails.
pub(super) type Serving = JoinHandle<Result<(), tonic::transport::Error>>;

async fn stopped(mut stop: watch::Receiver<bool>) {
    // A sender that is gone is a node that is gone.
    drop(stop.wait_for(|stop| *stop).await);
}

/// The connections of a port. Small answers are sent at once: tonic's own setting for that is ignored for a port that
/// was bound before, and then every second answer waits 40 ms for the other side's delayed acknowledgement.
fn incoming(port: TcpListener) -> TcpIncoming {
    TcpIncoming::from(port).with_nodelay(Some(true))
}

/// Serves the other nodes.
pub(super) fn serve_peers(
    service: PeerService,
    port: TcpListener,
    stop: watch::Receiver<bool>,
) -> Serving {
    let server = Server::builder()
        .initial_stream_window_size(Some(8 << 20))
        .initial_connection_window_size(Some(16 << 20))
        .http2_keepalive_interval(Some(PEER_KEEPALIVE))
        .http2_keepalive_timeout(Some(PEER_KEEPALIVE))
        .add_service(service.into_server());
    let incoming = incoming(port);
    tokio::spawn(server.serve_with_incoming_shutdown(incoming, stopped(stop)))
}

/// Serves clients, and says so to those that ask for the node's health: what says otherwise later is returned, too.
pub(super) async fn serve_clients(
    services: &Services,
    port: TcpListener,
    stop: watch::Receiver<bool>,
) -> (Serving, HealthReporter) {
    let (router, health) = grpc::client_router(services).await;
    let serving = router.serve_with_incoming_shutdown(incoming(port), stopped(stop));
    (tokio::spawn(serving), health)
}
