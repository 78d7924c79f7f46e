//! How nodes that know a few addresses become one cluster, and how a node notices that it does not belong.
//!
//! A new node asks its seeds, and whom they have met, who they are. When it has met exactly `bootstrap_expect` nodes
//! (itself included) and each of them has met the same ones, they are a cluster: its id follows from their node ids, so
//! that all come to the same one without a vote, and a node that stops half-way goes on where it was. A new node that
//! finds a cluster instead waits until an operator adds it.
//!
//! Promises: two sets of nodes never form one cluster, nor one set two; a node of another cluster, or one that was
//! removed, is told so. Must not know: openraft, files.

mod evaluate;
mod misplaced;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use inkstone_net::Dial;
use inkstone_proto::peer_v1::peer_client::PeerClient;
use inkstone_proto::peer_v1::{HelloRequest, HelloResponse};
use inkstone_proto::v1::NodeInfo;
use inkstone_storage::types::NO_CLUSTER;
use parking_lot::Mutex;
use tokio::time::timeout;
use tonic::transport::Channel;

use crate::clock::Clock;
use crate::raft::{Spoken, Versions, connect_lazily};

pub use self::evaluate::Step;
use self::evaluate::{Own, check_cluster, check_protocol, evaluate};
pub use self::misplaced::{Misplaced, Removed};
use self::waiting::Waiting;

/// The protocol of `Hello` itself.
pub const PROTOCOL: u32 = 1;
const HELLO_TIMEOUT: Duration = Duration::from_secs(1);
/// Addresses that are asked, at most: seeds and those heard of from others.
const TARGETS_MAX: usize = 64;

/// What a running group tells whoever asks this node.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Members, committed or not; empty before the group was initialised.
    pub members: Vec<NodeInfo>,
    /// The entry of the newest membership that is known to be committed; 0: none.
    pub committed_index: u64,
    /// Who is in that.
    pub committed_members: BTreeSet<u64>,
}

/// An answer, and the address that gave it.
#[derive(Debug, Clone)]
struct Answer {
    address: String,
    response: HelloResponse,
}

/// What this node knows of others before, and beside, Raft. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Discovery {
    me: NodeInfo,
    expected: usize,
    seeds: Vec<String>,
    clock: Clock,
    versions: Versions,
    dial: Dial,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    cluster_id: [u8; 16],
    /// Nodes without a running cluster, this one included, by id.
    met: BTreeMap<u64, NodeInfo>,
    /// Nodes of this cluster, as those that answered say.
    cluster: BTreeMap<u64, NodeInfo>,
    /// Addresses to ask, and their connections.
    targets: BTreeMap<String, PeerClient<Channel>>,
    /// Nodes that ask to be in this cluster.
    waiting: Waiting,
    /// Addresses whose answers are left out, and why.
    left_out: BTreeMap<String, Misplaced>,
}

/// What a node has of its own that says where it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing: what others say decides.
    None,
    /// A log of its cluster that does not say since when it is a member: it is damaged, or not read yet.
    HasLog,
    /// A log by which it is a member.
    Member {
        /// The entry that made it one.
        since: u64,
    },
}

impl Standing {
    fn since(self) -> Option<u64> {
        match self {
            Self::Member { since } => Some(since),
            Self::None | Self::HasLog => None,
        }
    }
}

