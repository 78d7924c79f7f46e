//! NATS with `JetStream`: three nodes, a stream of three replicas in files. A batch is so many messages whose acknowledgements
//! are awaited together.

use std::time::Duration;

use anyhow::{Context as _, Result};
use async_nats::jetstream::{self, stream};
use inkstone_jepsen::cluster::{PATIENCE, ports};
use inkstone_jepsen::process::Process;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::installed;

const NODES: usize = 3;
const SUBJECT: &str = "bench";
const PAUSE: Duration = Duration::from_millis(100);

/// A running cluster.
pub(crate) struct Nats {
    _nodes: Vec<Process>,
    addresses: Vec<String>,
    _dir: TempDir,
}

impl Nats {
    pub(crate) async fn start() -> Result<Self> {
        let program = installed("nats-server").context("nats-server is not installed")?;
        let dir = tempfile::tempdir()?;
        let mut listens = Vec::new();
        for _ in 0..NODES {
            listens.push((ports::free()?, ports::free()?));
        }
        let routes: Vec<String> = listens
            .iter()
            .map(|(_, cluster)| format!("nats://127.0.0.1:{cluster}"))
            .collect();
        let routes = routes.join(", ");
        let mut nodes = Vec::new();
        for (node, (client, cluster)) in listens.iter().enumerate() {
            let own = dir.path().join(format!("n{node}"));
            std::fs::create_dir(&own)?;
            let config = own.join("nats.conf");
            let store = own.join("data");
            std::fs::write(
                &config,
                format!(
                    "server_name: n{node}\nlisten: 127.0.0.1:{client}\n\
                     jetstream {{ store_dir: {:?}, max_file_store: 50GB }}\n\
                     cluster {{ name: bench, listen: 127.0.0.1:{cluster}, routes: [ {routes} ] }}\n",
                    store.display().to_string(),
                ),
            )?;
            let config = config.display().to_string();
            nodes.push(Process::spawn(&program, &["-c", &config], &own)?);
        }
        let nats = Self {
            _nodes: nodes,
            addresses: listens
                .into_iter()
                .map(|(client, _)| format!("nats://127.0.0.1:{client}"))
                .collect(),
            _dir: dir,
        };
        timeout(PATIENCE, nats.ready())
            .await
            .context("JetStream does not get ready")?;
        Ok(nats)
    }

    /// Returns once the stream exists.
    async fn ready(&self) {
        while self.create_stream().await.is_err() {
            sleep(PAUSE).await;
        }
    }

    async fn create_stream(&self) -> Result<()> {
        let client = self.client().await?;
        let options = stream::Config {
            name: SUBJECT.to_owned(),
            subjects: vec![SUBJECT.to_owned()],
            num_replicas: NODES,
            storage: stream::StorageType::File,
            ..stream::Config::default()
        };
        client.jetstream.create_stream(options).await?;
        Ok(())
    }

    pub(crate) async fn client(&self) -> Result<NatsClient> {
        let client = async_nats::connect(&self.addresses).await?;
        Ok(NatsClient {
            jetstream: jetstream::new(client),
        })
    }
}

/// One client.
pub(crate) struct NatsClient {
    jetstream: jetstream::Context,
}

impl NatsClient {
    pub(crate) async fn publish(&mut self, bodies: &[Vec<u8>]) -> Result<()> {
        let mut acknowledgements = Vec::with_capacity(bodies.len());
        for body in bodies {
            acknowledgements.push(self.jetstream.publish(SUBJECT, body.clone().into()).await?);
        }
        for acknowledgement in acknowledgements {
            acknowledgement.await?;
        }
        Ok(())
    }
}
