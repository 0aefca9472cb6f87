//! [`serve`] and [`Server`]: accept connections, detect their version of HTTP, and shut down gracefully.
//!
//! Owns every task of the server. One connection is in `h1.rs` or `h2.rs`.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower_service::Service;
use tracing::field::display;

use crate::accepted::Accepted;
use crate::body::Body;
use crate::buffers::Buffers;
use crate::h2::Budget;
use crate::limits::{Limits, LiveLimits};
use crate::listener::{Connections, Listener, Origin, Slots};
use crate::service::{BoxError, HttpBody, HttpService, Sender};
use crate::shared_socket::SharedSocket;
use crate::transport::{StagedSocket, Stream};
use crate::{h1, h2};

/// The first bytes of an HTTP/2 client with prior knowledge (RFC 9113, Connection Preface).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves `service` on `listener`, a TCP or unix socket: HTTP/1.1 and HTTP/2 on the same port, with default [`Limits`], forever.
///
/// The service is any tower service, such as an axum `Router` as it is. Use [`Server`] for TLS, other limits, or
/// a graceful shutdown.
///
/// # Cancellation
/// Dropping the future closes all connections at once.
pub async fn serve<S, B>(listener: impl Into<Listener>, service: S) -> io::Result<()>
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    Server::new().serve(listener, service, CancellationToken::new()).await
}

/// Server configuration: limits and TLS.
#[derive(Clone, Debug, Default)]
#[must_use = "a server does nothing until `serve` is called"]
pub struct Server {
    limits: LiveLimits,
    connections: Connections,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::Acceptor>,
}

impl Server {
    /// Returns a server with default [`Limits`] and without TLS.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the limits on peers.
    pub fn limits(self, limits: Limits) -> Self {
        self.live_limits(LiveLimits::new(limits))
    }

    /// Sets limits on peers that can be replaced while the server runs.
    pub fn live_limits(mut self, limits: LiveLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Counts the open connections. Several servers may share a count.
    pub fn connections(mut self, connections: Connections) -> Self {
        self.connections = connections;
        self
    }

    /// Serves all connections over TLS.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, acceptor: crate::tls::Acceptor) -> Self {
        self.tls = Some(acceptor);
        self
    }

    /// Serves until `drain` is cancelled, then shuts down gracefully and returns.
    ///
    /// A graceful shutdown accepts no more connections and closes idle ones. Requests in flight get their response,
    /// with `Connection: close` (HTTP/1.1) or after a GOAWAY (HTTP/2). Connections that are left after
    /// [`Limits::drain_grace`] are closed abruptly.
    ///
    /// # Errors
    /// None at present. If accepting a connection fails, for lack of file descriptors for example, the error is logged
    /// and the server tries again.
    ///
    /// # Cancellation
    /// Dropping the future closes all connections at once.
    pub async fn serve<S, B>(
        self,
        listener: impl Into<Listener>,
        service: S,
        drain: CancellationToken,
    ) -> io::Result<()>
    where
        S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
            + Clone
            + Send
            + 'static,
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let listener = listener.into();
        let mut tasks = JoinSet::new();
        #[cfg(feature = "tls")]
        if let Some(acceptor) = self.tls.clone() {
            let drain = drain.clone();
            tasks.spawn(async move { acceptor.watch(drain).await });
        }
        let mut slots = Slots::new(&self.limits);
        let shared = Shared {
            budget: Budget::new(self.limits.current().h2_windows_bytes_max),
            buffers: Arc::default(),
            limits: self.limits,
            #[cfg(feature = "tls")]
            tls: self.tls,
            drain: drain.clone(),
        };
        loop {
            let accepting = async {
                let slot = slots.take().await;
                (slot, listener.accept().await)
            };
            let (slot, (accepted, origin)) = tokio::select! {
                biased;
                () = drain.cancelled() => break,
                Some(ended) = tasks.join_next() => {
                    report(ended);
                    continue;
                }
                accepted = accepting => accepted,
            };
            let (shared, service, counted) = (shared.clone(), service.clone(), self.connections.count());
            tasks.spawn(async move {
                shared.serve(accepted, origin, service).await;
                drop(counted);
                drop(slot);
            });
        }
        drop(listener);
        let all = async {
            while let Some(ended) = tasks.join_next().await {
                report(ended);
            }
        };
        let grace = shared.limits.current().drain_grace;
        if timeout(grace, all).await.is_err() {
            tracing::warn!(
                connections = tasks.len(),
                "connections are closed abruptly, the grace time is over"
            );
            tasks.shutdown().await;
        }
        Ok(())
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a service panicked, its connection is closed");
    }
}

/// The configuration and state that all connections share.
#[derive(Clone)]
struct Shared {
    limits: LiveLimits,
    budget: Budget,
    buffers: Arc<Buffers>,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::Acceptor>,
    drain: CancellationToken,
}

