//! Handing leadership over to another voter.
//!
//! Promises: only to a voter that is reachable and near the leader's end, so that nobody waits for an election; returns
//! when another node leads, or says that it is not so. Must not know: gRPC, who asks.

use inkstone_proto::v1;
use tokio::time::{Instant, timeout_at};

use crate::raft::members::{MemberError, Members, not_found};
use crate::raft::progress::Progress;
use crate::raft::{Group, Leader};

impl Group {
    /// Makes that voter the leader, or the one that is least behind. Returns who leads then, and whether that is a
    /// change.
    pub async fn transfer_leader(
        &self,
        to: Option<u64>,
    ) -> Result<(v1::NodeInfo, bool), MemberError> {
        let group = self.clone();
        let work = tokio::spawn(async move {
            let Ok(_turn) = group.inner.changing.try_lock() else {
                return Err(MemberError::UnderWay);
            };
            group.hand_over(to).await
        });
        work.await.unwrap_or_else(|lost| {
            Err(MemberError::Unknown {
                why: lost.to_string(),
            })
        })
    }

    /// Hands leadership over once no change of the members is under way, for a node that stops. Returns who leads
    /// then, and whether that is a change.
    pub async fn resign(&self) -> Result<(v1::NodeInfo, bool), MemberError> {
        let _turn = self.inner.changing.lock().await;
        self.hand_over(None).await
    }

    /// The caller holds the turn to change members.
    pub(super) async fn hand_over(
        &self,
        to: Option<u64>,
    ) -> Result<(v1::NodeInfo, bool), MemberError> {
        self.require_lead()?;
        let members = self.membership();
        let me = self.inner.node_id;
        if to == Some(me) {
            let itself = members.nodes.get(&me).cloned();
            return Ok((itself.unwrap_or_default(), false));
        }
        let to = successor(me, &members, &self.progress(), to)?;
        let (_, term) = self.lead();
        let asked = self.inner.raft.trigger().transfer_leader(to).await;
        asked.map_err(|fatal| MemberError::Unknown {
            why: fatal.to_string(),
        })?;
        // It catches up, then campaigns; if it does neither, the others elect one after an election's time.
        let patience = 3 * self.inner.silence_max;
        let deadline = Instant::from_std(self.inner.clock.instant()) + patience;
        match timeout_at(deadline, self.successor_of(term)).await {
            Ok(Some(leader)) => Ok((leader, true)),
            Ok(None) => Err(MemberError::NotTaken { node: to }),
            Err(_) => Err(MemberError::Unknown {
                why: format!(
                    "node {to} was asked to lead, and nobody was seen to lead within {patience:?}"
                ),
            }),
        }
    }

    /// Who leads in a later term; `None`: this node.
    async fn successor_of(&self, term: u64) -> Option<v1::NodeInfo> {
        loop {
            let changed = self.leader_change();
            match self.lead() {
                (Leader::There(leader), _) => return Some(leader),
                // Both from one look: the log has the vote for the successor a moment before it is known here that this
                // node leads no longer.
                (Leader::Here, now) if now > term => return None,
                (Leader::Here | Leader::Unknown, _) => changed.await,
            }
        }
    }
}

