//! When a request must have been answered: the client's `grpc-timeout`, a little before it runs out.

use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::MetadataMap;

use crate::clock::Clock;
use crate::grpc::limits::{DEADLINE_MARGIN, REFUSAL_MARGIN};

/// A point in time, given to everything that is done for one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
}

impl Deadline {
    /// So long from now.
    pub(crate) fn after(clock: Clock, timeout: Duration) -> Self {
        Self {
            at: Instant::from_std(clock.instant()) + timeout,
        }
    }

    /// The client's, if it gave one, otherwise `default` from now; never more than `max` from now.
    pub(crate) fn of_request(
        clock: Clock,
        metadata: &MetadataMap,
        default: Duration,
        max: Duration,
    ) -> Self {
        Self::after(clock, client_timeout(metadata).unwrap_or(default).min(max))
    }

    /// The deadline a part of the remaining time earlier: `parts` 4 leaves a quarter of it.
    pub(crate) fn earlier_by(self, clock: Clock, parts: u32) -> Self {
        Self {
            at: self.at - self.remaining(clock) / parts,
        }
    }

    /// When a write that can't be carried out must have been refused, if this is when its outcome counts as unknown: the
    /// definite refusal must win over the timeout, on a busy node too.
    pub(crate) fn of_refusal(self) -> Self {
        Self {
            at: self.at.checked_sub(REFUSAL_MARGIN).unwrap_or(self.at),
        }
    }

    /// The earlier of the two.
    pub(crate) fn min(self, other: Self) -> Self {
        Self {
            at: self.at.min(other.at),
        }
    }

    /// How long until then; zero when it has passed.
    pub(crate) fn remaining(self, clock: Clock) -> Duration {
        self.at
            .saturating_duration_since(Instant::from_std(clock.instant()))
    }

    /// Whether it has passed.
    pub(crate) fn expired(self, clock: Clock) -> bool {
        self.remaining(clock).is_zero()
    }

    /// For `timeout_at`.
    pub(crate) fn instant(self) -> Instant {
        self.at
    }
}

/// The `grpc-timeout` header, less a margin: up to 8 digits and a unit.
fn client_timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    let timeout = match unit {
        "H" => Duration::from_secs(count * 3_600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    };
    Some(timeout.saturating_sub(DEADLINE_MARGIN.min(timeout / 10)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Duration> {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", text.parse().expect("ascii"));
        client_timeout(&metadata)
    }

    #[test]
    fn every_unit_is_read_and_leaves_a_margin() {
        assert_eq!(of("1S"), Some(Duration::from_millis(980)));
        assert_eq!(of("100m"), Some(Duration::from_millis(90)));
        assert_eq!(of("2M"), Some(Duration::from_millis(119_980)));
        assert_eq!(of("1H"), Some(Duration::from_millis(3_599_980)));
        assert_eq!(of("1000u"), Some(Duration::from_micros(900)));
        assert_eq!(of("1000n"), Some(Duration::from_nanos(900)));
        assert_eq!(of("0m"), Some(Duration::ZERO));
    }

    #[test]
    fn a_malformed_header_sets_no_deadline() {
        for text in ["", "S", "1", "1x", "-1S", "+1S", "123456789S", "1 S"] {
            assert_eq!(of(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_client_decides_up_to_the_bound() {
        let clock = Clock::system();
        let (default, max) = (Duration::from_secs(5), Duration::from_secs(60));
        let none = Deadline::of_request(clock, &MetadataMap::new(), default, max);
        assert!(none.remaining(clock) <= default);
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", "3600S".parse().expect("ascii"));
        let long = Deadline::of_request(clock, &metadata, default, max).remaining(clock);
        assert!(long > default && long <= max, "{long:?}");
        assert!(Deadline::after(clock, Duration::ZERO).expired(clock));
    }

    #[test]
    fn an_earlier_deadline_leaves_its_part() {
        let clock = Clock::system();
        let whole = Deadline::after(clock, Duration::from_secs(100));
        let earlier = whole.earlier_by(clock, 4).remaining(clock);
        assert!(earlier > Duration::from_secs(70) && earlier <= Duration::from_secs(75));
    }
}
