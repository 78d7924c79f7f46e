//! A server in memory that keeps the contract of `logs.proto` for producers, and that fails as it is told.

mod members;
mod service;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use inkstone_proto::v1;
use inkstone_proto::v1::admin_server::AdminServer;
use inkstone_proto::v1::logs_server::LogsServer;
use parking_lot::Mutex;
use prost::Message;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Status};

/// What happens to an append, in the order in which appends arrive.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// It is carried out and answered.
    Nothing,
    /// It is not carried out, and the connection is lost.
    LoseBefore,
    /// It is carried out, and the connection is lost.
    LoseAfter,
    /// The same append with only its first records, sent by somebody else, was here first.
    CutShort(usize),
    /// It is never answered.
    Silence,
    /// It is refused without effect.
    Refuse(v1::Reason, bool, Option<String>),
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) logs: HashMap<String, Log>,
    pub(crate) faults: VecDeque<Fault>,
    /// Appends that arrived, by how many records they had.
    pub(crate) appends: Vec<usize>,
    /// For each read to come: after how many messages its connection is lost.
    pub(crate) read_cuts: VecDeque<usize>,
    /// The requests of reads that arrived.
    pub(crate) reads: Vec<v1::ReadRequest>,
    /// What the cluster's status says of its nodes.
    pub(crate) nodes: Vec<v1::NodeStatus>,
    /// Nodes that may be added.
    pub(crate) waiting: Vec<v1::NodeInfo>,
}

#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) records: Vec<v1::Record>,
    pub(crate) producers: HashMap<u64, ProducerState>,
    pub(crate) first_offset: u64,
    pub(crate) retention: v1::Retention,
}

#[derive(Debug, Default)]
pub(crate) struct ProducerState {
    epoch: u32,
    next: u64,
    receipts: VecDeque<(u64, v1::AppendResponse)>,
}

/// A running server. It ends with the test's runtime.
#[derive(Debug, Clone)]
pub(crate) struct Fake {
    pub(crate) address: String,
    pub(crate) state: Arc<Mutex<State>>,
}

impl Fake {
    /// A server with one empty log, `log`.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = State {
            logs: HashMap::from([("log".to_owned(), Log::default())]),
            ..State::default()
        };
        let fake = Self {
            address,
            state: Arc::new(Mutex::new(state)),
        };
        let server = tonic::transport::Server::builder()
            .add_service(LogsServer::new(fake.clone()))
            .add_service(AdminServer::new(fake.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        fake
    }

    /// What happens to the next appends.
    pub(crate) fn faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().faults.extend(faults);
    }

    /// The bodies in `log`.
    pub(crate) fn bodies(&self) -> Vec<String> {
        let state = self.state.lock();
        let records = &state.logs["log"].records;
        records
            .iter()
            .map(|r| String::from_utf8_lossy(&r.body).into_owned())
            .collect()
    }

    /// Puts records into `log`, one for each number.
    pub(crate) fn fill(&self, numbers: std::ops::Range<u64>) {
        let mut state = self.state.lock();
        let log = state.logs.get_mut("log").unwrap();
        for number in numbers {
            let offset = log.records.len() as u64;
            let body = number.to_string().into();
            log.records.push(v1::Record {
                offset,
                timestamp: 0,
                attributes: vec![],
                body,
            });
        }
    }
}

impl State {
    fn append(&mut self, request: v1::AppendRequest) -> Result<v1::AppendResponse, Status> {
        let Some(log) = self.logs.get_mut(&request.log) else {
            return Err(refusal(Code::NotFound, v1::Reason::LogNotFound, None, None));
        };
        let Some(producer) = request.producer else {
            return Ok(log.take(request.records));
        };
        let state = log.producers.get(&producer.id);
        let (epoch, next) = state.map_or((0, 0), |state| (state.epoch, state.next));
        if producer.epoch < epoch {
            return Err(refused_with(v1::Reason::ProducerFenced, u64::from(epoch)));
        }
        let next = if producer.epoch > epoch { 0 } else { next };
        if producer.sequence > next {
            return Err(refused_with(v1::Reason::SequenceGap, next));
        }
        if producer.sequence < next {
            let receipts = state.into_iter().flat_map(|state| &state.receipts);
            let found = receipts
                .into_iter()
                .find(|(sequence, _)| *sequence == producer.sequence);
            return match found {
                Some((_, receipt)) => Ok(v1::AppendResponse {
                    duplicate: true,
                    ..receipt.clone()
                }),
                None => Err(status(
                    Code::FailedPrecondition,
                    &v1::ErrorDetail {
                        reason: v1::Reason::ReceiptForgotten.into(),
                        ..v1::ErrorDetail::default()
                    },
                )),
            };
        }
        let receipt = log.take(request.records);
        let state = log.producers.entry(producer.id).or_default();
        if producer.epoch > state.epoch {
            *state = ProducerState {
                epoch: producer.epoch,
                ..ProducerState::default()
            };
        }
        state.next = producer.sequence + 1;
        state
            .receipts
            .push_back((producer.sequence, receipt.clone()));
        if state.receipts.len() > 16 {
            state.receipts.pop_front();
        }
        Ok(receipt)
    }
}

impl Log {
    fn take(&mut self, records: Vec<v1::NewRecord>) -> v1::AppendResponse {
        let first_offset = self.records.len() as u64;
        for (offset, new) in (first_offset..).zip(records) {
            let timestamp = new.timestamp.unwrap_or(1);
            self.records.push(v1::Record {
                offset,
                timestamp,
                attributes: new.attributes,
                body: new.body,
            });
        }
        let next_offset = self.records.len() as u64;
        v1::AppendResponse {
            leader: None,
            first_offset,
            next_offset,
            append_time: 1,
            duplicate: false,
        }
    }
}

fn refused_with(reason: v1::Reason, expected: u64) -> Status {
    status(
        Code::FailedPrecondition,
        &v1::ErrorDetail {
            reason: reason.into(),
            effect: v1::Effect::None.into(),
            expected: Some(expected),
            ..v1::ErrorDetail::default()
        },
    )
}

/// A refusal without effect; `leader`: retryable, and who leads.
fn refusal(
    code: Code,
    reason: v1::Reason,
    retryable: Option<bool>,
    leader: Option<String>,
) -> Status {
    let leader = leader.map(|address| v1::NodeInfo {
        id: 9,
        client_address: address,
        ..v1::NodeInfo::default()
    });
    status(
        code,
        &v1::ErrorDetail {
            reason: reason.into(),
            effect: v1::Effect::None.into(),
            retryable: retryable.unwrap_or(false),
            leader,
            ..v1::ErrorDetail::default()
        },
    )
}

fn status(code: Code, detail: &v1::ErrorDetail) -> Status {
    let message = detail.reason().as_str_name().to_owned();
    let any = prost_types::Any {
        type_url: "type.googleapis.com/inkstone.v1.ErrorDetail".to_owned(),
        value: detail.encode_to_vec(),
    };
    let packed = tonic_types::pb::Status {
        code: code.into(),
        message: message.clone(),
        details: vec![any],
    };
    Status::with_details(code, message, packed.encode_to_vec().into())
}
