//! How current this node's applied state is: what a STALE answer says of itself.
//!
//! A leader makes sure every second that a majority follows it, and sends with every append when it last began to ask: no
//! other leader had committed anything before that time that this one does not know. A follower that has applied what was committed at such a message has, of
//! everything that was acknowledged before that time, missed nothing. It is a time of the leader's clock, so that neither
//! a message that lay in a socket nor a difference between two nodes' clocks makes an answer look fresher than it is.
//!
//! Promises: never later than what it says of itself; it never goes back. Must not know: gRPC, a clock.

use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;

/// When a round began in which a majority said that it follows this node: nanoseconds since the Unix epoch.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    at: AtomicI64,
}

impl Followed {
    /// A majority answered a round that began then.
    pub(crate) fn note(&self, begun: i64) {
        self.at.fetch_max(begun, Ordering::AcqRel);
    }

    /// The last one; 0: none.
    pub(crate) fn at(&self) -> i64 {
        self.at.load(Ordering::Acquire)
    }
}

/// What a follower has heard. Times: nanoseconds since the Unix epoch.
#[derive(Debug, Default)]
pub(crate) struct Freshness {
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    /// Everything acknowledged before is applied; 0: nothing is known.
    as_of: i64,
    /// The oldest message whose committed entries were not applied yet: (index, time).
    waits: Option<(u64, i64)>,
}

impl Heard {
    fn settle(&mut self, applied: u64) {
        if let Some((_, time)) = self.waits.take_if(|(committed, _)| *committed <= applied) {
            self.as_of = self.as_of.max(time);
        }
    }
}

impl Freshness {
    /// A leader whose message was accepted knew `committed` as committed, and was followed by a majority at `as_of`.
    pub(crate) fn note(&self, committed: u64, as_of: i64, applied: u64) {
        let mut heard = self.heard.lock();
        heard.settle(applied);
        if committed <= applied {
            heard.as_of = heard.as_of.max(as_of);
        } else if heard.waits.is_none() {
            heard.waits = Some((committed, as_of));
        }
    }

    /// Everything acknowledged before this time is applied, when `applied` is; `None`: nothing is known.
    pub(crate) fn as_of(&self, applied: u64) -> Option<i64> {
        let mut heard = self.heard.lock();
        heard.settle(applied);
        (heard.as_of != 0).then_some(heard.as_of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_applied_counts_at_once_and_the_rest_when_it_is() {
        let freshness = Freshness::default();
        assert_eq!(freshness.as_of(0), None);
        freshness.note(5, 100, 5);
        assert_eq!(freshness.as_of(5), Some(100));
        freshness.note(9, 200, 5);
        assert_eq!(freshness.as_of(8), Some(100));
        assert_eq!(freshness.as_of(9), Some(200));
    }

    #[test]
    fn a_node_that_lags_behind_for_ever_new_messages_still_gets_on() {
        let freshness = Freshness::default();
        for message in 1..=10 {
            // Always five entries behind.
            freshness.note(
                message * 5,
                i64::try_from(message).expect("small"),
                message * 5 - 5,
            );
        }
        assert_eq!(freshness.as_of(45), Some(9));
    }

    #[test]
    fn it_never_goes_back() {
        let freshness = Freshness::default();
        freshness.note(1, 100, 1);
        freshness.note(1, 50, 1);
        assert_eq!(freshness.as_of(1), Some(100));
    }
}
