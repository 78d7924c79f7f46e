//! The two services of the fake server.

use std::future::pending;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use inkstone_proto::v1;
use inkstone_proto::v1::admin_server::Admin;
use inkstone_proto::v1::logs_server::Logs;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{Fake, Fault, Log, refusal};

/// Records in one message of a read.
const READ_BATCH: usize = 2;

impl Fake {
    async fn take(&self, request: v1::AppendRequest) -> Result<v1::AppendResponse, Status> {
        let fault = {
            let mut state = self.state.lock();
            state.appends.push(request.records.len());
            state.faults.pop_front().unwrap_or(Fault::Nothing)
        };
        match fault {
            Fault::Nothing => self.state.lock().append(request),
            Fault::LoseBefore => Err(Status::unavailable("connection lost")),
            Fault::LoseAfter => {
                self.state.lock().append(request)?;
                Err(Status::unavailable("connection lost"))
            }
            Fault::CutShort(records) => {
                let mut state = self.state.lock();
                let mut early = request.clone();
                early.records.truncate(records);
                state.append(early)?;
                state.append(request)
            }
            Fault::Silence => pending().await,
            Fault::Refuse(reason, retryable, leader) => {
                Err(refusal(Code::Unavailable, reason, Some(retryable), leader))
            }
        }
    }

    fn messages(&self, request: &v1::ReadRequest) -> Result<Vec<v1::ReadResponse>, Status> {
        let state = self.state.lock();
        let missing = || refusal(Code::NotFound, v1::Reason::LogNotFound, None, None);
        let log = state.logs.get(&request.log).ok_or_else(missing)?;
        let tail = log.records.len() as u64;
        let from = match request.from {
            None | Some(v1::read_request::From::Timestamp(_)) => 0,
            Some(v1::read_request::From::Offset(offset)) => offset,
            Some(v1::read_request::From::Last(last)) => tail.saturating_sub(last),
        };
        if from > tail {
            return Err(refusal(
                Code::OutOfRange,
                v1::Reason::OffsetOutOfRange,
                None,
                None,
            ));
        }
        let until = request.until_offset.unwrap_or(u64::MAX);
        let limit = if request.limit == 0 {
            u64::MAX
        } else {
            request.limit
        };
        let wanted = log
            .records
            .iter()
            .filter(|r| r.offset >= from && r.offset < until);
        let wanted: Vec<_> = wanted
            .take(usize::try_from(limit).unwrap_or(usize::MAX))
            .cloned()
            .collect();
        let mut messages: Vec<_> = wanted
            .chunks(READ_BATCH)
            .map(|records| {
                event(v1::read_response::Event::Batch(v1::RecordBatch {
                    records: records.to_vec(),
                }))
            })
            .collect();
        if request.follow {
            messages.push(event(v1::read_response::Event::CaughtUp(v1::CaughtUp {
                next_offset: tail,
            })));
        }
        Ok(messages)
    }
}

fn event(event: v1::read_response::Event) -> v1::ReadResponse {
    v1::ReadResponse { event: Some(event) }
}

#[tonic::async_trait]
impl Logs for Fake {
    async fn append(
        &self,
        request: Request<v1::AppendRequest>,
    ) -> Result<Response<v1::AppendResponse>, Status> {
        self.take(request.into_inner()).await.map(Response::new)
    }

    type AppendSessionStream = BoxStream<'static, Result<v1::AppendResponse, Status>>;

    async fn append_session(
        &self,
        request: Request<Streaming<v1::AppendRequest>>,
    ) -> Result<Response<Self::AppendSessionStream>, Status> {
        let session = Some((self.clone(), request.into_inner()));
        let answers = stream::unfold(session, |session| async move {
            let (fake, mut requests) = session?;
            let request = requests.message().await.ok().flatten()?;
            let answer = fake.take(request).await;
            let goes_on = answer.is_ok();
            Some((answer, goes_on.then_some((fake, requests))))
        });
        Ok(Response::new(answers.boxed()))
    }

    type ReadStream = BoxStream<'static, Result<v1::ReadResponse, Status>>;

