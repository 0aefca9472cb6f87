//! [`serve`] and [`Server`]: accept connections, find out which HTTP they speak, and stop in order.
//!
//! Owns every task of the server and the life of connections as a whole. What happens on one of them is in
//! `h1.rs` and `h2.rs`.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet, yield_now};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use crate::h2::Budget;
use crate::transport::{Socket, Stream};
use crate::{Body, Limits, h1, h2};

/// Any error a service or its response bodies may have.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The bytes an h2 client with prior knowledge begins with (RFC 9113, Connection Preface).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Who sent a request. Found in every request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The address the connection came from.
    pub addr: SocketAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
}

/// Serves `service` on `listener`, HTTP/1.1 and HTTP/2 on the same port, with default [`Limits`], for ever.
///
/// The service is any tower service, such as an axum `Router` as it is. Use [`Server`] for TLS, other limits, or
/// to stop in order.
///
/// # Cancellation
/// Dropping the future closes all connections at once.
pub async fn serve<S, B>(listener: TcpListener, service: S) -> io::Result<()>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    Server::new().serve(listener, service, CancellationToken::new()).await
}

/// A server to be: what it bounds, and whether it encrypts.
#[derive(Clone, Debug, Default)]
#[must_use = "a server does nothing until it serves"]
pub struct Server {
    limits: Limits,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::Acceptor>,
}

impl Server {
    /// A server with default [`Limits`], in cleartext.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bounds what peers may use.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Encrypts all connections.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, acceptor: crate::tls::Acceptor) -> Self {
        self.tls = Some(acceptor);
        self
    }

    /// Serves until `drain` is cancelled, then stops in order and returns.
    ///
    /// Stopping in order: no connection is accepted any more, idle ones are closed, requests in flight get their
    /// answer with `Connection: close` (h1) or after a GOAWAY (h2). What is left after
    /// [`Limits::drain_grace`] is cut off.
    ///
    /// # Errors
    /// None at present: an error to accept a connection (no file descriptors, for one) is logged and tried again.
    ///
    /// # Cancellation
    /// Dropping the future closes all connections at once.
    pub async fn serve<S, B>(
        self,
        listener: TcpListener,
        service: S,
        drain: CancellationToken,
    ) -> io::Result<()>
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut tasks = JoinSet::new();
        #[cfg(feature = "tls")]
        if let Some(acceptor) = self.tls.clone() {
            let drain = drain.clone();
            tasks.spawn(async move { acceptor.watch(drain).await });
        }
        let slots = Arc::new(Semaphore::new(self.limits.connections_max.min(Semaphore::MAX_PERMITS)));
        let grace = self.limits.drain_grace;
        let shared = Shared {
            budget: Budget::new(self.limits.h2_windows_bytes_max),
            limits: Arc::new(self.limits),
            #[cfg(feature = "tls")]
            tls: self.tls,
            drain: drain.clone(),
        };
        loop {
            let accepted = tokio::select! {
                biased;
                () = drain.cancelled() => break,
                Some(ended) = tasks.join_next() => {
                    report(ended);
                    continue;
                }
                accepted = accept(&listener, &slots) => accepted,
            };
            let (slot, tcp, addr) = accepted;
            let (shared, service) = (shared.clone(), service.clone());
            tasks.spawn(async move {
                shared.connection(tcp, addr, service).await;
                drop(slot);
            });
        }
        drop(listener);
        let all = async {
            while let Some(ended) = tasks.join_next().await {
                report(ended);
            }
        };
        if timeout(grace, all).await.is_err() {
            tracing::warn!(connections = tasks.len(), "connections are cut off, the grace time is over");
            tasks.shutdown().await;
        }
        Ok(())
    }
}

/// The next connection that may be served. Errors to accept one never end the server.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (OwnedSemaphorePermit, TcpStream, SocketAddr) {
    let slot = Arc::clone(slots).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((tcp, addr)) => return (slot, tcp, addr),
            // That one connection was gone before it was ours.
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                // Out of file descriptors or memory: only time, and connections that end, can help.
                tracing::error!(%error, "cannot accept connections");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a service panicked, its connection is closed");
    }
}

