//! Which server to ask next, and the connections to them.
//!
//! It promises that a pinned client never asks a second server, and that a server that failed is asked last. It knows
//! nothing of requests; `call.rs` tells it how they ended.

use std::collections::HashMap;
use std::time::Duration;

use inkstone_net::Dial;
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::client::Routing;
use crate::error::{Error, Result};
use crate::retry::Failure;

/// A server that takes longer to accept a connection is taken for dead.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection is asked for a sign of life so often while requests wait on it, and has as long to give one.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Connections to servers that hints named, beside the configured ones.
const HINTED_MAX: usize = 32;
/// How long a leader that could not be reached is left to other servers.
const UNREACHABLE_FOR: Duration = Duration::from_secs(5);
/// Bytes that may be on their way in one read: a batch of records, and room for a second one.
const STREAM_WINDOW_SIZE: u32 = 4 << 20;

/// Whom a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aim {
    /// The leader, if it is known.
    Leader,
    /// Any server.
    Any,
}

/// A server, and the connection to it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: String,
    pub(crate) channel: Channel,
}

/// The servers of one client.
#[derive(Debug)]
pub(crate) struct Route {
    servers: Vec<String>,
    routing: Routing,
    dial: Dial,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Where the last hint said that the leader is.
    leader: Option<String>,
    /// The server of the list that is asked next.
    current: usize,
    channels: HashMap<String, Channel>,
    /// A leader that could not be reached, and when: hints that name it are not followed for a while. Another server
    /// may reach it, and passes appends on.
    unreachable: Option<(String, Instant)>,
}

impl State {
    /// Whether a hint at that address is worth following now.
    fn may_be_reached(&self, address: &str) -> bool {
        self.unreachable
            .as_ref()
            .is_none_or(|(lost, since)| lost != address || since.elapsed() > UNREACHABLE_FOR)
    }
}

impl Route {
    /// Checks the addresses; connects to none.
    pub(crate) fn new(servers: Vec<String>, routing: Routing) -> Result<Self> {
        if servers.is_empty() {
            return Err(Error::invalid(
                "no server address was given: use HOST:PORT[,HOST:PORT..]",
            ));
        }
        for address in &servers {
            endpoint(address)?;
        }
        Ok(Self {
            servers,
            routing,
            dial: Dial::default(),
            state: Mutex::default(),
        })
    }

    /// Connections are opened in this way.
    pub(crate) fn dialing(self, dial: Dial) -> Self {
        Self { dial, ..self }
    }

    /// Whether it matters which server is asked, and nobody has said yet who leads.
    pub(crate) fn has_choice(&self) -> bool {
        self.routing == Routing::Any && self.servers.len() > 1 && self.state.lock().leader.is_none()
    }

    /// The server to ask now.
    pub(crate) fn pick(&self, aim: Aim) -> Result<Target> {
        let mut state = self.state.lock();
        let hinted = state.leader.clone().filter(|_| aim == Aim::Leader);
        let address = hinted
            .or_else(|| {
                self.servers
                    .get(state.current % self.servers.len())
                    .cloned()
            })
            .unwrap_or_default();
        if let Some(channel) = state.channels.get(&address) {
            return Ok(Target {
                address,
                channel: channel.clone(),
            });
        }
        if state.channels.len() >= self.servers.len() + HINTED_MAX {
            state
                .channels
                .retain(|address, _| self.servers.contains(address));
        }
        let channel = self.dial.channel(&endpoint(&address)?);
        state.channels.insert(address.clone(), channel.clone());
        Ok(Target { address, channel })
    }

    /// Remembers where the leader is said to be. Whether that is worth going there now.
    pub(crate) fn leads(&self, address: &str) -> bool {
        if self.routing != Routing::Any || endpoint(address).is_err() {
            return false;
        }
        let mut state = self.state.lock();
        let reachable = state.may_be_reached(address);
        if reachable {
            state.leader = Some(address.to_owned());
        }
        reachable
    }

