//! The gRPC services that clients call: what they share, and the router that serves them.
//!
//! One verb, one file: `append`, `read`, `search`, `logs`, `cluster`, `members`. Read `service` first (which call goes
//! where), then `error` (what a caller is told), then the verbs. Must not know: how a node is started; openraft, but
//! for `peer`; files, but for their names in reports of damage.

mod admin;
mod answers;
mod append;
mod cluster;
pub mod connection;
mod consistency;
mod convert;
mod deadline;
mod error;
mod fetch;
pub mod front;
mod intake;
mod leader;
pub mod limits;
mod logs;
#[cfg(test)]
mod lone_node;
mod members;
mod moved;
pub mod peer;
#[cfg(test)]
mod purged;
pub mod quarantined;
mod read;
mod search;
mod service;
mod session;
mod weight;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use inkstone_proto::FILE_DESCRIPTOR_SET;
use inkstone_proto::v1::NodeInfo;
use inkstone_proto::v1::admin_server::AdminServer;
use inkstone_proto::v1::logs_server::LogsServer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::Status;
use tonic::service::Routes;
use tonic_health::pb::FILE_DESCRIPTOR_SET as HEALTH_DESCRIPTOR_SET;
use tonic_health::server::HealthReporter;

use crate::blocking::Blocking;
use crate::clock::Clock;
use crate::discovery::Discovery;
use crate::grpc::answers::AnswerRoom;
use crate::grpc::limits::{
    APPENDS_SIZE_MAX, FORWARDS_MAX, LARGE_ANSWERS_MAX, MESSAGE_SIZE_MAX, READ_ANSWERS_SIZE_MAX,
};
use crate::indexer::Indexer;
use crate::raft::{Group, Repairs};
use crate::scrub::Scrub;

/// Bytes that one permit of a semaphore for bytes stands for.
const PERMIT_SIZE: usize = 1 << 10;

/// What works beside the services, as far as they ask it.
#[derive(Debug, Clone)]
pub struct Beside {
    /// The search index.
    pub indexer: Indexer,
    /// The search for damaged segments.
    pub scrub: Scrub,
    /// Who else there is.
    pub discovery: Discovery,
    /// What was written back from other nodes.
    pub repairs: Repairs,
}

/// What the services of one node work with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Services {
    pub(crate) group: Group,
    pub(crate) indexer: Indexer,
    pub(crate) scrub: Scrub,
    pub(crate) discovery: Discovery,
    pub(crate) repairs: Repairs,
    pub(crate) clock: Clock,
    pub(crate) reads: Blocking,
    pub(crate) searches: Blocking,
    /// Damaged files are named relative to it.
    pub(crate) data_dir: Arc<PathBuf>,
    stopping: watch::Receiver<bool>,
    /// For the answers of reads.
    pub(crate) read_answers: AnswerRoom,
    /// For searches and lists: each takes 1 KiB of it.
    pub(crate) large_answers: AnswerRoom,
    forwards: Arc<Semaphore>,
    append_room: Arc<Semaphore>,
    turn: Arc<AtomicUsize>,
}

impl Services {
    /// `stopping` turns true when the node stops: following reads and sessions then end by themselves.
    pub fn new(
        group: Group,
        beside: Beside,
        clock: Clock,
        reads: Blocking,
        searches: Blocking,
        data_dir: PathBuf,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            group,
            indexer: beside.indexer,
            scrub: beside.scrub,
            discovery: beside.discovery,
            repairs: beside.repairs,
            clock,
            reads,
            searches,
            data_dir: Arc::new(data_dir),
            stopping,
            read_answers: AnswerRoom::new(clock, READ_ANSWERS_SIZE_MAX),
            large_answers: AnswerRoom::new(clock, LARGE_ANSWERS_MAX << 10),
            forwards: Arc::new(Semaphore::new(FORWARDS_MAX)),
            append_room: Arc::new(Semaphore::new(APPENDS_SIZE_MAX / PERMIT_SIZE)),
            turn: Arc::new(AtomicUsize::new(0)),
        }
    }

    /// Returns once the node stops.
    pub(crate) async fn stopped(&self) {
        let mut stopping = self.stopping.clone();
        // A sender that is gone is a node that is gone: both mean stop.
        if stopping.wait_for(|stopping| *stopping).await.is_err() {
            tracing::debug!("the node is gone");
        }
    }

    /// A place for a search that is passed on.
    pub(crate) fn forward_place(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.forwards)
            .try_acquire_owned()
            .map_err(|_| error::busy("forwards_max", FORWARDS_MAX))
    }

    /// Room for an append of so many bytes, or a refusal.
    pub(crate) fn append_room(&self, size: usize) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.append_room)
            .try_acquire_many_owned(permits(size))
            .map_err(|_| error::busy("appends_size_max", APPENDS_SIZE_MAX))
    }

    /// Waits for room for an append of so many bytes, for a session: what is not read stays with the client.
    pub(crate) async fn wait_for_append_room(&self, size: usize) -> OwnedSemaphorePermit {
        Arc::clone(&self.append_room)
            .acquire_many_owned(permits(size))
            .await
            .expect("the semaphore is never closed")
    }

    /// All members but this node, beginning with another one at every call, to spread work over them.
    pub(crate) fn other_members_in_turn(&self) -> Vec<NodeInfo> {
        let own = self.group.node_id();
        let mut members = self.group.members();
        members.retain(|member| member.id != own);
        if !members.is_empty() {
            let first = self.turn.fetch_add(1, Ordering::Relaxed) % members.len();
            members.rotate_left(first);
        }
        members
    }
}

/// The permits for so many bytes; no request weighs more than [`APPENDS_SIZE_MAX`].
pub(crate) fn permits(size: usize) -> u32 {
    u32::try_from(size.min(APPENDS_SIZE_MAX).div_ceil(PERMIT_SIZE)).expect("a small number")
}

/// The services of the client port, and the handle that reports their health. Everything is reported as serving from the
/// start: the caller serves only once the node is ready.
pub async fn client_routes(services: &Services) -> (Routes, HealthReporter) {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<LogsServer<Services>>().await;
    health.set_serving::<AdminServer<Services>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(HEALTH_DESCRIPTOR_SET)
        .with_service_name("inkstone.v1.Logs")
        .with_service_name("inkstone.v1.Admin")
        .with_service_name("grpc.health.v1.Health")
        .build_v1()
        .expect("the descriptors were made by the build");
    let routes =
        Routes::new(LogsServer::new(services.clone()).max_decoding_message_size(MESSAGE_SIZE_MAX))
            .add_service(AdminServer::new(services.clone()))
            .add_service(health_service)
            .add_service(reflection);
    (routes, health)
}

/// Reports everything as not serving, so that load balancers turn away before the node stops.
pub async fn report_stopping(health: &HealthReporter) {
    health.set_not_serving::<LogsServer<Services>>().await;
    health.set_not_serving::<AdminServer<Services>>().await;
    health
        .set_service_status("", tonic_health::ServingStatus::NotServing)
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_permits_rounded_up_and_bounded_by_all_there_are() {
        assert_eq!(permits(0), 0);
        assert_eq!(permits(1), 1);
        assert_eq!(permits(1_024), 1);
        assert_eq!(permits(1_025), 2);
        assert_eq!(permits(usize::MAX) as usize, APPENDS_SIZE_MAX / PERMIT_SIZE);
    }
}
