//! Linearizable reads on any node: the leader confirms that it still leads and says how far a read must see; the asked
//! node waits until it has applied that much.
//!
//! Promises: everything acknowledged before the call is visible when [`Group::linearize`] returns. It never changes
//! anything, so it is retried until its deadline. Leases are not used: a paused leader can't serve the past.

use std::time::Duration;

use inkstone_proto::peer_v1 as peer;
use inkstone_proto::v1;
use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::time::{Instant, timeout_at};

use crate::raft::{Group, Leader, forwarded};

/// How long to wait before asking again when nobody led or the leader did not know.
const RETRY_AFTER: Duration = Duration::from_millis(25);

/// Why a linearizable read could not be confirmed. It had no effect in any case.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ReadIndexError {
    /// No leader is known, or it could not reach a majority in time.
    #[error("no leader answered in time")]
    NoLeader {
        /// Who leads, if known.
        leader: Option<v1::NodeInfo>,
    },
    /// The deadline passed.
    #[error("timed out")]
    Timeout,
    /// The node is stopping or has failed.
    #[error("the node is stopping")]
    Stopping,
}

impl Group {
    /// Returns once everything that was acknowledged before the call is visible here: asks the leader (or confirms its
    /// own leadership with a majority), then waits for apply. Works on any node. The index that is visible.
    pub async fn linearize(&self, timeout: Duration) -> Result<u64, ReadIndexError> {
        let deadline = Instant::from_std(self.inner.clock.instant()) + timeout;
        let mut why = ReadIndexError::NoLeader { leader: None };
        loop {
            match timeout_at(deadline, self.read_index()).await {
                Ok(Ok(index)) => {
                    let applied = self.inner.applied.wait_for(index);
                    return match timeout_at(deadline, applied).await {
                        Ok(()) => Ok(index),
                        Err(_) => Err(ReadIndexError::Timeout),
                    };
                }
                Ok(Err(ReadIndexError::Stopping)) => return Err(ReadIndexError::Stopping),
                Ok(Err(error)) => why = error,
                Err(_) => return Err(why),
            }
            let changed = self.leader_change();
            let pause = async {
                tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep(RETRY_AFTER) => {}
                }
            };
            if timeout_at(deadline, pause).await.is_err() {
                return Err(why);
            }
        }
    }

    /// The index that a read must see, from whoever leads.
    async fn read_index(&self) -> Result<u64, ReadIndexError> {
        match self.leader() {
            Leader::Here => self.confirm_leader().await,
            Leader::There(leader) => {
                let request = peer::ReadIndexRequest {
                    header: Some(self.header(leader.id)),
                };
                let mut peer = self.peer(&leader);
                // A leader that is gone answers nothing for a while; its successor is asked as soon as it is known.
                let answer = tokio::select! {
                    answer = peer.read_index(request) => answer,
                    () = self.leader_change() => {
                        return Err(ReadIndexError::NoLeader { leader: None });
                    }
                };
                answer
                    .map(|response| response.into_inner().index)
                    .map_err(|_| ReadIndexError::NoLeader {
                        leader: Some(leader),
                    })
            }
            Leader::Unknown => Err(ReadIndexError::NoLeader { leader: None }),
        }
    }

    /// Asks a majority whether this node still leads: the index that a read must see. Refused where it does not.
    pub async fn confirm_leader(&self) -> Result<u64, ReadIndexError> {
        match self.inner.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _)) => Ok(read.index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(ReadIndexError::NoLeader {
                    leader: forwarded(&forward),
                })
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(ReadIndexError::NoLeader { leader: None })
            }
            Err(RaftError::Fatal(_)) => Err(ReadIndexError::Stopping),
        }
    }
}