impl Shared {
    async fn serve<S, B>(self, accepted: Accepted, origin: Origin, service: S)
    where
        S: HttpService<B>,
        B: HttpBody,
    {
        // Otherwise an interim response may wait 40 ms for the acknowledgement of the one before.
        if let Accepted::Tcp(tcp) = &accepted {
            let _ = tcp.set_nodelay(true);
        }
        let limits = self.limits.current();
        let has_begun = AtomicBool::new(false);
        let opened = tokio::select! {
            biased;
            opened = timeout(limits.head_time, self.open(accepted, &has_begun)) => opened,
            () = self.drain.cancelled() => return,
        };
        let (stream, first, is_h2, tls) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return log_unopened(origin.sender(false), &has_begun, &describe(&error)),
            Err(_) => return log_unopened(origin.sender(false), &has_begun, "it took too long"),
        };
        let peer = origin.sender(tls);
        if is_h2 {
            // On the heap, so that a connection of HTTP/1.1 keeps no room for it.
            Box::pin(h2::serve(stream, first, peer, limits, self.budget, service, self.drain)).await;
        } else {
            h1::serve(stream, first, peer, limits, self.buffers, service, self.drain).await;
        }
    }

    /// Accepts TLS if it is configured, and detects the version of HTTP. Returns the stream, the bytes read so far,
    /// whether they are HTTP/2, and whether the stream is encrypted. `has_begun` is true during a handshake.
    async fn open(
        &self,
        accepted: Accepted,
        has_begun: &AtomicBool,
    ) -> io::Result<(Stream, BytesMut, bool, bool)> {
        #[cfg(feature = "tls")]
        if let Some(acceptor) = &self.tls {
            if let Accepted::Tcp(tcp) = &accepted
                && tcp.peek(&mut [0]).await? == 0
            {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            has_begun.store(true, Ordering::Relaxed);
            let tls = Box::new(Box::pin(acceptor.accept(self.staged(accepted))).await?);
            has_begun.store(false, Ordering::Relaxed);
            let negotiated = tls.get_ref().1.alpn_protocol().map(|protocol| protocol == b"h2");
            let mut stream = Stream::Tls(tls);
            return match negotiated {
                Some(is_h2) => Ok((stream, BytesMut::new(), is_h2, true)),
                None => detect(&mut stream).await.map(|(first, is_h2)| (stream, first, is_h2, true)),
            };
        }
        let _ = has_begun;
        let mut stream = Stream::Plain(self.staged(accepted));
        let (first, is_h2) = detect(&mut stream).await?;
        Ok((stream, first, is_h2, false))
    }

    fn staged(&self, accepted: Accepted) -> StagedSocket {
        StagedSocket::new(SharedSocket::new(accepted), Arc::clone(&self.buffers))
    }
}

/// Logs a connection that ended before its first request. Monitors and scanners open many and send nothing, so only a
/// handshake that had begun is of interest.
fn log_unopened(sender: Sender, has_begun: &AtomicBool, reason: &str) {
    let (client, port) = (sender.address().map(display), sender.port());
    if has_begun.load(Ordering::Relaxed) {
        tracing::info!(client, port, reason, "TLS handshake failed");
    } else {
        tracing::debug!(client, port, reason, "connection ended before its first request");
    }
}

fn describe(error: &io::Error) -> Cow<'static, str> {
    #[cfg(feature = "tls")]
    if let Some(reason) = crate::tls::describe(error) {
        return reason;
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the client closed the connection".into(),
        _ => error.to_string().into(),
    }
}

/// Reads until the bytes are, or cannot become, the preface of HTTP/2.
async fn detect(stream: &mut Stream) -> io::Result<(BytesMut, bool)> {
    let mut first = Vec::new();
    let is_h2 = loop {
        let seen = first.len().min(PREFACE.len());
        if first[..seen] != PREFACE[..seen] {
            break false;
        }
        if seen == PREFACE.len() {
            break true;
        }
        stream.readable().await?;
        first.reserve(4 << 10);
        if stream.read_some(&mut first).await? == 0 {
            if first.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            break false;
        }
    };
    Ok((Bytes::from(first).into(), is_h2))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::Pending;
    use std::task::{Context, Poll};

    use http::Response;

    use super::*;

    #[derive(Clone)]
    struct Silent;

    impl Service<Request<Body>> for Silent {
        type Response = Response<http_body_util::Full<Bytes>>;
        type Error = Infallible;
        type Future = Pending<Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            std::future::pending()
        }
    }

    /// Returns the size of the futures that a function returns.
    fn future_bytes<A, F>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_has_no_room_for_a_request_while_it_waits_for_one() {
        let bytes = future_bytes(|(shared, accepted, origin): (Shared, Accepted, Origin)| {
            shared.serve(accepted, origin, Silent)
        });
        assert!(bytes <= 2048, "{bytes} bytes");
    }
}
