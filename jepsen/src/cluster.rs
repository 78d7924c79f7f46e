//! A cluster of real processes on loopback: started, killed, paused, restarted, asked who leads.
//!
//! Promises: returns from a start only when the nodes said `ready`; ports and data directories stay the same over
//! restarts; on a failed test the nodes' directories stay and their last words are printed. Must not know: what runs on
//! the cluster, or what is proven with it.

mod members;
pub mod ports;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use inkstone_client::{Client, ClusterStatus};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::process::Process;
use crate::proxy::{Links, Proxies};

/// How long a node may take to start, and a cluster to elect: generous, because tests share a small machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How the nodes reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// Without anybody in between.
    #[default]
    Direct,
    /// Through relays of this process, so that links can be held.
    Relayed,
}

/// How a cluster is started.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// The `inkstone` program.
    pub binary: PathBuf,
    /// How many nodes.
    pub nodes: usize,
    /// Where the nodes' directories go; `None`: a temporary directory that goes with the cluster.
    pub dir: Option<PathBuf>,
    /// Tables that every node's configuration ends with, as TOML.
    pub tables: String,
    /// What is between the nodes.
    pub network: Network,
}

impl ClusterOptions {
    /// Three nodes in a temporary directory with the server's defaults.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            nodes: 3,
            dir: None,
            tables: String::new(),
            network: Network::default(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Runs,
    Paused,
}

/// One member, running or not.
#[derive(Debug)]
struct Node {
    dir: PathBuf,
    client_address: String,
    peer_address: String,
    process: Option<(Process, Pace)>,
    place: Place,
}

/// Whether a node is to be read from when all is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Member,
    Retired,
}

impl Node {
    fn lay_out(dir: &Path, number: usize) -> Result<Self> {
        let node = Self {
            dir: dir.join(format!("node-{number}")),
            client_address: format!("127.0.0.1:{}", ports::free()?),
            peer_address: format!("127.0.0.1:{}", ports::free()?),
            process: None,
            place: Place::Member,
        };
        std::fs::create_dir_all(&node.dir)?;
        Ok(node)
    }

    fn config_file(&self) -> PathBuf {
        self.dir.join("inkstone.toml")
    }

    fn spawn(&mut self, binary: &Path) -> Result<()> {
        let config = self.config_file();
        let config = config
            .to_str()
            .context("the directory's name is not UTF-8")?;
        let process = Process::spawn(binary, &["serve", "--config", config], &self.dir)?;
        self.process = Some((process, Pace::Runs));
        Ok(())
    }

    async fn ready(&mut self) -> Result<()> {
        let (process, _) = self.process.as_mut().context("the node was not started")?;
        process.ready(PATIENCE).await?;
        Ok(())
    }
}

/// A running cluster. Its nodes are numbered from 0. Everything is killed when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    options: ClusterOptions,
    dir: PathBuf,
    temporary: Option<TempDir>,
    nodes: Vec<Node>,
    proxies: Option<Proxies>,
}

impl Cluster {
    /// Starts all nodes and waits until each is ready.
    pub async fn start(options: ClusterOptions) -> Result<Self> {
        /// Ports are chosen before they are bound, so another process may be faster.
        const TRIES: usize = 5;
        let mut tries = 1;
        loop {
            let mut cluster = Self::lay_out(options.clone())?;
            match cluster.start_all().await {
                Ok(()) => return Ok(cluster),
                Err(error) if tries < TRIES && format!("{error:#}").contains("in use") => {
                    tries += 1;
                }
                Err(error) => return Err(error.context(cluster.last_words())),
            }
        }
    }

    fn lay_out(options: ClusterOptions) -> Result<Self> {
        let temporary = options.dir.is_none().then(tempfile::tempdir).transpose()?;
        let dir = match (&options.dir, &temporary) {
            (Some(dir), _) => dir.clone(),
            (None, Some(temporary)) => temporary.path().to_owned(),
            (None, None) => bail!("no directory"),
        };
        let mut nodes = Vec::new();
        for number in 0..options.nodes {
            nodes.push(Node::lay_out(&dir, number)?);
        }
        let targets: Vec<String> = nodes.iter().map(|node| node.peer_address.clone()).collect();
        let proxies = match options.network {
            Network::Direct => None,
            Network::Relayed => Some(Proxies::start(&targets)?),
        };
        let cluster = Self {
            options,
            dir,
            temporary,
            nodes,
            proxies,
        };
        for node in 0..cluster.nodes.len() {
            cluster.write_config(node, "")?;
        }
        Ok(cluster)
    }

