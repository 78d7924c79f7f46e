//! How far a member is, as the leader knows it, and when that is near enough.

use inkstone_proto::v1;

/// A member that lacks no more entries than this counts as caught up: what a moment of load brings, and less than a
/// commit that has to wait for it would be noticed by.
pub const BEHIND_MAX: u64 = 1_000;

/// How far the leader has brought a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Raft index of the last entry that it is known to hold as the leader does; 0: none yet.
    pub matched: u64,
    /// Entries from there to the leader's last one.
    pub behind: u64,
    /// Whether it was heard from lately.
    pub heard: bool,
}

impl Progress {
    /// Of a member that holds the leader's entries up to `matched`, when the leader's last one is `last`.
    pub(super) fn new(last: u64, matched: Option<u64>, heard: bool) -> Self {
        let matched = matched.unwrap_or(0);
        Self {
            matched,
            behind: last.saturating_sub(matched),
            heard,
        }
    }

    /// Whether it may be promoted, or lead.
    pub fn is_caught_up(self) -> bool {
        self.heard && self.matched > 0 && self.behind <= BEHIND_MAX
    }

    /// To protobuf.
    pub fn to_wire(self) -> v1::ReplicationProgress {
        v1::ReplicationProgress {
            matched_index: self.matched,
            behind: self.behind,
            caught_up: self.is_caught_up(),
            heard: self.heard,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caught_up_is_near_the_end_and_heard_from() {
        assert!(Progress::new(5_000, Some(5_000), true).is_caught_up());
        assert!(Progress::new(5_000, Some(5_000 - BEHIND_MAX), true).is_caught_up());
        assert!(!Progress::new(5_000, Some(4_999 - BEHIND_MAX), true).is_caught_up());
        assert!(!Progress::new(5_000, Some(5_000), false).is_caught_up());
    }

    #[test]
    fn a_node_that_holds_nothing_yet_is_not_caught_up_with_a_short_log() {
        let progress = Progress::new(10, None, true);
        assert_eq!((progress.behind, progress.is_caught_up()), (10, false));
    }
}
