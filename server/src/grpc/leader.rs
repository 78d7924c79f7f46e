//! Where a write goes: here, or one hop to the leader; and how long a request looks for one.

use inkstone_proto::v1::NodeInfo;
use tokio::time::{Instant, sleep};
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

/// Looks for a leader until [`LEADER_WAIT`] or the request's deadline has passed.
#[derive(Debug)]
pub(crate) struct LeaderSearch {
    until: Instant,
    asked: bool,
}

impl LeaderSearch {
    /// Starts to look.
    pub(crate) fn start(clock: Clock, deadline: Deadline) -> Self {
        let own = Deadline::after(clock, LEADER_WAIT);
        Self {
            until: own.instant().min(deadline.instant()),
            asked: false,
        }
    }

    /// Who leads now; waits while nobody is known to. Asked again (because the last answer was stale) it looks a tick
    /// later. Nothing has been done for the request when this fails.
    pub(crate) async fn next(&mut self, group: &Group) -> Result<Target, Status> {
        self.next_from(|| group.leader()).await
    }

    async fn next_from(&mut self, leader: impl Fn() -> Leader) -> Result<Target, Status> {
        loop {
            if self.asked {
                if Instant::now() >= self.until {
                    return Err(error::no_leader(None));
                }
                sleep(LEADER_TICK).await;
            }
            self.asked = true;
            match leader() {
                Leader::Here => return Ok(Target::Here),
                Leader::There(node) => return Ok(Target::There(node)),
                Leader::Unknown => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use inkstone_proto::v1::Reason;

    use super::*;

    fn search(until: Duration) -> LeaderSearch {
        LeaderSearch {
            until: Instant::now() + until,
            asked: false,
        }
    }

    #[tokio::test]
    async fn a_leader_that_appears_in_time_is_found() {
        let asked = Cell::new(0);
        let leader = || {
            asked.set(asked.get() + 1);
            if asked.get() < 4 {
                Leader::Unknown
            } else {
                Leader::Here
            }
        };
        let found = search(Duration::from_secs(60))
            .next_from(leader)
            .await
            .expect("found");
        assert_eq!((found, asked.get()), (Target::Here, 4));
    }

    #[tokio::test]
    async fn without_a_leader_the_request_is_refused_after_the_wait() {
        let begin = Instant::now();
        let refused = search(LEADER_TICK * 2).next_from(|| Leader::Unknown).await;
        assert_eq!(
            error::reason_of(&refused.expect_err("none")),
            Some(Reason::NoLeader)
        );
        assert!(begin.elapsed() >= LEADER_TICK * 2);
    }

    #[tokio::test]
    async fn a_stale_answer_is_asked_again_but_not_for_ever() {
        let mut search = search(LEADER_TICK * 2);
        let begin = Instant::now();
        let mut answers = 0;
        while search.next_from(|| Leader::Here).await.is_ok() {
            answers += 1;
        }
        assert!(answers >= 1);
        assert!(begin.elapsed() >= LEADER_TICK * 2);
    }

    #[tokio::test]
    async fn a_deadline_that_has_passed_still_asks_once() {
        let mut search = search(Duration::ZERO);
        assert_eq!(
            search.next_from(|| Leader::Here).await.expect("known"),
            Target::Here
        );
    }
}
