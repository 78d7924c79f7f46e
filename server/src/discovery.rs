//! How nodes that know a few addresses become one cluster, and how a node notices that it does not belong.
//!
//! A new node asks its seeds, and whom they have met, who they are. When it has met exactly `bootstrap_expect` nodes
//! (itself included) and each of them has met the same ones, they are a cluster: its id follows from their node ids, so
//! that all come to the same one without a vote, and a node that stops half-way goes on where it was.
//!
//! Promises: two sets of nodes never form one cluster, nor one set two; a node of another cluster, or one that is not a
//! member, is told so. Must not know: openraft, files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use inkstone_proto::peer_v1::peer_client::PeerClient;
use inkstone_proto::peer_v1::{HelloRequest, HelloResponse};
use inkstone_proto::v1::NodeInfo;
use inkstone_storage::types::NO_CLUSTER;
use parking_lot::Mutex;
use tokio::time::timeout;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::raft::connect_lazily;

/// The newest peer protocol that this release speaks.
pub const PROTOCOL: u32 = 1;
const HELLO_TIMEOUT: Duration = Duration::from_secs(1);
/// Addresses that are asked, at most: seeds and those heard of from others.
const TARGETS_MAX: usize = 64;

/// Why a node can't be where it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misplaced {
    /// A seed is in another cluster.
    #[error(
        "this data directory belongs to cluster {own}, but {address} is in cluster {other}; use the data directory of \
         that cluster, or give `seeds` of this one"
    )]
    OtherCluster {
        /// Whose the directory is.
        own: Uuid,
        /// The seed.
        address: String,
        /// Whose the seed is.
        other: Uuid,
    },
    /// The seeds' cluster does not have this node.
    #[error(
        "node {node} is not a member of cluster {cluster} ({address} says so); start it with the data directory of a \
         member, or without this cluster's addresses in `seeds`"
    )]
    NotMember {
        /// This node.
        node: u64,
        /// The cluster.
        cluster: Uuid,
        /// Who said so.
        address: String,
    },
    /// Another process runs as this node: its data directory was copied.
    #[error(
        "{address} runs as node {node}, too: a data directory was copied; stop one of the two, and never start a copy"
    )]
    Copied {
        /// This node.
        node: u64,
        /// Where the other process is reached.
        address: String,
    },
    /// A seed speaks only a protocol that this release does not.
    #[error(
        "{address} speaks peer protocol {found}, this release up to {PROTOCOL}; upgrade this node"
    )]
    Protocol {
        /// The seed.
        address: String,
        /// Its protocol.
        found: u32,
    },
}

/// What a round of questions came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Not enough is known; how many nodes were met of how many that are expected.
    Wait {
        /// Met, this one included.
        met: usize,
        /// Expected.
        expected: usize,
    },
    /// All expected nodes agree: these are the first members of this cluster.
    Form {
        /// The cluster's id.
        cluster_id: [u8; 16],
        /// Its members.
        members: Vec<NodeInfo>,
    },
    /// A cluster exists that has this node as a member.
    Join {
        /// The cluster's id.
        cluster_id: [u8; 16],
    },
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
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    cluster_id: [u8; 16],
    /// Nodes without a running cluster, this one included, by id.
    met: BTreeMap<u64, NodeInfo>,
    /// Addresses to ask, and their connections.
    targets: BTreeMap<String, PeerClient<Channel>>,
}

