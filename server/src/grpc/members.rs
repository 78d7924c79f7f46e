//! Changes of the members as an operator asks for them: a node is named by its id or by an address.
//!
//! Promises: a name is looked up by the leader, which knows the newest membership; a node is added only if it answers at
//! its address as the node that was meant. What may be changed is decided in `raft::members`.

use inkstone_proto::v1::{
    AddMemberRequest, AddMemberResponse, DemoteMemberRequest, DemoteMemberResponse, NodeInfo,
    PromoteMemberRequest, PromoteMemberResponse, RemoveMemberRequest, RemoveMemberResponse,
    TransferLeaderRequest, TransferLeaderResponse,
};
use inkstone_storage::types::NO_CLUSTER;
use tonic::Status;
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use crate::discovery::{Known, cluster_from_wire};
use crate::grpc::admin::{Command, CommandAnswer, NotDone, carry_out, other_answer};
use crate::grpc::{Services, error};
use crate::raft::{Able, Group, MemberError, Members, find_named, is_named, not_found};

/// What this node tells whoever asks who is in the cluster.
pub(crate) fn known(group: &Group) -> Known {
    let (committed_index, committed_members) = group.committed_membership();
    Known {
        members: group.members(),
        committed_index,
        committed_members,
    }
}

/// Adds a node, whichever node leads.
pub(crate) async fn add(
    services: &Services,
    metadata: &MetadataMap,
    request: AddMemberRequest,
) -> Result<AddMemberResponse, Status> {
    require_name(&request.node)?;
    match carry_out(services, metadata, Command::AddMember(request)).await? {
        CommandAnswer::AddMember(response) => Ok(response),
        _ => Err(other_answer()),
    }
}

/// Promotes a learner, whichever node leads.
pub(crate) async fn promote(
    services: &Services,
    metadata: &MetadataMap,
    request: PromoteMemberRequest,
) -> Result<PromoteMemberResponse, Status> {
    require_name(&request.node)?;
    match carry_out(services, metadata, Command::PromoteMember(request)).await? {
        CommandAnswer::PromoteMember(response) => Ok(response),
        _ => Err(other_answer()),
    }
}

/// Demotes a voter, whichever node leads.
pub(crate) async fn demote(
    services: &Services,
    metadata: &MetadataMap,
    request: DemoteMemberRequest,
) -> Result<DemoteMemberResponse, Status> {
    require_name(&request.node)?;
    match carry_out(services, metadata, Command::DemoteMember(request)).await? {
        CommandAnswer::DemoteMember(response) => Ok(response),
        _ => Err(other_answer()),
    }
}

/// Removes a member, whichever node leads.
pub(crate) async fn remove(
    services: &Services,
    metadata: &MetadataMap,
    request: RemoveMemberRequest,
) -> Result<RemoveMemberResponse, Status> {
    require_name(&request.node)?;
    match carry_out(services, metadata, Command::RemoveMember(request)).await? {
        CommandAnswer::RemoveMember(response) => Ok(response),
        _ => Err(other_answer()),
    }
}

/// Hands leadership over, whichever node leads.
pub(crate) async fn transfer(
    services: &Services,
    metadata: &MetadataMap,
    request: TransferLeaderRequest,
) -> Result<TransferLeaderResponse, Status> {
    match carry_out(services, metadata, Command::TransferLeader(request)).await? {
        CommandAnswer::TransferLeader(response) => Ok(response),
        _ => Err(other_answer()),
    }
}

/// Adds a node if this one leads.
pub(crate) async fn add_here(
    services: &Services,
    request: AddMemberRequest,
) -> Result<AddMemberResponse, NotDone> {
    require_name(&request.node)?;
    let members = services.group.membership();
    let node = newcomer(services, &members, &request.node).await?;
    let node = services.group.add_learner(node).await?;
    tracing::info!(node = node.id, address = %node.peer_address, "added as a learner");
    Ok(AddMemberResponse { node: Some(node) })
}

/// Promotes a learner if this node leads.
pub(crate) async fn promote_here(
    services: &Services,
    request: PromoteMemberRequest,
) -> Result<PromoteMemberResponse, NotDone> {
    let id = member(services, &request.node)?;
    let node = services.group.promote(id).await?;
    tracing::info!(node = id, "promoted: it has a vote");
    Ok(PromoteMemberResponse { node: Some(node) })
}

