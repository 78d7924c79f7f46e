//! Raft's messages over gRPC: pipelined appends on one stream, votes, snapshots, leadership transfer.
//!
//! Promises: every call ends: openraft does not time its streams out, so this does. A failed connection is
//! `Unreachable`, which makes openraft back off. Must not know: files, what entries mean.

mod commits;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use inkstone_proto::peer_v1 as peer;
use inkstone_proto::peer_v1::peer_client::PeerClient;
use inkstone_storage::limits::SNAPSHOT_PART_SIZE_MAX;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
    RaftNetworkFactory,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, VoteRequest, VoteResponse,
};
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::raft::freshness::Followed;
use crate::raft::network::commits::ridden;
use crate::raft::peers::{Peers, Purpose};
use crate::raft::state_machine::{RaftSnapshot, SnapshotData};
use crate::raft::types::{Member, RaftVote, TypeConfig};
use crate::raft::versions::Versions;
use crate::raft::wire::{self, Malformed};

type RpcError = RPCError<TypeConfig>;
/// Between tries to open a stream. openraft backs off where it makes the next request, and a stream that can't be opened
/// never asks for one: without this pause a peer that is down is called more than a thousand times a second.
const REOPEN_PAUSE: Duration = Duration::from_millis(200);

type TransferLeaderResponse = openraft::raft::TransferLeaderResponse<TypeConfig>;

/// Makes the connections that openraft asks for.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    peers: Peers,
    stall_timeout: Duration,
    followed: Arc<Followed>,
}

impl Network {
    /// A request of an append stream that is not answered within `stall_timeout` fails the stream.
    /// `followed` is told to the others.
    pub(crate) fn new(peers: Peers, stall_timeout: Duration, followed: Arc<Followed>) -> Self {
        Self {
            peers,
            stall_timeout,
            followed,
        }
    }

