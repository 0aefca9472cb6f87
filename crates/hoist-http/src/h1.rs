//! One HTTP/1.x connection: requests in, interim and final responses out, in order.
//!
//! Owns keep-alive, and closing so that the peer can read its response. The grammar is in `h1/head.rs`, `h1/fields.rs`
//! and `h1/body.rs`, the socket in `h1/read.rs` and `h1/write.rs`, the course of one request in `exchange.rs`.

pub(crate) mod body;
mod fields;
pub(crate) mod head;
mod read;
mod write;

use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header::HeaderMap;
use http::{Method, Request, Response, Version, response};
use http_body::SizeHint;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use self::head::Head;
use self::read::Reader;
use self::write::{Coding, Writer};
use crate::body::Body;
use crate::buffers::Buffers;
use crate::content::{Content, Receiver, SharedContent};
use crate::exchange::{Exchange, Interrupted, Responder};
use crate::limits::Limits;
use crate::rejection::Rejection;
use crate::service::{self, HttpBody, HttpService, Sender, yield_to_other_connections};
use crate::transport::Stream;

/// Encoded bytes at which a response waits for the peer before its body is polled for more.
const UNSENT_BYTES_MAX: usize = 64 << 10;

/// Serves one connection to its end. `first` holds the bytes that were read to detect the version of HTTP.
///
/// # Cancellation
/// Dropping the future resets the connection; bodies in use elsewhere end with an error.
pub(crate) async fn serve<S, B>(
    stream: Stream,
    first: BytesMut,
    peer: Sender,
    limits: Arc<Limits>,
    buffers: Arc<Buffers>,
    service: S,
    drain: CancellationToken,
) where
    S: HttpService<B>,
    B: HttpBody,
{
    let (read, write) = stream.into_split();
    let mut reader = Reader::new(read, first, buffers, &limits);
    let mut connection = Connection { writer: Writer::new(write), peer, limits, drain };
    let mut is_first = true;
    let linger = loop {
        let (method, exchange) = match connection.next_head(&mut reader, is_first).await {
            // On the heap, so that a connection keeps no room for a request while it waits for one.
            Ok(Some(head)) => {
                (head.method.clone(), Box::pin(connection.exchange(reader, head, service.clone())))
            }
            Ok(None) => break false,
            Err(rejection) => {
                rejection.log(peer);
                connection.writer.problem(rejection);
                break true;
            }
        };
        yield_to_other_connections(&method).await;
        reader = match exchange.await {
            After::KeepAlive(reader) => reader,
            After::Close { reader: ended, linger } => {
                reader = ended;
                break linger;
            }
            After::Reset => return connection.writer.half.reset(),
        };
        reader.release_memory();
        is_first = false;
    };
    Box::pin(connection.close(reader, linger)).await;
}

struct Connection {
    writer: Writer,
    peer: Sender,
    limits: Arc<Limits>,
    drain: CancellationToken,
}

/// The future of the connection after an exchange.
enum After {
    KeepAlive(Reader),
    /// Close in order; `linger` if the peer may still be sending.
    Close {
        reader: Reader,
        linger: bool,
    },
    Reset,
}

impl Connection {
    /// Waits for the next request. Returns `None` if the connection is to be closed.
    async fn next_head(&self, reader: &mut Reader, is_first: bool) -> Result<Option<Head>, Rejection> {
        let wait = if is_first { self.limits.head_time } else { self.limits.idle_time };
        let mut deadline = Instant::now() + wait;
        let mut is_idle = true;
        loop {
            if let Some(head) = reader.buffered_head()? {
                return Ok(Some(head));
            }
            if is_idle && reader.has_arrived() {
                is_idle = false;
                if !is_first {
                    deadline = Instant::now() + self.limits.head_time;
                }
            }
            let read = tokio::select! {
                biased;
                // An incomplete head is no request, so it needs no response.
                () = self.drain.cancelled() => return Ok(None),
                read = timeout_at(deadline, poll_fn(|cx| reader.poll_fill(cx, false))) => read,
            };
            match read {
                Ok(Ok(bytes)) if bytes > 0 => {}
                Err(_) if !is_idle => return Err(Rejection::HEAD_TIMEOUT),
                Ok(_) | Err(_) => return Ok(None),
            }
        }
    }

