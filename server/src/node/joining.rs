//! How a node that starts comes to take part: in no cluster it looks for one, or waits to be added to one; then it waits
//! for a leader.
//!
//! Promises: says what it waits for, once, and again when that changes. Must not know: what is served.

use std::path::Path;
use std::time::Duration;

use inkstone_proto::v1::NodeInfo;
use inkstone_storage::error::OpenError;
use inkstone_storage::log::DirLock;
use inkstone_storage::types::{Identity, NO_CLUSTER};
use tokio::time::sleep;
use uuid::Uuid;

use crate::discovery::{Discovery, Standing, Step};
use crate::node::StartError;
use crate::node::quarantine::refusal;
use crate::node::standing::standing;
use crate::raft::{GROUP, Group, Leader, Proof, ReadIndexError};

/// Between rounds of discovery.
const ROUND_PAUSE: Duration = Duration::from_millis(100);
/// Between rounds of a node that waits for an operator.
const WAITING_PAUSE: Duration = Duration::from_millis(500);
/// How long a leader may take to answer a node that starts, before the node looks around again.
const LEADER_ANSWER: Duration = Duration::from_secs(1);

/// The directory's identity; a new one gets a random node id, kept before anybody hears of it.
pub(super) fn identity(lock: &DirLock) -> Result<Identity, OpenError> {
    if let Some(identity) = lock.identity()? {
        return Ok(identity);
    }
    let node_id = loop {
        let id = rand::random::<u64>() >> 1;
        if id != 0 {
            break id;
        }
    };
    let identity = Identity {
        cluster_id: NO_CLUSTER,
        node_id,
    };
    lock.set_identity(identity)?;
    Ok(identity)
}

/// The members of a new cluster, when this node is one of those that form it.
pub(super) type Founders = Option<Vec<NodeInfo>>;

/// Says what is waited for, once for each thing.
#[derive(Debug, Default)]
struct Said {
    last: String,
}

impl Said {
    fn say(&mut self, message: String) {
        if self.last != message {
            tracing::info!("{message}");
            self.last = message;
        }
    }

    /// What a round came to, as far as it is to be waited for.
    fn say_step(&mut self, step: &Step, me: &NodeInfo) {
        match step {
            Step::Wait {
                met,
                expected,
                differing: None,
            } if met > expected => self.say(format!(
                "waiting: met {met} nodes for a new cluster of {expected}, which is too many; if one of them is gone for good \
                 (it was wiped and has another address now), restart the others, which then forget it"
            )),
            Step::Wait {
                met,
                expected,
                differing: None,
            } => self.say(format!(
                "waiting for the other nodes of a new cluster: met {met} of {expected}"
            )),
            Step::Wait {
                expected,
                differing: Some((address, other)),
                ..
            } => self.say(format!(
                "waiting for the other nodes of a new cluster: this node expects {expected} nodes and {address} expects \
                 {other}, so they never agree; set the same `bootstrap_expect` on all of them"
            )),
            Step::WaitForAnswers { silent } => self.say(format!(
                "waiting for {silent} of the nodes in `seeds` to answer: with `bootstrap_expect` = 1 this node forms a cluster \
                 of its own, unless one of them knows of another"
            )),
            Step::AskToBeAdded { cluster_id } => self.say(format!(
                "node {} is in no cluster and found cluster {}; waiting to be added to it: run `ink cluster add {}`",
                me.id,
                Uuid::from_bytes(*cluster_id),
                me.peer_address
            )),
            Step::Join {
                moved_from: Some(old),
                ..
            } => self.say(format!(
                "the members look for this node at {} (clients: {}); waiting until they have taken over its new addresses, \
                 {} (clients: {})",
                old.peer_address, old.client_address, me.peer_address, me.client_address
            )),
            Step::Join { .. } | Step::Form { .. } => {}
        }
    }
}

/// For a node that is in no cluster: asks around until it is in one, which the caller keeps.
pub(super) async fn find_cluster(
    lock: &DirLock,
    data_dir: &Path,
    identity: Identity,
    discovery: &Discovery,
) -> Result<(Identity, Founders), StartError> {
    if identity.cluster_id != NO_CLUSTER {
        lock.require_group(GROUP)
            .map_err(|error| refusal(error, identity.node_id, data_dir))?;
        return Ok((identity, None));
    }
    let mut said = Said::default();
    loop {
        let step = discovery.round(Standing::None).await?;
        said.say_step(&step, discovery.me());
        let (cluster_id, members) = match step {
            Step::Wait { .. } | Step::WaitForAnswers { .. } => {
                sleep(ROUND_PAUSE).await;
                continue;
            }
            Step::AskToBeAdded { .. } => {
                sleep(WAITING_PAUSE).await;
                continue;
            }
            Step::Form {
                cluster_id,
                members,
            } => (cluster_id, Some(members)),
            Step::Join { cluster_id, .. } => (cluster_id, None),
        };
        let identity = Identity {
            cluster_id,
            ..identity
        };
        return Ok((identity, members));
    }
}

/// Waits for a leader, and until everything is here that it has agreed on by then; meanwhile founds the cluster if that
/// is this node's part, and looks whether it belongs where it is.
pub(super) async fn take_part(
    group: &Group,
    founders: Founders,
    discovery: &Discovery,
) -> Result<(), StartError> {
    let mut founders = founders;
    let mut said = Said::default();
    loop {
        if let Some(members) = founders.take() {
            let members = members
                .iter()
                .map(crate::raft::wire::node_from_wire)
                .collect();
            group.initialize(members).await?;
        }
        // A leader is known from before a restart, too: only one that answers is one.
        if group.leader() != Leader::Unknown {
            match group.linearize(Proof::Majority, LEADER_ANSWER).await {
                Ok(_) => return Ok(()),
                Err(ReadIndexError::Timeout) => said.say(format!(
                    "catching up: {} of {} entries are applied",
                    group.applied().index(),
                    group.known_committed()
                )),
                Err(_) => {}
            }
        }
        let step = discovery.round(standing(group)).await?;
        if group.leader() == Leader::Unknown {
            said.say_step(&step, discovery.me());
        }
        if let Step::Form { members, .. } = step
            && !group.is_initialized().await?
        {
            founders = Some(members);
            continue;
        }
        let changed = group.leader_change();
        if group.leader() == Leader::Unknown {
            tokio::select! {
                () = changed => {}
                () = sleep(ROUND_PAUSE) => {}
            }
        }
    }
}