#[derive(Clone)]
struct Shared {
    limits: Arc<Limits>,
    budget: Budget,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::Acceptor>,
    drain: CancellationToken,
}

impl Shared {
    async fn connection<S, B>(self, tcp: TcpStream, addr: SocketAddr, service: S)
    where
        S: HttpService<B>,
        B: HttpBody,
    {
        // Without it an interim response can wait 40 ms for the acknowledgement of the one before.
        let _ = tcp.set_nodelay(true);
        let head_time = self.limits.head_time;
        let opened = tokio::select! {
            biased;
            opened = timeout(head_time, self.open(tcp)) => opened,
            () = self.drain.cancelled() => return,
        };
        let (stream, first, is_h2, tls) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => {
                tracing::debug!(peer = %addr, %error, "no connection came about");
                return;
            }
            Err(_) => {
                tracing::debug!(peer = %addr, "no connection came about in time");
                return;
            }
        };
        let peer = Peer { addr, tls };
        if is_h2 {
            h2::serve(stream, first, peer, self.limits, self.budget, service, self.drain).await;
        } else {
            h1::serve(stream, first, peer, self.limits, service, self.drain).await;
        }
    }

    /// Encrypts if asked to, and finds out which HTTP the peer speaks.
    async fn open(&self, tcp: TcpStream) -> io::Result<(Stream, BytesMut, bool, bool)> {
        let socket = Socket::new(tcp);
        #[cfg(feature = "tls")]
        if let Some(acceptor) = &self.tls {
            let tls = acceptor.accept(socket).await?;
            let agreed = tls.get_ref().1.alpn_protocol().map(|protocol| protocol == b"h2");
            let mut stream = Stream::Tls(Box::new(tls));
            return match agreed {
                Some(is_h2) => Ok((stream, BytesMut::new(), is_h2, true)),
                None => sniff(&mut stream).await.map(|(first, is_h2)| (stream, first, is_h2, true)),
            };
        }
        let mut stream = Stream::Tcp(socket);
        let (first, is_h2) = sniff(&mut stream).await?;
        Ok((stream, first, is_h2, false))
    }
}

/// Reads until the bytes are, or can no longer be, the preface of h2.
async fn sniff(stream: &mut Stream) -> io::Result<(BytesMut, bool)> {
    let mut first = BytesMut::new();
    loop {
        let seen = first.len().min(PREFACE.len());
        if first[..seen] != PREFACE[..seen] {
            return Ok((first, false));
        }
        if seen == PREFACE.len() {
            return Ok((first, true));
        }
        stream.readable().await?;
        first.reserve(4 << 10);
        if stream.read_some(&mut first).await? == 0 {
            return if first.is_empty() {
                Err(io::ErrorKind::UnexpectedEof.into())
            } else {
                Ok((first, false))
            };
        }
    }
}

/// What [`serve`] asks of a service, in one name.
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

/// What [`serve`] asks of a response's body, in one name.
pub(crate) trait HttpBody:
    http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static
{
}

impl<B> HttpBody for B where B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static {}

/// Lets requests that have arrived on other connections reach the service before a safe one, which asks for what they did.
///
/// The runtime begins with the task that it woke last, so a request could overtake one that was sent before it. The first
/// wait has the runtime look at all sockets, the second lets the tasks run that it woke then.
pub(crate) async fn let_others_pass(method: &Method) {
    if method.is_safe() {
        yield_now().await;
        yield_now().await;
    }
}

/// Waits until the service is ready, and calls it.
pub(crate) async fn call<S, B>(mut service: S, request: Request<Body>) -> Result<Response<B>, BoxError>
where
    S: HttpService<B>,
{
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
    service.call(request).await.map_err(Into::into)
}
