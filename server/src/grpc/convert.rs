//! Messages to domain values and back, and the checks that stand between: what passed them is within every limit.
//!
//! Must not know: the group, the disk, time.

use std::path::Path;

use inkstone_proto::v1::{self, AppendRequest, AppendResponse, Attribute};
use inkstone_storage::format::batch::EncodedBatch;
use inkstone_storage::limits::{
    ATTRIBUTE_KEY_SIZE_MAX, ATTRIBUTE_VALUE_SIZE_MAX, ATTRIBUTES_MAX, BATCH_RECORDS_MAX,
    BATCH_SIZE_MAX, LOG_NAME_SIZE_MAX, RECORD_SIZE_MAX,
};
use inkstone_storage::types::{Attributes, LogId, NewRecord, Producer, Record};
use prost::Message;
use tonic::Status;

use crate::grpc::error;
use crate::grpc::weight::weight;
use crate::raft::{LogInfo, Receipt, RepairStatus};
use crate::scrub::ScrubStatus;

/// An append whose every field is within its limits.
#[derive(Debug, Clone)]
pub(crate) struct CheckedAppend {
    request: AppendRequest,
    size: usize,
}

impl CheckedAppend {
    /// Checks a request; the error names the bound, what was found and what to do.
    pub(crate) fn check(request: AppendRequest) -> Result<Self, Status> {
        check_log_name(&request.log)?;
        if request.producer.is_some_and(|producer| producer.id == 0) {
            return Err(error::invalid(
                "producer.id is 0; choose any other number, at random for a new writer",
            ));
        }
        check_records(&request.records)?;
        let size = weight(&request, request.encoded_len());
        Ok(Self { request, size })
    }

    /// The log's name.
    pub(crate) fn log(&self) -> &str {
        &self.request.log
    }

    /// Bytes that the request takes in memory.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// As it came, to be passed on.
    pub(crate) fn into_request(self) -> AppendRequest {
        self.request
    }

    /// The batch, for the log of that number; records without an event time get `now`.
    pub(crate) fn encode(&self, log: LogId, now: i64) -> EncodedBatch {
        let records: Vec<NewRecord> = self
            .request
            .records
            .iter()
            .map(|record| new_record(record, now))
            .collect();
        let producer = self.request.producer.map(|producer| Producer {
            id: producer.id,
            epoch: producer.epoch,
            sequence: producer.sequence,
        });
        EncodedBatch::encode(log, producer, self.request.expected_offset, &records)
    }
}

fn new_record(record: &v1::NewRecord, now: i64) -> NewRecord {
    let attributes = record
        .attributes
        .iter()
        .map(|attribute| (attribute.key.clone(), attribute.value.clone()))
        .collect();
    NewRecord {
        timestamp: record.timestamp.unwrap_or(now),
        attributes,
        body: record.body.clone(),
    }
}

/// 1 to 255 bytes of `a-z 0-9 . _ - /`, not starting or ending with `/`.
pub(crate) fn check_log_name(name: &str) -> Result<(), Status> {
    const ALLOWED: &str = "a log's name is 1 to 255 bytes of a-z 0-9 . _ - /";
    if name.is_empty() {
        return Err(error::invalid(format!(
            "the log's name is empty; {ALLOWED}"
        )));
    }
    if name.len() > LOG_NAME_SIZE_MAX {
        return Err(error::too_large(
            "log_name_size_max",
            LOG_NAME_SIZE_MAX,
            format!("the log's name is {} bytes long; {ALLOWED}", name.len()),
        ));
    }
    let allowed = |c: &char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-' | '/');
    if let Some(wrong) = name.chars().find(|c| !allowed(c)) {
        let message = format!("the log's name {name:?} contains {wrong:?}; {ALLOWED}");
        return Err(error::invalid(message));
    }
    if name.starts_with('/') || name.ends_with('/') {
        let message = format!("the log's name {name:?} starts or ends with `/`; leave that out");
        return Err(error::invalid(message));
    }
    Ok(())
}