    fn connection(&self, target: u64, node: &Member, purpose: Purpose) -> Connection {
        Connection {
            peers: self.peers.clone(),
            versions: self.peers.versions().clone(),
            target,
            header: self.peers.header(target),
            stall_timeout: self.stall_timeout,
            followed: Arc::clone(&self.followed),
            address: node.peer_address.clone(),
            purpose,
            reached: Reached::NotTried,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, node: &Member) -> Connection {
        self.connection(target, node, Purpose::Append)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> Connection {
        self.connection(target, node, Purpose::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Member) -> Connection {
        self.connection(target, node, Purpose::Snapshot)
    }
}

/// One peer, for one purpose.
#[derive(Debug)]
pub(crate) struct Connection {
    peers: Peers,
    versions: Versions,
    target: u64,
    header: peer::Header,
    stall_timeout: Duration,
    followed: Arc<Followed>,
    address: String,
    purpose: Purpose,
    reached: Reached,
}

/// Whether the last append stream to a peer could be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    NotTried,
    Yes,
    No,
}

/// A peer that can't be talked to: openraft backs off.
fn unreachable(why: &dyn ToString) -> Unreachable<TypeConfig> {
    Unreachable::from_string(why.to_string())
}

/// How openraft should take a failed call.
fn rpc_error(status: &Status) -> RpcError {
    match status.code() {
        Code::Unavailable | Code::FailedPrecondition | Code::Unimplemented => {
            RpcError::Unreachable(unreachable(&status))
        }
        _ => RpcError::Network(NetworkError::from_string(status)),
    }
}

fn malformed(error: &Malformed) -> RpcError {
    RpcError::Network(NetworkError::new(error))
}

/// A call that must end within `limit`.
async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, RpcError> {
    match timeout(limit, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(rpc_error(&status)),
        Err(_) => Err(RpcError::Unreachable(unreachable(&format!(
            "no answer in {limit:?}"
        )))),
    }
}

fn append_to_wire(
    header: peer::Header,
    followed: &Followed,
    request: AppendEntriesRequest<TypeConfig>,
) -> peer::AppendEntriesRequest {
    // Of a time after the request was made, too: it counts by what the request itself says is committed.
    let committed = request.leader_commit.as_ref();
    let as_of = committed.map_or(0, |committed| followed.at(committed.index()));
    peer::AppendEntriesRequest {
        header: Some(header),
        vote: Some(wire::vote_to_wire(&request.vote)),
        previous: request.prev_log_id.as_ref().map(wire::log_id_to_wire),
        entries: request
            .entries
            .into_iter()
            .map(wire::entry_to_wire)
            .collect(),
        committed: request.leader_commit.as_ref().map(wire::log_id_to_wire),
        as_of,
    }
}

fn append_from_wire(
    response: peer::AppendEntriesResponse,
) -> Result<StreamAppendResult<TypeConfig>, Malformed> {
    use peer::append_entries_response::Result as Answer;
    let missing = |name: &str| Malformed(format!("the field `{name}` is missing"));
    Ok(match response.result.ok_or_else(|| missing("result"))? {
        Answer::Accepted(accepted) => Ok(accepted.up_to.map(wire::log_id_from_wire)),
        Answer::Conflict(conflict) => {
            let at = conflict.at.ok_or_else(|| missing("conflict.at"))?;
            Err(StreamAppendError::Conflict(wire::log_id_from_wire(at)))
        }
        Answer::HigherVote(vote) => Err(StreamAppendError::HigherVote(wire::vote_from_wire(
            Some(vote),
        )?)),
    })
}

/// The answers of one append stream, with the time-out that openraft leaves to the network.
struct Answers {
    versions: Versions,
    target: u64,
    inbound: Streaming<peer::AppendEntriesResponse>,
    sent: Arc<AtomicU64>,
    answered: u64,
    stall_timeout: Duration,
}

impl Answers {
    /// The next answer; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Result<StreamAppendResult<TypeConfig>, RpcError>> {
        let mut sent_before = self.answered;
        loop {
            match timeout(self.stall_timeout, self.inbound.message()).await {
                Ok(Ok(Some(response))) => {
                    self.answered += 1;
                    let heard = self.hear(&response);
                    return Some(heard.and_then(|()| {
                        append_from_wire(response).map_err(|error| malformed(&error))
                    }));
                }
                Ok(Ok(None)) => return None,
                Ok(Err(status)) => return Some(Err(rpc_error(&status))),
                // Silence is an error only when something has waited for an answer all the while.
                Err(_) if sent_before <= self.answered => {
                    sent_before = self.sent.load(Ordering::Acquire);
                }
                Err(_) => {
                    let why = format!("an append was not answered in {:?}", self.stall_timeout);
                    return Some(Err(RpcError::Unreachable(unreachable(&why))));
                }
            }
        }
    }
}

impl Answers {
    /// What the follower speaks, which it says in its first answer.
    fn hear(&self, response: &peer::AppendEntriesResponse) -> Result<(), RpcError> {
        use peer::append_entries_response::Result::Accepted;
        let (1, Some(Accepted(accepted))) = (self.answered, &response.result) else {
            return Ok(());
        };
        let heard = self.versions.hear(self.target, accepted.versions.as_ref());
        heard.map_err(|refused| RpcError::Unreachable(unreachable(&refused)))
    }
}

type AppendAnswers<'s> = BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RpcError>>;

impl NetStreamAppend<TypeConfig> for Connection {
    fn stream_append<S>(
        &mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'_, Result<AppendAnswers<'_>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        Box::pin(async move {
            let sent = Arc::new(AtomicU64::new(0));
            let counter = Arc::clone(&sent);
            let (header, followed) = (self.header.clone(), Arc::clone(&self.followed));
            let requests = ridden(input).map(move |request| {
                counter.fetch_add(1, Ordering::Release);
                append_to_wire(header.clone(), &followed, request)
            });
            let opened = within(self.stall_timeout, self.client().append_entries(requests)).await;
            self.note(opened.as_ref().err());
            let inbound = match opened {
                Ok(inbound) => inbound,
                Err(error) => {
                    sleep(REOPEN_PAUSE).await;
                    return Err(error);
                }
            };
            let stall_timeout = self.stall_timeout;
            let answers = Answers {
                versions: self.versions.clone(),
                target: self.header.to,
                inbound,
                sent,
                answered: 0,
                stall_timeout,
            };
            let stream = stream::unfold(Some(answers), |answers| async move {
                let mut answers = answers?;
                let answer = answers.next().await?;
                let last = !matches!(answer, Ok(Ok(_)));
                Some((answer, (!last).then_some(answers)))
            });
            Ok(stream.boxed())
        })
    }
}

impl Connection {
    /// The connection for this one's purpose, to where the node is now.
    fn client(&self) -> PeerClient<Channel> {
        self.peers
            .client_of(self.target, &self.address, self.purpose)
    }

