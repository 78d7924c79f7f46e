//! Between protobuf messages and the values of `types.rs` and `error.rs`: the only file that knows both.
//!
//! Nothing here decides anything but what an absent or unknown field means.

use std::time::Duration;

use inkstone_proto::v1;
use prost::Message;

use crate::error::{Detail, Reason};
use crate::status::{
    ClusterStatus, DamagedPlace, NodeRole, NodeStatus, RepairStatus, ReplicationProgress,
    ScrubPass, ScrubStatus,
};
use crate::types::{
    Consistency, Gap, GapReason, Hit, LogInfo, NewRecord, NodeInfo, Producer, ReadEvent,
    ReadOptions, Receipt, Record, SearchAnswer, SearchOptions, Start, Tail, WhenBehind,
};

/// The type under which an error's detail is packed.
const DETAIL_TYPE_URL: &str = "type.googleapis.com/inkstone.v1.ErrorDetail";

/// What a status says about the request's effect, and the rest of its detail; `None` when it carries none.
pub(crate) fn detail(status: &tonic::Status) -> Option<(Effect, Detail)> {
    let packed = tonic_types::pb::Status::decode(status.details()).ok()?;
    let any = packed
        .details
        .iter()
        .find(|any| any.type_url == DETAIL_TYPE_URL)?;
    let detail = v1::ErrorDetail::decode(any.value.as_slice()).ok()?;
    let effect = match detail.effect() {
        v1::Effect::None => Effect::None,
        v1::Effect::Unknown => Effect::Unknown,
    };
    Some((effect, Detail::from(detail)))
}

/// Whether a failed request may have taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    None,
    Unknown,
}

impl From<v1::ErrorDetail> for Detail {
    fn from(wire: v1::ErrorDetail) -> Self {
        let wait = Duration::from_millis(wire.retry_after_ms.into());
        Self {
            reason: wire.reason().into(),
            retryable: wire.retryable,
            retry_after: (!wait.is_zero()).then_some(wait),
            leader: wire
                .leader
                .map(NodeInfo::from)
                .filter(|node| !node.client_address.is_empty()),
            bound: (!wire.bound.is_empty()).then_some((wire.bound, wire.bound_value)),
            next_offset: wire.next_offset,
            expected: wire.expected,
            file: (!wire.file.is_empty()).then_some(wire.file),
            behind: wire.behind,
            position: wire.position,
        }
    }
}

impl From<v1::Reason> for Reason {
    fn from(wire: v1::Reason) -> Self {
        match wire {
            v1::Reason::Unspecified => Self::Unspecified,
            v1::Reason::Invalid => Self::Invalid,
            v1::Reason::LogNotFound => Self::LogNotFound,
            v1::Reason::LogExists => Self::LogExists,
            v1::Reason::TooLarge => Self::TooLarge,
            v1::Reason::OffsetMismatch => Self::OffsetMismatch,
            v1::Reason::ProducerFenced => Self::ProducerFenced,
            v1::Reason::SequenceGap => Self::SequenceGap,
            v1::Reason::ReceiptForgotten => Self::ReceiptForgotten,
            v1::Reason::NotLeader => Self::NotLeader,
            v1::Reason::NoLeader => Self::NoLeader,
            v1::Reason::Busy => Self::Busy,
            v1::Reason::Timeout => Self::Timeout,
            v1::Reason::Damaged => Self::Damaged,
            v1::Reason::BadQuery => Self::BadQuery,
            v1::Reason::QueryLimit => Self::QueryLimit,
            v1::Reason::NoIndex => Self::NoIndex,
            v1::Reason::ShuttingDown => Self::ShuttingDown,
            v1::Reason::OffsetOutOfRange => Self::OffsetOutOfRange,
            v1::Reason::Internal => Self::Internal,
            v1::Reason::DiskFull => Self::DiskFull,
            v1::Reason::NodeNotFound => Self::NodeNotFound,
            v1::Reason::AlreadyMember => Self::AlreadyMember,
            v1::Reason::NotLearner => Self::NotLearner,
            v1::Reason::NotVoter => Self::NotVoter,
            v1::Reason::LastVoter => Self::LastVoter,
            v1::Reason::WouldLoseQuorum => Self::WouldLoseQuorum,
            v1::Reason::NotCaughtUp => Self::NotCaughtUp,
            v1::Reason::ChangeUnderWay => Self::ChangeUnderWay,
            v1::Reason::Unsupported => Self::Unsupported,
            v1::Reason::Quarantined => Self::Quarantined,
        }
    }
}

/// The request of one append.
pub(crate) fn append_request(
    log: &str,
    records: Vec<NewRecord>,
    expected_offset: Option<u64>,
    producer: Option<Producer>,
) -> v1::AppendRequest {
    v1::AppendRequest {
        log: log.to_owned(),
        records: records.into_iter().map(v1::NewRecord::from).collect(),
        expected_offset,
        producer: producer.map(v1::Producer::from),
    }
}

