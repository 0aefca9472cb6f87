//! One HTTP/1.x connection: requests in, interim and final responses out, in order.
//!
//! Owns the life of a connection and of each exchange on it, keep-alive, and closing so that the peer can read
//! the answer. Grammar is in `h1/head.rs` and `h1/body.rs`, sockets in `h1/read.rs` and `h1/write.rs`.

pub(crate) mod body;
pub(crate) mod head;
mod read;
mod write;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use http::header::{CONNECTION, HeaderMap};
use http::{Method, Request, Response, Version};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use self::head::{Head, Reject};
pub(crate) use self::read::Incoming;
use self::read::{Lent, Reader};
use self::write::{Coding, Overrun, Persistence, Writer};
use crate::abort::Latch;
use crate::interim::Queue;
use crate::pace::Stall;
use crate::serve::{self, BoxError, HttpBody, HttpService};
use crate::transport::Stream;
use crate::{Body, Limits, Peer};

/// Encoded bytes at which a response waits for the peer before its body is asked for more.
const AHEAD_BYTES_MAX: usize = 64 << 10;

/// Serves one connection to its end. `first` was read to find out which HTTP it speaks.
///
/// # Cancellation
/// Dropping the future cuts the connection; bodies in use elsewhere end with an error.
pub(crate) async fn serve<S, B>(
    stream: Stream,
    first: BytesMut,
    peer: Peer,
    limits: Arc<Limits>,
    service: S,
    drain: CancellationToken,
) where
    S: HttpService<B>,
    B: HttpBody,
{
    let (read, write) = stream.into_split();
    let mut reader = Reader::new(read, first, &limits);
    let mut connection = Connection { writer: Writer::new(write), peer, limits, drain };
    let mut first = true;
    loop {
        let head = match connection.head(&mut reader, first).await {
            Next::Request(head) => head,
            Next::Close => return connection.close(reader, false).await,
            Next::Refuse(reject) => {
                tracing::debug!(peer = %peer.addr, ?reject, "request refused by the connection");
                connection.writer.problem(reject);
                return connection.close(reader, true).await;
            }
        };
        serve::let_others_pass(&head.method).await;
        reader = match connection.exchange(reader, *head, service.clone()).await {
            After::Again(reader) => reader,
            After::Close { reader, linger } => return connection.close(reader, linger).await,
            After::Cut => return connection.writer.cut(),
        };
        reader.rest();
        connection.writer.rest();
        first = false;
    }
}

struct Connection {
    writer: Writer,
    peer: Peer,
    limits: Arc<Limits>,
    drain: CancellationToken,
}

enum Next {
    Request(Box<Head>),
    Close,
    Refuse(Reject),
}

/// What becomes of the connection after an exchange.
enum After {
    Again(Box<Reader>),
    /// Close in order; `linger` if the peer may still be sending.
    Close {
        reader: Box<Reader>,
        linger: bool,
    },
    Cut,
}

/// The exchange ended before the response did; the connection is of no further use.
struct Broken;

/// What has to be known of a request after the service has taken it.
#[derive(Clone, Copy)]
struct Facts {
    is_head: bool,
    version: Version,
    keep_alive: bool,
}

/// Everything a service's handles share with the connection. Dropping it, however that comes about, ends them.
struct Loan {
    lent: Arc<Lent>,
    queue: Arc<Queue>,
    latch: Arc<Latch>,
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.latch.done();
        self.queue.lost();
        self.lent.take_back();
    }
}

impl Connection {
    /// Waits for the next request.
    async fn head(&mut self, reader: &mut Reader, first: bool) -> Next {
        let wait = if first { self.limits.head_time } else { self.limits.idle_time };
        let mut deadline = Instant::now() + wait;
        let mut idle = true;
        loop {
            match reader.buffered_head() {
                Ok(Some(head)) => return Next::Request(Box::new(head)),
                Err(reject) => return Next::Refuse(reject),
                Ok(None) => {}
            }
            if idle && !reader.is_empty() {
                idle = false;
                if !first {
                    deadline = Instant::now() + self.limits.head_time;
                }
            }
            let read = tokio::select! {
                biased;
                // Half a head is no request yet: nobody is owed an answer.
                () = self.drain.cancelled() => return Next::Close,
                read = timeout_at(deadline, poll_fn(|cx| reader.poll_fill(cx))) => read,
            };
            match read {
                Ok(Ok(bytes)) if bytes > 0 => {}
                Err(_) if !idle => return Next::Refuse(Reject::Timeout),
                Ok(_) | Err(_) => return Next::Close,
            }
        }
    }

