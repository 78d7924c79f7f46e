//! The peer service: what other nodes ask of this one. Besides `raft`, the one place that names openraft.
//!
//! Promises: a message of another cluster, group or node is refused before anything looks into it; what is malformed
//! never reaches openraft; a forwarded request is never forwarded again. Must not know: files.

mod addressee;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use inkstone_proto::peer_v1::peer_server::{Peer, PeerServer};
use inkstone_proto::{peer_v1 as peer, v1};
use inkstone_storage::limits::PEER_MESSAGE_SIZE_MAX;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use parking_lot::Mutex;
use tonic::{Extensions, Request, Response, Status, Streaming};

use crate::discovery::Discovery;
use crate::grpc::connection::Connection;
use crate::grpc::peer::addressee::{check_addressee, check_header, note_known};
use crate::grpc::quarantined::Quarantined;
use crate::grpc::service::carrying;
use crate::grpc::{
    Services, admin, append, cluster, fetch, members, moved, quarantined, read, search,
};
use crate::raft::look::look;
use crate::raft::types::{Raft, RaftVote, TypeConfig};
use crate::raft::wire::{self, Malformed};
use crate::raft::{Group, Proof, snapshot};

/// What the peer service answers from. The group's services come later than the port: a node that is in no cluster yet
/// answers only `Hello`.
#[derive(Debug, Clone)]
pub struct PeerService {
    discovery: Discovery,
    services: Arc<OnceLock<Services>>,
    quarantine: Arc<Mutex<Option<Quarantined>>>,
}

type Answer<T> = Result<Response<T>, Status>;
/// What the sender said of itself in the appends that are not answered yet, in order: committed index and `as_of`.
/// openraft has few of them under way at a time.
type Told = Arc<Mutex<VecDeque<(u64, i64)>>>;
type AppendStream =
    Pin<Box<dyn Stream<Item = Result<peer::AppendEntriesResponse, Status>> + Send + 'static>>;

impl PeerService {
    /// Without a group, for now.
    pub fn new(discovery: Discovery) -> Self {
        Self {
            discovery,
            services: Arc::default(),
            quarantine: Arc::default(),
        }
    }

    /// The node's log is damaged, or is not any more: until the group runs, what is whole of it is given to others.
    pub fn set_quarantine(&self, quarantine: Option<Quarantined>) {
        *self.quarantine.lock() = quarantine;
    }

    /// The quarantine, while the group does not run.
    fn quarantine(&self) -> Option<Quarantined> {
        let quarantine = self.quarantine.lock().clone();
        quarantine.filter(|_| self.services.get().is_none())
    }

    /// The group runs: from here on every call is answered.
    ///
    /// # Panics
    /// When called twice.
    pub fn serve(&self, services: Services) {
        assert!(self.services.set(services).is_ok(), "a node has one group");
    }

    /// As a tonic service, with explicit bounds on messages.
    pub fn into_server(self) -> PeerServer<Self> {
        PeerServer::new(self)
            .max_decoding_message_size(PEER_MESSAGE_SIZE_MAX)
            .max_encoding_message_size(PEER_MESSAGE_SIZE_MAX)
    }

    /// The services, for a message that is meant for this node: then what it came over is known to be a peer's.
    fn for_message(
        &self,
        extensions: &Extensions,
        header: Option<&peer::Header>,
    ) -> Result<&Services, Status> {
        let services = self.services.get().ok_or_else(|| self.without_group())?;
        check_header(&services.group, header)?;
        note_known(extensions.get());
        Ok(services)
    }

    /// Why a node whose group does not run can't answer.
    fn without_group(&self) -> Status {
        match self.quarantine() {
            None => Status::unavailable("this node is in no cluster yet"),
            Some(_) => Status::unavailable("this node is in quarantine: its log is damaged"),
        }
    }
}

fn malformed(error: &Malformed) -> Status {
    Status::invalid_argument(error.0.clone())
}

/// A failure of Raft itself: the process is about to end.
fn failed(error: &dyn ToString) -> Status {
    Status::unavailable(error.to_string())
}