impl From<Producer> for v1::Producer {
    fn from(producer: Producer) -> Self {
        Self {
            id: producer.id,
            epoch: producer.epoch,
            sequence: producer.sequence,
        }
    }
}

impl From<NewRecord> for v1::NewRecord {
    fn from(record: NewRecord) -> Self {
        let attributes = record
            .attributes
            .into_iter()
            .map(|(key, value)| v1::Attribute { key, value })
            .collect();
        Self {
            timestamp: record.timestamp,
            attributes,
            body: record.body,
        }
    }
}

impl From<v1::Record> for Record {
    fn from(wire: v1::Record) -> Self {
        Self {
            offset: wire.offset,
            timestamp: wire.timestamp,
            attributes: wire
                .attributes
                .into_iter()
                .map(|a| (a.key, a.value))
                .collect(),
            body: wire.body,
        }
    }
}

impl From<v1::AppendResponse> for Receipt {
    fn from(wire: v1::AppendResponse) -> Self {
        Self {
            first_offset: wire.first_offset,
            next_offset: wire.next_offset,
            append_time: wire.append_time,
            duplicate: wire.duplicate,
        }
    }
}

/// A consistency and the offset that goes beside it.
pub(crate) fn consistency(consistency: Consistency) -> (v1::Consistency, u64) {
    match consistency {
        Consistency::Stale => (v1::Consistency::Stale, 0),
        Consistency::AtLeast(offset) => (v1::Consistency::AtLeast, offset),
        Consistency::Lease => (v1::Consistency::Lease, 0),
        Consistency::Linearizable => (v1::Consistency::Linearizable, 0),
    }
}

/// The request that starts a read; `follow` and the bounds are the options' own.
pub(crate) fn read_request(options: &ReadOptions) -> v1::ReadRequest {
    use v1::read_request::From as Wire;
    let (consistency, at_least_offset) = consistency(options.consistency);
    v1::ReadRequest {
        log: options.log.clone(),
        from: match options.from {
            Start::First => None,
            Start::Offset(offset) => Some(Wire::Offset(offset)),
            Start::Last(records) => Some(Wire::Last(records)),
            Start::Timestamp(time) => Some(Wire::Timestamp(time)),
        },
        until_offset: options.until,
        limit: options.limit.unwrap_or(0),
        limit_bytes: options.limit_bytes.unwrap_or(0),
        follow: options.follow == crate::types::Follow::Yes,
        consistency: consistency.into(),
        at_least_offset,
    }
}

/// The event in a read's message; `None` for one that this release does not know.
pub(crate) fn read_event(wire: v1::ReadResponse) -> Option<ReadEvent> {
    use v1::read_response::Event;
    Some(match wire.event? {
        Event::Batch(batch) => {
            ReadEvent::Records(batch.records.into_iter().map(Record::from).collect())
        }
        Event::Gap(wire) => ReadEvent::Gap(gap(&wire)),
        Event::CaughtUp(mark) => ReadEvent::CaughtUp {
            next_offset: mark.next_offset,
        },
        Event::Heartbeat(mark) => ReadEvent::Heartbeat {
            next_offset: mark.next_offset,
        },
        Event::View(view) => ReadEvent::View {
            next_offset: view.next_offset,
            as_of_time: (view.as_of_time != 0).then_some(view.as_of_time),
        },
    })
}

impl From<v1::TailResponse> for Tail {
    fn from(wire: v1::TailResponse) -> Self {
        Self {
            first_offset: wire.first_offset,
            next_offset: wire.next_offset,
            last_append_time: (wire.last_append_time != 0).then_some(wire.last_append_time),
            as_of_time: (wire.as_of_time != 0).then_some(wire.as_of_time),
        }
    }
}

/// The request of a search that may take that long.
pub(crate) fn search_request(options: &SearchOptions, timeout: Duration) -> v1::SearchRequest {
    let (consistency, at_least_offset) = consistency(options.consistency);
    v1::SearchRequest {
        log: options.log.clone(),
        query: options.query.clone(),
        limit: options.limit.unwrap_or(0),
        consistency: consistency.into(),
        at_least_offset,
        since: options.since,
        until: options.until,
        before_offset: options.before_offset,
        timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
        allow_behind: options.when_behind == WhenBehind::Answer,
    }
}

impl From<v1::SearchResponse> for SearchAnswer {
    fn from(wire: v1::SearchResponse) -> Self {
        Self {
            hits: wire.hits.into_iter().filter_map(hit).collect(),
            indexed_next_offset: wire.indexed_next_offset,
            committed_next_offset: wire.committed_next_offset,
            complete: wire.complete,
            node: wire.node,
            next_before_offset: wire.next_before_offset,
            gaps: wire.gaps.iter().map(gap).collect(),
            behind: wire.behind,
        }
    }
}

fn hit(wire: v1::Hit) -> Option<Hit> {
    let record = Record::from(wire.record?);
    let highlights = wire.highlights.into_iter().map(|h| h.from..h.to).collect();
    Some(Hit { record, highlights })
}

