//! What the calls cost without Inkstone: a server of plain tonic that does nothing, asked as the clients ask.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use inkstone_jepsen::clock::Clock;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::loads::Load;

/// Calls per second of as many callers on as many connections, each with one call of as many bytes at a time. Server
/// and callers share this process.
pub(crate) async fn calls(load: Load, length: Duration) -> Result<u64> {
    // The bytes are the name of the service that is asked for: no other field of a health check has as many.
    let name = "x".repeat(load.record_size);
    let (health, service) = tonic_health::server::health_reporter();
    health
        .set_service_status(&name, ServingStatus::Serving)
        .await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = tokio::spawn(
        Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming),
    );
    let mut channels = Vec::new();
    for _ in 0..load.connections {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        channels.push(endpoint.connect().await?);
    }
    let clock = Clock::start();
    let mut tasks = JoinSet::new();
    for channel in channels.iter().cycle().take(load.clients).cloned() {
        tasks.spawn(call(channel, name.clone(), clock, length));
    }
    let mut calls = 0;
    while let Some(done) = tasks.join_next().await {
        calls += done.context("a caller panicked")??;
    }
    let millis = u64::try_from(clock.elapsed().as_millis())?;
    server.abort();
    Ok(calls * 1_000 / millis.max(1))
}

async fn call(channel: Channel, name: String, clock: Clock, length: Duration) -> Result<u64> {
    let mut client = HealthClient::new(channel);
    let mut calls = 0;
    while clock.elapsed() < length {
        let service = name.clone();
        client.check(HealthCheckRequest { service }).await?;
        calls += 1;
    }
    Ok(calls)
}
