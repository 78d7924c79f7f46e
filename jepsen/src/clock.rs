//! The one place that reads a clock: a history is stamped, and a deadline is set, with what it gives.
//!
//! Promises: monotonic, and one origin for all clones, so that times of different clients can be compared. Must not
//! know: wall time; a step of the system's clock never shows in a history.

use std::time::{Duration, Instant};

/// Monotonic time since the clock was made. Cheap to copy; all copies share the origin.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that reads 0 now.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one reader of the monotonic clock"
    )]
    pub fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// Nanoseconds since the clock was made.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one reader of the monotonic clock"
    )]
    pub fn nanos(self) -> u64 {
        u64::try_from(Instant::now().duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }

    /// The time since the clock was made.
    pub fn elapsed(self) -> Duration {
        Duration::from_nanos(self.nanos())
    }
}
