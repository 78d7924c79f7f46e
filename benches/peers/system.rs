//! Three nodes of one of the systems, running, and clients of it.

use anyhow::{Context as _, Result};
use inkstone_benches::program;
use inkstone_client::{Client, IfExists, NewRecord};
use inkstone_jepsen::cluster::{Cluster, ClusterOptions};

use crate::etcd::{Etcd, EtcdClient};
use crate::installed;
use crate::nats::{Nats, NatsClient};

const LOG: &str = "bench/peers";

/// Which system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Inkstone,
    Etcd,
    Nats,
}

impl Kind {
    /// Inkstone first: the others are compared with it.
    pub(crate) const ALL: [Self; 3] = [Self::Inkstone, Self::Etcd, Self::Nats];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Inkstone => "Inkstone (search index on)",
            Self::Etcd => "etcd",
            Self::Nats => "NATS JetStream, R3, files",
        }
    }

    pub(crate) fn is_installed(self) -> bool {
        match self {
            Self::Inkstone => true,
            Self::Etcd => installed("etcd").is_some(),
            Self::Nats => installed("nats-server").is_some(),
        }
    }

    pub(crate) fn promise(self) -> &'static str {
        match self {
            Self::Inkstone | Self::Etcd => "fdatasync on a majority",
            Self::Nats => "written on a majority, fsync at most 2 minutes later",
        }
    }
}

/// A running cluster, ended when it is dropped.
pub(crate) enum System {
    Inkstone(Cluster),
    Etcd(Etcd),
    Nats(Nats),
}

impl System {
    pub(crate) async fn start(kind: Kind) -> Result<Self> {
        Ok(match kind {
            Kind::Inkstone => {
                let cluster = Cluster::start(ClusterOptions::new(program()?)).await?;
                cluster.client()?.create_log(LOG, IfExists::Fail).await?;
                Self::Inkstone(cluster)
            }
            Kind::Etcd => Self::Etcd(Etcd::start().await?),
            Kind::Nats => Self::Nats(Nats::start().await?),
        })
    }

    /// A client with a connection of its own.
    pub(crate) async fn client(&self) -> Result<SystemClient> {
        Ok(match self {
            Self::Inkstone(cluster) => SystemClient::Inkstone(cluster.client()?),
            Self::Etcd(etcd) => SystemClient::Etcd(etcd.client().await?),
            Self::Nats(nats) => SystemClient::Nats(nats.client().await?),
        })
    }
}

/// One client.
pub(crate) enum SystemClient {
    Inkstone(Client),
    Etcd(EtcdClient),
    Nats(NatsClient),
}

impl SystemClient {
    /// Appends the bodies together, as far as the system can, and returns when they are acknowledged.
    pub(crate) async fn append(&mut self, bodies: &[Vec<u8>]) -> Result<()> {
        match self {
            Self::Inkstone(client) => {
                let records = bodies.iter().cloned().map(NewRecord::new).collect();
                client.append(LOG, records).await.context("Inkstone")?;
                Ok(())
            }
            Self::Etcd(client) => client.put(bodies).await.context("etcd"),
            Self::Nats(client) => client.publish(bodies).await.context("NATS"),
        }
    }
}
