//! openraft's settings, each for a reason.

use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

use crate::raft::Fatal;

/// How often a leader says that it lives, and how long a follower waits before it campaigns. Whole milliseconds count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// Between heartbeats.
    pub heartbeat: Duration,
    /// At least so long without a word from the leader before campaigning.
    pub election_min: Duration,
    /// At most so long; less than twice what `election_min` is longer than `heartbeat`.
    pub election_max: Duration,
}

impl Timings {
    /// What openraft calls the two ends of its election timeout. A follower of openraft campaigns when its leader has
    /// been silent for a lease, which is as long as the longer end, and after that for a time drawn from between the two:
    /// so a silence of up to twice the longer end.
    fn after_lease(self) -> (Duration, Duration) {
        let lease = self.election_max / 2;
        (self.election_min.saturating_sub(lease), lease)
    }
}

/// openraft's settings: pre-vote on, no snapshot by itself, no leader that leads again without an election.
pub(super) fn raft_config(timings: Timings) -> Result<Config, Fatal> {
    let (timeout_min, timeout_max) = timings.after_lease();
    Config {
        cluster_name: "inkstone".to_owned(),
        heartbeat_interval: millis(timings.heartbeat),
        election_timeout_min: millis(timeout_min),
        election_timeout_max: millis(timeout_max),
        max_payload_entries: 4_096,
        max_append_entries: Some(4_096),
        // A follower whose disk stalls must not gather megabytes of appends in openraft's own queue.
        api_channel_size: Some(1_024),
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        // For the largest snapshot over a slow network; usually it is a few KB.
        install_snapshot_timeout: 60_000,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        ..Config::default()
    }
    .validate()
    .map_err(|error| Fatal(format!("raft timings: {error}")))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_campaigns_between_the_two_ends_of_the_silence() {
        let timings = Timings {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_secs(1),
            election_max: Duration::from_millis(1_500),
        };
        let config = raft_config(timings).expect("allowed");
        let lease = config.election_timeout_max;
        assert_eq!(lease + config.election_timeout_min, 1_000);
        assert_eq!(lease + config.election_timeout_max, 1_500);
    }

    #[test]
    fn the_widest_range_that_the_configuration_allows_is_allowed_by_openraft() {
        let timings = Timings {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(400),
            election_max: Duration::from_millis(598),
        };
        raft_config(timings).expect("allowed");
    }
}
