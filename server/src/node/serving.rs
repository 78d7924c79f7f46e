//! The two ports of a node, once they are bound and it has something to serve.
//!
//! Promises: a server ends when the node stops, after what is under way. Must not know: how the node came to be.

use std::io;
use std::os::fd::AsFd;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic_health::server::HealthReporter;

use super::connections::{Listener, PEERS, Port, clients};
use crate::clock::Clock;
use crate::grpc::front::Front;
use crate::grpc::peer::PeerService;
use crate::grpc::quarantined::{self, Quarantined};
use crate::grpc::{self, Services};

/// Connections to a node that only says that it is in quarantine.
const QUARANTINE_CONNECTIONS_MAX: usize = 512;

/// A server that runs until it is told to stop.
pub type Serving = JoinHandle<()>;

/// Serves the other nodes.
pub fn serve_peers(
    service: PeerService,
    listener: impl Listener,
    clock: Clock,
    stop: watch::Receiver<bool>,
) -> Serving {
    let front = Front::for_peers(Routes::new(service.into_server()));
    tokio::spawn(Port::new(PEERS, front, clock, stop).serve(listener))
}

/// A second handle of a bound port: what comes to it is taken by whoever serves one of the two.
pub(super) fn another(port: &TcpListener) -> io::Result<TcpListener> {
    let port = port.as_fd().try_clone_to_owned()?;
    TcpListener::from_std(std::net::TcpListener::from(port))
}

/// Tells clients that the node is in quarantine, until the node has `left` it.
pub(super) async fn serve_quarantined(
    quarantined: &Quarantined,
    listener: TcpListener,
    clock: Clock,
    left: watch::Receiver<bool>,
) -> Serving {
    let routes = quarantined::client_routes(quarantined).await;
    let port = Port::new(
        clients(QUARANTINE_CONNECTIONS_MAX),
        Front::for_clients(routes),
        clock,
        left,
    );
    tokio::spawn(port.serve(listener))
}

/// Serves clients, and says so to those that ask for the node's health: what says otherwise later is returned, too.
pub async fn serve_clients(
    services: &Services,
    listener: impl Listener,
    connections_max: usize,
    stop: watch::Receiver<bool>,
) -> (Serving, HealthReporter) {
    let (routes, health) = grpc::client_routes(services).await;
    let front = Front::for_clients(routes);
    let port = Port::new(clients(connections_max), front, services.clock, stop);
    (tokio::spawn(port.serve(listener)), health)
}