    /// Writes a node's configuration anew, with these lines (`key = value`) before the tables. Takes effect when the
    /// node is started next.
    pub fn write_config(&self, node: usize, lines: &str) -> Result<()> {
        let config = self.config(node, &self.data_dir(node), lines);
        std::fs::write(self.nodes[node].config_file(), config)?;
        Ok(())
    }

    /// The text of a node's configuration for that data directory.
    pub fn config(&self, node: usize, data_dir: &Path, lines: &str) -> String {
        let seeds: Vec<&str> = (0..self.len())
            .map(|node| self.peer_advertise(node))
            .collect();
        let Node {
            client_address,
            peer_address,
            ..
        } = &self.nodes[node];
        format!(
            "data_dir = {:?}\n\
             client_listen = {client_address:?}\n\
             peer_listen = {peer_address:?}\n\
             peer_advertise = {:?}\n\
             seeds = {seeds:?}\n\
             bootstrap_expect = {}\n\
             {lines}\n\
             {}\n",
            data_dir.display().to_string(),
            self.peer_advertise(node),
            self.options.nodes,
            self.options.tables,
        )
    }

    /// Where the other nodes reach a node.
    fn peer_advertise(&self, node: usize) -> &str {
        self.proxies
            .as_ref()
            .map_or(&self.nodes[node].peer_address, |proxies| {
                proxies.address(node)
            })
    }

    /// The switches between the nodes, if there are any.
    pub fn links(&self) -> Result<&Links> {
        let proxies = self.proxies.as_ref();
        Ok(proxies
            .context("the nodes of this cluster reach each other directly: start it with Network::Relayed")?
            .links())
    }

    /// How many nodes it has, running or not.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether it has no nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Leaves the nodes' directories behind when the cluster is gone; the directory that holds them.
    pub fn keep(&mut self) -> &Path {
        if let Some(temporary) = &mut self.temporary {
            temporary.disable_cleanup(true);
        }
        &self.dir
    }

    /// The directory that holds the nodes' directories.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A node's data directory.
    pub fn data_dir(&self, node: usize) -> PathBuf {
        self.nodes[node].dir.join("data")
    }

    /// The file that a node is configured by.
    pub fn config_file(&self, node: usize) -> PathBuf {
        self.nodes[node].config_file()
    }

    /// A node's address for clients.
    pub fn address(&self, node: usize) -> &str {
        &self.nodes[node].client_address
    }

    /// All nodes' addresses for clients.
    pub fn addresses(&self) -> Vec<String> {
        self.nodes
            .iter()
            .map(|node| node.client_address.clone())
            .collect()
    }

    /// A client that asks whoever can answer.
    pub fn client(&self) -> Result<Client> {
        Ok(Client::builder()
            .servers(self.addresses())
            .timeout(PATIENCE)
            .build()?)
    }

    /// A client that asks this node only.
    pub fn client_of(&self, node: usize) -> Result<Client> {
        Ok(Client::builder()
            .stick_to(self.address(node))
            .timeout(PATIENCE)
            .build()?)
    }

    /// Whether the node's process was started and has not ended.
    pub fn is_running(&mut self, node: usize) -> bool {
        self.nodes[node]
            .process
            .as_mut()
            .is_some_and(|(process, _)| process.is_running())
    }

    /// A started node's process, to signal it or wait for its end.
    pub fn process(&mut self, node: usize) -> Result<&mut Process> {
        let started = self.nodes[node].process.as_mut();
        Ok(&mut started
            .with_context(|| format!("node {node} is not running"))?
            .0)
    }

