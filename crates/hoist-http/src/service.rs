//! The contract between a transport and the service it drives.
//!
//! Owns the bounds on services and response bodies, the call itself, [`Peer`] and [`UnixPeer`]. It knows no version of
//! HTTP.

use std::fmt;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::{Extensions, Method, Request, Response};
use tokio::task::yield_now;
use tower_service::Service;

use crate::body::Body;

/// An error of a service or of a response body.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The sender of a request over TCP. Found in the extensions of each of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The address the connection came from.
    pub addr: SocketAddr,
    /// True if the connection is encrypted.
    pub tls: bool,
}

/// The sender of a request over a unix socket, which has no address. Found in the extensions of each of its requests, in
/// place of [`Peer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixPeer {
    /// True if the connection is encrypted.
    pub tls: bool,
}

/// The sender of a request over any kind of socket.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sender {
    Tcp(Peer),
    Unix(UnixPeer),
}

impl Sender {
    pub(crate) fn insert_into(self, extensions: &mut Extensions) {
        match self {
            Sender::Tcp(peer) => drop(extensions.insert(peer)),
            Sender::Unix(peer) => drop(extensions.insert(peer)),
        }
    }

    /// Returns the address, for the log.
    pub(crate) fn address(self) -> Option<IpAddr> {
        match self {
            Sender::Tcp(peer) => Some(peer.addr.ip().to_canonical()),
            Sender::Unix(_) => None,
        }
    }

    pub(crate) fn port(self) -> Option<u16> {
        match self {
            Sender::Tcp(peer) => Some(peer.addr.port()),
            Sender::Unix(_) => None,
        }
    }
}

/// Writes the address, for the log.
impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sender::Tcp(peer) => peer.addr.fmt(f),
            Sender::Unix(_) => f.write_str("unix"),
        }
    }
}

/// The bounds on a service, under one name.
pub(crate) trait HttpService<B>:
    Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static
{
}

impl<S, B> HttpService<B> for S where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// The bounds on a response body, under one name.
pub(crate) trait HttpBody:
    http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static
{
}

impl<B> HttpBody for B where B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static {}

/// Waits until the service is ready, and calls it.
#[expect(clippy::manual_async_fn, reason = "an async function has room for its arguments twice")]
pub(crate) fn call<S, B>(
    mut service: S,
    request: Request<Body>,
) -> impl Future<Output = Result<Response<B>, BoxError>> + Send
where
    S: HttpService<B>,
{
    async move {
        poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
        service.call(request).await.map_err(Into::into)
    }
}

/// Lets requests that have arrived on other connections reach the service before a safe one, which may ask about
/// their effect.
///
/// The runtime polls the task it woke last first, so a request could overtake one that was sent before it. The first
/// yield makes the runtime poll all sockets, the second lets the tasks it woke run.
pub(crate) async fn yield_to_other_connections(method: &Method) {
    if method.is_safe() {
        yield_now().await;
        yield_now().await;
    }
}
