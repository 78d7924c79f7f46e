//! Linearizable reads on any node: the leader confirms that it still leads and says how far a read must see; the asked
//! node waits until it has applied that much.
//!
//! Promises: everything acknowledged before the call is visible when [`Group::linearize`] returns. Calls that come
//! together share a round, on the asked node and on the leader. A call never changes anything, so it is retried until its
//! deadline. A lease is relied on only where the caller asks for it: with [`Proof::Majority`] a paused leader can't serve
//! the past.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, FuturesUnordered};
use inkstone_proto::peer_v1 as peer;
use inkstone_proto::v1;
use inkstone_storage::types::Vote;
use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};

use crate::raft::round::Rounds;
use crate::raft::{Group, Leader, forwarded};

/// How long to wait before asking again when nobody led or the leader did not know.
const RETRY_AFTER: Duration = Duration::from_millis(25);

/// How long a voter may take to say that it follows, and a leader to answer a round.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a leader asks whether it is followed when nobody reads.
const FOLLOWED_INTERVAL: Duration = Duration::from_secs(1);

/// How a leader makes sure that it still leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A majority says so, asked after the call.
    Majority,
    /// A majority said so less than a lease ago, and the clocks of all nodes have run about equally fast since.
    Lease,
}

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

type Answer = Result<u64, ReadIndexError>;

/// The rounds that reads share.
#[derive(Debug)]
pub(super) struct ReadRounds {
    /// Of this node as the leader.
    confirmed: Rounds<Answer>,
    /// Of this node as a follower, that asks the leader for one proof or the other.
    by_majority: Rounds<Answer>,
    by_lease: Rounds<Answer>,
}

impl ReadRounds {
    pub(super) fn new() -> Self {
        Self {
            confirmed: Rounds::new(),
            by_majority: Rounds::new(),
            by_lease: Rounds::new(),
        }
    }

    fn asked(&self, proof: Proof) -> Rounds<Answer> {
        match proof {
            Proof::Majority => self.by_majority.clone(),
            Proof::Lease => self.by_lease.clone(),
        }
    }
}

impl Group {
    /// Returns once everything that was acknowledged before the call is visible here: asks the leader (or confirms its
    /// own leadership), then waits for apply. Works on any node. The index that is visible.
    pub async fn linearize(&self, proof: Proof, timeout: Duration) -> Result<u64, ReadIndexError> {
        let deadline = Instant::from_std(self.inner.clock.instant()) + timeout;
        let term = self.lead().1;
        let mut why = ReadIndexError::NoLeader { leader: None };
        loop {
            match timeout_at(deadline, self.read_index(proof)).await {
                Ok(Ok(index)) => {
                    let applied = self.inner.applied.wait_for(index);
                    return match timeout_at(deadline, applied).await {
                        Ok(()) => {
                            if proof == Proof::Majority {
                                self.inner.current_in.fetch_max(term, Ordering::Relaxed);
                            }
                            Ok(index)
                        }
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
    async fn read_index(&self, proof: Proof) -> Result<u64, ReadIndexError> {
        if self.leader() == Leader::Here {
            return self.confirm_leader(proof).await;
        }
        let group = self.clone();
        let ask = move || group.clone().ask_leader(proof);
        self.inner
            .reads
            .asked(proof)
            .join(ask)
            .await
            .unwrap_or(Err(ReadIndexError::Stopping))
    }

    /// Asks whoever leads when the round begins.
    async fn ask_leader(self, proof: Proof) -> Result<u64, ReadIndexError> {
        let leader = match self.leader() {
            Leader::Here => return self.confirm_leader(proof).await,
            Leader::There(leader) => leader,
            Leader::Unknown => return Err(ReadIndexError::NoLeader { leader: None }),
        };
        let request = peer::ReadIndexRequest {
            header: Some(self.header(leader.id)),
            lease: proof == Proof::Lease,
        };
        let mut peer = self.peer(&leader);
        // A leader that is gone answers nothing for a while; its successor is asked as soon as it is known.
        let answer = tokio::select! {
            answer = timeout(CONFIRM_TIMEOUT, peer.read_index(request)) => answer,
            () = self.leader_change() => return Err(ReadIndexError::NoLeader { leader: None }),
        };
        match answer {
            Ok(Ok(response)) => Ok(response.into_inner().index),
            Ok(Err(_)) | Err(_) => Err(ReadIndexError::NoLeader {
                leader: Some(leader),
            }),
        }
    }

    /// Makes sure that this node still leads, and returns the index that a read must see. Refused where it does not
    /// lead.
    pub async fn confirm_leader(&self, proof: Proof) -> Result<u64, ReadIndexError> {
        match proof {
            Proof::Lease => self.read_index_here().await,
            Proof::Majority => {
                let group = self.clone();
                let rounds = self.inner.reads.confirmed.clone();
                let confirm = move || group.clone().confirm_by_majority();
                rounds
                    .join(confirm)
                    .await
                    .unwrap_or(Err(ReadIndexError::Stopping))
            }
        }
    }

    /// The index comes first, then a round of heartbeats of our own: a majority that accepts this leader's vote after the
    /// index was taken has elected nobody else before. openraft's own round is not used: with it a leader
    /// that had been paused served the past once (`server/tests/cluster/pause.rs`), presumably because an answer to an
    /// older append of the same log position was taken for one to a newer.
    async fn confirm_by_majority(self) -> Result<u64, ReadIndexError> {
        let (begun, term) = (self.inner.time.now(), self.term());
        let index = self.read_index_here().await?;
        // Of one term: an index of an earlier one may miss what another leader has committed in between.
        if self.is_followed().await && self.term() == term {
            self.inner.followed.note(begun, index);
            Ok(index)
        } else {
            Err(ReadIndexError::NoLeader { leader: None })
        }
    }

    /// The index that a read must see if this node leads, which its lease says and nobody else.
    async fn read_index_here(&self) -> Result<u64, ReadIndexError> {
        match self.inner.raft.get_read_log_id(ReadPolicy::LeaseRead).await {
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

    /// Has the leader ask every second whether it is followed, until the group is gone: what it tells the others of
    /// their staleness.
    pub(super) fn watch_followers(&self) {
        let group = Arc::downgrade(&self.inner);
        let mut turns = interval(FOLLOWED_INTERVAL);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::spawn(async move {
            loop {
                turns.tick().await;
                let Some(inner) = group.upgrade() else { return };
                let group = Self { inner };
                if group.leader() == Leader::Here
                    && let Err(error) = group.confirm_leader(Proof::Majority).await
                {
                    tracing::debug!(%error, "nobody says that this node leads");
                }
            }
        });
    }

    /// Everything that was acknowledged before this time (nanoseconds since the Unix epoch, by the leader's clock) is
    /// visible here; `None`: nothing is known.
    pub fn as_of(&self) -> Option<i64> {
        if self.leader() != Leader::Here {
            return self.inner.freshness.as_of(self.inner.applied.index());
        }
        let followed = self.inner.followed.at(self.inner.applied.index());
        (followed != 0).then_some(followed)
    }

    /// A leader's message was accepted: what it said of itself.
    pub(crate) fn note_leader(&self, committed: u64, as_of: i64) {
        let applied = self.inner.applied.index();
        self.inner.freshness.note(committed, as_of, applied);
        self.inner.time.hear(as_of);
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
