//! How connections are opened: by TCP, or through a network of the caller's own, as a simulation has one.
//!
//! Promises: a connection is opened by its first call, and again when it is lost. Must not know: who is called, and why.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use tower::ServiceExt as _;
use tower_service::Service;

use crate::gathered::Gathered;

trait Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Socket for S {}

type Opening = BoxFuture<'static, io::Result<TokioIo<Box<dyn Socket>>>>;

/// How connections are opened. Cheap to clone. Default: by TCP.
#[derive(Clone, Default)]
pub struct Dial {
    other: Option<Arc<dyn Fn(String) -> Opening + Send + Sync>>,
}

impl fmt::Debug for Dial {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.other.is_some() {
            "Dial::through"
        } else {
            "Dial::tcp"
        })
    }
}

impl Dial {
    /// With this function, which is given `HOST:PORT`.
    ///
    /// ```
    /// use inkstone_net::Dial;
    ///
    /// let dial = Dial::through(|address: String| tokio::net::TcpStream::connect(address));
    /// ```
    pub fn through<S, F>(open: impl Fn(String) -> F + Send + Sync + 'static) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        F: Future<Output = io::Result<S>> + Send + 'static,
    {
        let open = move |address| -> Opening {
            let socket = open(address);
            Box::pin(async move {
                let socket: Box<dyn Socket> = Box::new(Gathered::new(socket.await?));
                Ok(TokioIo::new(socket))
            })
        };
        Self {
            other: Some(Arc::new(open)),
        }
    }

    /// A channel that opens its connection with its first call.
    pub fn channel(&self, endpoint: &Endpoint) -> Channel {
        match &self.other {
            None => by_tcp(endpoint),
            Some(open) => endpoint.connect_with_connector_lazy(Connector(Arc::clone(open))),
        }
    }
}

/// Without Nagle's delay, and with the time to connect that `endpoint` allows.
fn by_tcp(endpoint: &Endpoint) -> Channel {
    let mut tcp = HttpConnector::new();
    // Which schemes are spoken is the endpoint's to say.
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // Shared out among the addresses of a name: one that does not answer leaves time for the next.
    tcp.set_connect_timeout(endpoint.get_connect_timeout());
    let gathering = tcp.map_response(|socket: TokioIo<TcpStream>| {
        TokioIo::new(Gathered::new(socket.into_inner()))
    });
    endpoint.connect_with_connector_lazy(gathering)
}

struct Connector(Arc<dyn Fn(String) -> Opening + Send + Sync>);

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Socket>>;
    type Error = io::Error;
    type Future = Opening;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Opening {
        match uri.authority() {
            Some(authority) => (self.0)(authority.to_string()),
            None => Box::pin(async { Err(io::ErrorKind::InvalidInput.into()) }),
        }
    }
}
