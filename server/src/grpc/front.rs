//! What every request passes on its way in and out: a place for it, room for its bytes, and for those of its answer.
//!
//! Promises: a request beyond a bound is refused with its reason, definitely; an operator's call is not refused because
//! others have all connections: a cluster that is full must be seen and changed all the same; what a request takes is given
//! back when the last byte of its answer was handed to the socket, or the connection is gone. Must not know: sockets, verbs.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::service::Routes;
use tower_service::Service;

use crate::grpc::answers::{Carried, Held};
use crate::grpc::connection::{Connection, Place, Welcome};
use crate::grpc::error;
use crate::grpc::intake::{Intake, IntakeRoom, Shape};
use crate::grpc::limits::{
    APPENDS_SIZE_MAX, MESSAGE_SIZE_MAX, PEER_INTAKE_SIZE_MAX, PEER_PLACES, PLACES,
    REQUEST_SIZE_MAX, REQUESTS_SIZE_MAX,
};

/// A port's services behind their bounds. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Front {
    routes: Routes,
    places: Arc<Semaphore>,
    places_max: usize,
    appends: IntakeRoom,
    others: IntakeRoom,
}

impl Front {
    /// For clients: appends, and requests that are small.
    pub fn for_clients(routes: Routes) -> Self {
        let appends = IntakeRoom::new(APPENDS_SIZE_MAX, MESSAGE_SIZE_MAX);
        let others = IntakeRoom::new(REQUESTS_SIZE_MAX, REQUEST_SIZE_MAX);
        Self::new(routes, PLACES, appends, others)
    }

    /// For the other nodes.
    pub fn for_peers(routes: Routes) -> Self {
        let size_max = inkstone_storage::limits::PEER_MESSAGE_SIZE_MAX;
        let room = IntakeRoom::new(PEER_INTAKE_SIZE_MAX, size_max);
        Self::new(routes, PEER_PLACES, room.clone(), room)
    }

    fn new(routes: Routes, places_max: usize, appends: IntakeRoom, others: IntakeRoom) -> Self {
        Self {
            routes: routes.prepare(),
            places: Arc::new(Semaphore::new(places_max)),
            places_max,
            appends,
            others,
        }
    }

    /// Carries out one request of that connection.
    pub async fn call<B>(
        mut self,
        connection: Connection,
        request: http::Request<B>,
    ) -> Result<http::Response<Answer>, Infallible>
    where
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let place = match self.admit(&connection, request.uri().path()) {
            Ok(place) => place,
            Err(status) => return Ok(status.into_http()),
        };
        let (mut parts, body) = request.into_parts();
        let (shape, room) = match parts.uri.path() {
            "/inkstone.v1.Logs/Append" => (Shape::Append, &self.appends),
            "/inkstone.v1.Logs/AppendSession" => (Shape::Session, &self.appends),
            "/inkstone.peer.v1.Peer/AppendEntries"
            | "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo" => {
                (Shape::Stream, &self.others)
            }
            _ => (Shape::Message, &self.others),
        };
        let body = Intake::new(body, room, shape);
        parts.extensions.insert(connection);
        let request = http::Request::from_parts(parts, tonic::body::Body::new(body));
        let mut response = self.routes.call(request).await?;
        let carried = response.extensions_mut().remove::<Carried>();
        Ok(response.map(|inner| Answer {
            inner: Some(inner),
            carried,
            place: Some(Arc::new(place)),
        }))
    }

    fn admit(&self, connection: &Connection, path: &str) -> Result<Place, Status> {
        if let Welcome::Refused { bound, value } = connection.welcome()
            && !is_operators(path)
        {
            return Err(error::busy(bound, value));
        }
        let place = connection.open(&self.places);
        place.ok_or_else(|| error::busy("requests_max", self.places_max))
    }
}

/// Whether a call is an operator's, or of who watches the node for one: short, small, and answered at the bound of
/// connections, too. A health check that failed there would have a node restarted that only has much to do.
fn is_operators(path: &str) -> bool {
    path.starts_with("/inkstone.v1.Admin/") || path == "/grpc.health.v1.Health/Check"
}

/// The body of an answer, whose every byte is counted until it is sent.
#[derive(Debug, Default)]
pub struct Answer {
    inner: Option<tonic::body::Body>,
    carried: Option<Carried>,
    place: Option<Arc<Place>>,
}

impl Body for Answer {
    type Data = Counted;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Counted>, Status>>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        let Some(frame) = ready!(Pin::new(inner).poll_frame(context)) else {
            return Poll::Ready(None);
        };
        let held = self.carried.as_ref().map(Carried::take).unwrap_or_default();
        let place = self.place.clone();
        let counted = frame.map(|frame| {
            frame.map_data(|bytes| Counted {
                bytes,
                _held: held,
                _place: place,
            })
        });
        Poll::Ready(Some(counted))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// Bytes of an answer. HTTP/2 keeps them until they are sent, and with them what they take.
#[derive(Debug)]
pub struct Counted {
    bytes: Bytes,
    _held: Vec<Arc<Held>>,
    _place: Option<Arc<Place>>,
}

impl Buf for Counted {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}