    async fn read(
        &self,
        request: Request<v1::ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let request = request.into_inner();
        let messages = self.messages(&request)?;
        let follows = request.follow;
        let cut = {
            let mut state = self.state.lock();
            state.reads.push(request);
            state.read_cuts.pop_front()
        };
        let all = stream::iter(messages.into_iter().map(Ok));
        Ok(Response::new(match cut {
            Some(count) => {
                let lost = stream::iter([Err(Status::unavailable("connection lost"))]);
                all.take(count).chain(lost).boxed()
            }
            None if follows => all.chain(stream::pending()).boxed(),
            None => all.boxed(),
        }))
    }

    async fn tail(
        &self,
        request: Request<v1::TailRequest>,
    ) -> Result<Response<v1::TailResponse>, Status> {
        let state = self.state.lock();
        let missing = || refusal(Code::NotFound, v1::Reason::LogNotFound, None, None);
        let log = state
            .logs
            .get(&request.into_inner().log)
            .ok_or_else(missing)?;
        let next_offset = log.records.len() as u64;
        Ok(Response::new(v1::TailResponse {
            first_offset: 0,
            next_offset,
            last_append_time: 0,
            as_of_time: 0,
        }))
    }

    async fn search(
        &self,
        request: Request<v1::SearchRequest>,
    ) -> Result<Response<v1::SearchResponse>, Status> {
        let request = request.into_inner();
        let state = self.state.lock();
        let missing = || refusal(Code::NotFound, v1::Reason::LogNotFound, None, None);
        let log = state.logs.get(&request.log).ok_or_else(missing)?;
        let next = log.records.len() as u64;
        // This server never reaches anything newer: it can answer a search for more only with what it has.
        let behind = request.at_least_offset > next;
        if behind && !request.allow_behind {
            return Err(refusal(
                Code::DeadlineExceeded,
                v1::Reason::Timeout,
                None,
                None,
            ));
        }
        let found = log
            .records
            .iter()
            .rev()
            .filter(|record| String::from_utf8_lossy(&record.body).contains(&request.query));
        let hits = found.map(|record| v1::Hit {
            record: Some(record.clone()),
            highlights: vec![],
        });
        Ok(Response::new(v1::SearchResponse {
            hits: hits.collect(),
            indexed_next_offset: next,
            committed_next_offset: next,
            complete: true,
            node: 1,
            next_before_offset: None,
            behind,
            gaps: Vec::new(),
        }))
    }
}

