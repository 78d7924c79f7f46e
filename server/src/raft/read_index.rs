//! Linearizable reads on any node: the leader confirms that it still leads and says how far a read must see; the asked
//! node waits until it has applied that much.
//!
//! Promises: everything acknowledged before the call is visible when [`Group::linearize`] returns. It never changes
//! anything, so it is retried until its deadline. Leases are not used: a paused leader can't serve the past.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, FuturesUnordered};
use inkstone_proto::peer_v1 as peer;
use inkstone_proto::v1;
use inkstone_storage::types::Vote;
use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::time::{Instant, timeout, timeout_at};

use crate::raft::{Group, Leader, forwarded};

/// How long to wait before asking again when nobody led or the leader did not know.
const RETRY_AFTER: Duration = Duration::from_millis(25);

/// How long a voter may take to say that it follows.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(1);

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
    ///
    /// The index comes first, then a round of heartbeats of our own: a majority that accepts this leader's vote after the
    /// index was taken has elected nobody else before. openraft's own round is not used: with it a leader
    /// that had been paused served the past once (`server/tests/cluster/pause.rs`), presumably because an answer to an
    /// older append of the same log position was taken for one to a newer.
    pub async fn confirm_leader(&self) -> Result<u64, ReadIndexError> {
        let read = match self.inner.raft.get_read_log_id(ReadPolicy::LeaseRead).await {
            Ok((read, _)) => read,
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                return Err(ReadIndexError::NoLeader {
                    leader: forwarded(&forward),
                });
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                return Err(ReadIndexError::NoLeader { leader: None });
            }
            Err(RaftError::Fatal(_)) => return Err(ReadIndexError::Stopping),
        };
        if self.is_followed().await {
            Ok(read.index())
        } else {
            Err(ReadIndexError::NoLeader { leader: None })
        }
    }

    /// Whether a majority of the voters, asked now, accepts this node's vote as leader.
    async fn is_followed(&self) -> bool {
        let me = self.inner.node_id;
        let Some(vote) = self
            .inner
            .log
            .vote()
            .filter(|vote| vote.committed && vote.node == me)
        else {
            return false;
        };
        let (configs, voters) = self.voters();
        let mut accepted = BTreeSet::from([me]);
        let followed = |accepted: &BTreeSet<u64>| {
            configs
                .iter()
                .all(|config| 2 * config.intersection(accepted).count() > config.len())
        };
        let mut answers: FuturesUnordered<_> = voters
            .into_iter()
            .filter(|voter| voter.id != me)
            .map(|voter| self.accepts(voter, vote))
            .collect();
        while !followed(&accepted) {
            match answers.next().await {
                Some(Some(voter)) => {
                    accepted.insert(voter);
                }
                Some(None) => {}
                None => return false,
            }
        }
        true
    }

    /// Sends one voter an append without entries: its id, if it accepts the vote.
    async fn accepts(&self, voter: v1::NodeInfo, vote: Vote) -> Option<u64> {
        use peer::append_entries_response::Result as Answer;
        let Vote {
            term,
            node,
            committed,
        } = vote;
        let request = peer::AppendEntriesRequest {
            header: Some(self.header(voter.id)),
            vote: Some(peer::Vote {
                term,
                node,
                committed,
            }),
            ..peer::AppendEntriesRequest::default()
        };
        let mut peer = self.peer(&voter);
        let answer = async {
            let answers = peer
                .append_entries(stream::once(async { request }))
                .await
                .ok()?;
            answers.into_inner().message().await.ok()?
        };
        let answer = timeout(CONFIRM_TIMEOUT, answer).await.ok()??;
        matches!(answer.result, Some(Answer::Accepted(_))).then_some(voter.id)
    }
}
