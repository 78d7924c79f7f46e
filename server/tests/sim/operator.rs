//! An operator who is never content with who takes part and who leads.
//!
//! Promises: asks only for what an operator may ask for: no node that was removed is added again, and as many voters stay
//! as a cluster should have. Must not know: what goes wrong meanwhile.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result};
use inkstone_client::{Able, Client, ClusterStatus, Consistency};
use inkstone_jepsen::reach::Reach;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::machine::{id, name, number};
use crate::network::PEER_PORT;

/// A change may take two rounds of agreement, and no longer than most faults.
const TIMEOUT: Duration = Duration::from_millis(1_500);
/// Fewer voters than that are never left.
const VOTERS_MIN: usize = 3;
/// How long it may take until everybody knows who is a member, when nothing is wrong any more.
const SETTLES_WITHIN: Duration = Duration::from_secs(20);

/// One thing to ask for. Nodes by their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// The spare, which is no member.
    Add,
    Promote(u64),
    Demote(u64),
    Remove(u64),
    Transfer(Option<u64>),
}

/// What was acknowledged.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Changes {
    added: usize,
    promoted: usize,
    demoted: usize,
    removed: usize,
    transferred: usize,
}

impl fmt::Display for Changes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            added,
            promoted,
            demoted,
            removed,
            transferred,
        } = self;
        write!(
            out,
            "added {added} promoted {promoted} demoted {demoted} removed {removed} transferred {transferred}"
        )
    }
}

/// Asks for one change after the other.
pub(crate) struct Operator {
    client: Client,
    rng: StdRng,
    /// A node that is no member at first.
    spare: usize,
    removed: BTreeSet<u64>,
    changes: Changes,
}

impl Operator {
    pub(crate) fn new(reach: &Reach, seed: u64, spare: usize) -> Result<Self> {
        Ok(Self {
            client: reach.client_within(TIMEOUT)?,
            rng: StdRng::seed_from_u64(seed.rotate_left(31)),
            spare,
            removed: BTreeSet::new(),
            changes: Changes::default(),
        })
    }

    /// Until it is told to stop: what was changed.
    pub(crate) async fn operate(mut self, stop: watch::Receiver<bool>) -> Changes {
        while !*stop.borrow() {
            let pause = self.rng.random_range(10..200);
            sleep(Duration::from_millis(pause)).await;
            let Ok(status) = self.client.cluster_status().await else {
                continue;
            };
            let voters = status.nodes.iter().filter(|status| status.voter);
            let voters: Vec<u64> = voters.map(|status| status.node.id).collect();
            let change = if self.rng.random_ratio(1, 4) {
                let voter = voters.choose(&mut self.rng).copied();
                Some(Change::Transfer(voter.filter(|_| self.rng.random())))
            } else {
                let changes = self.possible(&status, &voters);
                changes.choose(&mut self.rng).copied()
            };
            if let Some(change) = change {
                self.ask(change).await;
            }
        }
        self.changes
    }

    fn possible(&self, status: &ClusterStatus, voters: &[u64]) -> Vec<Change> {
        let mut changes = Vec::new();
        let learners = status.nodes.iter().filter(|status| !status.voter);
        let learners: Vec<u64> = learners.map(|status| status.node.id).collect();
        let spare = id(self.spare);
        let is_member = voters.contains(&spare) || learners.contains(&spare);
        if !is_member && !self.removed.contains(&spare) {
            changes.push(Change::Add);
        }
        for learner in learners {
            changes.extend([Change::Promote(learner); 3]);
            if learner != spare {
                changes.push(Change::Remove(learner));
            }
        }
        if voters.len() > VOTERS_MIN {
            changes.extend(voters.iter().map(|voter| Change::Demote(*voter)));
            changes.extend(voters.iter().map(|voter| Change::Remove(*voter)));
        }
        changes
    }

    /// What fails is asked for again, perhaps.
    async fn ask(&mut self, change: Change) {
        let client = &self.client;
        let changes = &mut self.changes;
        let (done, count) = match change {
            Change::Add => {
                let address = format!("{}:{PEER_PORT}", name(self.spare));
                let added = client.add_member(&address).await;
                (added.is_ok(), &mut changes.added)
            }
            Change::Promote(node) => {
                let promoted = client.promote_member(&node.to_string()).await;
                (promoted.is_ok(), &mut changes.promoted)
            }
            Change::Demote(node) => {
                let node = node.to_string();
                let demoted = client.demote_member(&node, Able::CaughtUp).await;
                (demoted.is_ok(), &mut changes.demoted)
            }
            Change::Remove(node) => {
                self.removed.insert(node);
                let node = node.to_string();
                let removed = client.remove_member(&node, Able::CaughtUp).await;
                (removed.is_ok(), &mut changes.removed)
            }
            Change::Transfer(node) => {
                let node = node.map(|node| node.to_string());
                let transfer = client.transfer_leader(node.as_deref()).await;
                let moved = transfer.is_ok_and(|transfer| transfer.transferred);
                (moved, &mut changes.transferred)
            }
        };
        *count += usize::from(done);
    }
}

/// The nodes that are members when nothing is changed any more, as the one says that leads.
pub(crate) async fn members(reach: &Reach, log: &str) -> Result<Vec<usize>> {
    let leader_says = async {
        loop {
            for node in reach.active.clone() {
                let client = reach.client_of(node, Duration::from_secs(1))?;
                // Who was removed may still believe that it leads; it can't prove it.
                if client.tail(log, Consistency::Linearizable).await.is_err() {
                    continue;
                }
                if let Ok(status) = client.cluster_status().await
                    && status.leader == Some(status.answered_by)
                    && !status.changing
                {
                    let nodes = status.nodes.iter();
                    return Ok(nodes.map(|status| number(status.node.id)).collect());
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(SETTLES_WITHIN, leader_says)
        .await
        .context("nobody leads, or a change of the members does not end")?
}
