//! What a node does before it stops while the others go on.
//!
//! Promises: a leader that stops costs a hand-over, not an election: it leads no more, and what it had taken is decided,
//! before it closes a connection. Bounded: a node that is told to stop stops.

use std::time::Duration;

use tokio::time::timeout;

use crate::raft::{Group, Leader, MemberError};

/// How long a leader looks for a successor, and waits for what it has taken to be decided.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Hands leadership over, if this node leads and there is another voter.
pub(super) async fn hand_over(group: &Group) {
    if group.leader() != Leader::Here || group.membership().voters.len() < 2 {
        return;
    }
    let handing_over = async {
        let handed = group.resign().await;
        if handed.is_ok() {
            group.settled().await;
        }
        handed
    };
    match timeout(DRAIN_TIMEOUT, handing_over).await {
        Ok(Ok((leader, _))) => tracing::info!(node = leader.id, "leads now"),
        Ok(Err(MemberError::NotLeader { .. })) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, "leadership was not handed over; the others elect");
        }
        Err(_) => {
            tracing::warn!("leadership was not handed over in {DRAIN_TIMEOUT:?}; the others elect");
        }
    }
}
