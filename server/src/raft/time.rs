//! The time that a leader puts into entries: its clock's, unless that jumps. On one node it never falls.
//!
//! After 24 hours of it producers are forgotten, and with them what makes a retry take effect once. A leader
//! whose clock jumps a day ahead must not make all nodes forget them. So the time may be ahead of what has passed since
//! it was last taken (by the clock that counts from the machine's start, its sleep included, and that no one sets) by a
//! minute and no more; beyond that it goes on an eighth faster than time does until it has caught up, as clocks are slewed. To refuse appends instead would make
//! a clock that was rightly corrected a reason not to serve. A clock that is set back does not take the time with it: what a
//! follower was told of before would be later than what is acknowledged now. It goes on at half the pace of time until the
//! clock has caught up. A follower takes the time from what its leader says, so that a new leader goes on from the old one's.
//!
//! What remains: after a restart of the whole cluster nothing tells how much time has passed, and the clock is believed.
//!
//! Must not know: what the time is for.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;

/// How far ahead the clock may jump and be believed, in nanoseconds: a minute, more than a clock that is kept is ever
/// set by.
const JUMP_MAX: i64 = 60 * 1_000_000_000;
/// While it is ahead, time goes on by this part faster.
const CATCH_UP: i64 = 8;
/// While it is behind, time goes on by this part of what passes.
const HOLD_BACK: i64 = 2;

/// The group's time on this node. Cheap to clone: all clones are one.
#[derive(Debug, Clone)]
pub(crate) struct GroupTime {
    clock: Clock,
    last: Arc<Mutex<Option<Taken>>>,
}

/// When the time was last taken, and what it was: nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
struct Taken {
    /// Since the machine was started.
    at: Duration,
    time: i64,
    /// How far the clock was ahead of it; negative: behind.
    ahead: i64,
}

impl Taken {
    /// Nanoseconds since then, by the clock that no one sets.
    fn passed(self, at: Duration) -> i64 {
        let passed = at.saturating_sub(self.at).as_nanos();
        i64::try_from(passed).unwrap_or(i64::MAX)
    }

    /// What the time would be if it had gone on as that clock did.
    fn steady(self, at: Duration) -> i64 {
        self.time.saturating_add(self.passed(at))
    }

    /// What the time is at least.
    fn floor(self, at: Duration) -> i64 {
        self.time.saturating_add(self.passed(at) / HOLD_BACK)
    }

    /// The time when the clock reads `wall`.
    fn next(self, at: Duration, wall: i64) -> Self {
        let passed = self.passed(at);
        let steady = self.steady(at);
        let believed = steady.saturating_add(if self.ahead > 0 { 0 } else { JUMP_MAX });
        let time = if wall <= believed {
            wall.max(self.floor(at))
        } else {
            wall.min(steady.saturating_add(passed / CATCH_UP))
        };
        Self {
            at,
            time,
            ahead: wall.saturating_sub(time),
        }
    }
}