    /// One request and its response.
    async fn exchange<S, B>(&mut self, mut reader: Box<Reader>, head: Head, service: S) -> After
    where
        S: HttpService<B>,
        B: HttpBody,
    {
        let facts = Facts {
            is_head: head.method == Method::HEAD,
            version: head.version,
            keep_alive: head.keep_alive,
        };
        let queue = Queue::new(self.limits.interims_max);
        let length = head.framing.left();
        reader.begin(head.framing);
        let latch = Latch::new();
        let lent = Lent::new(reader, head.expects_continue.then(|| Arc::clone(&queue)), &latch);
        let body = if length == Some(0) { Body::empty() } else { Body::h1(lent.incoming(length)) };
        let loan = Loan { lent, queue, latch };

        let mut request = Request::new(body);
        *request.method_mut() = head.method;
        *request.uri_mut() = head.uri;
        *request.version_mut() = head.version;
        *request.headers_mut() = head.fields;
        request.extensions_mut().insert(self.peer);
        request.extensions_mut().insert(loan.latch.handle());
        if facts.version == Version::HTTP_11 {
            request.extensions_mut().insert(loan.queue.handle());
        }

        let Ok(answer) = self.answer(serve::call(service, request), &loan).await else { return After::Cut };
        for interim in loan.queue.answer() {
            self.writer.interim(&interim);
        }
        let close = if let Some(response) = answer {
            let Ok(close) = self.respond(response, facts, &loan).await else { return After::Cut };
            close
        } else {
            self.writer.problem(Reject::Service);
            true
        };
        loan.latch.done();
        match loan.lent.take_back() {
            None => After::Cut,
            Some(reader) => self.after(reader, close).await,
        }
    }

