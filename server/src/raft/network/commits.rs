//! When a commit goes out on an append stream: it rides on the entries behind it where those follow at once.
//!
//! openraft makes a request of its own of every commit that no entries carry, which doubles the messages of a steady
//! writer: each costs both sides a turn. So a commit alone waits a moment for the next entries, but only while entries
//! follow each other quickly, and as long as that works out: on a quiet log, and where a writer waits until a follower has
//! its record, followers hear of a commit at once. A read on a follower that waits for such a commit waits that moment, too.
//! Answers are cumulative, so a request that was left out is answered by the next one's.
//!
//! Promises: no entries are held, reordered or left out; a commit is held at most [`HOLD`], rounded up to the timer's
//! millisecond. Must not know: gRPC, what is committed.

use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};
use openraft::raft::AppendEntriesRequest;
use tokio::time::{Instant, timeout_at};

use crate::raft::types::TypeConfig;

type Request = AppendEntriesRequest<TypeConfig>;

/// How long a commit waits for entries to ride on.
const HOLD: Duration = Duration::from_millis(1);
/// Entries that follow each other faster than this are expected to go on doing so.
const QUICK: Duration = Duration::from_millis(4);
/// Commits that are not held after one for which its writer seems to have waited; the next time twice as many.
const PASSED_MIN: u32 = 16;
/// At most.
const PASSED_MAX: u32 = 1_024;

/// The requests of `input`, without the commits that ride on entries behind them.
pub(super) fn ridden<S>(input: S) -> impl Stream<Item = Request> + use<S>
where
    S: Stream<Item = Request> + Unpin,
{
    stream::unfold(
        (input.fuse(), Pace::default()),
        |(mut input, mut pace)| async move {
            let mut request = input.next().await?;
            if request.entries.is_empty() && pace.is_to_hold(Instant::now()) {
                let due = Instant::now() + HOLD;
                while request.entries.is_empty()
                    && let Ok(Some(next)) = timeout_at(due, input.next()).await
                {
                    request = next;
                }
                pace.note_held(!request.entries.is_empty(), Instant::now());
            }
            if !request.entries.is_empty() {
                pace.note_entries(Instant::now());
            }
            Some((request, (input, pace)))
        },
    )
}

/// How entries followed each other, and whether holding commits for them was of use.
#[derive(Debug, Default)]
struct Pace {
    /// When the last entries were sent.
    last: Option<Instant>,
    /// Whether they followed those before them quickly.
    is_quick: bool,
    /// When the last commit was sent that was held and that nothing overtook, until entries follow.
    released: Option<Instant>,
    /// Commits to send at once before one is held again.
    passing: u32,
    /// How many those were to be the last time; halved for each commit since that was overtaken.
    passed: u32,
}

impl Pace {
    /// Whether a commit alone is worth holding.
    fn is_to_hold(&mut self, now: Instant) -> bool {
        if self.passing > 0 {
            self.passing -= 1;
            return false;
        }
        self.is_quick && self.last.is_some_and(|last| now - last < QUICK)
    }

    fn note_held(&mut self, was_overtaken: bool, now: Instant) {
        if was_overtaken {
            self.passed /= 2;
        } else {
            self.released = Some(now);
        }
    }

    fn note_entries(&mut self, now: Instant) {
        let is_within = |since: Option<Instant>| since.is_some_and(|since| now - since < QUICK);
        // A writer that waited for the commit goes on at once when it has it. At the end of a burst nobody does.
        if is_within(self.released.take()) {
            self.passed = (self.passed * 2).clamp(PASSED_MIN, PASSED_MAX);
            self.passing = self.passed;
        }
        self.is_quick = is_within(self.last);
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests;