fn check_records(records: &[v1::NewRecord]) -> Result<(), Status> {
    if records.is_empty() {
        return Err(error::invalid("the batch has no records; send 1 to 10,000"));
    }
    if records.len() > BATCH_RECORDS_MAX {
        return Err(error::too_large(
            "batch_records_max",
            BATCH_RECORDS_MAX,
            format!(
                "the batch has {} records, and {BATCH_RECORDS_MAX} is the most; split it",
                records.len()
            ),
        ));
    }
    let mut batch_size = 0;
    for (number, record) in records.iter().enumerate() {
        batch_size += check_record(number, record)?;
    }
    if batch_size > BATCH_SIZE_MAX {
        return Err(error::too_large(
            "batch_size_max",
            BATCH_SIZE_MAX,
            format!("the batch is {batch_size} bytes, and {BATCH_SIZE_MAX} is the most; split it"),
        ));
    }
    Ok(())
}

/// The record's size, body and attributes together.
fn check_record(number: usize, record: &v1::NewRecord) -> Result<usize, Status> {
    if record.attributes.len() > ATTRIBUTES_MAX {
        return Err(error::too_large(
            "attributes_max",
            ATTRIBUTES_MAX,
            format!(
                "record {number} of the batch has {} attributes, and {ATTRIBUTES_MAX} is the most; put the rest \
                 into the body",
                record.attributes.len()
            ),
        ));
    }
    let mut size = record.body.len();
    for attribute in &record.attributes {
        check_attribute(number, attribute)?;
        size += attribute.key.len() + attribute.value.len();
    }
    if size > RECORD_SIZE_MAX {
        return Err(error::too_large(
            "record_size_max",
            RECORD_SIZE_MAX,
            format!(
                "record {number} of the batch is {size} bytes (body and attributes), and {RECORD_SIZE_MAX} is the \
                 most; split it, or store it elsewhere and append a reference"
            ),
        ));
    }
    Ok(size)
}

fn check_attribute(number: usize, attribute: &Attribute) -> Result<(), Status> {
    if attribute.key.is_empty() {
        let message =
            format!("record {number} of the batch has an attribute with an empty key; name it");
        return Err(error::invalid(message));
    }
    if attribute.key.len() > ATTRIBUTE_KEY_SIZE_MAX {
        return Err(error::too_large(
            "attribute_key_size_max",
            ATTRIBUTE_KEY_SIZE_MAX,
            format!(
                "record {number} of the batch has an attribute key of {} bytes, and {ATTRIBUTE_KEY_SIZE_MAX} is \
                 the most; shorten it",
                attribute.key.len()
            ),
        ));
    }
    if attribute.value.len() > ATTRIBUTE_VALUE_SIZE_MAX {
        return Err(error::too_large(
            "attribute_value_size_max",
            ATTRIBUTE_VALUE_SIZE_MAX,
            format!(
                "record {number} of the batch: the value of attribute {:?} is {} bytes, and \
                 {ATTRIBUTE_VALUE_SIZE_MAX} is the most; put it into the body",
                attribute.key,
                attribute.value.len()
            ),
        ));
    }
    Ok(())
}

/// A record as the API shows it.
pub(crate) fn record(record: Record) -> v1::Record {
    v1::Record {
        offset: record.offset,
        timestamp: record.timestamp,
        attributes: attributes(record.attributes),
        body: record.body,
    }
}

/// A record that another node has verified.
pub(crate) fn record_from_wire(record: v1::Record) -> Record {
    let attributes = record.attributes.into_iter();
    Record {
        offset: record.offset,
        timestamp: record.timestamp,
        attributes: attributes.map(|it| (it.key, it.value)).collect(),
        body: record.body,
    }
}

