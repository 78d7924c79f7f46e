//! What goes out on an append stream, and when: a commit rides on the entries behind it where those follow at once.
//!
//! openraft makes a request of its own of every commit that no entries carry, which doubles the messages of a steady
//! writer: each costs both sides a turn. So a commit alone waits a moment for the next entries, but only where entries
//! have just followed each other quickly, and as long as that works out: on a quiet log, and where a writer waits until a
//! follower has its record, followers hear of a commit at once. Answers are cumulative, so a request that was left out is
//! answered by the next one's.
//!
//! Promises: no entries are held, reordered or left out; a commit is sent at most [`HOLD`] and the timer's millisecond
//! after it was known; a request never says that a majority followed this node later than when its commit was read.
//! Must not know: gRPC.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};
use openraft::raft::AppendEntriesRequest;
use tokio::time::{Instant, timeout_at};

use crate::raft::freshness::Followed;
use crate::raft::types::TypeConfig;

type Request = AppendEntriesRequest<TypeConfig>;

/// How long a commit waits for entries to ride on.
const HOLD: Duration = Duration::from_millis(1);
/// Entries that follow each other faster than this are expected to go on doing so.
const QUICK: Duration = Duration::from_millis(4);
/// Commits that are not held after one that was held for nothing; twice as many each time, up to the second.
const PASSED: (u32, u32) = (16, 1_024);

/// A request, and since when a majority followed this node: nanoseconds since the Unix epoch, 0: never.
pub(super) struct Outgoing {
    pub(super) as_of: i64,
    pub(super) request: Request,
}

/// The requests of `input`, without the commits that entries overtook.
pub(super) fn outgoing<S>(
    input: S,
    followed: Arc<Followed>,
) -> impl Stream<Item = Outgoing> + use<S>
where
    S: Stream<Item = Request> + Unpin,
{
    let pace = Pace::default();
    let source = (input.fuse(), followed, pace);
    stream::unfold(source, |(mut input, followed, mut pace)| async move {
        // Before the request is made: what was committed after this time need not be in its commit.
        let as_of = followed.at();
        let mut request = input.next().await?;
        if request.entries.is_empty() && pace.is_to_hold() {
            let due = Instant::now() + HOLD;
            while request.entries.is_empty()
                && let Ok(Some(next)) = timeout_at(due, input.next()).await
            {
                request = next;
            }
            pace.note_held(!request.entries.is_empty());
        }
        if !request.entries.is_empty() {
            pace.note_entries(Instant::now());
        }
        Some((Outgoing { as_of, request }, (input, followed, pace)))
    })
}

/// How entries followed each other, and whether holding commits for them was of use.
#[derive(Debug, Default)]
struct Pace {
    last: Option<Instant>,
    is_quick: bool,
    /// Commits to send at once before one is held again.
    passing: u32,
    /// How many those were when a commit was last held for nothing, less for each that was not.
    passed: u32,
}

impl Pace {
    /// Whether a commit alone is worth holding.
    fn is_to_hold(&mut self) -> bool {
        if self.passing > 0 {
            self.passing -= 1;
            return false;
        }
        self.is_quick
    }

    fn note_held(&mut self, was_overtaken: bool) {
        if was_overtaken {
            self.passed /= 2;
        } else {
            let (least, most) = PASSED;
            self.passed = (self.passed * 2).clamp(least, most);
            self.passing = self.passed;
        }
    }

    fn note_entries(&mut self, now: Instant) {
        self.is_quick = self.last.is_some_and(|last| now - last < QUICK);
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests;
