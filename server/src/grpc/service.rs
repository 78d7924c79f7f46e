//! The generated service traits, handed to the functions of each verb: nothing is decided here.

use inkstone_proto::v1::admin_server::Admin;
use inkstone_proto::v1::logs_server::Logs;
use inkstone_proto::v1::{
    AddMemberRequest, AddMemberResponse, AlterLogRequest, AlterLogResponse, AppendRequest,
    AppendResponse, ClusterStatusRequest, ClusterStatusResponse, CreateLogRequest,
    CreateLogResponse, DeleteLogRequest, DeleteLogResponse, DemoteMemberRequest,
    DemoteMemberResponse, GetLogRequest, GetLogResponse, ListLogsRequest, ListLogsResponse,
    PromoteMemberRequest, PromoteMemberResponse, ReadRequest, RemoveMemberRequest,
    RemoveMemberResponse, SearchRequest, SearchResponse, TailRequest, TailResponse,
    TransferLeaderRequest, TransferLeaderResponse, TrimLogRequest, TrimLogResponse,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::grpc::answers::{Carried, Held};
use crate::grpc::connection::Connection;
use crate::grpc::read::Events;
use crate::grpc::{Services, append, cluster, logs, members, read, search};

/// A large answer, and what it takes until it is sent.
pub(crate) fn carrying<T>(answer: T, held: Held) -> Response<T> {
    let carried = Carried::default();
    carried.put(held);
    let mut response = Response::new(answer);
    response.extensions_mut().insert(carried);
    response
}

#[tonic::async_trait]
impl Logs for Services {
    type AppendSessionStream = ReceiverStream<Result<AppendResponse, Status>>;
    type ReadStream = Events;

    async fn append(
        &self,
        request: Request<AppendRequest>,
    ) -> Result<Response<AppendResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        append::append(self, &metadata, request)
            .await
            .map(Response::new)
    }

    async fn append_session(
        &self,
        request: Request<Streaming<AppendRequest>>,
    ) -> Result<Response<Self::AppendSessionStream>, Status> {
        Ok(Response::new(append::append_session(
            self,
            request.into_inner(),
        )))
    }

    async fn read(
        &self,
        request: Request<ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let connection = extensions.get::<Connection>();
        let (events, carried) = read::read(self, &metadata, request, connection).await?;
        let mut response = Response::new(events);
        response.extensions_mut().insert(carried);
        Ok(response)
    }

    async fn tail(&self, request: Request<TailRequest>) -> Result<Response<TailResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        read::tail(self, &metadata, request)
            .await
            .map(Response::new)
    }

    async fn search(
        &self,
        request: Request<SearchRequest>,
    ) -> Result<Response<SearchResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let connection = extensions.get::<Connection>();
        let (answer, held) = search::search(self, &metadata, request, connection).await?;
        Ok(carrying(answer, held))
    }
}

#[tonic::async_trait]
impl Admin for Services {
    async fn create_log(
        &self,
        request: Request<CreateLogRequest>,
    ) -> Result<Response<CreateLogResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        logs::create_log(self, &metadata, request)
            .await
            .map(Response::new)
    }

    async fn alter_log(
        &self,
        request: Request<AlterLogRequest>,
    ) -> Result<Response<AlterLogResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        logs::alter_log(self, &metadata, request)
            .await
            .map(Response::new)
    }

    async fn delete_log(
        &self,
        request: Request<DeleteLogRequest>,
    ) -> Result<Response<DeleteLogResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        logs::delete_log(self, &metadata, request)
            .await
            .map(Response::new)
    }

    async fn trim_log(
        &self,
        request: Request<TrimLogRequest>,
    ) -> Result<Response<TrimLogResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        logs::trim_log(self, &metadata, request)
            .await
            .map(Response::new)
    }

    async fn list_logs(
        &self,
        request: Request<ListLogsRequest>,
    ) -> Result<Response<ListLogsResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let held = self.large_answers.take(1, extensions.get::<Connection>());
        let held = held.await;
        let answer = logs::list_logs(self, &metadata, &request).await?;
        Ok(carrying(answer, held))
    }

    async fn get_log(
        &self,
        request: Request<GetLogRequest>,
    ) -> Result<Response<GetLogResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        logs::get_log(self, &metadata, &request)
            .await
            .map(Response::new)
    }

    async fn cluster_status(
        &self,
        _request: Request<ClusterStatusRequest>,
    ) -> Result<Response<ClusterStatusResponse>, Status> {
        Ok(Response::new(cluster::cluster_status(self).await))
    }

    async fn add_member(
        &self,
        request: Request<AddMemberRequest>,
    ) -> Result<Response<AddMemberResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        members::add(self, &metadata, request)
            .await
            .map(Response::new)
    }

    async fn promote_member(
        &self,
        request: Request<PromoteMemberRequest>,
    ) -> Result<Response<PromoteMemberResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        members::promote(self, &metadata, request)
            .await
            .map(Response::new)
    }

    async fn demote_member(
        &self,
        request: Request<DemoteMemberRequest>,
    ) -> Result<Response<DemoteMemberResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        members::demote(self, &metadata, request)
            .await
            .map(Response::new)
    }

    async fn remove_member(
        &self,
        request: Request<RemoveMemberRequest>,
    ) -> Result<Response<RemoveMemberResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        members::remove(self, &metadata, request)
            .await
            .map(Response::new)
    }

    async fn transfer_leader(
        &self,
        request: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        members::transfer(self, &metadata, request)
            .await
            .map(Response::new)
    }
}