fn attributes(attributes: Attributes) -> Vec<Attribute> {
    attributes
        .into_iter()
        .map(|(key, value)| Attribute { key, value })
        .collect()
}

/// Bytes that a record takes in a message, near enough for a bound: its parts, and what stands around them.
pub(crate) fn record_size(record: &Record) -> usize {
    const RECORD_OVERHEAD: usize = 32;
    const ATTRIBUTE_OVERHEAD: usize = 8;
    let attributes: usize = record
        .attributes
        .iter()
        .map(|(key, value)| key.len() + value.len() + ATTRIBUTE_OVERHEAD)
        .sum();
    record.body.len() + attributes + RECORD_OVERHEAD
}

/// An append's answer.
pub(crate) fn receipt(receipt: Receipt) -> AppendResponse {
    AppendResponse {
        leader: None,
        first_offset: receipt.first_offset,
        next_offset: receipt.next_offset,
        append_time: receipt.append_time,
        duplicate: receipt.duplicate,
    }
}

/// A log as the API shows it; `stored_bytes`: what the node holds of it.
pub(crate) fn log_info(info: LogInfo, stored_bytes: u64) -> v1::LogInfo {
    let retention = (!info.retention.is_unbounded()).then_some(v1::Retention {
        max_age_ms: info.retention.max_age_ms,
        max_bytes: info.retention.max_bytes,
    });
    v1::LogInfo {
        retention,
        stored_bytes,
        name: info.name,
        id: info.id.0,
        first_offset: info.first_offset,
        next_offset: info.next_offset,
        created_time: info.created_time,
        last_append_time: info.last_append_time,
    }
}

/// A field that takes one of an enum's numbers.
pub(crate) fn consistency(number: i32) -> Result<v1::Consistency, Status> {
    match v1::Consistency::try_from(number) {
        Ok(v1::Consistency::Unspecified) => Ok(v1::Consistency::Linearizable),
        Ok(known) => Ok(known),
        Err(_) => Err(error::invalid(format!(
            "consistency is {number}; 1 (STALE), 2 (AT_LEAST), 3 (LINEARIZABLE) and 4 (LEASE) are known"
        ))),
    }
}

/// What scrubbing has found, with files named relative to `data_dir`.
pub(crate) fn scrub_status(status: ScrubStatus, data_dir: &Path) -> v1::ScrubStatus {
    let pass = status.last_pass;
    let damages = status.faults.into_iter().map(|fault| v1::DamagedPlace {
        file: error::relative(&fault.damage.file, data_dir),
        position: fault.damage.position,
        what: fault.damage.what,
        first_index: fault.entries.as_ref().map(|entries| *entries.start()),
        last_index: fault.entries.as_ref().map(|entries| *entries.end()),
    });
    v1::ScrubStatus {
        rate: status.rate,
        passes: status.passes,
        last_pass_start_time: pass.map_or(0, |pass| pass.start_time),
        last_pass_end_time: pass.map_or(0, |pass| pass.end_time),
        last_pass_bytes: pass.map_or(0, |pass| pass.size),
        verified_bytes: status.verified,
        total_bytes: status.total,
        damages: damages.collect(),
        damages_count: status.faults_count,
    }
}

/// To protobuf; files are named relative to `data_dir`.
pub(crate) fn repair_status(status: RepairStatus, data_dir: &Path) -> v1::RepairStatus {
    let places = status.places.into_iter();
    v1::RepairStatus {
        damaged_entries: status.damaged_entries,
        repaired_entries: status.repaired_entries,
        last_repair_time: status.last_time,
        damages: places
            .map(|(damage, entries)| v1::DamagedPlace {
                file: error::relative(&damage.file, data_dir),
                position: damage.position,
                what: damage.what,
                first_index: entries.map(|(first, _)| first),
                last_index: entries.map(|(_, last)| last),
            })
            .collect(),
        waits_for: status.waits_for,
    }
}

#[cfg(test)]
mod tests;
