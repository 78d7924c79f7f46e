//! The edge between openraft's types, the store's, and protobuf: every conversion, in both directions, in one place.
//!
//! Promises: what comes from outside is checked (missing fields, unknown kinds, payload crcs) before openraft or the
//! store hear of it; a bad message is an error that says what was wrong, never a panic.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use inkstone_proto::{peer_v1 as peer, v1};
use inkstone_storage::format::batch::Batches;
use inkstone_storage::limits::PAYLOAD_SIZE_MAX;
use inkstone_storage::types::{Entry, EntryId, EntryKind, Vote};
use openraft::EntryPayload;
use prost::Message;

use crate::raft::types::{
    Member, Membership, Proposal, ProposalKind, RaftEntry, RaftLogId, RaftVote, StoredMembership,
    entry_id, raft_log_id, raft_vote, store_vote,
};

/// A message or a stored payload that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub String);

/// Names a field that must be there.
fn required<T>(field: Option<T>, name: &str) -> Result<T, Malformed> {
    field.ok_or_else(|| Malformed(format!("the field `{name}` is missing")))
}

/// To protobuf.
pub(crate) fn id_to_wire(id: EntryId) -> peer::EntryId {
    peer::EntryId {
        term: id.term,
        node: id.node,
        index: id.index,
    }
}

/// From protobuf.
pub(crate) fn id_from_wire(id: peer::EntryId) -> EntryId {
    EntryId {
        term: id.term,
        node: id.node,
        index: id.index,
    }
}

/// To protobuf.
pub(crate) fn log_id_to_wire(id: &RaftLogId) -> peer::EntryId {
    id_to_wire(entry_id(id))
}

/// From protobuf.
pub(crate) fn log_id_from_wire(id: peer::EntryId) -> RaftLogId {
    raft_log_id(id_from_wire(id))
}

/// To protobuf.
pub(crate) fn vote_to_wire(vote: &RaftVote) -> peer::Vote {
    let Vote {
        term,
        node,
        committed,
    } = store_vote(vote);
    peer::Vote {
        term,
        node,
        committed,
    }
}

/// From protobuf.
pub(crate) fn vote_from_wire(vote: Option<peer::Vote>) -> Result<RaftVote, Malformed> {
    let peer::Vote {
        term,
        node,
        committed,
    } = required(vote, "vote")?;
    Ok(raft_vote(Vote {
        term,
        node,
        committed,
    }))
}

/// To the store: the payload is encoded here for membership entries, and taken as it is for all others.
pub(crate) fn entry_to_store(entry: RaftEntry) -> Entry {
    let id = entry_id(&entry.log_id);
    let (kind, payload) = match entry.payload {
        EntryPayload::Blank => (EntryKind::Blank, Bytes::new()),
        EntryPayload::Membership(membership) => {
            let message = membership_to_wire(None, &membership);
            (EntryKind::Membership, message.encode_to_vec().into())
        }
        EntryPayload::Normal(Proposal {
            kind: ProposalKind::Command,
            payload,
        }) => (EntryKind::Command, payload),
        EntryPayload::Normal(Proposal {
            kind: ProposalKind::Batches,
            payload,
        }) => (EntryKind::Batches, payload),
    };
    Entry { id, kind, payload }
}

/// From the store.
pub(crate) fn entry_from_store(entry: Entry) -> Result<RaftEntry, Malformed> {
    let payload = match entry.kind {
        EntryKind::Blank => EntryPayload::Blank,
        EntryKind::Membership => {
            let message = peer::Membership::decode(entry.payload)
                .map_err(|error| Malformed(format!("membership entry: {error}")))?;
            EntryPayload::Membership(membership_from_wire(&message)?)
        }
        EntryKind::Command => EntryPayload::Normal(Proposal {
            kind: ProposalKind::Command,
            payload: entry.payload,
        }),
        EntryKind::Batches => EntryPayload::Normal(Proposal {
            kind: ProposalKind::Batches,
            payload: entry.payload,
        }),
    };
    Ok(RaftEntry {
        log_id: raft_log_id(entry.id),
        payload,
    })
}

/// To protobuf, with the crc of the payload.
pub(crate) fn entry_to_wire(entry: RaftEntry) -> peer::Entry {
    let Entry { id, kind, payload } = entry_to_store(entry);
    peer::Entry {
        id: Some(id_to_wire(id)),
        kind: u32::from(kind as u8),
        payload_crc: crc32fast::hash(&payload),
        payload,
    }
}