impl Discovery {
    /// For a node that waits for `expected` nodes and knows these seeds (its own address may be among them).
    pub fn new(me: NodeInfo, cluster_id: [u8; 16], expected: usize, seeds: Vec<String>) -> Self {
        let met = BTreeMap::from([(me.id, me.clone())]);
        let shared = Shared {
            cluster_id,
            met,
            targets: BTreeMap::new(),
        };
        Self {
            me,
            expected,
            seeds,
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    /// The cluster that this node has come to be in.
    pub fn set_cluster(&self, cluster_id: [u8; 16]) {
        self.shared.lock().cluster_id = cluster_id;
    }

    /// Answers another node's question, and remembers the asker. `members`: as Raft has them, if it runs.
    pub fn answer(&self, request: &HelloRequest, members: Vec<NodeInfo>) -> HelloResponse {
        let mut shared = self.shared.lock();
        // A node that has kept the id of this cluster and stopped before it began is met again.
        let same =
            [NO_CLUSTER, shared.cluster_id].contains(&cluster_from_wire(&request.cluster_id));
        if let Some(node) = &request.node
            && members.is_empty()
            && same
            && node.id != self.me.id
        {
            shared.meet(node);
        }
        HelloResponse {
            node: Some(self.me.clone()),
            cluster_id: cluster_to_wire(shared.cluster_id),
            protocol: PROTOCOL,
            seen: shared.met.values().cloned().collect(),
            bootstrap_expect: u32::try_from(self.expected).unwrap_or(u32::MAX),
            members,
        }
    }

    /// Asks everybody once, and says what follows.
    pub async fn round(&self) -> Result<Step, Misplaced> {
        let targets = self
            .shared
            .lock()
            .targets(&self.seeds, &self.me.peer_address);
        let cluster_id = self.shared.lock().cluster_id;
        let request = HelloRequest {
            node: Some(self.me.clone()),
            cluster_id: cluster_to_wire(cluster_id),
            protocol: PROTOCOL,
        };
        let asked = targets.into_iter().map(|(address, mut client)| {
            let request = request.clone();
            async move {
                let response = timeout(HELLO_TIMEOUT, client.hello(request))
                    .await
                    .ok()?
                    .ok()?;
                Some(Answer {
                    address,
                    response: response.into_inner(),
                })
            }
        });
        let answers: Vec<Answer> = join_all(asked).await.into_iter().flatten().collect();
        let mut shared = self.shared.lock();
        shared.learn(&answers);
        evaluate(&self.me, self.expected, cluster_id, &shared.met, &answers)
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

    fn learn(&mut self, answers: &[Answer]) {
        for Answer { response, .. } in answers {
            if let Some(node) = &response.node
                && response.members.is_empty()
            {
                self.meet(node);
            }
            for heard in &response.seen {
                if self.targets.len() < TARGETS_MAX {
                    self.target(&heard.peer_address);
                }
            }
        }
    }

    fn target(&mut self, address: &str) {
        self.targets
            .entry(address.to_owned())
            .or_insert_with(|| PeerClient::new(connect_lazily(address)));
    }

    fn targets(&mut self, seeds: &[String], own: &str) -> Vec<(String, PeerClient<Channel>)> {
        for seed in seeds {
            self.target(seed);
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

fn cluster_from_wire(bytes: &[u8]) -> [u8; 16] {
    bytes.try_into().unwrap_or(NO_CLUSTER)
}

/// The id of the cluster that these nodes form: the same on every one of them.
fn derive_cluster_id(nodes: &BTreeSet<u64>) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"inkstone cluster 1");
    for id in nodes {
        hasher.update(&id.to_le_bytes());
    }
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    *uuid::Builder::from_custom_bytes(bytes).as_uuid().as_bytes()
}

/// What follows from one round of answers.
fn evaluate(
    own: &NodeInfo,
    expected: usize,
    own_cluster: [u8; 16],
    met: &BTreeMap<u64, NodeInfo>,
    answers: &[Answer],
) -> Result<Step, Misplaced> {
    let me = own.id;
    for Answer { address, response } in answers {
        if let Some(node) = response.node.as_ref().filter(|node| node.id == me) {
            // This very process, under another of its names; or a second one with the same identity, and so with the
            // same vote to give.
            if node.peer_address != own.peer_address {
                let address = node.peer_address.clone();
                return Err(Misplaced::Copied { node: me, address });
            }
            continue;
        }
        if response.protocol == 0 || response.protocol > PROTOCOL {
            let (address, found) = (address.clone(), response.protocol);
            return Err(Misplaced::Protocol { address, found });
        }
        let cluster = cluster_from_wire(&response.cluster_id);
        let member = response.members.iter().any(|member| member.id == me);
        if !response.members.is_empty() && !member && [NO_CLUSTER, cluster].contains(&own_cluster) {
            let (cluster, address) = (Uuid::from_bytes(cluster), address.clone());
            return Err(Misplaced::NotMember {
                node: me,
                cluster,
                address,
            });
        }
        if cluster != NO_CLUSTER && own_cluster != NO_CLUSTER && cluster != own_cluster {
            let (own, other) = (Uuid::from_bytes(own_cluster), Uuid::from_bytes(cluster));
            return Err(Misplaced::OtherCluster {
                own,
                address: address.clone(),
                other,
            });
        }
        if member {
            return Ok(Step::Join {
                cluster_id: cluster,
            });
        }
    }
    Ok(agreed(me, expected, own_cluster, met, answers))
}

/// Whether all expected nodes have met exactly each other.
fn agreed(
    me: u64,
    expected: usize,
    own_cluster: [u8; 16],
    met: &BTreeMap<u64, NodeInfo>,
    answers: &[Answer],
) -> Step {
    let wait = Step::Wait {
        met: met.len(),
        expected,
    };
    let ids: BTreeSet<u64> = met.keys().copied().collect();
    let cluster_id = derive_cluster_id(&ids);
    if met.len() != expected || (own_cluster != NO_CLUSTER && own_cluster != cluster_id) {
        return wait;
    }
    let agrees = |id: &u64| {
        *id == me
            || answers.iter().any(|Answer { response, .. }| {
                let seen: BTreeSet<u64> = response.seen.iter().map(|node| node.id).collect();
                response.node.as_ref().is_some_and(|node| node.id == *id)
                    && usize::try_from(response.bootstrap_expect) == Ok(expected)
                    && match cluster_from_wire(&response.cluster_id) {
                        NO_CLUSTER => seen == ids,
                        decided => decided == cluster_id,
                    }
            })
    };
    if ids.iter().all(agrees) {
        Step::Form {
            cluster_id,
            members: met.values().cloned().collect(),
        }
    } else {
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64) -> NodeInfo {
        NodeInfo {
            id,
            client_address: format!("127.0.0.1:{}", 7_000 + id),
            peer_address: format!("127.0.0.1:{}", 8_000 + id),
        }
    }

    fn met(ids: &[u64]) -> BTreeMap<u64, NodeInfo> {
        ids.iter().map(|id| (*id, node(*id))).collect()
    }

    fn answer(id: u64, seen: &[u64]) -> Answer {
        let response = HelloResponse {
            node: Some(node(id)),
            protocol: PROTOCOL,
            seen: seen.iter().map(|id| node(*id)).collect(),
            bootstrap_expect: 3,
            ..HelloResponse::default()
        };
        Answer {
            address: node(id).peer_address,
            response,
        }
    }

    fn in_cluster(id: u64, cluster_id: [u8; 16], members: &[u64]) -> Answer {
        let mut answer = answer(id, &[id]);
        answer.response.cluster_id = cluster_id.to_vec().into();
        answer.response.members = members.iter().map(|id| node(*id)).collect();
        answer
    }

    fn all_agree(me: u64) -> Step {
        let others = [1, 2, 3].into_iter().filter(|id| *id != me);
        let answers: Vec<_> = others.map(|id| answer(id, &[1, 2, 3])).collect();
        evaluate(&node(me), 3, NO_CLUSTER, &met(&[1, 2, 3]), &answers).unwrap()
    }

    #[test]
    fn all_nodes_that_agree_come_to_one_cluster() {
        let Step::Form {
            cluster_id,
            members,
        } = all_agree(1)
        else {
            panic!("no agreement")
        };
        assert_ne!(cluster_id, NO_CLUSTER);
        assert_eq!(members.len(), 3);
        assert_eq!(all_agree(2), all_agree(1));
        assert_eq!(all_agree(3), all_agree(1));
    }

    #[test]
    fn one_node_that_has_met_others_holds_it_back() {
        let answers = [answer(2, &[1, 2, 3]), answer(3, &[1, 3])];
        let step = evaluate(&node(1), 3, NO_CLUSTER, &met(&[1, 2, 3]), &answers).unwrap();
        assert_eq!(
            step,
            Step::Wait {
                met: 3,
                expected: 3
            }
        );
        let four = evaluate(&node(1), 3, NO_CLUSTER, &met(&[1, 2, 3, 4]), &answers).unwrap();
        assert_eq!(
            four,
            Step::Wait {
                met: 4,
                expected: 3
            }
        );
    }

    #[test]
    fn another_expectation_holds_it_back() {
        let mut other = answer(2, &[1, 2, 3]);
        other.response.bootstrap_expect = 5;
        let answers = [other, answer(3, &[1, 2, 3])];
        let step = evaluate(&node(1), 3, NO_CLUSTER, &met(&[1, 2, 3]), &answers).unwrap();
        assert_eq!(
            step,
            Step::Wait {
                met: 3,
                expected: 3
            }
        );
    }

    #[test]
    fn a_node_that_stopped_half_way_goes_on() {
        let Step::Form { cluster_id, .. } = all_agree(1) else {
            panic!("no agreement")
        };
        // Node 2 has kept the cluster's id already; node 3 has not.
        let answers = [in_cluster(2, cluster_id, &[]), answer(3, &[1, 2, 3])];
        let seen = met(&[1, 2, 3]);
        let fresh = evaluate(&node(1), 3, NO_CLUSTER, &seen, &answers).unwrap();
        assert!(matches!(fresh, Step::Form { .. }));
        let kept = evaluate(&node(1), 3, cluster_id, &seen, &answers).unwrap();
        assert!(matches!(kept, Step::Form { .. }));
    }

    #[test]
    fn a_member_joins_and_a_stranger_is_told() {
        let answers = [in_cluster(2, [7; 16], &[1, 2, 3])];
        let joined = evaluate(&node(1), 3, NO_CLUSTER, &met(&[1]), &answers).unwrap();
        assert_eq!(
            joined,
            Step::Join {
                cluster_id: [7; 16]
            }
        );
        let stranger = evaluate(&node(9), 3, NO_CLUSTER, &met(&[9]), &answers).unwrap_err();
        assert!(matches!(stranger, Misplaced::NotMember { node: 9, .. }));
        let removed = evaluate(&node(9), 3, [7; 16], &met(&[9]), &answers).unwrap_err();
        assert!(matches!(removed, Misplaced::NotMember { node: 9, .. }));
    }

    #[test]
    fn another_cluster_is_refused() {
        let answers = [in_cluster(2, [7; 16], &[1, 2, 3])];
        let error = evaluate(&node(1), 3, [8; 16], &met(&[1]), &answers).unwrap_err();
        assert!(matches!(error, Misplaced::OtherCluster { .. }));
    }

    #[test]
    fn a_copied_data_directory_is_refused_and_the_node_itself_is_not() {
        let itself = answer(1, &[1]);
        evaluate(
            &node(1),
            3,
            NO_CLUSTER,
            &met(&[1]),
            std::slice::from_ref(&itself),
        )
        .unwrap();
        let mut copy = itself;
        copy.response.node = Some(NodeInfo { id: 1, ..node(2) });
        let error = evaluate(&node(1), 3, NO_CLUSTER, &met(&[1]), &[copy]).unwrap_err();
        assert!(matches!(error, Misplaced::Copied { node: 1, .. }));
    }

    #[test]
    fn a_single_node_needs_nobody() {
        let step = evaluate(&node(1), 1, NO_CLUSTER, &met(&[1]), &[]).unwrap();
        assert!(matches!(step, Step::Form { members, .. } if members.len() == 1));
    }

    #[test]
    fn one_address_is_one_node() {
        let discovery = Discovery::new(node(1), NO_CLUSTER, 3, Vec::new());
        let old = NodeInfo {
            peer_address: node(2).peer_address,
            ..node(5)
        };
        for asker in [old, node(2)] {
            let request = HelloRequest {
                node: Some(asker),
                ..HelloRequest::default()
            };
            discovery.answer(&request, Vec::new());
        }
        let seen = discovery.answer(&HelloRequest::default(), Vec::new()).seen;
        assert_eq!(seen.iter().map(|node| node.id).collect::<Vec<_>>(), [1, 2]);
    }
}
