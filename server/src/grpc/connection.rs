//! One connection as the services see it: how much it has open, since when it is idle, whose it is, and how to end it.
//!
//! Promises: a connection always has places of its own, so that others can't take them all. Must not know: sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::clock::Clock;
use crate::grpc::limits::CONNECTION_PLACES;

/// A handle of one connection. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    clock: Clock,
    welcome: Welcome,
    places: Arc<Semaphore>,
    use_: Mutex<Use>,
    /// Whether a message of this cluster has come over it.
    is_known: AtomicBool,
    end: watch::Sender<End>,
}

/// Whether a connection's requests are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Welcome {
    /// They are.
    Served,
    /// Operators' calls are; any other is told that the node has this many connections, named by that bound, and no room
    /// for one more.
    Refused {
        /// The bound's name.
        bound: &'static str,
        /// Its value.
        value: usize,
    },
}

/// How a connection is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Not at all.
    No,
    /// Once nothing is open on it.
    Soon,
    /// At once.
    Now,
}

#[derive(Debug)]
struct Use {
    open: usize,
    /// Since when nothing is open.
    idle_since: Instant,
}

impl Connection {
    /// A new one, with nothing open.
    pub fn new(clock: Clock, welcome: Welcome) -> Self {
        let idle_since = clock.instant();
        Self {
            inner: Arc::new(Inner {
                clock,
                welcome,
                places: Arc::new(Semaphore::new(CONNECTION_PLACES)),
                use_: Mutex::new(Use {
                    open: 0,
                    idle_since,
                }),
                is_known: AtomicBool::new(false),
                end: watch::Sender::new(End::No),
            }),
        }
    }

    /// Since when it has nothing open; `None` while it has.
    pub fn idle_since(&self) -> Option<Instant> {
        let used = self.inner.use_.lock();
        (used.open == 0).then_some(used.idle_since)
    }

    /// A message that was meant for this node, by a node that knows its cluster, has come over it.
    pub(crate) fn note_known(&self) {
        self.inner.is_known.store(true, Ordering::Relaxed);
    }

    /// Whether such a message has come.
    pub fn is_known(&self) -> bool {
        self.inner.is_known.load(Ordering::Relaxed)
    }

    /// Ends the connection, with all that is open on it.
    pub fn cut(&self) {
        self.inner.end.send_replace(End::Now);
    }

    /// Asks the connection to end once nothing is open on it, so that no request of it is lost.
    pub fn retire(&self) {
        self.inner.end.send_if_modified(|end| {
            let is_first = *end == End::No;
            if is_first {
                *end = End::Soon;
            }
            is_first
        });
    }

    /// Returns once it is to end in that way, or at once.
    pub async fn ends(&self, how: End) {
        let mut end = self.inner.end.subscribe();
        end.wait_for(|end| *end >= how)
            .await
            .expect("the sender lives in self");
    }

    pub(crate) fn welcome(&self) -> Welcome {
        self.inner.welcome
    }

    /// A place for one more request: one of the connection's own, or of those that all share.
    pub(crate) fn open(&self, shared: &Arc<Semaphore>) -> Option<Place> {
        let own = Arc::clone(&self.inner.places).try_acquire_owned();
        let permit = own
            .or_else(|_| Arc::clone(shared).try_acquire_owned())
            .ok()?;
        self.inner.use_.lock().open += 1;
        Some(Place {
            connection: self.clone(),
            _permit: permit,
        })
    }
}

/// A request that is open: from its headers until the last byte of its answer was sent.
#[derive(Debug)]
pub(crate) struct Place {
    connection: Connection,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Inner { clock, use_, .. } = &*self.connection.inner;
        let mut used = use_.lock();
        used.open -= 1;
        used.idle_since = clock.instant();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_has_places_that_others_cannot_take() {
        let clock = Clock::system();
        let shared = Arc::new(Semaphore::new(3));
        let greedy = Connection::new(clock, Welcome::Served);
        let taken: Vec<_> = std::iter::from_fn(|| greedy.open(&shared)).collect();
        assert_eq!(taken.len(), CONNECTION_PLACES + 3);
        let modest = Connection::new(clock, Welcome::Served);
        assert!(modest.idle_since().is_some());
        let place = modest.open(&shared).expect("one of its own");
        assert!(modest.idle_since().is_none());
        drop(place);
        assert!(modest.idle_since().is_some() && greedy.idle_since().is_none());
        drop(taken);
        assert_eq!(shared.available_permits(), 3);
    }
}