/// For openraft, with the crc of the payload verified.
pub(crate) fn entry_from_wire(entry: peer::Entry) -> Result<RaftEntry, Malformed> {
    entry_from_store(store_entry_from_wire(entry)?)
}

/// For the store, with the crc of the payload verified.
pub(crate) fn store_entry_from_wire(entry: peer::Entry) -> Result<Entry, Malformed> {
    let id = id_from_wire(required(entry.id, "entry.id")?);
    let kind = u8::try_from(entry.kind)
        .ok()
        .and_then(EntryKind::from_number)
        .ok_or_else(|| Malformed(format!("entry {}: unknown kind {}", id.index, entry.kind)))?;
    let crc = crc32fast::hash(&entry.payload);
    if crc != entry.payload_crc {
        return Err(Malformed(format!(
            "entry {}: the payload's crc is {crc:08x}, expected {:08x}",
            id.index, entry.payload_crc
        )));
    }
    Ok(Entry {
        id,
        kind,
        payload: entry.payload,
    })
}

/// Checks what openraft and the store take for granted of the entries of one message: that they are neighbours behind
/// `previous`, of no later term than the sender's, within the bounds, and that batches can be applied.
pub(crate) fn check_entries(request: &peer::AppendEntriesRequest) -> Result<(), Malformed> {
    let term = request.vote.map_or(0, |vote| vote.term);
    let mut last = request.previous.map(|previous| previous.index);
    for entry in &request.entries {
        let id = required(entry.id, "entry.id")?;
        let expected = last.map_or(Some(0), |last| last.checked_add(1));
        if expected != Some(id.index) || id.index == u64::MAX {
            return Err(Malformed(format!(
                "entry {} is not behind {last:?}",
                id.index
            )));
        }
        if id.term > term {
            return Err(Malformed(format!(
                "entry {} is of term {}, the sender of {term}",
                id.index, id.term
            )));
        }
        if entry.payload.len() > PAYLOAD_SIZE_MAX {
            return Err(Malformed(format!(
                "entry {} has {} bytes; the most is {PAYLOAD_SIZE_MAX}",
                id.index,
                entry.payload.len()
            )));
        }
        if entry.kind == EntryKind::Batches as u32 {
            Batches::parse(entry.payload.clone())
                .map_err(|error| Malformed(format!("entry {}: {error}", id.index)))?;
        }
        last = Some(id.index);
    }
    Ok(())
}

/// To protobuf.
pub(crate) fn node_to_wire(id: u64, member: &Member) -> v1::NodeInfo {
    v1::NodeInfo {
        id,
        client_address: member.client_address.clone(),
        peer_address: member.peer_address.clone(),
    }
}

/// From protobuf.
pub(crate) fn node_from_wire(node: &v1::NodeInfo) -> (u64, Member) {
    let member = Member {
        client_address: node.client_address.clone(),
        peer_address: node.peer_address.clone(),
    };
    (node.id, member)
}

/// To protobuf.
pub(crate) fn membership_to_wire(
    id: Option<&RaftLogId>,
    membership: &Membership,
) -> peer::Membership {
    let configs = membership.get_joint_config().iter();
    peer::Membership {
        id: id.map(log_id_to_wire),
        configs: configs
            .map(|ids| peer::NodeSet {
                ids: ids.iter().copied().collect(),
            })
            .collect(),
        nodes: membership
            .nodes()
            .map(|(id, member)| node_to_wire(*id, member))
            .collect(),
    }
}

/// From protobuf.
pub(crate) fn membership_from_wire(message: &peer::Membership) -> Result<Membership, Malformed> {
    let configs: Vec<BTreeSet<u64>> = message
        .configs
        .iter()
        .map(|set| set.ids.iter().copied().collect())
        .collect();
    let nodes: BTreeMap<u64, Member> = message.nodes.iter().map(node_from_wire).collect();
    Membership::new(configs, nodes).map_err(|error| Malformed(format!("membership: {error}")))
}

