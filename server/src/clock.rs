//! The one place that reads a clock: everything else takes the time as an argument, so that a test can give it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::time::ClockId;

/// Where the time comes from. Cheap to clone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock {
    /// Where it is not the system's: nanoseconds since the Unix epoch.
    wall: Option<&'static AtomicI64>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self { wall: None }
    }

    /// A clock whose time of day is what stands there, in nanoseconds since the Unix epoch: for a simulation, in which every
    /// machine has its own.
    pub fn showing(wall: &'static AtomicI64) -> Self {
        Self { wall: Some(wall) }
    }

    /// Nanoseconds since the Unix epoch, UTC. A clock set before 1970 reads 0; beyond the year 2262, the largest value.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one reader of the system's clock"
    )]
    pub fn unix_nanos(self) -> i64 {
        if let Some(wall) = self.wall {
            return wall.load(Ordering::Relaxed);
        }
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    }

    /// Time since the machine was started, in which it slept included: unlike [`Clock::instant`], which stands still meanwhile
    /// on Linux.
    ///
    /// # Panics
    /// Where the system has no such clock: nothing that Inkstone is built for.
    pub fn since_boot(self) -> Duration {
        #[cfg(target_os = "linux")]
        let clock = ClockId::CLOCK_BOOTTIME;
        #[cfg(not(target_os = "linux"))]
        let clock = ClockId::CLOCK_MONOTONIC;
        clock.now().expect("the system has this clock").into()
    }

    /// A point of monotonic time, for deadlines.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one reader of the monotonic clock"
    )]
    pub fn instant(self) -> Instant {
        Instant::now()
    }
}
