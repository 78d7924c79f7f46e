//! Whom a peer's message is meant for.
//!
//! Promises: what is meant for another cluster, group or node, or comes from a node that speaks nothing that this one
//! understands, is refused before anything looks into it. Must not know: what the message asks.

use inkstone_proto::peer_v1 as peer;
use inkstone_storage::types::Identity;
use tonic::Status;

use crate::grpc::connection::Connection;
use crate::raft::{GROUP, Group};

/// A message of this cluster has come over that connection.
pub(super) fn note_known(connection: Option<&Connection>) {
    if let Some(connection) = connection {
        connection.note_known();
    }
}

/// Refuses what is meant for another cluster, group or node.
pub(super) fn check_header(group: &Group, header: Option<&peer::Header>) -> Result<(), Status> {
    let identity = Identity {
        cluster_id: group.cluster_id(),
        node_id: group.node_id(),
    };
    let header = check_addressee(identity, header)?;
    group
        .versions()
        .hear(header.from, header.versions.as_ref())
        .map_err(|refused| Status::failed_precondition(refused.to_string()))
}

/// Refuses what is meant for another cluster, group or node than the one of this identity, which a node whose group
/// does not run has from its log.
pub(super) fn check_addressee(
    identity: Identity,
    header: Option<&peer::Header>,
) -> Result<&peer::Header, Status> {
    let header = header.ok_or_else(|| Status::invalid_argument("the header is missing"))?;
    if header.cluster_id != identity.cluster_id.as_slice() {
        return Err(Status::failed_precondition(
            "this node is in another cluster",
        ));
    }
    if header.group != GROUP {
        return Err(Status::failed_precondition(format!(
            "there is no group {}",
            header.group
        )));
    }
    if header.to != identity.node_id {
        return Err(Status::failed_precondition(format!(
            "this is node {}, not {}: its address is another node's now",
            identity.node_id, header.to
        )));
    }
    Ok(header)
}