impl Discovery {
    /// For a node that waits for `expected` nodes and knows these seeds (its own address may be among them).
    pub fn new(
        me: NodeInfo,
        cluster_id: [u8; 16],
        expected: usize,
        seeds: Vec<String>,
        clock: Clock,
    ) -> Self {
        let met = BTreeMap::from([(me.id, me.clone())]);
        let shared = Shared {
            cluster_id,
            met,
            cluster: BTreeMap::new(),
            targets: BTreeMap::new(),
            waiting: Waiting::default(),
            left_out: BTreeMap::new(),
        };
        Self {
            me,
            expected,
            seeds,
            clock,
            versions: Versions::new(Spoken::own()),
            dial: Dial::default(),
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    /// This node, as it wants to be reached.
    pub fn me(&self) -> &NodeInfo {
        &self.me
    }

    /// This discovery, for a node that speaks `versions` in place of what this release does.
    #[must_use]
    pub fn speaking(self, versions: Versions) -> Self {
        Self { versions, ..self }
    }

    /// The same for a node that opens its connections in this way.
    #[must_use]
    pub fn dialing(self, dial: Dial) -> Self {
        Self { dial, ..self }
    }

    /// The cluster that this node has come to be in.
    pub fn set_cluster(&self, cluster_id: [u8; 16]) {
        self.shared.lock().cluster_id = cluster_id;
    }

    /// Whether there is anybody else to ask.
    pub fn has_seeds(&self) -> bool {
        self.seeds.iter().any(|seed| *seed != self.me.peer_address)
    }

    /// The nodes of this cluster, as those that have answered so far said.
    pub fn cluster(&self) -> Vec<NodeInfo> {
        self.shared.lock().cluster.values().cloned().collect()
    }

    /// Answers another node's question, and remembers the asker.
    pub fn answer(&self, request: &HelloRequest, known: Known) -> HelloResponse {
        let spoken = Spoken::from_wire(request.versions.as_ref());
        let compatible = self.versions.own().common(&spoken);
        if let Err(refused) = &compatible {
            tracing::warn!(%refused, "a node of another release asked");
        }
        let mut shared = self.shared.lock();
        // A node that has kept the id of this cluster and stopped before it began is met again.
        let same =
            [NO_CLUSTER, shared.cluster_id].contains(&cluster_from_wire(&request.cluster_id));
        if let Some(node) = &request.node
            && same
            && compatible.is_ok()
            && node.id != self.me.id
        {
            if known.members.is_empty() {
                shared.meet(node);
            } else if !known.members.iter().any(|member| member.id == node.id) {
                shared.waiting.heard(node, self.clock.instant());
            }
        }
        HelloResponse {
            node: Some(self.me.clone()),
            cluster_id: cluster_to_wire(shared.cluster_id),
            protocol: PROTOCOL,
            seen: shared.met.values().cloned().collect(),
            bootstrap_expect: u32::try_from(self.expected).unwrap_or(u32::MAX),
            members: known.members,
            committed_index: known.committed_index,
            committed_members: known.committed_members.into_iter().collect(),
            versions: Some(self.versions.own().to_wire()),
        }
    }

    /// Leaves out who cannot be of this node's cluster: what the node has kept says where it belongs, and one wrong node at
    /// one address, be it the address of a member that is gone, must not keep the others from being found. Each is told of
    /// once. But when all of those who were `asked` have answered, and none can be of this cluster, then the node is at the
    /// wrong place.
    fn leave_out(&self, answers: &mut Vec<Answer>, asked: usize) -> Result<(), Misplaced> {
        let mut shared = self.shared.lock();
        let own = shared.cluster_id;
        let answered = answers.len();
        let mut first = None;
        answers.retain(|answer| {
            let refused = self
                .check_version(answer)
                .and_then(|()| check_protocol(answer))
                .and_then(|()| check_cluster(own, answer));
            first = first.take().or_else(|| refused.clone().err());
            shared.heard_of(&answer.address, refused)
        });
        match first {
            Some(misplaced) if answers.is_empty() && answered == asked => Err(misplaced),
            _ => Ok(()),
        }
    }

    /// Whether somebody of the cluster that this node has come to be in is among those that answered: then it is where it
    /// belongs, whoever else answers.
    fn is_among_its_own(&self, answers: &[Answer]) -> bool {
        let own = self.shared.lock().cluster_id;
        own != NO_CLUSTER
            && answers.iter().any(|answer| {
                cluster_from_wire(&answer.response.cluster_id) == own
                    && self.check_version(answer).is_ok()
                    && check_protocol(answer).is_ok()
            })
    }

    /// What a node that answered speaks must have something in common with what this one does.
    fn check_version(&self, Answer { address, response }: &Answer) -> Result<(), Misplaced> {
        let spoken = Spoken::from_wire(response.versions.as_ref());
        match self.versions.own().common(&spoken) {
            Ok(_) => Ok(()),
            Err(refused) => Err(Misplaced::Incompatible {
                address: address.clone(),
                refused: Box::new(refused),
            }),
        }
    }

    /// Nodes that ask to be in this cluster and are no members.
    pub fn waiting(&self, is_member: impl Fn(u64) -> bool) -> Vec<NodeInfo> {
        let now = self.clock.instant();
        self.shared.lock().waiting.now(now, is_member)
    }

    /// Asks everybody once, and says what follows. A wrong answer is left out and told of when this node's own log, or somebody
    /// of its own cluster, says where it belongs; else it is an error.
    pub async fn round(&self, standing: Standing) -> Result<Step, Misplaced> {
        let targets = self
            .shared
            .lock()
            .targets(&self.seeds, &self.me.peer_address, &self.dial);
        let asked = targets.len();
        let answers = targets.into_iter().map(|(address, client)| async move {
            let response = self.ask(client).await?;
            Some(Answer { address, response })
        });
        let answers = join_all(answers).await.into_iter().flatten().collect();
        self.conclude(standing, answers, asked)
    }

    /// What follows from these answers of so many who were asked.
    fn conclude(
        &self,
        standing: Standing,
        mut answers: Vec<Answer>,
        asked: usize,
    ) -> Result<Step, Misplaced> {
        let silent = asked.saturating_sub(answers.len());
        if standing != Standing::None || self.is_among_its_own(&answers) {
            self.leave_out(&mut answers, asked)?;
        } else {
            answers.iter().try_for_each(|it| self.check_version(it))?;
        }
        let mut shared = self.shared.lock();
        shared.learn(&answers, &self.dial);
        let own = Own {
            node: &self.me,
            expected: self.expected,
            cluster_id: shared.cluster_id,
            member_since: standing.since(),
            silent,
        };
        evaluate(&own, &shared.met, &answers)
    }

    /// Asks whoever is at that address; `None`: nobody answers as a node does.
    pub async fn hello(&self, address: &str) -> Option<HelloResponse> {
        self.ask(PeerClient::new(connect_lazily(&self.dial, address)))
            .await
    }

    async fn ask(&self, mut client: PeerClient<Channel>) -> Option<HelloResponse> {
        let request = HelloRequest {
            node: Some(self.me.clone()),
            cluster_id: cluster_to_wire(self.shared.lock().cluster_id),
            protocol: PROTOCOL,
            versions: Some(self.versions.own().to_wire()),
        };
        let response = timeout(HELLO_TIMEOUT, client.hello(request)).await;
        Some(response.ok()?.ok()?.into_inner())
    }
}

impl Shared {
    /// Remembers a node that could become part of this cluster. A restart before its id was kept leaves no ghost: one
    /// address is one node.
    fn meet(&mut self, node: &NodeInfo) {
        self.met
            .retain(|id, known| *id == node.id || known.peer_address != node.peer_address);
        if self.met.len() < TARGETS_MAX {
            self.met.insert(node.id, node.clone());
        }
    }

    /// Whether an answer counts. What is wrong with it is said when it was not said before.
    fn heard_of(&mut self, address: &str, refused: Result<(), Misplaced>) -> bool {
        match refused {
            Ok(()) => {
                self.left_out.remove(address);
                true
            }
            Err(misplaced) => {
                if self.left_out.get(address) != Some(&misplaced) {
                    tracing::warn!(%misplaced, "its answer is left out; the other nodes are asked");
                    self.left_out.insert(address.to_owned(), misplaced);
                }
                false
            }
        }
    }

    fn learn(&mut self, answers: &[Answer], dial: &Dial) {
        for Answer { response, .. } in answers {
            if self.cluster_id != NO_CLUSTER
                && cluster_from_wire(&response.cluster_id) == self.cluster_id
            {
                let members = response.members.iter().chain(&response.node);
                let members = members
                    .take(TARGETS_MAX)
                    .map(|node| (node.id, node.clone()));
                self.cluster.extend(members);
            }
            if let Some(node) = &response.node
                && response.members.is_empty()
            {
                self.meet(node);
            }
            // Members, too: each of them must know who waits, and hear of a new address.
            for heard in response.seen.iter().chain(&response.members) {
                if self.targets.len() < TARGETS_MAX {
                    self.target(&heard.peer_address, dial);
                }
            }
        }
    }

    fn target(&mut self, address: &str, dial: &Dial) {
        self.targets
            .entry(address.to_owned())
            .or_insert_with(|| PeerClient::new(connect_lazily(dial, address)));
    }

    fn targets(
        &mut self,
        seeds: &[String],
        own: &str,
        dial: &Dial,
    ) -> Vec<(String, PeerClient<Channel>)> {
        for seed in seeds {
            self.target(seed, dial);
        }
        self.targets.remove(own);
        self.targets
            .iter()
            .map(|(address, client)| (address.clone(), client.clone()))
            .collect()
    }
}

fn cluster_to_wire(cluster_id: [u8; 16]) -> bytes::Bytes {
    if cluster_id == NO_CLUSTER {
        bytes::Bytes::new()
    } else {
        cluster_id.to_vec().into()
    }
}

/// The id of a cluster in a message; [`NO_CLUSTER`] if there is none.
pub fn cluster_from_wire(bytes: &[u8]) -> [u8; 16] {
    bytes.try_into().unwrap_or(NO_CLUSTER)
}

#[cfg(test)]
mod tests;
