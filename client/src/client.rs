//! The client: which servers, how long, how often.

use std::time::Duration;

use crate::retry::RetryPolicy;
use crate::{
    AppendOptions, AppendSession, ClusterStatus, Consistency, Created, IfExists, LogInfo,
    NewRecord, ReadOptions, ReadStream, Receipt, Result, SearchAnswer, SearchOptions,
    SessionOptions, Tail,
};

/// Server addresses, `HOST:PORT` each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses(pub(crate) Vec<String>);

impl From<&str> for Addresses {
    /// One address, or several with commas between them.
    fn from(list: &str) -> Self {
        Self(
            list.split(',')
                .map(str::trim)
                .filter(|a| !a.is_empty())
                .map(str::to_owned)
                .collect(),
        )
    }
}

impl From<String> for Addresses {
    fn from(list: String) -> Self {
        Self::from(list.as_str())
    }
}

impl<S: Into<String>> From<Vec<S>> for Addresses {
    fn from(list: Vec<S>) -> Self {
        Self(list.into_iter().map(Into::into).collect())
    }
}

impl<S: Into<String>, const N: usize> From<[S; N]> for Addresses {
    fn from(list: [S; N]) -> Self {
        Self(list.into_iter().map(Into::into).collect())
    }
}

/// Whom a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Routing {
    /// The leader for appends, any server for the rest, another one when one fails.
    #[default]
    Any,
    /// Only the first address, and its own answer: no failover, no leader hints.
    Pinned,
}

/// Makes a [`Client`].
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    servers: Addresses,
    routing: Routing,
    timeout: Duration,
    retry: RetryPolicy,
}

impl ClientBuilder {
    /// The servers to ask. Default: `127.0.0.1:7420`.
    #[must_use]
    pub fn servers(self, addresses: impl Into<Addresses>) -> Self {
        todo!()
    }
    /// Ask only this server, never another one: what it says is the answer.
    #[must_use]
    pub fn stick_to(self, address: impl Into<String>) -> Self {
        todo!()
    }
    /// How long a call may take, retries included. Default: 10 s.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        todo!()
    }
    /// How to wait between tries.
    #[must_use]
    pub fn retry(self, policy: RetryPolicy) -> Self {
        todo!()
    }
    /// The client. Connects when it is first used. Fails only if an address is not one.
    pub fn build(self) -> Result<Client> {
        todo!()
    }
}

/// A connection to a cluster. Cheap to clone; clones share connections and producers.
#[derive(Debug, Clone)]
pub struct Client {}

impl Client {
    /// A client with default settings. Connects when it is first used.
    pub fn connect(addresses: impl Into<Addresses>) -> Result<Self> {
        todo!()
    }
    /// A builder with default settings.
    pub fn builder() -> ClientBuilder {
        todo!()
    }
    /// Creates a log.
    pub async fn create_log(&self, name: &str, if_exists: IfExists) -> Result<Created> {
        todo!()
    }
    /// All logs whose name starts with `prefix`, by name.
    pub async fn list_logs(&self, prefix: &str) -> Result<Vec<LogInfo>> {
        todo!()
    }
    /// One log.
    pub async fn log_info(&self, name: &str) -> Result<LogInfo> {
        todo!()
    }
    /// Who is in the cluster, who leads, and how far each node is.
    pub async fn cluster_status(&self) -> Result<ClusterStatus> {
        todo!()
    }
    /// Appends one batch, exactly once.
    pub async fn append(&self, log: &str, records: Vec<NewRecord>) -> Result<Receipt> {
        todo!()
    }
    /// Appends one batch, as the options say.
    pub async fn append_with(
        &self,
        log: &str,
        records: Vec<NewRecord>,
        options: AppendOptions,
    ) -> Result<Receipt> {
        todo!()
    }
    /// Opens a pipelined session: up to 16 batches in flight, each exactly once.
    pub fn append_session(&self, log: &str, options: SessionOptions) -> AppendSession {
        todo!()
    }
    /// Reads a log.
    pub fn read(&self, options: ReadOptions) -> ReadStream {
        todo!()
    }
    /// Where a log starts and ends.
    pub async fn tail(&self, log: &str, consistency: Consistency) -> Result<Tail> {
        todo!()
    }
    /// Searches a log, newest first.
    pub async fn search(&self, options: SearchOptions) -> Result<SearchAnswer> {
        todo!()
    }
}
