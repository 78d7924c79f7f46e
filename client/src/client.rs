//! The client itself: which servers, how long, how often. The calls are in one file per verb.

use inkstone_net::Dial;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::append::Lanes;
use crate::call::Core;
use crate::error::Result;
use crate::retry::RetryPolicy;
use crate::route::Route;

/// Server addresses, `HOST:PORT` each.
///
/// ```
/// use inkstone_client::Addresses;
///
/// let several = Addresses::from("10.0.0.1:7420, 10.0.0.2:7420");
/// assert_eq!(several, Addresses::from(["10.0.0.1:7420", "10.0.0.2:7420"]));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses(Vec<String>);

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
    /// Only one server, and its own answer: no failover, no leader hints.
    Pinned,
}

/// Makes a [`Client`].
///
/// ```
/// use std::time::Duration;
/// use inkstone_client::{Client, RetryPolicy};
///
/// # fn main() -> inkstone_client::Result<()> {
/// let client = Client::builder()
///     .servers(["10.0.0.1:7420", "10.0.0.2:7420"])
///     .timeout(Duration::from_secs(30))
///     .build()?;
/// // What does this one node say, without a second try?
/// let probe = Client::builder().stick_to("10.0.0.2:7420").retry(RetryPolicy::never()).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    servers: Addresses,
    routing: Routing,
    dial: Dial,
    timeout: Duration,
    policy: RetryPolicy,
}

impl ClientBuilder {
    /// The servers to ask. Default: `127.0.0.1:7420`.
    #[must_use]
    pub fn servers(mut self, addresses: impl Into<Addresses>) -> Self {
        self.servers = addresses.into();
        self
    }

    /// Ask only this server, never another one: what it says is the answer ([`Routing::Pinned`]).
    #[must_use]
    pub fn stick_to(mut self, address: impl Into<String>) -> Self {
        self.servers = Addresses(vec![address.into()]);
        self.routing = Routing::Pinned;
        self
    }

    /// How connections are opened. Default: by TCP.
    #[must_use]
    pub fn dial(mut self, dial: Dial) -> Self {
        self.dial = dial;
        self
    }

    /// How long a call may take, retries included. Default: 10 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How to wait between tries, and how many to make.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// The client. It is lazy, as [`Client::connect`] is: it connects when it is first used.
    ///
    /// # Errors
    ///
    /// [`Reason::Invalid`](crate::Reason::Invalid) if an address is not `HOST:PORT`, or there is none.
    pub fn build(self) -> Result<Client> {
        let core = Core {
            route: Route::new(self.servers.0, self.routing)?.dialing(self.dial),
            timeout: self.timeout,
            policy: self.policy,
            lanes: Lanes::new(),
            asked_for_leader: AtomicBool::new(false),
        };
        Ok(Client {
            core: Arc::new(core),
        })
    }
}

/// A cluster, as one application sees it. Cheap to clone; clones share connections and producers.
///
/// Calls must run on a tokio runtime.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) core: Arc<Core>,
}

impl Client {
    /// A client of these servers, otherwise with default settings.
    ///
    /// It is lazy: nothing is resolved, connected or sent before the first call, so it succeeds whether or not a
    /// server is there, and it is not async. A server that can't be reached is the first call's error.
    ///
    /// # Errors
    ///
    /// [`Reason::Invalid`](crate::Reason::Invalid) if an address is not `HOST:PORT`, or there is none.
    ///
    /// ```
    /// # fn main() -> inkstone_client::Result<()> {
    /// let client = inkstone_client::Client::connect("127.0.0.1:7420,127.0.0.1:7422")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect(addresses: impl Into<Addresses>) -> Result<Self> {
        Self::builder().servers(addresses).build()
    }

    /// A builder with default settings.
    ///
    /// ```
    /// let builder = inkstone_client::Client::builder().servers("127.0.0.1:7420");
    /// assert!(builder.build().is_ok());
    /// ```
    pub fn builder() -> ClientBuilder {
        ClientBuilder {
            servers: Addresses::from("127.0.0.1:7420"),
            routing: Routing::default(),
            dial: Dial::default(),
            timeout: Duration::from_secs(10),
            policy: RetryPolicy::default(),
        }
    }
}