    /// Runs one exchange. Not an async function, which would have room for its arguments twice.
    fn exchange<S, B>(
        &mut self,
        mut reader: Reader,
        head: Head,
        service: S,
    ) -> impl Future<Output = After> + Send + use<'_, S, B>
    where
        S: HttpService<B>,
        B: HttpBody,
    {
        let Self { writer, peer, limits, drain } = self;
        let limits = &**limits;
        let length = head.framing.left();
        reader.framing = head.framing;
        let mut exchange = Exchange::new(*peer, limits);
        let content = Arc::clone(exchange.share(reader, head.expects_continue));
        let body = if length == Some(0) { Body::empty() } else { Body::streamed(content, length, true) };
        let is_head_request = head.method == Method::HEAD;

        let mut request = Request::new(body);
        *request.method_mut() = head.method;
        *request.uri_mut() = head.uri;
        *request.version_mut() = head.version;
        *request.headers_mut() = head.fields;
        exchange.attach(request.extensions_mut(), head.version == Version::HTTP_11);
        let (version, keep_alive, called) = (head.version, head.keep_alive, service::call(service, request));

        async move {
            let mut responder = H1Responder {
                writer,
                limits,
                drain,
                content: exchange.content.as_deref(),
                version,
                is_head_request,
                coding: Coding::None { length: None },
                close: !keep_alive,
            };
            if exchange.run(&mut responder, pin!(called)).await.is_err() {
                return After::Reset;
            }
            let close = responder.close;
            match exchange.finish() {
                None => After::Reset,
                Some(content) => after(content, close, limits).await,
            }
        }
    }

    /// Closes in order: the peer can read what was written even if it is still sending.
    async fn close(mut self, mut reader: Reader, linger: bool) {
        let until = Instant::now() + self.limits.drain_time;
        if matches!(timeout_at(until, self.writer.finish()).await, Ok(Ok(()))) && linger {
            reader.linger(until).await;
        }
    }
}

/// Reads up to the next request, if that is possible at a bounded cost.
async fn after(mut content: Content<Reader>, close: bool, limits: &Limits) -> After {
    if close {
        let linger = !content.is_complete() || content.receiver.has_arrived();
        return After::Close { reader: content.receiver, linger };
    }
    let until = Instant::now() + limits.drain_time;
    if content.is_complete() || !content.has_failed && content.discard(limits, until).await {
        return After::KeepAlive(content.receiver);
    }
    After::Close { reader: content.receiver, linger: true }
}

/// The sending side of one exchange.
struct H1Responder<'a> {
    writer: &'a mut Writer,
    limits: &'a Limits,
    drain: &'a CancellationToken,
    content: Option<&'a SharedContent<Reader>>,
    version: Version,
    is_head_request: bool,
    coding: Coding,
    /// True if the connection is closed after the response.
    close: bool,
}

impl H1Responder<'_> {
    /// Returns whether the connection cannot be used again: more content is known to follow than may be discarded, or
    /// the peer waits for a `100 (Continue)` that will not come, and may never send the content.
    fn has_undrainable_content(&self) -> bool {
        let drain_bytes_max = self.limits.drain_bytes_max;
        let undrainable = self.content.and_then(|content| {
            content.with(|content, awaits_continue| {
                content.has_failed
                    || content.receiver.left().is_some_and(|left| left > drain_bytes_max)
                    || awaits_continue && !content.receiver.has_arrived()
            })
        });
        undrainable.unwrap_or(true)
    }
}

impl Responder for H1Responder<'_> {
    fn poll_interim_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Interrupted>> {
        self.poll_flush(cx)
    }

    fn send_interim(&mut self, head: Response<()>) {
        self.writer.interim(&head);
    }

    fn send_head(
        &mut self,
        head: response::Parts,
        size: &SizeHint,
        _is_end_stream: bool,
    ) -> Result<bool, Interrupted> {
        self.coding = Coding::choose(self.version, self.is_head_request, &head, size);
        self.close = self.close
            || self.drain.is_cancelled()
            || self.coding == Coding::Close
            || fields::has_connection_option(&head.headers, "close")
            || self.has_undrainable_content();
        let connection = match (self.close, self.version) {
            (true, _) => Some("close"),
            (false, Version::HTTP_10) => Some("keep-alive"),
            (false, _) => None,
        };
        self.writer.head(&head, &self.coding, connection);
        Ok(self.coding.has_content())
    }

    fn has_room(&self) -> bool {
        self.writer.pending() < UNSENT_BYTES_MAX
    }

    fn send_data(&mut self, data: Bytes, _is_last: bool) -> Result<bool, Interrupted> {
        if self.writer.data(&mut self.coding, data) {
            return Ok(false);
        }
        tracing::error!("the response's body is longer than its Content-Length");
        self.close = true;
        Ok(true)
    }

    fn send_end(&mut self, trailers: Option<HeaderMap>) -> Result<(), Interrupted> {
        if self.writer.end(&self.coding, trailers.as_ref()) {
            return Ok(());
        }
        tracing::error!("the response's body is shorter than its Content-Length");
        Err(Interrupted::Failed)
    }

    fn direct_socket(&self) -> Option<Arc<OwnedFd>> {
        matches!(self.coding, Coding::Length(1..)).then(|| self.writer.half.direct())?
    }

    fn send_problem(&mut self, rejection: Rejection) {
        self.writer.problem(rejection);
        self.close = true;
    }

    fn unflushed(&self) -> usize {
        self.writer.pending()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Interrupted>> {
        self.writer.poll_flush(cx).map_err(|_| Interrupted::PeerGone)
    }
}