/// Demotes a voter if this node leads.
pub(crate) async fn demote_here(
    services: &Services,
    request: DemoteMemberRequest,
) -> Result<DemoteMemberResponse, NotDone> {
    let id = member(services, &request.node)?;
    let node = services.group.demote(id, able(request.force)).await?;
    tracing::info!(node = id, "demoted: it is a learner");
    Ok(DemoteMemberResponse { node: Some(node) })
}

/// Removes a member if this node leads.
pub(crate) async fn remove_here(
    services: &Services,
    request: RemoveMemberRequest,
) -> Result<RemoveMemberResponse, NotDone> {
    let id = member(services, &request.node)?;
    let node = services.group.remove(id, able(request.force)).await?;
    tracing::info!(node = id, "removed from the cluster");
    Ok(RemoveMemberResponse { node: Some(node) })
}

/// Hands leadership over if this node leads.
pub(crate) async fn transfer_here(
    services: &Services,
    request: TransferLeaderRequest,
) -> Result<TransferLeaderResponse, NotDone> {
    let to = match request.node.as_str() {
        "" => None,
        name => Some(member(services, name)?),
    };
    let (leader, transferred) = services.group.transfer_leader(to).await?;
    Ok(TransferLeaderResponse {
        leader: Some(leader),
        transferred,
    })
}

fn able(force: bool) -> Able {
    if force {
        Able::Reachable
    } else {
        Able::CaughtUp
    }
}

fn require_name(name: &str) -> Result<(), Status> {
    if name.is_empty() {
        return Err(error::invalid(
            "node is empty; give a node's id, or its HOST:PORT for other nodes or for clients",
        ));
    }
    Ok(())
}

/// The member of that id or address.
fn member(services: &Services, name: &str) -> Result<u64, NotDone> {
    require_name(name)?;
    let members = services.group.membership();
    let mut named = members.nodes.values().filter(|node| is_named(node, name));
    match (named.next(), named.next()) {
        (None, _) => Err(not_found(name).into()),
        (Some(node), None) => Ok(node.id),
        // A wiped node that came back as a new one, and its former self.
        (Some(one), Some(other)) => Err(error::invalid(format!(
            "nodes {} and {} both have the address {name}; name the one you mean by its id",
            one.id, other.id
        ))
        .into()),
    }
}

/// The node that is to be added: one that waits, or whoever answers at that address. It is asked itself in any case: what
/// is added must be there, and be what was meant.
async fn newcomer(services: &Services, members: &Members, name: &str) -> Result<NodeInfo, NotDone> {
    let is_member = |id: u64| members.nodes.contains_key(&id);
    let waiting = services.discovery.waiting(is_member);
    let waits = find_named(&waiting, name);
    // A node that was wiped waits at an address that the membership still has for its former self.
    if waits.is_none()
        && let Some(node) = members.find(name)
    {
        return Err(MemberError::AlreadyMember {
            node: node.clone(),
            voter: members.is_voter(node.id),
        }
        .into());
    }
    if waits.is_none() && name.parse::<u64>().is_ok() {
        return Err(MemberError::NotFound(format!(
            "no node with the id {name} waits to be added; start it with `seeds` that name this cluster: it says its id, \
             and `ink cluster status` lists it as waiting"
        ))
        .into());
    }
    let address = waits.map_or(name, |node| node.peer_address.as_str());
    let answer = services.discovery.hello(address).await;
    let found = answer.and_then(|answer| {
        let cluster = cluster_from_wire(&answer.cluster_id);
        answer.node.map(|node| (node, cluster))
    });
    let Some((node, cluster)) = found else {
        return Err(MemberError::NotFound(format!(
            "no node answers at {address}, where other nodes should reach it; start it there with `seeds` that name this \
             cluster, or look up its address in `ink cluster status`, where it is listed as waiting"
        ))
        .into());
    };
    if ![NO_CLUSTER, services.group.cluster_id()].contains(&cluster) {
        return Err(error::invalid(format!(
            "node {} at {address} is in another cluster, {}; give it an empty data directory first",
            node.id,
            Uuid::from_bytes(cluster)
        ))
        .into());
    }
    if waits.is_some_and(|waits| waits.id != node.id) {
        return Err(MemberError::NotFound(format!(
            "node {} answers at {address} now; retry with its id",
            node.id
        ))
        .into());
    }
    Ok(node)
}