/// From protobuf, with the entry that set it.
pub(crate) fn stored_membership_from_wire(
    message: Option<peer::Membership>,
) -> Result<StoredMembership, Malformed> {
    let message = required(message, "membership")?;
    if message.configs.is_empty() {
        return Ok(StoredMembership::default());
    }
    Ok(StoredMembership::new(
        message.id.map(log_id_from_wire),
        membership_from_wire(&message)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership() -> Membership {
        let nodes = [1_u64, 2, 3].map(|id| {
            let member = Member {
                client_address: format!("127.0.0.1:{id}"),
                peer_address: format!("127.0.0.1:1{id}"),
            };
            (id, member)
        });
        Membership::new(vec![BTreeSet::from([1, 2])], BTreeMap::from(nodes)).unwrap()
    }

    #[test]
    fn every_kind_of_entry_comes_back_as_it_went() {
        let payloads = [
            EntryPayload::Blank,
            EntryPayload::Membership(membership()),
            EntryPayload::Normal(Proposal {
                kind: ProposalKind::Command,
                payload: Bytes::from_static(b"command"),
            }),
            EntryPayload::Normal(Proposal {
                kind: ProposalKind::Batches,
                payload: Bytes::from_static(b"batches"),
            }),
        ];
        for payload in payloads {
            let id = raft_log_id(EntryId {
                term: 2,
                node: 1,
                index: 5,
            });
            let entry = RaftEntry {
                log_id: id,
                payload,
            };
            assert_eq!(
                entry_from_wire(entry_to_wire(entry.clone())).unwrap(),
                entry
            );
        }
    }

    #[test]
    fn a_flipped_payload_bit_is_refused() {
        let entry = RaftEntry {
            log_id: raft_log_id(EntryId {
                term: 2,
                node: 1,
                index: 5,
            }),
            payload: EntryPayload::Normal(Proposal {
                kind: ProposalKind::Batches,
                payload: Bytes::from_static(b"batches"),
            }),
        };
        let mut wire = entry_to_wire(entry);
        wire.payload = Bytes::from_static(b"batchez");
        assert!(entry_from_wire(wire).unwrap_err().0.contains("crc"));
    }

    fn message(previous: Option<u64>, entries: &[(u64, u64)]) -> peer::AppendEntriesRequest {
        let id = |index, term| peer::EntryId {
            term,
            node: 1,
            index,
        };
        peer::AppendEntriesRequest {
            vote: Some(peer::Vote {
                term: 3,
                node: 1,
                committed: true,
            }),
            previous: previous.map(|index| id(index, 1)),
            entries: entries
                .iter()
                .map(|(index, term)| peer::Entry {
                    id: Some(id(*index, *term)),
                    kind: 1,
                    ..peer::Entry::default()
                })
                .collect(),
            ..peer::AppendEntriesRequest::default()
        }
    }

    #[test]
    fn entries_that_are_no_neighbours_or_of_a_later_term_are_refused() {
        check_entries(&message(None, &[(0, 1), (1, 3)])).unwrap();
        check_entries(&message(Some(7), &[(8, 3), (9, 3)])).unwrap();
        for entries in [&[(1, 1)][..], &[(0, 1), (2, 1)], &[(0, 4)]] {
            check_entries(&message(None, entries)).unwrap_err();
        }
        check_entries(&message(Some(7), &[(7, 3)])).unwrap_err();
        check_entries(&message(Some(u64::MAX), &[(0, 3)])).unwrap_err();
        check_entries(&message(Some(u64::MAX - 1), &[(u64::MAX, 3)])).unwrap_err();
    }

    #[test]
    fn batches_that_apply_could_not_read_are_refused() {
        let mut request = message(None, &[(0, 1)]);
        request.entries[0].kind = EntryKind::Batches as u32;
        request.entries[0].payload = Bytes::from_static(b"no batches");
        check_entries(&request).unwrap_err();
        request.entries[0].payload = Bytes::from(vec![0; PAYLOAD_SIZE_MAX + 1]);
        assert!(check_entries(&request).unwrap_err().0.contains("the most"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = entry_from_wire(peer::Entry::default()).unwrap_err();
        assert_eq!(error.0, "the field `entry.id` is missing");
        let kind = peer::Entry {
            id: Some(peer::EntryId::default()),
            kind: 300,
            ..peer::Entry::default()
        };
        assert!(
            entry_from_wire(kind)
                .unwrap_err()
                .0
                .contains("unknown kind 300")
        );
    }
}