/// One message of an append stream, checked, once there is room for it: a disk that stalls holds the sender back.
async fn take_append(
    group: Group,
    connection: Option<Connection>,
    told: Told,
    message: Result<peer::AppendEntriesRequest, Status>,
) -> Result<AppendEntriesRequest<TypeConfig>, Status> {
    let message = message?;
    let committed = message.committed.map_or(0, |committed| committed.index);
    let as_of = message.as_of;
    let request = append_request(&group, message)?;
    note_known(connection.as_ref());
    if !request.entries.is_empty() {
        group.wait_for_room().await;
    }
    told.lock().push_back((committed, as_of));
    Ok(request)
}

fn append_request(
    group: &Group,
    request: peer::AppendEntriesRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, Status> {
    check_header(group, request.header.as_ref())?;
    wire::check_entries(&request).map_err(|error| malformed(&error))?;
    let convert = |request: peer::AppendEntriesRequest| {
        Ok(AppendEntriesRequest {
            vote: wire::vote_from_wire(request.vote)?,
            prev_log_id: request.previous.map(wire::log_id_from_wire),
            entries: request
                .entries
                .into_iter()
                .map(wire::entry_from_wire)
                .collect::<Result<_, _>>()?,
            leader_commit: request.committed.map(wire::log_id_from_wire),
        })
    };
    convert(request).map_err(|error| malformed(&error))
}

fn append_response(
    result: &openraft::raft::StreamAppendResult<TypeConfig>,
    versions: Option<peer::Versions>,
) -> peer::AppendEntriesResponse {
    use peer::append_entries_response::Result as Wire;
    let result = match result {
        Ok(up_to) => Wire::Accepted(peer::Accepted {
            up_to: up_to.as_ref().map(wire::log_id_to_wire),
            versions,
        }),
        Err(StreamAppendError::Conflict(at)) => Wire::Conflict(peer::Conflict {
            at: Some(wire::log_id_to_wire(at)),
        }),
        Err(StreamAppendError::HigherVote(vote)) => Wire::HigherVote(wire::vote_to_wire(vote)),
    };
    peer::AppendEntriesResponse {
        result: Some(result),
    }
}

fn vote_request(request: &peer::VoteRequest) -> Result<VoteRequest<TypeConfig>, Status> {
    Ok(VoteRequest {
        vote: vote(request.vote)?,
        last_log_id: request.last.map(wire::log_id_from_wire),
        leadership_transfer: request.leadership_transfer,
    })
}

fn vote_response(response: &VoteResponse<TypeConfig>) -> peer::VoteResponse {
    peer::VoteResponse {
        vote: Some(wire::vote_to_wire(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(wire::log_id_to_wire),
    }
}

fn vote(vote: Option<peer::Vote>) -> Result<RaftVote, Status> {
    wire::vote_from_wire(vote).map_err(|error| malformed(&error))
}

fn required<T>(field: Option<T>) -> Result<T, Status> {
    field.ok_or_else(|| Status::invalid_argument("the field `request` is missing"))
}

/// Installs a snapshot that has come as a whole, once it is checked: openraft takes everything for granted, and an error of
/// the storage is fatal.
async fn install(
    raft: &Raft,
    sender: Option<peer::Vote>,
    checkpoint: Bytes,
) -> Answer<peer::SendSnapshotResponse> {
    let snapshot = snapshot::check(checkpoint).map_err(|error| malformed(&error))?;
    let sender = vote(sender)?;
    // openraft takes for granted that no leader has a snapshot of a later term than its own.
    let last = snapshot.meta.last_log_id.as_ref();
    if last.is_some_and(|last| *last.committed_leader_id() > *sender.leader_id()) {
        return Err(Status::invalid_argument(
            "the checkpoint is of a later term than the sender",
        ));
    }
    let committed = look(&raft.metrics(), |metrics| metrics.local_committed);
    snapshot::check_history(last, committed.as_ref()).map_err(|error| malformed(&error))?;
    let response = raft
        .install_full_snapshot(sender, snapshot)
        .await
        .map_err(|error| failed(&error))?;
    let vote = Some(wire::vote_to_wire(&response.vote));
    Ok(Response::new(peer::SendSnapshotResponse { vote }))
}

#[tonic::async_trait]
impl Peer for PeerService {
    type AppendEntriesStream = AppendStream;

    async fn hello(&self, request: Request<peer::HelloRequest>) -> Answer<peer::HelloResponse> {
        // Whatever the asker speaks: it learns from the answer that the two can't work together, and says so.
        let request = request.into_inner();
        let known = self.services.get().map(|services| {
            moved::notice(services, &request);
            members::known(&services.group)
        });
        Ok(Response::new(
            self.discovery.answer(&request, known.unwrap_or_default()),
        ))
    }

    async fn append_entries(
        &self,
        request: Request<Streaming<peer::AppendEntriesRequest>>,
    ) -> Answer<AppendStream> {
        let services = self.services.get().ok_or_else(|| self.without_group())?;
        let group = services.group.clone();
        let raft = group.raft().clone();
        let stopping = services.clone();
        // openraft's stream has no place for an error of the sender's: the first one ends it, and is told afterwards.
        let refused = Arc::new(Mutex::new(None));
        let refusal = Arc::clone(&refused);
        let told = Told::default();
        let telling = Arc::clone(&told);
        let (taker, hearer) = (group.clone(), group);
        let (_, extensions, requests) = request.into_parts();
        let connection = extensions.get::<Connection>().cloned();
        let accepted = requests
            .take_until(async move { stopping.stopped().await })
            .then(move |message| {
                take_append(
                    taker.clone(),
                    connection.clone(),
                    Arc::clone(&telling),
                    message,
                )
            })
            .scan((), move |(), taken| {
                let taken = taken.map_err(|status| *refusal.lock() = Some(status));
                futures::future::ready(taken.ok())
            });
        // With the first answer: the leader looks what this node speaks before it proposes what is new.
        let mut introduction = Some(services.group.versions().own().to_wire());
        let answers = raft.stream_append(accepted).map(move |answer| {
            let result = answer.map_err(|fatal| failed(&fatal))?;
            let told = told.lock().pop_front();
            if let (Ok(_), Some((committed, as_of))) = (&result, told) {
                hearer.note_leader(committed, as_of);
            }
            Ok(append_response(&result, introduction.take()))
        });
        let last = futures::stream::once(async move { refused.lock().take() })
            .filter_map(|refused| futures::future::ready(refused.map(Err)));
        Ok(Response::new(Box::pin(answers.chain(last))))
    }

    async fn vote(&self, request: Request<peer::VoteRequest>) -> Answer<peer::VoteResponse> {
        let (_, extensions, request) = request.into_parts();
        let raft = self
            .for_message(&extensions, request.header.as_ref())?
            .group
            .raft();
        let response = raft
            .vote(vote_request(&request)?)
            .await
            .map_err(|error| failed(&error))?;
        Ok(Response::new(vote_response(&response)))
    }

    async fn pre_vote(&self, request: Request<peer::VoteRequest>) -> Answer<peer::VoteResponse> {
        let (_, extensions, request) = request.into_parts();
        let raft = self
            .for_message(&extensions, request.header.as_ref())?
            .group
            .raft();
        let response = raft
            .pre_vote(vote_request(&request)?)
            .await
            .map_err(|error| failed(&error))?;
        Ok(Response::new(vote_response(&response)))
    }

    async fn send_snapshot(
        &self,
        request: Request<Streaming<peer::SnapshotPart>>,
    ) -> Answer<peer::SendSnapshotResponse> {
        let (_, extensions, mut parts) = request.into_parts();
        let first = parts.message().await?;
        let mut transfer = snapshot::Transfer::begin(first).map_err(|error| malformed(&error))?;
        let raft = self
            .for_message(&extensions, transfer.header())?
            .group
            .raft();
        while let Some(part) = parts.message().await? {
            transfer.take(&part).map_err(|error| malformed(&error))?;
        }
        let (vote, checkpoint) = transfer.finish().map_err(|error| malformed(&error))?;
        install(raft, vote, checkpoint).await
    }

    async fn transfer_leader(
        &self,
        request: Request<peer::TransferLeaderRequest>,
    ) -> Answer<peer::TransferLeaderResponse> {
        let (_, extensions, request) = request.into_parts();
        let raft = self
            .for_message(&extensions, request.header.as_ref())?
            .group
            .raft();
        let from = vote(request.from_vote)?;
        let last = request.last.map(wire::log_id_from_wire);
        let transfer = TransferLeaderRequest::new(from, request.to_node, last);
        let answer = raft
            .handle_transfer_leader(transfer)
            .await
            .map_err(|error| failed(&error))?;
        let refused = answer
            .err()
            .map_or_else(String::new, |error| error.to_string());
        Ok(Response::new(peer::TransferLeaderResponse { refused }))
    }

    async fn read_index(
        &self,
        request: Request<peer::ReadIndexRequest>,
    ) -> Answer<peer::ReadIndexResponse> {
        let (_, extensions, request) = request.into_parts();
        let group = &self
            .for_message(&extensions, request.header.as_ref())?
            .group;
        let proof = if request.lease {
            Proof::Lease
        } else {
            Proof::Majority
        };
        let index = group
            .confirm_leader(proof)
            .await
            .map_err(|error| failed(&error))?;
        Ok(Response::new(peer::ReadIndexResponse { index }))
    }

    async fn forward_append(
        &self,
        request: Request<peer::ForwardAppendRequest>,
    ) -> Answer<v1::AppendResponse> {
        let (_, extensions, request) = request.into_parts();
        let services = self.for_message(&extensions, request.header.as_ref())?;
        let response = append::append_here(services, required(request.request)?).await?;
        Ok(Response::new(response))
    }

    async fn forward_admin(
        &self,
        request: Request<peer::ForwardAdminRequest>,
    ) -> Answer<peer::ForwardAdminResponse> {
        let (_, extensions, message) = request.into_parts();
        let services = self.for_message(&extensions, message.header.as_ref())?;
        let response = admin::carry_out_here(services, required(message.request)?).await?;
        Ok(Response::new(peer::ForwardAdminResponse {
            response: Some(response),
        }))
    }

    async fn forward_search(
        &self,
        request: Request<peer::ForwardSearchRequest>,
    ) -> Answer<v1::SearchResponse> {
        let (_, extensions, request) = request.into_parts();
        let services = self.for_message(&extensions, request.header.as_ref())?;
        let search = required(request.request)?;
        let connection = extensions.get::<Connection>();
        let (response, held) = search::search_here(services, search, connection).await?;
        Ok(carrying(response, held))
    }

    async fn node_status(
        &self,
        request: Request<peer::NodeStatusRequest>,
    ) -> Answer<v1::NodeStatus> {
        let (_, extensions, request) = request.into_parts();
        let header = request.header.as_ref();
        if let Some(quarantine) = self.quarantine() {
            check_addressee(quarantine.quarantine.identity(), header)?;
            note_known(extensions.get());
            return Ok(Response::new(quarantined::node_status(&quarantine)));
        }
        let services = self.for_message(&extensions, header)?;
        Ok(Response::new(cluster::node_status_here(services)))
    }

    async fn progress(
        &self,
        request: Request<peer::ProgressRequest>,
    ) -> Answer<peer::ProgressResponse> {
        let group = &self
            .for_message(request.extensions(), request.get_ref().header.as_ref())?
            .group;
        let progress = group.progress().into_iter();
        let members = progress.map(|(node, progress)| peer::MemberProgress {
            node,
            progress: Some(progress.to_wire()),
        });
        Ok(Response::new(peer::ProgressResponse {
            members: members.collect(),
        }))
    }

    async fn fetch_entries(
        &self,
        request: Request<peer::FetchEntriesRequest>,
    ) -> Answer<peer::FetchEntriesResponse> {
        let (_, extensions, request) = request.into_parts();
        let header = request.header.as_ref();
        if let Some(Quarantined { quarantine, .. }) = self.quarantine() {
            check_addressee(quarantine.identity(), header)?;
            note_known(extensions.get());
            let answer = fetch::from_quarantine(&quarantine, request).await?;
            return Ok(Response::new(answer));
        }
        let services = self.for_message(&extensions, header)?;
        let answer = fetch::from_group(services, request).await?;
        Ok(Response::new(answer))
    }

    async fn forward_read(
        &self,
        request: Request<peer::ForwardReadRequest>,
    ) -> Answer<peer::ForwardReadResponse> {
        let (_, extensions, request) = request.into_parts();
        let services = self.for_message(&extensions, request.header.as_ref())?;
        let response = read::read_here(services, &request).await?;
        Ok(Response::new(response))
    }
}

#[cfg(test)]
mod tests;
