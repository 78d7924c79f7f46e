//! The connections of a port: how many there may be, how each speaks HTTP/2, and when it ends.
//!
//! Promises: at the bound a connection that is idle makes room, and if there is none the new one is told so, but may be an
//! operator's; on the other nodes' port who has not shown to be of the cluster makes room, idle or not; who says nothing,
//! or no HTTP/2, is let go; when the node stops, what is under way is finished. Must not know: what is served.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use inkstone_net::Gathered;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::guarded::Guarded;
use crate::clock::Clock;
use crate::grpc::connection::{Connection, End, Welcome};
use crate::grpc::front::Front;
use crate::grpc::limits::{
    CLIENT_CONNECTION_WINDOW, CLIENT_STREAM_WINDOW, CONNECTION_STREAMS_MAX, GREETING_TIMEOUT,
    HEADERS_SIZE_MAX, PEER_CONNECTION_WINDOW, PEER_CONNECTIONS_MAX, PEER_STREAM_WINDOW,
    REFUSED_CONNECTION_TIMEOUT, REFUSED_CONNECTIONS_MAX, SEND_BUFFER_SIZE, WRITE_TIMEOUT_MAX,
};

/// What every HTTP/2 connection begins with.
const GREETING_SIZE: u64 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len() as u64;
/// After a connection could not be taken, for want of file descriptors: others end meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where connections come from.
pub trait Listener: Send + 'static {
    /// What they are.
    type Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Waits for the next one. Cancelling it loses none.
    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Socket>> + Send;
}

impl Listener for TcpListener {
    type Socket = TcpStream;

    async fn accept(&mut self) -> io::Result<TcpStream> {
        let (socket, _) = Self::accept(self).await?;
        // Small answers are sent at once: without this every second one waits 40 ms for the other side's delayed
        // acknowledgement.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "a connection that has ended already");
        }
        Ok(socket)
    }
}

/// How a port treats its connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// How many, and how that bound is called.
    connections_max: usize,
    bound: &'static str,
    stream_window: u32,
    connection_window: u32,
    streams_max: u32,
    strangers: Strangers,
    /// Between questions whether a silent connection lives, and how long its answer may take.
    keepalive: Duration,
}

/// What a connection is worth over which no message of this cluster has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strangers {
    /// As much as any: clients don't say whose they are.
    Welcome,
    /// Less than any other: it makes room first, whatever is open on it. Until it has sent a message with the cluster's
    /// header nothing was done for it, so that nothing is lost.
    GiveWay,
}

/// For the clients' port.
pub(super) const fn clients(connections_max: usize) -> Rules {
    Rules {
        connections_max,
        bound: "client_connections_max",
        stream_window: CLIENT_STREAM_WINDOW,
        connection_window: CLIENT_CONNECTION_WINDOW,
        streams_max: CONNECTION_STREAMS_MAX,
        strangers: Strangers::Welcome,
        keepalive: Duration::from_secs(20),
    }
}

/// For the other nodes' port.
pub(super) const PEERS: Rules = Rules {
    connections_max: PEER_CONNECTIONS_MAX,
    bound: "peer_connections_max",
    stream_window: PEER_STREAM_WINDOW,
    connection_window: PEER_CONNECTION_WINDOW,
    // They pass on what all of their clients ask.
    streams_max: 8 * CONNECTION_STREAMS_MAX,
    strangers: Strangers::GiveWay,
    keepalive: Duration::from_secs(5),
};

/// A port that is served.
#[derive(Debug)]
pub(super) struct Port {
    rules: Rules,
    front: Front,
    clock: Clock,
    stop: watch::Receiver<bool>,
    open: Arc<Mutex<Open>>,
}

/// The connections that there are, by a number.
#[derive(Debug, Default)]
struct Open {
    next: u64,
    served: BTreeMap<u64, Connection>,
    /// Those beyond the bound.
    refused: BTreeMap<u64, Connection>,
    /// Those that were asked to end, and are not counted among the others any more.
    retired: BTreeSet<u64>,
}

/// A connection's place among them, until it is dropped.
struct Registered {
    id: u64,
    connection: Connection,
    open: Arc<Mutex<Open>>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        open.served.remove(&self.id);
        open.refused.remove(&self.id);
        open.retired.remove(&self.id);
    }
}

/// Whether a connection was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    /// Once nothing is open on it.
    Ending,
    /// Once nothing is open on it, but not later than a call can take.
    Last,
}