    /// Kills a node (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self, node: usize) -> Result<()> {
        let (mut process, _) = self.nodes[node]
            .process
            .take()
            .with_context(|| format!("node {node} is not running"))?;
        process.kill()
    }

    /// Kills all running nodes: every one gets its signal before any is waited for.
    pub fn kill_all(&mut self) -> Result<()> {
        for node in &self.nodes {
            if let Some((process, _)) = &node.process {
                process.signal(Signal::SIGKILL)?;
            }
        }
        for node in &mut self.nodes {
            if let Some((mut process, _)) = node.process.take() {
                process.kill()?;
            }
        }
        Ok(())
    }

    /// Asks a node to stop (SIGTERM) and waits for its end.
    pub async fn terminate(&mut self, node: usize) -> Result<ExitStatus> {
        let process = self.process(node)?;
        process.signal(Signal::SIGTERM)?;
        let status = process.exited(PATIENCE).await?;
        self.nodes[node].process = None;
        Ok(status)
    }

    /// Stops a node's time (SIGSTOP): it keeps its connections and answers nobody.
    pub fn pause(&mut self, node: usize) -> Result<()> {
        self.set_pace(node, Signal::SIGSTOP, Pace::Paused)
    }

    /// Lets a paused node go on (SIGCONT).
    pub fn resume(&mut self, node: usize) -> Result<()> {
        self.set_pace(node, Signal::SIGCONT, Pace::Runs)
    }

    fn set_pace(&mut self, node: usize, signal: Signal, to: Pace) -> Result<()> {
        let started = self.nodes[node].process.as_mut();
        let (process, pace) = started.with_context(|| format!("node {node} is not running"))?;
        process.signal(signal)?;
        *pace = to;
        Ok(())
    }

    /// Starts a node that does not run, without waiting.
    pub fn spawn(&mut self, node: usize) -> Result<()> {
        ensure!(
            self.nodes[node].process.is_none(),
            "node {node} runs already"
        );
        self.nodes[node].spawn(&self.options.binary)?;
        if let (Some(proxies), Some((process, _))) = (&self.proxies, &self.nodes[node].process) {
            proxies.links().set_process(node, Some(process.id()));
        }
        Ok(())
    }

    /// Waits until a started node is ready.
    pub async fn ready(&mut self, node: usize) -> Result<()> {
        self.nodes[node]
            .ready()
            .await
            .with_context(|| format!("node {node}"))
    }

    /// Starts a node that does not run, and waits until it is ready.
    pub async fn restart(&mut self, node: usize) -> Result<()> {
        self.spawn(node)?;
        self.ready(node).await
    }

    /// Starts all nodes that do not run, together, and waits until each is ready.
    pub async fn start_all(&mut self) -> Result<()> {
        let idle = self
            .active()
            .into_iter()
            .filter(|node| self.nodes[*node].process.is_none());
        let idle: Vec<usize> = idle.collect();
        for node in &idle {
            self.spawn(*node)?;
        }
        for node in idle {
            self.ready(node).await?;
        }
        Ok(())
    }

    /// The node that leads, as the node with the highest term sees it. Waits for one.
    pub async fn leader(&self) -> Result<usize> {
        self.leader_other_than(None).await
    }

    /// The node that leads, once it is another one than `old`. Waits for one.
    pub async fn leader_other_than(&self, old: Option<usize>) -> Result<usize> {
        let mut clients = Vec::new();
        for (number, node) in self.nodes.iter().enumerate() {
            if matches!(node.process, Some((_, Pace::Runs))) {
                let timeout = Duration::from_secs(2);
                let address = self.address(number);
                clients.push(
                    Client::builder()
                        .stick_to(address)
                        .timeout(timeout)
                        .build()?,
                );
            }
        }
        let search = async {
            let mut turns = interval(Duration::from_millis(25));
            turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                turns.tick().await;
                if let Some(leader) = self.leader_now(&clients).await
                    && Some(leader) != old
                {
                    return leader;
                }
            }
        };
        timeout(PATIENCE, search)
            .await
            .with_context(|| format!("no leader but {old:?} in time"))
    }

    async fn leader_now(&self, clients: &[Client]) -> Option<usize> {
        let mut newest: Option<ClusterStatus> = None;
        for client in clients {
            // A node that can't answer has no say.
            let Ok(status) = client.cluster_status().await else {
                continue;
            };
            if newest
                .as_ref()
                .is_none_or(|newest| newest.term <= status.term)
            {
                newest = Some(status);
            }
        }
        let status = newest?;
        let leader = status
            .nodes
            .iter()
            .find(|node| Some(node.node.id) == status.leader)?;
        let address = &leader.node.client_address;
        let number = self
            .nodes
            .iter()
            .position(|node| node.client_address == *address)?;
        matches!(self.nodes[number].process, Some((_, Pace::Runs))).then_some(number)
    }

    /// The end of what every node has written to its standard error.
    pub fn last_words(&self) -> String {
        const LINES: usize = 40;
        let mut text = String::new();
        for (number, node) in self.nodes.iter().enumerate() {
            let words = std::fs::read(node.dir.join("stderr.log")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words);
            let lines: Vec<&str> = words.lines().collect();
            let from = lines.len().saturating_sub(LINES);
            let end = lines[from..].join("\n");
            writeln!(text, "--- node {number} ({})\n{end}", node.dir.display())
                .expect("a String takes all");
        }
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep();
            // The failure is on its way already; nothing is lost if standard error is gone.
            writeln!(io::stderr(), "{}", self.last_words()).ok();
        }
    }
}
