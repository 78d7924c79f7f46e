//! The client port of a node in quarantine: it says so, and how the cluster is.
//!
//! Promises: every call but the cluster's status is refused, with an error that says where to ask and that nothing was
//! done; health is `NOT_SERVING`. Must not know: how the log is repaired.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::join_all;
use inkstone_proto::peer_v1::NodeStatusRequest;
use inkstone_proto::v1::admin_server::AdminServer;
use inkstone_proto::v1::logs_server::LogsServer;
use inkstone_proto::v1::{
    ClusterStatusRequest, ClusterStatusResponse, NodeInfo, NodeRole, NodeStatus,
};
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{NamedService, UnaryService};
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use uuid::Uuid;

use crate::grpc::limits::STATUS_TIMEOUT;
use crate::grpc::{Services, convert, error};
use crate::raft::Quarantine;

const CLUSTER_STATUS: &str = "/inkstone.v1.Admin/ClusterStatus";

/// A node in quarantine, for its clients and for the peers that ask how it is.
#[derive(Debug, Clone)]
pub struct Quarantined {
    /// The node.
    pub quarantine: Quarantine,
    /// Damaged files are named relative to it.
    pub data_dir: Arc<PathBuf>,
}

/// The services for the client port.
pub async fn client_routes(quarantined: &Quarantined) -> Routes {
    let (health, health_service) = tonic_health::server::health_reporter();
    crate::grpc::report_stopping(&health).await;
    Routes::new(RefusingLogs(Refusing(quarantined.clone())))
        .add_service(RefusingAdmin(Refusing(quarantined.clone())))
        .add_service(health_service)
}

/// The node's own row of the cluster's status.
pub(crate) fn node_status(quarantined: &Quarantined) -> NodeStatus {
    let quarantine = &quarantined.quarantine;
    let status = quarantine.repairs().status();
    NodeStatus {
        node: Some(quarantine.info().clone()),
        role: NodeRole::Quarantined.into(),
        reachable: true,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        repair: Some(convert::repair_status(status, &quarantined.data_dir)),
        ..NodeStatus::default()
    }
}

/// How the cluster is, as far as the other nodes answer.
async fn cluster_status(quarantined: Quarantined) -> ClusterStatusResponse {
    let quarantine = &quarantined.quarantine;
    let others = quarantine.nodes().into_iter();
    let asked = others.map(async |node| ask_status(quarantine, node).await);
    let mut nodes = join_all(asked).await;
    nodes.push(node_status(&quarantined));
    nodes.sort_by_key(|status| status.node.as_ref().map(|node| node.id));
    let leader = nodes
        .iter()
        .find(|status| status.role() == NodeRole::Leader)
        .and_then(|status| status.node.as_ref())
        .map_or(0, |node| node.id);
    let identity = quarantine.identity();
    ClusterStatusResponse {
        cluster_id: Uuid::from_bytes(identity.cluster_id).to_string(),
        leader,
        term: 0,
        nodes,
        answered_by: identity.node_id,
        ..ClusterStatusResponse::default()
    }
}

async fn ask_status(quarantine: &Quarantine, node: NodeInfo) -> NodeStatus {
    let request = NodeStatusRequest {
        header: Some(quarantine.header(node.id)),
    };
    let mut peer = quarantine.peer(&node);
    match timeout(STATUS_TIMEOUT, peer.node_status(request)).await {
        Ok(Ok(response)) => {
            let status = response.into_inner();
            NodeStatus {
                reachable: true,
                node: status.node.or(Some(node)),
                ..status
            }
        }
        Ok(Err(_)) | Err(_) => NodeStatus {
            node: Some(node),
            ..NodeStatus::default()
        },
    }
}

/// Answers calls by their path, so that one that is added to a service is refused like the others.
#[derive(Debug, Clone)]
struct Refusing(Quarantined);

impl Refusing {
    fn answer(&self, request: http::Request<Body>) -> BoxFuture<http::Response<Body>, Infallible> {
        let quarantined = self.0.clone();
        Box::pin(async move {
            if request.uri().path() == CLUSTER_STATUS {
                let codec: ProstCodec<ClusterStatusResponse, ClusterStatusRequest> =
                    ProstCodec::default();
                let mut grpc = tonic::server::Grpc::new(codec);
                return Ok(grpc.unary(ClusterStatus(quarantined), request).await);
            }
            let waits_for = quarantined.quarantine.repairs().status().waits_for;
            Ok(error::quarantined(&waits_for).into_http())
        })
    }
}

struct ClusterStatus(Quarantined);

impl UnaryService<ClusterStatusRequest> for ClusterStatus {
    type Response = ClusterStatusResponse;
    type Future = BoxFuture<Response<Self::Response>, Status>;

    fn call(&mut self, _: Request<ClusterStatusRequest>) -> Self::Future {
        let quarantined = self.0.clone();
        Box::pin(async move { Ok(Response::new(cluster_status(quarantined).await)) })
    }
}

macro_rules! refusing {
    ($name:ident, $of:ty) => {
        #[derive(Debug, Clone)]
        struct $name(Refusing);

        impl NamedService for $name {
            const NAME: &'static str = <$of as NamedService>::NAME;
        }

        impl Service<http::Request<Body>> for $name {
            type Response = http::Response<Body>;
            type Error = Infallible;
            type Future = BoxFuture<Self::Response, Self::Error>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: http::Request<Body>) -> Self::Future {
                self.0.answer(request)
            }
        }
    };
}

refusing!(RefusingLogs, LogsServer<Services>);
refusing!(RefusingAdmin, AdminServer<Services>);