impl GroupTime {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            last: Arc::default(),
        }
    }

    /// Now: nanoseconds since the Unix epoch, UTC.
    pub(crate) fn now(&self) -> i64 {
        let (at, wall) = (self.clock.since_boot(), self.clock.unix_nanos());
        let mut last = self.last.lock();
        let before = last.unwrap_or(Taken {
            at,
            time: wall,
            ahead: 0,
        });
        let now = before.next(at, wall);
        *last = Some(now);
        if before.ahead == 0 && now.ahead > 0 {
            let seconds = now.ahead / 1_000_000_000;
            tracing::error!(
                seconds,
                "this node's clock jumped ahead: append times follow it slowly; set it right, or restart all nodes if it is"
            );
        }
        if before.ahead >= -JUMP_MAX && now.ahead < -JUMP_MAX {
            let seconds = -now.ahead / 1_000_000_000;
            tracing::warn!(
                seconds,
                "this node's clock was set back: append times go on at half the pace of time until it has caught up"
            );
        }
        now.time
    }

    /// A leader says that it is this late. It is believed unless the time would fall here by it.
    pub(crate) fn hear(&self, time: i64) {
        let at = self.clock.since_boot();
        if time == 0 {
            return;
        }
        let mut last = self.last.lock();
        if last.is_none_or(|last| last.floor(at) < time) {
            *last = Some(Taken { at, time, ahead: 0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const HOUR: i64 = 3_600 * SECOND;

    fn start() -> Taken {
        Taken {
            at: Clock::system().since_boot(),
            time: 1_000 * HOUR,
            ahead: 0,
        }
    }

    #[test]
    fn a_clock_that_is_set_a_little_is_believed() {
        let start = start();
        for step in [0, SECOND, JUMP_MAX] {
            let now = start.next(start.at, start.time + step);
            assert_eq!((now.time, now.ahead), (start.time + step, 0));
        }
    }

    #[test]
    fn a_clock_that_is_set_back_slows_the_time_until_it_has_caught_up_and_no_more() {
        let mut taken = start();
        let (mut at, mut wall) = (taken.at, taken.time - HOUR);
        for second in 1..=2 * 3_600 {
            at += Duration::from_secs(1);
            wall += SECOND;
            let before = taken.time;
            taken = taken.next(at, wall);
            assert_eq!(taken.time, before + SECOND / 2, "second {second}");
        }
        assert_eq!((taken.time, taken.ahead), (wall, 0));
        let later = taken.next(at + Duration::from_secs(1), wall + SECOND);
        assert_eq!(later.time, wall + SECOND);
    }

    #[test]
    fn a_jump_of_a_day_moves_the_time_by_what_has_passed() {
        let mut taken = start();
        let jumped = taken.time + 24 * HOUR;
        for second in 1..=600_u32 {
            let at = start().at.max(taken.at) + Duration::from_secs(1);
            taken = taken.next(at, jumped + i64::from(second) * SECOND);
        }
        let passed = taken.time - start().time;
        assert!(passed < 600 * SECOND * 5 / 4, "{passed}");
        assert!(taken.ahead > 23 * HOUR);
    }

    #[test]
    fn many_looks_in_a_moment_add_nothing() {
        let start = start();
        let mut taken = start;
        for _ in 0..1_000 {
            taken = taken.next(start.at, start.time + 24 * HOUR);
        }
        assert_eq!(taken.time, start.time);
    }

    #[test]
    fn a_rightly_corrected_clock_is_caught_up_with_in_the_end() {
        let mut taken = start();
        let (mut at, mut wall) = (taken.at, taken.time + HOUR);
        for _ in 0..9 * 60 {
            at += Duration::from_secs(60);
            wall += 60 * SECOND;
            taken = taken.next(at, wall);
        }
        assert_eq!((taken.time, taken.ahead), (wall, 0));
    }

    #[test]
    fn a_new_leader_goes_on_from_what_the_old_one_said() {
        for said in [-24 * HOUR, 24 * HOUR] {
            let time = GroupTime::new(Clock::system());
            let said = time.clock.unix_nanos() + said;
            time.hear(said);
            let now = time.now();
            assert!((said..said + HOUR).contains(&now));
            time.hear(said - SECOND);
            assert!(time.now() >= now, "it fell");
        }
    }

    #[test]
    fn a_leader_that_is_behind_is_followed_unless_the_time_would_fall() {
        let time = GroupTime::new(Clock::system());
        let began = start().time;
        let long_ago = time.clock.since_boot().checked_sub(Duration::from_secs(10));
        *time.last.lock() = Some(Taken {
            at: long_ago.expect("the machine was not started just now"),
            time: began,
            ahead: 0,
        });
        // Ten seconds have passed: the time is at least five later.
        for (said, followed) in [(6, 6), (4, 6), (7, 7)] {
            time.hear(began + said * SECOND);
            let last = time.last.lock().expect("it was taken");
            assert_eq!(last.time, began + followed * SECOND);
        }
    }

    #[test]
    fn what_a_leader_said_of_long_ago_is_not_believed() {
        let time = GroupTime::new(Clock::system());
        let now = time.now();
        time.hear(now - 24 * HOUR);
        assert!(time.now() >= now, "it fell back");
    }
}
