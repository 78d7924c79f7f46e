//! openraft's settings, each for a reason (DESIGN.md section 4).

use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

use crate::raft::Fatal;

/// How often a leader says that it lives, and how long a follower waits before it campaigns. Whole milliseconds count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// Between heartbeats.
    pub heartbeat: Duration,
    /// At least so long without a leader before campaigning.
    pub election_min: Duration,
    /// At most so long.
    pub election_max: Duration,
}

/// openraft's settings: pre-vote on, no snapshot by itself, no leader that leads again without an election.
pub(super) fn raft_config(timings: Timings) -> Result<Config, Fatal> {
    Config {
        cluster_name: "inkstone".to_owned(),
        heartbeat_interval: millis(timings.heartbeat),
        election_timeout_min: millis(timings.election_min),
        election_timeout_max: millis(timings.election_max),
        max_payload_entries: 4_096,
        max_append_entries: Some(4_096),
        // A follower whose disk stalls must not gather megabytes of appends in openraft's own queue.
        api_channel_size: Some(1_024),
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        install_snapshot_timeout: 10_000,
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
