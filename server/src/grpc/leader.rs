//! Where a write goes: here, or one hop to the leader; and how long a request looks for one.

use inkstone_proto::v1::NodeInfo;
use tokio::time::sleep_until;
use tonic::Status;

use crate::clock::Clock;
use crate::grpc::deadline::Deadline;
use crate::grpc::error;
use crate::grpc::limits::{LEADER_TICK, LEADER_WAIT};
use crate::raft::{Group, Leader};

/// Who carries a write out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Target {
    /// This node leads.
    Here,
    /// That one does, as far as this node knows.
    There(NodeInfo),
}

/// Looks for a leader until [`LEADER_WAIT`] has passed or the request must be refused, which is before its deadline: that
/// it was not begun is known, and is what the client is told.
#[derive(Debug)]
pub(crate) struct LeaderSearch {
    clock: Clock,
    until: Deadline,
    asked: bool,
}

impl LeaderSearch {
    /// Starts to look.
    pub(crate) fn start(clock: Clock, deadline: Deadline) -> Self {
        let own = Deadline::after(clock, LEADER_WAIT);
        Self {
            clock,
            until: own.min(deadline.of_refusal()),
            asked: false,
        }
    }

    /// Who leads now; waits while nobody is known to. Asked again (because the last answer was stale) it looks a little
    /// later. Nothing has been done for the request when this fails.
    pub(crate) async fn next(&mut self, group: &Group) -> Result<Target, Status> {
        self.next_from(|| (group.leader_change(), group.leader()))
            .await
    }

    /// `look` gives the leader, and what ends when that may have changed since.
    async fn next_from<F>(&mut self, look: impl Fn() -> (F, Leader)) -> Result<Target, Status>
    where
        F: Future<Output = ()>,
    {
        if std::mem::replace(&mut self.asked, true) {
            self.pause(look().0).await?;
        }
        loop {
            let (changed, leader) = look();
            match leader {
                Leader::Here => return Ok(Target::Here),
                Leader::There(node) => return Ok(Target::There(node)),
                Leader::Unknown => self.pause(changed).await?,
            }
        }
    }

    /// Until something may have changed. Not for the change alone: what has changed already is sometimes said late.
    async fn pause(&self, changed: impl Future<Output = ()>) -> Result<(), Status> {
        if self.until.expired(self.clock) {
            return Err(error::no_leader(None));
        }
        let tick = Deadline::after(self.clock, LEADER_TICK).min(self.until);
        tokio::select! {
            () = changed => {}
            () = sleep_until(tick.instant()) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;
    use std::time::Duration;

    use inkstone_proto::v1::Reason;

    use super::*;
    use crate::grpc::limits::REFUSAL_MARGIN;

    fn search(wait: Duration) -> LeaderSearch {
        let clock = Clock::system();
        LeaderSearch {
            clock,
            until: Deadline::after(clock, wait),
            asked: false,
        }
    }

    #[tokio::test]
    async fn a_leader_that_appears_in_time_is_found_even_when_no_change_is_told() {
        let asked = Cell::new(0);
        let look = || {
            asked.set(asked.get() + 1);
            let leader = if asked.get() < 4 {
                Leader::Unknown
            } else {
                Leader::Here
            };
            (pending(), leader)
        };
        let found = search(Duration::from_secs(60))
            .next_from(look)
            .await
            .expect("found");
        assert_eq!((found, asked.get()), (Target::Here, 4));
    }

    #[tokio::test]
    async fn a_change_is_looked_at_when_it_is_told() {
        let asked = Cell::new(0);
        let look = || {
            asked.set(asked.get() + 1);
            let leader = if asked.get() < 4_000 {
                Leader::Unknown
            } else {
                Leader::Here
            };
            (std::future::ready(()), leader)
        };
        // In ticks this would take longer than the wait.
        let found = search(LEADER_TICK * 500)
            .next_from(look)
            .await
            .expect("found");
        assert_eq!(found, Target::Here);
    }

    #[tokio::test]
    async fn without_a_leader_the_request_is_refused_after_the_wait() {
        let search = search(LEADER_TICK * 2);
        let (clock, until) = (search.clock, search.until);
        let refused = { search }.next_from(|| (pending(), Leader::Unknown)).await;
        assert_eq!(
            error::reason_of(&refused.expect_err("none")),
            Some(Reason::NoLeader)
        );
        assert!(until.expired(clock), "it was not waited for");
    }

    #[test]
    fn a_request_with_a_short_deadline_is_refused_before_it() {
        let clock = Clock::system();
        let short = Deadline::after(clock, LEADER_WAIT / 2);
        let search = LeaderSearch::start(clock, short);
        assert_eq!(search.until.instant() + REFUSAL_MARGIN, short.instant());
        let long = Deadline::after(clock, LEADER_WAIT * 10);
        let search = LeaderSearch::start(clock, long);
        assert!(search.until.remaining(clock) <= LEADER_WAIT);
    }

    #[tokio::test]
    async fn a_stale_answer_is_asked_again_but_not_for_ever() {
        let mut search = search(LEADER_TICK * 2);
        let mut answers = 0;
        while search.next_from(|| (pending(), Leader::Here)).await.is_ok() {
            answers += 1;
        }
        assert!(answers >= 1);
        assert!(search.until.expired(search.clock));
    }

    #[tokio::test]
    async fn a_deadline_that_has_passed_still_asks_once() {
        let mut search = search(Duration::ZERO);
        let found = search.next_from(|| (pending(), Leader::Here)).await;
        assert_eq!(found.expect("known"), Target::Here);
    }
}