/// The voter to hand over to.
fn successor(
    me: u64,
    members: &Members,
    progress: &std::collections::BTreeMap<u64, Progress>,
    to: Option<u64>,
) -> Result<u64, MemberError> {
    let of = |id: u64| progress.get(&id).copied().unwrap_or_default();
    let Some(to) = to else {
        let others = members.voters.iter().copied().filter(|id| *id != me);
        let best = others.max_by_key(|id| (of(*id).is_caught_up(), of(*id).matched));
        return match best {
            None => Err(MemberError::LastVoter { node: me }),
            Some(best) if of(best).is_caught_up() => Ok(best),
            Some(best) => Err(MemberError::NotCaughtUp {
                node: best,
                progress: of(best),
            }),
        };
    };
    if !members.nodes.contains_key(&to) {
        return Err(not_found(&to.to_string()));
    }
    if !members.is_voter(to) {
        return Err(MemberError::NotVoter { node: to });
    }
    if !of(to).is_caught_up() {
        return Err(MemberError::NotCaughtUp {
            node: to,
            progress: of(to),
        });
    }
    Ok(to)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use futures::FutureExt as _;
    use inkstone_storage::log::{Log, LogOptions, Spare};
    use inkstone_storage::types::{Identity, Vote};

    use super::*;
    use crate::clock::Clock;
    use crate::raft::log_store::durably;
    use crate::raft::{GROUP, GroupOptions, Member, Proof, Repairs, Surroundings, Timings};

    const ME: u64 = 1;
    /// Longer than any test runs.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// A cluster of one node, which leads.
    async fn leading(dir: &std::path::Path) -> Group {
        let log = Log::open(LogOptions {
            dir: dir.join("group-1"),
            identity: Identity {
                cluster_id: [7; 16],
                node_id: ME,
            },
            group: GROUP,
            segment_size: 4 << 20,
            tail_size: 1 << 20,
            queue_size: 8 << 20,
            free_size_min: 0,
            spare: Spare::Never,
        });
        let member = Member {
            client_address: "127.0.0.1:1".to_owned(),
            peer_address: "127.0.0.1:2".to_owned(),
        };
        let group = Group::open(GroupOptions {
            log: log.expect("a new log"),
            node_id: ME,
            cluster_id: [7; 16],
            member: member.clone(),
            timings: Timings {
                heartbeat: Duration::from_millis(50),
                election_min: Duration::from_millis(250),
                election_max: Duration::from_millis(300),
            },
            clock: Clock::system(),
            repairs: Repairs::default(),
            surroundings: Surroundings::default(),
        });
        let group = group.await.expect("a new group");
        let first = group.initialize(BTreeMap::from([(ME, member)]));
        first.await.expect("it is new");
        let leads = group.linearize(Proof::Majority, PATIENCE).await;
        leads.expect("it leads");
        group
    }

    #[tokio::test]
    async fn a_vote_for_the_successor_is_no_sign_that_this_node_leads_on() {
        let dir = tempfile::tempdir().expect("a directory");
        let group = leading(dir.path()).await;
        let (leader, term) = group.lead();
        assert!(matches!(leader, Leader::Here), "{leader:?}");
        // The moment between the vote that is written and the leader that is known to be another.
        let vote = Vote {
            term: term + 1,
            node: 2,
            committed: false,
        };
        let saved = durably(|done| group.inner.log.save_vote(vote, done)).await;
        saved.expect("the log goes on");
        assert_eq!(group.term(), term + 1);
        let successor = group.successor_of(term).now_or_never();
        assert_eq!(successor, None, "it is not decided yet");
    }

    fn members() -> Members {
        Members {
            nodes: (1..=4)
                .map(|id| {
                    let node = v1::NodeInfo {
                        id,
                        ..v1::NodeInfo::default()
                    };
                    (id, node)
                })
                .collect(),
            voters: BTreeSet::from([1, 2, 3]),
            ..Members::default()
        }
    }

    fn at(matched: u64, heard: bool) -> Progress {
        Progress::new(10_000, Some(matched), heard)
    }

    #[test]
    fn the_furthest_reachable_voter_takes_over() {
        let progress = BTreeMap::from([
            (2, at(9_990, true)),
            (3, at(9_999, true)),
            (4, at(10_000, true)),
        ]);
        assert_eq!(successor(1, &members(), &progress, None), Ok(3));
        let silent = BTreeMap::from([(2, at(9_990, true)), (3, at(9_999, false))]);
        assert_eq!(successor(1, &members(), &silent, None), Ok(2));
    }

    #[test]
    fn learners_strangers_and_those_behind_are_refused() {
        let progress = BTreeMap::from([(2, at(1, true)), (4, at(10_000, true))]);
        let refused = |to| successor(1, &members(), &progress, to).unwrap_err();
        assert_eq!(refused(Some(4)), MemberError::NotVoter { node: 4 });
        assert!(matches!(refused(Some(9)), MemberError::NotFound(_)));
        let behind = refused(Some(2));
        assert!(
            behind.to_string().contains("9999 entries behind"),
            "{behind}"
        );
        let silent = refused(Some(3));
        assert!(silent.to_string().contains("not heard from"), "{silent}");
        assert!(matches!(refused(None), MemberError::NotCaughtUp { .. }));
    }

    #[test]
    fn a_lone_voter_has_no_successor() {
        let mut alone = members();
        alone.voters = BTreeSet::from([1]);
        let refused = successor(1, &alone, &BTreeMap::new(), None);
        assert_eq!(refused, Err(MemberError::LastVoter { node: 1 }));
    }
}
