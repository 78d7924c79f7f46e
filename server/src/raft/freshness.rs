//! How current this node's applied state is: what a STALE answer says of itself.
//!
//! A leader makes sure every second that a majority follows it. When such a round began, everything that had been
//! acknowledged until then stood at or below the index that the leader took before it asked: no other leader had committed
//! anything that this one does not know. With every append the leader sends when the last round began whose index is
//! committed by what the same message says. A follower that has applied that much has, of everything that was acknowledged
//! before that time, missed nothing. It is a time of the leader's clock, so that neither a message that lay in a socket nor
//! a difference between two nodes' clocks makes an answer look fresher than it is.
//!
//! Promises: never later than what it says of itself; it never goes back. Must not know: gRPC, a clock.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// Rounds that are remembered: of more, every other one.
const ROUNDS_MAX: usize = 64;

/// The rounds in which a majority said that it follows this node.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    /// Index and beginning of each, both rising.
    rounds: Mutex<VecDeque<(u64, i64)>>,
}

impl Followed {
    /// A majority answered a round that began at `begun` (nanoseconds since the Unix epoch), when nothing behind `index` had
    /// been acknowledged.
    pub(crate) fn note(&self, begun: i64, index: u64) {
        let mut rounds = self.rounds.lock();
        if rounds.back().is_some_and(|(_, last)| begun <= *last) {
            return;
        }
        // A later round that needs no more says more.
        while rounds.back().is_some_and(|(last, _)| index <= *last) {
            rounds.pop_back();
        }
        rounds.push_back((index, begun));
        if rounds.len() > ROUNDS_MAX {
            // An odd number of them: the last stays.
            let mut is_kept = false;
            rounds.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
        }
    }

    /// When the last round began of which everything is at or below `committed`; 0: there is none.
    pub(crate) fn at(&self, committed: u64) -> i64 {
        let rounds = self.rounds.lock();
        let mut rounds = rounds.iter().rev();
        let last = rounds.find(|(index, _)| *index <= committed);
        last.map_or(0, |(_, begun)| *begun)
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
    /// A leader whose message was accepted knew `committed` as committed, and vouched for it up to `as_of`; 0: up to no time.
    pub(crate) fn note(&self, committed: u64, as_of: i64, applied: u64) {
        let mut heard = self.heard.lock();
        heard.settle(applied);
        if as_of == 0 {
            return;
        }
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
    fn a_message_that_vouches_for_nothing_is_not_waited_for() {
        let freshness = Freshness::default();
        freshness.note(9, 0, 5);
        freshness.note(7, 100, 5);
        assert_eq!(freshness.as_of(7), Some(100));
    }

    #[test]
    fn a_round_counts_only_where_everything_before_it_is_committed() {
        let followed = Followed::default();
        assert_eq!(followed.at(u64::MAX), 0);
        // A new leader's first entry is 5: what the old one acknowledged last, 4, is not known as committed yet.
        followed.note(100, 5);
        assert_eq!(followed.at(3), 0);
        assert_eq!(followed.at(5), 100);
        followed.note(200, 9);
        assert_eq!(followed.at(8), 100);
        assert_eq!(followed.at(9), 200);
        followed.note(300, 9);
        assert_eq!(followed.at(9), 300, "a later round of the same index");
        followed.note(250, 7);
        assert_eq!(followed.at(7), 100, "an old one says nothing new");
    }

    #[test]
    fn of_many_rounds_some_are_forgotten_and_never_the_last() {
        let followed = Followed::default();
        for round in 1..10_000_u64 {
            let begun = i64::try_from(round).expect("small");
            followed.note(begun, round);
            assert_eq!(followed.at(round), begun);
            assert!(followed.rounds.lock().len() <= ROUNDS_MAX);
        }
        let before = followed.at(9_900);
        assert!((9_800..=9_900).contains(&before), "{before}");
    }

    #[test]
    fn it_never_goes_back() {
        let freshness = Freshness::default();
        freshness.note(1, 100, 1);
        freshness.note(1, 50, 1);
        assert_eq!(freshness.as_of(1), Some(100));
    }
}