#[tonic::async_trait]
impl Admin for Fake {
    async fn create_log(
        &self,
        request: Request<v1::CreateLogRequest>,
    ) -> Result<Response<v1::CreateLogResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state.lock();
        let created = !state.logs.contains_key(&request.name);
        if !created && !request.if_not_exists {
            return Err(refusal(
                Code::AlreadyExists,
                v1::Reason::LogExists,
                None,
                None,
            ));
        }
        let log = state.logs.entry(request.name.clone()).or_default();
        if created {
            log.retention = request.retention.unwrap_or_default();
        }
        let log = info(&request.name, log);
        Ok(Response::new(v1::CreateLogResponse {
            log: Some(log),
            created,
        }))
    }

    async fn alter_log(
        &self,
        request: Request<v1::AlterLogRequest>,
    ) -> Result<Response<v1::AlterLogResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state.lock();
        let missing = || refusal(Code::NotFound, v1::Reason::LogNotFound, None, None);
        let log = state.logs.get_mut(&request.name).ok_or_else(missing)?;
        let old = log.retention;
        log.retention = v1::Retention {
            max_age_ms: request.max_age_ms.or(old.max_age_ms),
            max_bytes: request.max_bytes.or(old.max_bytes),
        };
        let log = Some(info(&request.name, log));
        Ok(Response::new(v1::AlterLogResponse { log }))
    }

    async fn delete_log(
        &self,
        request: Request<v1::DeleteLogRequest>,
    ) -> Result<Response<v1::DeleteLogResponse>, Status> {
        let name = request.into_inner().name;
        let missing = || refusal(Code::NotFound, v1::Reason::LogNotFound, None, None);
        let log = self.state.lock().logs.remove(&name).ok_or_else(missing)?;
        let log = Some(info(&name, &log));
        Ok(Response::new(v1::DeleteLogResponse { log }))
    }

    async fn trim_log(
        &self,
        request: Request<v1::TrimLogRequest>,
    ) -> Result<Response<v1::TrimLogResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state.lock();
        let missing = || refusal(Code::NotFound, v1::Reason::LogNotFound, None, None);
        let log = state.logs.get_mut(&request.name).ok_or_else(missing)?;
        if request.before_offset > log.records.len() as u64 {
            return Err(refusal(
                Code::OutOfRange,
                v1::Reason::OffsetOutOfRange,
                None,
                None,
            ));
        }
        log.first_offset = log.first_offset.max(request.before_offset);
        let log = Some(info(&request.name, log));
        Ok(Response::new(v1::TrimLogResponse { log }))
    }

    async fn list_logs(
        &self,
        request: Request<v1::ListLogsRequest>,
    ) -> Result<Response<v1::ListLogsResponse>, Status> {
        let prefix = request.into_inner().prefix;
        let state = self.state.lock();
        let named = state
            .logs
            .iter()
            .filter(|(name, _)| name.starts_with(&prefix));
        let mut logs: Vec<_> = named.map(|(name, log)| info(name, log)).collect();
        logs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Response::new(v1::ListLogsResponse { logs }))
    }

    async fn get_log(
        &self,
        request: Request<v1::GetLogRequest>,
    ) -> Result<Response<v1::GetLogResponse>, Status> {
        let name = request.into_inner().name;
        let state = self.state.lock();
        let missing = || refusal(Code::NotFound, v1::Reason::LogNotFound, None, None);
        let log = state.logs.get(&name).ok_or_else(missing)?;
        Ok(Response::new(v1::GetLogResponse {
            log: Some(info(&name, log)),
        }))
    }

    async fn cluster_status(
        &self,
        _: Request<v1::ClusterStatusRequest>,
    ) -> Result<Response<v1::ClusterStatusResponse>, Status> {
        // It knows no leader: a client learns of one by a hint alone.
        let mut state = self.state.lock();
        let nodes = state.nodes.clone();
        state.catch_up();
        Ok(Response::new(v1::ClusterStatusResponse {
            term: 3,
            answered_by: 1,
            nodes,
            waiting: state.waiting.clone(),
            ..Default::default()
        }))
    }

    async fn add_member(
        &self,
        request: Request<v1::AddMemberRequest>,
    ) -> Result<Response<v1::AddMemberResponse>, Status> {
        let node = self.state.lock().add(&request.into_inner().node)?;
        Ok(Response::new(v1::AddMemberResponse { node: Some(node) }))
    }

    async fn promote_member(
        &self,
        request: Request<v1::PromoteMemberRequest>,
    ) -> Result<Response<v1::PromoteMemberResponse>, Status> {
        let node = self.state.lock().promote(&request.into_inner().node)?;
        Ok(Response::new(v1::PromoteMemberResponse {
            node: Some(node),
        }))
    }

    async fn demote_member(
        &self,
        request: Request<v1::DemoteMemberRequest>,
    ) -> Result<Response<v1::DemoteMemberResponse>, Status> {
        let request = request.into_inner();
        let node = self.state.lock().demote(&request.node, request.force)?;
        Ok(Response::new(v1::DemoteMemberResponse { node: Some(node) }))
    }

    async fn remove_member(
        &self,
        request: Request<v1::RemoveMemberRequest>,
    ) -> Result<Response<v1::RemoveMemberResponse>, Status> {
        let node = self.state.lock().remove(&request.into_inner().node)?;
        Ok(Response::new(v1::RemoveMemberResponse { node: Some(node) }))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderResponse>, Status> {
        let name = request.into_inner().node;
        if name == "lost" {
            return Err(Status::unavailable("connection lost"));
        }
        let state = self.state.lock();
        let leader = match name.as_str() {
            "" => state.nodes.first().and_then(|status| status.node.clone()),
            name => Some(state.member(name)?),
        };
        Ok(Response::new(v1::TransferLeaderResponse {
            leader,
            transferred: true,
        }))
    }
}

fn info(name: &str, log: &Log) -> v1::LogInfo {
    v1::LogInfo {
        name: name.to_owned(),
        id: 1,
        first_offset: log.first_offset,
        next_offset: log.records.len() as u64,
        created_time: 0,
        last_append_time: 0,
        retention: Some(log.retention),
        stored_bytes: 0,
    }
}