impl Port {
    pub(super) fn new(
        rules: Rules,
        front: Front,
        clock: Clock,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            rules,
            front,
            clock,
            stop,
            open: Arc::default(),
        }
    }

    /// Serves until the node stops and the last connection has ended.
    pub(super) async fn serve(self, mut listener: impl Listener) {
        let mut connections = JoinSet::new();
        let mut stop = self.stop.clone();
        loop {
            let accepted = tokio::select! {
                // A sender that is gone is a node that is gone.
                _ = stop.wait_for(|stop| *stop) => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    note_end(ended);
                    continue;
                }
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(socket) => {
                    if let Some(registered) = self.register() {
                        connections.spawn(self.connection(socket, registered));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // No new connection, so that who comes is told at once to go elsewhere.
        drop(listener);
        while let Some(ended) = connections.join_next().await {
            note_end(ended);
        }
    }

    /// A place for a new connection: `None` when it can't even be told that there is none.
    fn register(&self) -> Option<Registered> {
        let Rules {
            connections_max: value,
            bound,
            strangers,
            ..
        } = self.rules;
        let mut open = self.open.lock();
        let is_full = open.served.len() >= value && !open.evict(strangers);
        let welcome = if is_full {
            Welcome::Refused { bound, value }
        } else {
            Welcome::Served
        };
        if is_full && open.refused.len() >= REFUSED_CONNECTIONS_MAX && !open.evict_refused() {
            return None;
        }
        let connection = Connection::new(self.clock, welcome);
        let id = open.next;
        open.next += 1;
        let places = match welcome {
            Welcome::Served => &mut open.served,
            Welcome::Refused { .. } => &mut open.refused,
        };
        places.insert(id, connection.clone());
        Some(Registered {
            id,
            connection,
            open: Arc::clone(&self.open),
        })
    }

    /// One connection, to its end.
    fn connection<S>(
        &self,
        socket: S,
        registered: Registered,
    ) -> impl Future<Output = ()> + Send + use<S> + 'static
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let socket = Guarded::new(socket);
        let received = socket.received();
        let connection = registered.connection.clone();
        let front = self.front.clone();
        let of_requests = connection.clone();
        let service = service_fn(move |request| front.clone().call(of_requests.clone(), request));
        let socket = TokioIo::new(Gathered::new(socket));
        let http = self.http().serve_connection(socket, service);
        let mut stop = self.stop.clone();
        let patience = match connection.welcome() {
            Welcome::Served => GREETING_TIMEOUT,
            Welcome::Refused { .. } => REFUSED_CONNECTION_TIMEOUT,
        };
        async move {
            let mut http = std::pin::pin!(http);
            let mut patience = std::pin::pin!(sleep(patience));
            let mut is_patient = false;
            let mut stage = Stage::Serving;
            loop {
                tokio::select! {
                    ended = &mut http => {
                        if let Err(error) = ended {
                            tracing::debug!(%error, "a connection ended early");
                        }
                        break;
                    }
                    () = connection.ends(End::Now) => break,
                    () = connection.ends(End::Soon), if stage == Stage::Serving => {
                        stage = Stage::Ending;
                        is_patient = false;
                        patience.set(sleep(GREETING_TIMEOUT));
                        http.as_mut().graceful_shutdown();
                    }
                    _ = stop.wait_for(|stop| *stop), if stage == Stage::Serving => {
                        stage = Stage::Ending;
                        http.as_mut().graceful_shutdown();
                    }
                    () = &mut patience, if !is_patient => {
                        let is_greeted = received.load(Ordering::Relaxed) >= GREETING_SIZE;
                        match overdue(&connection, stage) {
                            Overdue::Stays if is_greeted => is_patient = true,
                            Overdue::EndsAfterCall => {
                                stage = Stage::Last;
                                patience.set(sleep(WRITE_TIMEOUT_MAX));
                                http.as_mut().graceful_shutdown();
                            }
                            Overdue::Stays | Overdue::Ends => break,
                        }
                    }
                }
            }
            drop(registered);
        }
    }

    fn http(&self) -> http2::Builder<TokioExecutor> {
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .initial_stream_window_size(self.rules.stream_window)
            .initial_connection_window_size(self.rules.connection_window)
            .adaptive_window(false)
            .max_concurrent_streams(self.rules.streams_max)
            .max_header_list_size(HEADERS_SIZE_MAX)
            .max_send_buf_size(SEND_BUFFER_SIZE)
            .keep_alive_interval(self.rules.keepalive)
            .keep_alive_timeout(self.rules.keepalive);
        http
    }
}

/// What becomes of a connection whose patience is over.
#[derive(Debug, PartialEq, Eq)]
enum Overdue {
    Stays,
    Ends,
    EndsAfterCall,
}

fn overdue(connection: &Connection, stage: Stage) -> Overdue {
    let is_idle = connection.idle_since().is_some();
    match (stage, connection.welcome()) {
        // Asked to end, and it has not: what is open on it came after that was sent.
        (Stage::Ending, _) if is_idle => Overdue::Ends,
        (_, Welcome::Served) => Overdue::Stays,
        (Stage::Last, Welcome::Refused { .. }) => Overdue::Ends,
        (_, Welcome::Refused { .. }) if is_idle => Overdue::Ends,
        (_, Welcome::Refused { .. }) => Overdue::EndsAfterCall,
    }
}

fn note_end(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "the task of a connection was lost");
    }
}