impl From<v1::LogInfo> for LogInfo {
    fn from(wire: v1::LogInfo) -> Self {
        Self {
            name: wire.name,
            id: wire.id,
            first_offset: wire.first_offset,
            next_offset: wire.next_offset,
            created_time: wire.created_time,
            last_append_time: (wire.last_append_time != 0).then_some(wire.last_append_time),
            retention: wire.retention.map(Into::into).unwrap_or_default(),
            stored_bytes: wire.stored_bytes,
        }
    }
}

impl From<v1::NodeInfo> for NodeInfo {
    fn from(wire: v1::NodeInfo) -> Self {
        Self {
            id: wire.id,
            client_address: wire.client_address,
            peer_address: wire.peer_address,
        }
    }
}

impl From<v1::ClusterStatusResponse> for ClusterStatus {
    fn from(wire: v1::ClusterStatusResponse) -> Self {
        Self {
            cluster_id: wire.cluster_id,
            leader: (wire.leader != 0).then_some(wire.leader),
            term: wire.term,
            nodes: wire.nodes.into_iter().filter_map(node_status).collect(),
            answered_by: wire.answered_by,
            waiting: wire.waiting.into_iter().map(NodeInfo::from).collect(),
            changing: wire.changing,
        }
    }
}

fn node_status(wire: v1::NodeStatus) -> Option<NodeStatus> {
    let role = match wire.role() {
        v1::NodeRole::Leader => NodeRole::Leader,
        v1::NodeRole::Follower => NodeRole::Follower,
        v1::NodeRole::Candidate => NodeRole::Candidate,
        v1::NodeRole::Learner => NodeRole::Learner,
        v1::NodeRole::Quarantined => NodeRole::Quarantined,
        v1::NodeRole::Unspecified => NodeRole::Unknown,
    };
    Some(NodeStatus {
        node: wire.node?.into(),
        role,
        reachable: wire.reachable,
        durable_index: wire.durable_index,
        committed_index: wire.committed_index,
        applied_index: wire.applied_index,
        indexed_index: wire.indexed_index,
        version: wire.version,
        log_bytes: wire.log_bytes,
        chain_crc: wire.chain_crc,
        scrub: wire.scrub.map(scrub_status),
        voter: wire.voter,
        progress: wire.progress.map(|progress| ReplicationProgress {
            matched_index: progress.matched_index,
            behind: progress.behind,
            caught_up: progress.caught_up,
            heard: progress.heard,
        }),
        protocols: (wire.newest_protocol > 0)
            .then_some((wire.oldest_protocol, wire.newest_protocol)),
        repair: wire.repair.map(repair_status),
    })
}

fn repair_status(wire: v1::RepairStatus) -> RepairStatus {
    RepairStatus {
        damaged_entries: wire.damaged_entries,
        repaired_entries: wire.repaired_entries,
        last_time: (wire.last_repair_time != 0).then_some(wire.last_repair_time),
        damages: wire.damages.into_iter().map(damaged_place).collect(),
        waits_for: wire.waits_for,
    }
}

fn scrub_status(wire: v1::ScrubStatus) -> ScrubStatus {
    ScrubStatus {
        rate: wire.rate,
        passes: wire.passes,
        last_pass: (wire.passes > 0).then_some(ScrubPass {
            start_time: wire.last_pass_start_time,
            end_time: wire.last_pass_end_time,
            bytes: wire.last_pass_bytes,
        }),
        verified_bytes: wire.verified_bytes,
        total_bytes: wire.total_bytes,
        damages: wire.damages.into_iter().map(damaged_place).collect(),
        damages_count: wire.damages_count,
    }
}

fn gap(wire: &v1::Gap) -> Gap {
    Gap {
        from: wire.from,
        to: wire.to,
        reason: match wire.reason() {
            v1::GapReason::Trimmed => GapReason::Trimmed,
            v1::GapReason::Damaged => GapReason::Damaged,
            v1::GapReason::Unspecified => GapReason::Other,
        },
    }
}

fn damaged_place(wire: v1::DamagedPlace) -> DamagedPlace {
    DamagedPlace {
        file: wire.file,
        position: wire.position,
        what: wire.what,
        entries: wire
            .first_index
            .zip(wire.last_index)
            .map(|(first, last)| first..=last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_asks_for_an_answer_behind_only_when_told_and_hears_that_it_is() {
        let mut options = SearchOptions::new("log", "x");
        assert!(!search_request(&options, Duration::ZERO).allow_behind);
        options.when_behind = WhenBehind::Answer;
        assert!(search_request(&options, Duration::ZERO).allow_behind);
        for behind in [true, false] {
            let wire = v1::SearchResponse {
                indexed_next_offset: 7,
                committed_next_offset: 7,
                behind,
                ..v1::SearchResponse::default()
            };
            assert_eq!(SearchAnswer::from(wire).behind, behind);
        }
    }
}
