//! What a leader may send, and what comes in a leader's name, to a real node over a real connection: no message ends it.

mod bad_snapshots;
mod installs;

use std::time::Duration;

use inkstone_proto::peer_v1::peer_client::PeerClient;
use inkstone_storage::format::batch::{EncodedBatch, join};
use inkstone_storage::types::{EntryKind, LogId, NewRecord};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Channel, Server};

use super::*;
use crate::clock::Clock;
use crate::grpc::lone_node::{CLUSTER, LoneNode, NODE};
use crate::raft::GROUP;

/// The node that a test is.
const LEADER: u64 = 9;
/// Longer than any test runs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node that follows, and the test as its leader.
struct Scene {
    node: LoneNode,
    client: PeerClient<Channel>,
    serving: JoinHandle<()>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Scene {
    async fn open() -> Self {
        let node = LoneNode::without_leader().await;
        let clock = Clock::system();
        let discovery = Discovery::new(v1::NodeInfo::default(), CLUSTER, 1, Vec::new(), clock);
        let service = PeerService::new(discovery);
        service.serve(node.services.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let serving = Server::builder()
            .add_service(service.into_server())
            .serve_with_incoming(TcpListenerStream::new(listener));
        let serving = tokio::spawn(async move { serving.await.expect("it serves") });
        let client = PeerClient::connect(format!("http://{address}"))
            .await
            .expect("it listens");
        Self {
            node,
            client,
            serving,
        }
    }

    /// A stream of appends: where they go, and the answers to them.
    async fn appending(&self) -> Appending {
        let (requests, input) = mpsc::channel(256);
        let mut client = self.client.clone();
        let answers = client.append_entries(ReceiverStream::new(input)).await;
        Appending {
            requests,
            answers: answers.expect("it answers").into_inner(),
        }
    }

    /// Sends a snapshot in one part.
    async fn send(&self, term: u64, body: Vec<u8>) -> Result<(), Status> {
        let start = start_of(term, &body);
        let part = peer::SnapshotPart {
            start: Some(start),
            bytes: body.into(),
        };
        self.send_parts(vec![part]).await
    }

    async fn send_parts(&self, parts: Vec<peer::SnapshotPart>) -> Result<(), Status> {
        let mut client = self.client.clone();
        let sent = client.send_snapshot(tokio_stream::iter(parts));
        let answered = timeout(PATIENCE, sent).await.expect("it is answered");
        answered.map(drop)
    }

    /// The node goes on: nothing of it has failed.
    fn goes_on(&self) {
        let failed = futures::FutureExt::now_or_never(self.node.services.group.failed());
        assert!(failed.is_none(), "{failed:?}");
    }

    /// Waits until an entry is applied.
    async fn applied(&self, index: u64) {
        let mut applied = self.node.services.group.applied().subscribe();
        let reached = timeout(PATIENCE, applied.wait_for(|applied| *applied >= index)).await;
        let _ = reached
            .expect("it is applied in time")
            .expect("the node lives");
    }
}

/// One stream of appends.
struct Appending {
    requests: mpsc::Sender<peer::AppendEntriesRequest>,
    answers: Streaming<peer::AppendEntriesResponse>,
}

impl Appending {
    async fn send(&self, request: peer::AppendEntriesRequest) {
        self.requests
            .send(request)
            .await
            .expect("the stream is open");
    }

    /// The next answer.
    async fn answer(&mut self) -> peer::append_entries_response::Result {
        let answer = timeout(PATIENCE, self.answers.message()).await;
        let answer = answer.expect("it is answered in time").expect("no refusal");
        let answer = answer.expect("the stream is open");
        answer.result.expect("an answer says something")
    }

    /// Sends one, and returns when it is accepted: the entries are durable.
    async fn accepted(&mut self, request: peer::AppendEntriesRequest) {
        self.send(request).await;
        let answer = self.answer().await;
        assert!(
            matches!(answer, peer::append_entries_response::Result::Accepted(_)),
            "{answer:?}"
        );
    }
}

fn header() -> peer::Header {
    peer::Header {
        cluster_id: CLUSTER.to_vec().into(),
        group: GROUP,
        from: LEADER,
        to: NODE,
        versions: None,
    }
}

fn leader_vote(term: u64) -> peer::Vote {
    peer::Vote {
        term,
        node: LEADER,
        committed: true,
    }
}

fn id(term: u64, index: u64) -> peer::EntryId {
    peer::EntryId {
        term,
        node: LEADER,
        index,
    }
}

/// Who the members are: the leader, and the node as a learner, so that it never campaigns.
fn membership() -> peer::Membership {
    let node = |id| v1::NodeInfo {
        id,
        client_address: "127.0.0.1:1".to_owned(),
        peer_address: "127.0.0.1:2".to_owned(),
    };
    peer::Membership {
        id: Some(id(1, 0)),
        configs: vec![peer::NodeSet { ids: vec![LEADER] }],
        nodes: vec![node(LEADER), node(NODE)],
    }
}

/// The entry of an index: the membership, the creation of a log, and then one record each.
fn entry(term: u64, index: u64) -> peer::Entry {
    let (kind, payload) = match index {
        0 => {
            let members = peer::Membership {
                id: None,
                ..membership()
            };
            (EntryKind::Membership, Bytes::from(members.encode_to_vec()))
        }
        1 => {
            let create = peer::CreateLog {
                name: "a".to_owned(),
                ..peer::CreateLog::default()
            };
            let command = peer::Command {
                command: Some(peer::command::Command::CreateLog(create)),
            };
            (EntryKind::Command, command.encode_to_vec().into())
        }
        _ => {
            let record = NewRecord {
                timestamp: 0,
                attributes: Vec::new(),
                body: format!("record of entry {index}").into(),
            };
            let batch = EncodedBatch::encode(LogId(1), None, None, &[record]);
            (EntryKind::Batches, join(&[batch], 7))
        }
    };
    peer::Entry {
        id: Some(id(term, index)),
        kind: u32::from(kind as u8),
        payload_crc: crc32fast::hash(&payload),
        payload,
    }
}

/// Appends `entries` of term 1 in the name of a later one's leader, of which everything below `committed` is.
fn append(
    term: u64,
    previous: Option<peer::EntryId>,
    entries: Vec<peer::Entry>,
    committed: peer::EntryId,
) -> peer::AppendEntriesRequest {
    peer::AppendEntriesRequest {
        header: Some(header()),
        vote: Some(leader_vote(term)),
        previous,
        entries,
        committed: Some(committed),
        as_of: 0,
    }
}

/// The state behind the entry `last`, as a leader has it that has applied those of [`entry`].
fn state_at(last: peer::EntryId) -> peer::Checkpoint {
    let log = peer::LogState {
        id: 1,
        name: "a".to_owned(),
        next_offset: last.index - 1,
        last_append_time: 7,
        ..peer::LogState::default()
    };
    peer::Checkpoint {
        applied: Some(last),
        membership: Some(membership()),
        next_log_id: 2,
        logs: vec![log],
        producers: Vec::new(),
        chain_crc: Some(0xfeed),
        last_append_time: 7,
    }
}

fn start_of(term: u64, body: &[u8]) -> peer::SnapshotStart {
    peer::SnapshotStart {
        header: Some(header()),
        vote: Some(leader_vote(term)),
        size: body.len() as u64,
        crc: crc32fast::hash(body),
    }
}