impl Open {
    /// Ends a connection that can be spared. Its place is free at once.
    fn evict(&mut self, strangers: Strangers) -> bool {
        // The first one, who had the longest time to show whose it is.
        let stranger = self.served.iter().find(|(_, other)| !other.is_known());
        let spared = match strangers {
            Strangers::GiveWay => stranger.map(|(id, _)| *id),
            Strangers::Welcome => None,
        };
        let Some(id) = spared.or_else(|| longest_idle(&self.served)) else {
            return false;
        };
        let connection = self.served.remove(&id);
        connection.is_some_and(|connection| self.end(id, &connection))
    }

    /// Ends the longest idle connection beyond the bound, so that clients that come again and again leave a place for
    /// an operator.
    fn evict_refused(&mut self) -> bool {
        let spared = longest_idle(&self.refused);
        let connection = spared.and_then(|id| Some((id, self.refused.remove(&id)?)));
        connection.is_some_and(|(id, connection)| self.end(id, &connection))
    }

    /// One on which nothing is open is told to ask elsewhere, and as long as there are few of that kind it has time for
    /// that.
    fn end(&mut self, id: u64, connection: &Connection) -> bool {
        if connection.idle_since().is_some() && self.retired.len() < REFUSED_CONNECTIONS_MAX {
            self.retired.insert(id);
            connection.retire();
        } else {
            connection.cut();
        }
        true
    }
}

/// The connection on which nothing has been open for the longest time.
fn longest_idle(connections: &BTreeMap<u64, Connection>) -> Option<u64> {
    let idle = connections
        .iter()
        .filter_map(|(id, connection)| Some((connection.idle_since()?, *id)));
    idle.min().map(|(_, id)| id)
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    const REFUSED: Welcome = Welcome::Refused {
        bound: "bound",
        value: 1,
    };

    #[test]
    fn an_operators_call_is_finished_and_holds_its_place_no_longer_than_a_call_can_take() {
        let connection = Connection::new(Clock::system(), REFUSED);
        let shared = Arc::new(Semaphore::new(0));
        let call = connection.open(&shared).expect("it has places of its own");
        for stage in [Stage::Serving, Stage::Ending] {
            assert_eq!(overdue(&connection, stage), Overdue::EndsAfterCall);
        }
        assert_eq!(overdue(&connection, Stage::Last), Overdue::Ends);
        drop(call);
        assert_eq!(overdue(&connection, Stage::Serving), Overdue::Ends);
    }

    fn port_with(welcomes: [Welcome; 3]) -> (Open, [Connection; 3]) {
        let connections = welcomes.map(|welcome| Connection::new(Clock::system(), welcome));
        let open = Open {
            served: (0..).zip(connections.clone()).collect(),
            ..Open::default()
        };
        (open, connections)
    }

    #[test]
    fn among_peers_the_oldest_stranger_makes_room_and_busy_members_never_do() {
        let shared = Arc::new(Semaphore::new(0));
        let (mut open, [member, stranger, newcomer]) = port_with([Welcome::Served; 3]);
        let _calls: Vec<_> = [&member, &stranger]
            .map(|connection| connection.open(&shared))
            .into();
        member.note_known();
        assert!(open.evict(Strangers::GiveWay));
        assert_eq!(open.served.keys().copied().collect::<Vec<_>>(), [0, 2]);
        newcomer.note_known();
        assert!(open.evict(Strangers::GiveWay), "it is idle");
        assert!(!open.evict(Strangers::GiveWay), "the last one is busy");
        assert_eq!(open.served.keys().copied().collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn among_clients_a_busy_connection_never_makes_room() {
        let shared = Arc::new(Semaphore::new(0));
        let (mut open, connections) = port_with([Welcome::Served; 3]);
        let calls: Vec<_> = connections
            .iter()
            .map(|connection| connection.open(&shared))
            .collect();
        assert!(!open.evict(Strangers::Welcome));
        drop(calls);
        assert!(open.evict(Strangers::Welcome));
        assert_eq!(open.served.len(), 2);
    }
}
