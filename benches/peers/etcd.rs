//! etcd: three nodes that fsync before they acknowledge. A record is a key of its own; a batch is one transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use inkstone_jepsen::cluster::{PATIENCE, ports};
use inkstone_jepsen::process::Process;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Endpoint};

use self::pb::kv_client::KvClient;
use crate::installed;

mod pb {
    #![expect(
        unreachable_pub,
        unused_qualifications,
        clippy::allow_attributes_without_reason,
        reason = "generated"
    )]
    tonic::include_proto!("etcdserverpb");
}

const NODES: usize = 3;
const PAUSE: Duration = Duration::from_millis(100);

/// A running cluster.
pub(crate) struct Etcd {
    _nodes: Vec<Process>,
    addresses: Vec<String>,
    /// Numbers the keys.
    next: Arc<AtomicU64>,
    turn: AtomicU64,
    _dir: TempDir,
}

impl Etcd {
    pub(crate) async fn start() -> Result<Self> {
        let program = installed("etcd").context("etcd is not installed")?;
        let dir = tempfile::tempdir()?;
        let mut urls = Vec::new();
        for _ in 0..NODES {
            let client = format!("http://127.0.0.1:{}", ports::free()?);
            let peer = format!("http://127.0.0.1:{}", ports::free()?);
            urls.push((client, peer));
        }
        let members: Vec<String> = urls
            .iter()
            .enumerate()
            .map(|(node, (_, peer))| format!("n{node}={peer}"))
            .collect();
        let members = members.join(",");
        let mut nodes = Vec::new();
        for (node, (client, peer)) in urls.iter().enumerate() {
            let own = dir.path().join(format!("n{node}"));
            std::fs::create_dir(&own)?;
            let data = own.join("data").display().to_string();
            let name = format!("n{node}");
            let arguments = [
                "--name",
                &name,
                "--data-dir",
                &data,
                "--listen-client-urls",
                client,
                "--advertise-client-urls",
                client,
                "--listen-peer-urls",
                peer,
                "--initial-advertise-peer-urls",
                peer,
                "--initial-cluster",
                &members,
                "--initial-cluster-state",
                "new",
                "--quota-backend-bytes",
                "8589934592",
            ];
            nodes.push(Process::spawn(&program, &arguments, &own)?);
        }
        let etcd = Self {
            _nodes: nodes,
            addresses: urls.into_iter().map(|(client, _)| client).collect(),
            next: Arc::default(),
            turn: AtomicU64::new(0),
            _dir: dir,
        };
        timeout(PATIENCE, etcd.ready())
            .await
            .context("etcd does not get ready")?;
        Ok(etcd)
    }

    /// Returns once a key was set.
    async fn ready(&self) {
        loop {
            if let Ok(mut client) = self.client().await
                && client.put(&[b"ready".to_vec()]).await.is_ok()
            {
                return;
            }
            sleep(PAUSE).await;
        }
    }

    /// Clients are spread over the nodes, as etcd's own do it.
    pub(crate) async fn client(&self) -> Result<EtcdClient> {
        let turn = usize::try_from(self.turn.fetch_add(1, Ordering::Relaxed))?;
        let address = self.addresses[turn % NODES].clone();
        let channel = Endpoint::from_shared(address)?
            .tcp_nodelay(true)
            .connect()
            .await?;
        Ok(EtcdClient {
            kv: KvClient::new(channel),
            next: Arc::clone(&self.next),
        })
    }
}

/// One client.
pub(crate) struct EtcdClient {
    kv: KvClient<Channel>,
    next: Arc<AtomicU64>,
}

impl EtcdClient {
    pub(crate) async fn put(&mut self, bodies: &[Vec<u8>]) -> Result<()> {
        let first = self.next.fetch_add(bodies.len() as u64, Ordering::Relaxed);
        let mut puts = (first..).zip(bodies).map(|(number, body)| pb::PutRequest {
            key: format!("bench/{number:020}").into_bytes(),
            value: body.clone(),
        });
        if bodies.len() == 1 {
            let put = puts.next().context("one body")?;
            self.kv.put(put).await?;
            return Ok(());
        }
        let success = puts
            .map(|put| pb::RequestOp {
                request: Some(pb::request_op::Request::RequestPut(put)),
            })
            .collect();
        self.kv.txn(pb::TxnRequest { success }).await?;
        Ok(())
    }
}