    /// Runs the service to its response, sending interim responses meanwhile. `None` is a failed service.
    async fn answer<F, B>(&mut self, future: F, loan: &Loan) -> Result<Option<Response<B>>, Broken>
    where
        F: Future<Output = Result<Response<B>, BoxError>>,
    {
        let mut future = pin!(future);
        let mut lost = false;
        let answer = poll_fn(|cx| {
            if loan.latch.fired(cx) {
                return Poll::Ready(Err(Broken));
            }
            if let Poll::Ready(answer) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(answer));
            }
            if !lost && self.poll_interims(cx, &loan.queue).is_err() {
                lost = true;
                loan.queue.lost();
            }
            // A peer that takes nothing may have sent something: what arrived is read to its end first.
            if lost && loan.lent.over(cx) {
                return Poll::Ready(Err(Broken));
            }
            Poll::Pending
        });
        match answer.await? {
            Ok(response) if !response.status().is_informational() => Ok(Some(response)),
            Ok(response) => {
                tracing::error!(status = %response.status(), "an interim status as a final response");
                Ok(None)
            }
            Err(error) => {
                tracing::warn!(%error, "the service failed");
                Ok(None)
            }
        }
    }

    /// Sends what interim responses the peer will take now. One at a time, so that progress can be replaced
    /// until the moment it is written.
    fn poll_interims(&mut self, cx: &mut Context<'_>, queue: &Queue) -> io::Result<()> {
        loop {
            match self.writer.poll_flush(cx)? {
                Poll::Ready(()) => {}
                Poll::Pending => return Ok(()),
            }
            let Poll::Ready(head) = queue.poll_next(cx) else { return Ok(()) };
            self.writer.interim(&head);
        }
    }

    /// Sends the final response. True if the connection is to be closed after it.
    async fn respond<B: HttpBody>(
        &mut self,
        response: Response<B>,
        facts: Facts,
        loan: &Loan,
    ) -> Result<bool, Broken> {
        let (head, body) = response.into_parts();
        let mut coding = Coding::choose(facts.version, facts.is_head, &head, &body.size_hint());
        let mut close = !facts.keep_alive
            || self.drain.is_cancelled()
            || coding == Coding::Close
            || says_close(&head.headers)
            || loan.lent.hopeless(self.limits.drain_bytes_max);
        let field = match (close, facts.version) {
            (true, _) => Persistence::Close,
            (false, Version::HTTP_10) => Persistence::KeepAlive,
            (false, _) => Persistence::Default,
        };
        self.writer.head(&head, &coding, field);

        let mut body = pin!(coding.has_content().then_some(body));
        let mut stall = Stall::default();
        poll_fn(|cx| {
            if loan.latch.fired(cx) {
                return Poll::Ready(Err(Broken));
            }
            loop {
                let asked = self.poll_content(cx, body.as_mut(), &mut coding, &mut close)?;
                let pending = self.writer.pending();
                match self.writer.poll_flush(cx) {
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken)),
                    Poll::Ready(Ok(())) => stall.moved(),
                    Poll::Pending => {
                        if self.writer.pending() < pending {
                            stall.moved();
                        }
                        ready!(stall.poll(cx, self.limits.write_idle));
                        tracing::debug!(peer = %self.peer.addr, "the peer does not read its response");
                        return Poll::Ready(Err(Broken));
                    }
                }
                match asked {
                    Asked::Ended => return Poll::Ready(Ok(())),
                    Asked::Waiting => return Poll::Pending,
                    Asked::Ahead => {}
                }
            }
        })
        .await?;
        Ok(close)
    }

    /// Encodes what the response's body has ready, up to a bound. The body is dropped at its end.
    fn poll_content<B: HttpBody>(
        &mut self,
        cx: &mut Context<'_>,
        mut body: Pin<&mut Option<B>>,
        coding: &mut Coding,
        close: &mut bool,
    ) -> Result<Asked, Broken> {
        while self.writer.pending() < AHEAD_BYTES_MAX {
            let Some(content) = body.as_mut().as_pin_mut() else { return Ok(Asked::Ended) };
            let frame = match content.poll_frame(cx) {
                Poll::Pending => return Ok(Asked::Waiting),
                Poll::Ready(frame) => frame.transpose().map_err(|error| {
                    tracing::debug!(error = %error.into(), "the response's body failed");
                    Broken
                })?,
            };
            let ended = match frame.map(http_body::Frame::into_data) {
                Some(Ok(data)) => {
                    let Err(Overrun) = self.writer.data(coding, data) else { continue };
                    tracing::error!("the response's body is longer than its Content-Length");
                    *close = true;
                    true
                }
                Some(Err(frame)) => self.writer.end(coding, frame.trailers_ref()),
                None => self.writer.end(coding, None),
            };
            body.set(None);
            if !ended {
                tracing::error!("the response's body is shorter than its Content-Length");
                return Err(Broken);
            }
        }
        Ok(if body.is_none() { Asked::Ended } else { Asked::Ahead })
    }

    /// Leaves the connection at the beginning of the next request, if that is possible at a bounded cost.
    async fn after(&mut self, mut reader: Box<Reader>, close: bool) -> After {
        if close {
            let linger = !(reader.finished() && reader.is_empty());
            return After::Close { reader, linger };
        }
        if reader.finished() || reader.drain(Instant::now() + self.limits.drain_time).await {
            return After::Again(reader);
        }
        After::Close { reader, linger: true }
    }

    /// Closes in order: what was written is read by the peer even if it is still sending.
    async fn close(mut self, mut reader: Box<Reader>, linger: bool) {
        let until = Instant::now() + self.limits.drain_time;
        let writer = &mut self.writer;
        let sent = timeout_at(until, async {
            writer.flush().await?;
            writer.shutdown().await
        });
        if matches!(sent.await, Ok(Ok(()))) && linger {
            reader.linger(until).await;
        }
    }
}

/// What asking a response's body for more came to.
enum Asked {
    Ended,
    Waiting,
    /// Enough is encoded for now.
    Ahead,
}

fn says_close(fields: &HeaderMap) -> bool {
    let values = fields.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case("close"))
}
