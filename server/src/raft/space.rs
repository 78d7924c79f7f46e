//! Whether there is room on the disk for what is about to be proposed, asked without waiting for the disk each time.
//!
//! Promises: an answer rests on what the disk said at most [`FRESH`] ago, less all that was let pass since; where that
//! does not suffice the disk is asked again, on a thread that may block; near the mark every answer is the disk's own. So
//! nothing passes that the disk would have refused, but for what others take from it within [`FRESH`]: for that, and for
//! the segments that are reserved meanwhile, there is the mark. Must not know: what is proposed.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inkstone_storage::error::LowSpace;
use inkstone_storage::log::Log;

use crate::blocking::{Blocking, Offload};
use crate::clock::Clock;

/// For how long what the disk said is believed: at a full rate a hundred proposals or more, of which one waits for a
/// thread.
const FRESH: Duration = Duration::from_millis(100);

/// How many bytes there are above the mark.
type Ask = dyn Fn() -> Result<u64, LowSpace> + Send + Sync;

/// The room on the log's disk. Cheap to clone: all clones are one.
#[derive(Clone)]
pub(crate) struct Space {
    ask: Arc<Ask>,
    clock: Clock,
    thread: Blocking,
    /// Held until the disk has answered, also when who asked has gone: one asks at a time.
    known: Arc<tokio::sync::Mutex<Option<Known>>>,
}

/// What is known of the disk.
#[derive(Debug, Clone, Copy)]
struct Known {
    at: Instant,
    /// Bytes above the mark, less what was let pass since.
    left: u64,
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space").finish_non_exhaustive()
    }
}

impl Known {
    /// What is left when so many bytes more pass; `None`: they may not, as far as this is known.
    fn after(self, size: u64, now: Instant) -> Option<Self> {
        if now.saturating_duration_since(self.at) > FRESH {
            return None;
        }
        let left = self.left.checked_sub(size)?;
        Some(Self { left, ..self })
    }
}

impl Space {
    /// Of a log's disk.
    pub(crate) fn of(log: Log, clock: Clock, offload: Offload) -> Self {
        Self::new(clock, offload.pool(1, 0), move || log.check_space())
    }

    /// Asks with `ask`, on `thread`, one at a time. It says how many bytes are free above the mark, or that there are too few.
    fn new(
        clock: Clock,
        thread: Blocking,
        ask: impl Fn() -> Result<u64, LowSpace> + Send + Sync + 'static,
    ) -> Self {
        Self {
            ask: Arc::new(ask),
            clock,
            thread,
            known: Arc::default(),
        }
    }

    /// Refuses when fewer bytes are free than the mark asks for. `size`: what is about to be proposed.
    pub(crate) async fn check(&self, size: usize) -> Result<(), LowSpace> {
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        let mut known = Arc::clone(&self.known).lock_owned().await;
        let left = known.and_then(|known| known.after(size, self.clock.instant()));
        if left.is_some() {
            *known = left;
            return Ok(());
        }
        *known = None;
        // Before the disk is asked: what it says is not older than that.
        let at = self.clock.instant();
        let ask = Arc::clone(&self.ask);
        let asked = self.thread.run(move || {
            let asked = ask().map(|free| {
                // The mark leaves room for the one that passes it; the next one asks anew.
                let left = free.saturating_sub(size);
                *known = Some(Known { at, left });
            });
            // The next one's turn comes when the thread is free again.
            (asked, known)
        });
        let (asked, _turn) = asked.await.expect("one asks at a time");
        asked
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    /// A disk with so many bytes above the mark, how often it was asked, and never on the test's own thread.
    fn disk(free: &Arc<AtomicU64>) -> (Space, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let (counter, free) = (Arc::clone(&asked), Arc::clone(free));
        let runtime = thread::current().id();
        let space = Space::new(Clock::system(), Blocking::new(1, 0), move || {
            assert_ne!(thread::current().id(), runtime);
            counter.fetch_add(1, Ordering::SeqCst);
            match free.load(Ordering::SeqCst) {
                0 => Err(LowSpace {
                    dir: "disk".into(),
                    free_size: 9,
                    free_size_min: 10,
                }),
                free => Ok(free),
            }
        });
        (space, asked)
    }

    #[tokio::test]
    async fn the_disk_is_asked_seldom_while_there_is_much_room() {
        let free = Arc::new(AtomicU64::new(u64::MAX));
        let (space, asked) = disk(&free);
        let began = Clock::system().instant();
        for _ in 0..1_000 {
            space.check(1 << 20).await.expect("there is room");
        }
        let took = began.elapsed();
        let most = 1 + took.as_millis() / FRESH.as_millis();
        let asked = asked.load(Ordering::SeqCst) as u128;
        assert!(asked <= most, "{asked} times within {took:?}");
    }

    #[tokio::test]
    async fn near_the_mark_the_disk_is_asked_each_time_and_its_refusal_is_told_at_once() {
        let free = Arc::new(AtomicU64::new(100));
        let (space, asked) = disk(&free);
        for times in 1..=10 {
            space.check(60).await.expect("there is room");
            assert_eq!(asked.load(Ordering::SeqCst), times);
        }
        free.store(0, Ordering::SeqCst);
        space.check(60).await.expect_err("there is none");
        space.check(0).await.expect_err("there is none");
        free.store(100, Ordering::SeqCst);
        space.check(60).await.expect("there is room again");
    }

    #[test]
    fn what_the_disk_said_is_believed_for_a_while_and_for_as_much_as_it_said() {
        let at = Clock::system().instant();
        let known = Known { at, left: 100 };
        let left = |size, now| known.after(size, now).map(|known| known.left);
        assert_eq!(left(60, at), Some(40));
        assert_eq!(left(100, at + FRESH), Some(0));
        assert_eq!(left(101, at), None);
        assert_eq!(left(0, at + FRESH + Duration::from_millis(1)), None);
    }
}