    /// Draws the conclusion from a try at `address` that failed.
    pub(crate) fn failed(&self, address: &str, failure: &Failure) {
        if self.routing == Routing::Pinned || !failure.may_pass() {
            return;
        }
        let hint = failure.detail().and_then(|detail| detail.leader.as_ref());
        if let Some(leader) = hint.filter(|leader| leader.client_address != address) {
            self.leads(&leader.client_address);
            return;
        }
        let mut state = self.state.lock();
        if state.leader.as_deref() == Some(address) {
            state.leader = None;
            if matches!(failure, Failure::NotSent { .. }) {
                state.unreachable = Some((address.to_owned(), Instant::now()));
            }
        }
        if self
            .servers
            .get(state.current)
            .is_some_and(|current| current == address)
        {
            state.current = (state.current + 1) % self.servers.len();
        }
    }
}

fn endpoint(address: &str) -> Result<Endpoint> {
    let invalid = || {
        Error::invalid(format!(
            "`{address}` is not a server address: use HOST:PORT"
        ))
    };
    let uri: Uri = format!("http://{address}").parse().map_err(|_| invalid())?;
    if uri.port_u16().is_none() || uri.path() != "/" {
        return Err(invalid());
    }
    Ok(Endpoint::from(uri)
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .initial_stream_window_size(STREAM_WINDOW_SIZE)
        .initial_connection_window_size(2 * STREAM_WINDOW_SIZE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Detail;
    use crate::types::NodeInfo;

    fn not_sent() -> Failure {
        Failure::NotSent {
            message: "down".to_owned(),
        }
    }

    fn hint(address: &str) -> Failure {
        let leader = NodeInfo {
            id: 2,
            client_address: address.to_owned(),
            peer_address: String::new(),
        };
        let detail = Detail {
            retryable: true,
            leader: Some(leader),
            ..Detail::default()
        };
        Failure::Refused {
            message: "not the leader".to_owned(),
            detail: Box::new(detail),
        }
    }

    fn route(routing: Routing) -> Route {
        Route::new(vec!["a:1".to_owned(), "b:1".to_owned()], routing).unwrap()
    }

    #[tokio::test]
    async fn a_server_that_fails_is_followed_by_the_next() {
        let route = route(Routing::Any);
        assert_eq!(route.pick(Aim::Any).unwrap().address, "a:1");
        route.failed("a:1", &not_sent());
        assert_eq!(route.pick(Aim::Any).unwrap().address, "b:1");
        route.failed("b:1", &not_sent());
        assert_eq!(route.pick(Aim::Any).unwrap().address, "a:1");
    }

    #[tokio::test]
    async fn a_hint_leads_appends_and_only_them() {
        let route = route(Routing::Any);
        route.failed("a:1", &hint("c:1"));
        assert_eq!(route.pick(Aim::Leader).unwrap().address, "c:1");
        assert_eq!(route.pick(Aim::Any).unwrap().address, "a:1");
        route.failed("c:1", &not_sent());
        assert_eq!(route.pick(Aim::Leader).unwrap().address, "a:1");
    }

    #[tokio::test]
    async fn a_leader_that_cannot_be_reached_is_left_to_other_servers_for_a_while() {
        let route = route(Routing::Any);
        assert!(route.leads("c:1"));
        route.failed("c:1", &not_sent());
        assert!(!route.leads("c:1"), "it was just lost");
        assert_eq!(route.pick(Aim::Leader).unwrap().address, "a:1");
        assert!(route.leads("d:1"), "another one may lead now");
        assert_eq!(route.pick(Aim::Leader).unwrap().address, "d:1");
    }

    #[tokio::test]
    async fn a_pinned_client_asks_one_server_whatever_happens() {
        let route = route(Routing::Pinned);
        route.failed("a:1", &hint("c:1"));
        route.failed("a:1", &not_sent());
        assert_eq!(route.pick(Aim::Leader).unwrap().address, "a:1");
    }

    #[test]
    fn an_address_without_a_port_is_refused() {
        for address in ["localhost", "", "http://a:1", "a:1/x", "a:notaport"] {
            assert!(
                Route::new(vec![address.to_owned()], Routing::Any).is_err(),
                "{address:?}"
            );
        }
        assert!(Route::new(vec!["[::1]:7420".to_owned()], Routing::Any).is_ok());
    }
}