    /// Votes must not wait behind entries.
    fn votes(&self) -> PeerClient<Channel> {
        self.peers
            .client_of(self.target, &self.address, Purpose::Heartbeat)
    }

    /// Says once that a peer is lost, and once that it is back, not at every try nor for every purpose.
    fn note(&mut self, error: Option<&RpcError>) {
        if self.purpose != Purpose::Append {
            return;
        }
        let address = &self.address;
        let before = std::mem::replace(
            &mut self.reached,
            if error.is_some() {
                Reached::No
            } else {
                Reached::Yes
            },
        );
        match error {
            Some(error) if before != Reached::No => {
                tracing::warn!(%address, %error, "this peer can't be reached; trying on");
            }
            None if before == Reached::No => tracing::info!(%address, "this peer is back"),
            _ => {}
        }
    }

    fn vote_to_wire(&self, request: &VoteRequest<TypeConfig>) -> peer::VoteRequest {
        peer::VoteRequest {
            header: Some(self.header.clone()),
            vote: Some(wire::vote_to_wire(&request.vote)),
            last: request.last_log_id.as_ref().map(wire::log_id_to_wire),
            leadership_transfer: request.leadership_transfer,
        }
    }
}

impl Connection {
    /// A snapshot in the order in which it is sent.
    fn snapshot_parts(
        &self,
        vote: &RaftVote,
        snapshot: RaftSnapshot,
    ) -> impl Stream<Item = peer::SnapshotPart> + use<> {
        // Empty: the state before the first entry.
        let mut rest = snapshot
            .snapshot
            .map_or_else(Bytes::new, |checkpoint| checkpoint.body);
        let mut start = Some(peer::SnapshotStart {
            header: Some(self.header.clone()),
            vote: Some(wire::vote_to_wire(vote)),
            size: rest.len() as u64,
            crc: crc32fast::hash(&rest),
        });
        let parts = std::iter::from_fn(move || {
            let start = start.take();
            if start.is_none() && rest.is_empty() {
                return None;
            }
            let bytes = rest.split_to(rest.len().min(SNAPSHOT_PART_SIZE_MAX));
            Some(peer::SnapshotPart { start, bytes })
        });
        stream::iter(parts)
    }
}

fn vote_from_wire(response: peer::VoteResponse) -> Result<VoteResponse<TypeConfig>, RpcError> {
    Ok(VoteResponse {
        vote: wire::vote_from_wire(response.vote).map_err(|error| malformed(&error))?,
        vote_granted: response.granted,
        last_log_id: response.last.map(wire::log_id_from_wire),
    })
}

impl NetVote<TypeConfig> for Connection {
    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let request = self.vote_to_wire(&request);
        vote_from_wire(within(option.hard_ttl(), self.votes().vote(request)).await?)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let request = self.vote_to_wire(&request);
        vote_from_wire(within(option.hard_ttl(), self.votes().pre_vote(request)).await?)
    }
}

impl NetSnapshot<TypeConfig> for Connection {
    type SnapshotData = SnapshotData;

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let parts = self.snapshot_parts(&vote, snapshot);
        let mut client = self.client();
        let call = within(option.hard_ttl(), client.send_snapshot(parts));
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            response = call => {
                let vote = wire::vote_from_wire(response?.vote).map_err(|error| malformed(&error))?;
                Ok(SnapshotResponse::new(vote))
            }
        }
    }
}

impl NetTransferLeader<TypeConfig> for Connection {
    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse, RpcError> {
        let request = peer::TransferLeaderRequest {
            header: Some(self.header.clone()),
            from_vote: Some(wire::vote_to_wire(request.from_leader())),
            to_node: *request.to_node_id(),
            last: request.last_log_id().map(wire::log_id_to_wire),
        };
        let response = within(option.hard_ttl(), self.votes().transfer_leader(request)).await?;
        if response.refused.is_empty() {
            Ok(Ok(()))
        } else {
            Err(RpcError::Network(NetworkError::from_string(
                response.refused,
            )))
        }
    }
}

impl NetBackoff<TypeConfig> for Connection {
    fn backoff(&self) -> Option<Backoff> {
        None
    }
}
