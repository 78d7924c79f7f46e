//! What answers take that clients have not read: a bounded number of bytes, for all clients together.
//!
//! Promises: an answer is counted before it is made and until its last byte was handed to the socket; who finds no room
//! waits for its turn, and while somebody waits a connection that has held its answer for long is cut off: it can't
//! hold back others. Must not know: what an answer says.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::clock::Clock;
use crate::grpc::connection::Connection;
use crate::grpc::limits::{SLOW_READER_TICK, SLOW_READER_TIMEOUT};

/// Bytes that one permit stands for.
const PERMIT_SIZE: usize = 1 << 10;

/// The room for answers of one kind. Cheap to clone.
#[derive(Clone)]
pub(crate) struct AnswerRoom {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    room: Arc<Semaphore>,
    holders: Mutex<Holders>,
}

#[derive(Default)]
struct Holders {
    next: u64,
    held: BTreeMap<u64, Holder>,
}

/// Who holds room.
struct Holder {
    /// When its answer was made: until then the room is held by this node's own work. `None`: it is not made yet.
    made: Option<Instant>,
    connection: Option<Connection>,
}

impl fmt::Debug for AnswerRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.inner.room.available_permits();
        f.debug_struct("AnswerRoom")
            .field("left", &left)
            .finish_non_exhaustive()
    }
}

/// Room that an answer takes, until it is dropped.
pub(crate) struct Held {
    id: u64,
    room: AnswerRoom,
    permit: OwnedSemaphorePermit,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.permit.num_permits() * PERMIT_SIZE;
        f.debug_struct("Held")
            .field("size", &size)
            .finish_non_exhaustive()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.inner.holders.lock().held.remove(&self.id);
    }
}

impl Held {
    /// The answer is made: from here on it is the client who takes its time.
    fn made(&self) {
        let inner = &self.room.inner;
        let now = inner.clock.instant();
        if let Some(holder) = inner.holders.lock().held.get_mut(&self.id) {
            holder.made.get_or_insert(now);
        }
    }

    /// Gives back what is not needed after all.
    pub(crate) fn shrink(&mut self, size: usize) {
        let unneeded = self.permit.num_permits().saturating_sub(permits(size));
        drop(self.permit.split(unneeded));
    }
}

/// What goes from the one who makes an answer to the one who sends it, beside the answer: see [`crate::grpc::front`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Carried {
    held: Arc<Mutex<Vec<Arc<Held>>>>,
}

impl Carried {
    /// The answer that comes next takes this.
    pub(crate) fn put(&self, held: impl Into<Arc<Held>>) {
        let held = held.into();
        held.made();
        self.held.lock().push(held);
    }

    /// All that the answers so far take.
    pub(crate) fn take(&self) -> Vec<Arc<Held>> {
        std::mem::take(&mut self.held.lock())
    }
}

fn permits(size: usize) -> usize {
    size.div_ceil(PERMIT_SIZE).max(1)
}

impl AnswerRoom {
    /// So many bytes for all.
    pub(crate) fn new(clock: Clock, size: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                clock,
                room: Arc::new(Semaphore::new(size / PERMIT_SIZE)),
                holders: Mutex::default(),
            }),
        }
    }

    /// Waits for room for an answer of so many bytes. `connection`: where it goes, if that is known.
    pub(crate) async fn take(&self, size: usize, connection: Option<&Connection>) -> Held {
        let wanted = u32::try_from(permits(size)).expect("answers are small");
        let mut turn = std::pin::pin!(Arc::clone(&self.inner.room).acquire_many_owned(wanted));
        let permit = loop {
            match timeout(SLOW_READER_TICK, &mut turn).await {
                Ok(permit) => break permit.expect("the semaphore is never closed"),
                Err(_) => self.cut_slowest(SLOW_READER_TIMEOUT),
            }
        };
        let mut holders = self.inner.holders.lock();
        let id = holders.next;
        holders.next += 1;
        let holder = Holder {
            made: None,
            connection: connection.cloned(),
        };
        holders.held.insert(id, holder);
        drop(holders);
        Held {
            id,
            room: self.clone(),
            permit,
        }
    }

    /// Cuts the connections off that have held an answer for so long.
    fn cut_slowest(&self, patience: Duration) {
        let now = self.inner.clock.instant();
        let holders = self.inner.holders.lock();
        let slow = holders.held.values().filter(|holder| {
            let made = holder.made;
            made.is_some_and(|made| now.saturating_duration_since(made) >= patience)
        });
        for connection in slow.filter_map(|holder| holder.connection.as_ref()) {
            tracing::warn!("a client that does not read holds others back; its connection is cut");
            connection.cut();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::connection::{End, Welcome};

    #[tokio::test]
    async fn a_connection_that_holds_all_room_is_cut_when_somebody_waits() {
        let clock = Clock::system();
        let room = AnswerRoom::new(clock, 4 * PERMIT_SIZE);
        let slow = Connection::new(clock, Welcome::Served);
        let held = room.take(4 * PERMIT_SIZE, Some(&slow)).await;
        held.made();
        let waits = room.take(PERMIT_SIZE, None);
        let cut = async {
            slow.ends(End::Now).await;
            drop(held);
        };
        let (taken, ()) = tokio::join!(waits, cut);
        drop(taken);
        assert_eq!(room.inner.room.available_permits(), 4);
        assert!(room.inner.holders.lock().held.is_empty());
    }

    #[tokio::test]
    async fn a_connection_is_not_cut_for_the_time_that_its_answer_takes_to_make() {
        let clock = Clock::system();
        let room = AnswerRoom::new(clock, 4 * PERMIT_SIZE);
        let waiting = Connection::new(clock, Welcome::Served);
        let held = room.take(PERMIT_SIZE, Some(&waiting)).await;
        room.cut_slowest(Duration::ZERO);
        assert!(futures::poll!(Box::pin(waiting.ends(End::Now))).is_pending());
        held.made();
        room.cut_slowest(Duration::ZERO);
        assert!(futures::poll!(Box::pin(waiting.ends(End::Now))).is_ready());
    }

    #[tokio::test]
    async fn what_an_answer_does_not_need_is_given_back_at_once() {
        let room = AnswerRoom::new(Clock::system(), 4 * PERMIT_SIZE);
        let mut held = room.take(4 * PERMIT_SIZE, None).await;
        held.shrink(1);
        assert_eq!(room.inner.room.available_permits(), 3);
    }
}
