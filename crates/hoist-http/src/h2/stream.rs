//! One request on an HTTP/2 connection, from its head to the end of its response.
//!
//! Owns how responses are sent in the peer's flow-control window, and why a stream is reset. The course of the request
//! is in `exchange.rs`.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::h2::server::SendResponse;
use ::h2::{Reason, RecvStream, SendStream};
use bytes::Bytes;
use http::header::HeaderMap;
use http::{Method, Request, Response, response};
use http_body::SizeHint;

use super::body::{self, H2Receiver};
use super::io::IoMonitor;
use super::windows::Usage;
use crate::body::Body;
use crate::content::SharedContent;
use crate::exchange::{Exchange, Interrupted, Responder};
use crate::fields;
use crate::limits::Limits;
use crate::rejection::Rejection;
use crate::service::{self, HttpBody, HttpService, Sender};

/// The end of a stream, as far as the connection has to know.
pub(super) enum Outcome {
    Ended,
    /// The peer reset the stream before it was answered.
    Reset,
}

/// Serves one request.
///
/// # Cancellation
/// Dropping the future resets the stream; a body in use elsewhere ends with an error.
pub(super) async fn serve<S, B>(
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    peer: Sender,
    limits: Arc<Limits>,
    io: Arc<IoMonitor>,
    usage: Arc<Usage>,
    service: S,
) -> Outcome
where
    S: HttpService<B>,
    B: HttpBody,
{
    let is_head_request = *request.method() == Method::HEAD;
    let mut responder = H2Responder::new(respond, &io, is_head_request);
    let expects_continue = match fields::check(&request) {
        Ok(expects_continue) => expects_continue,
        Err(rejection) => {
            rejection.log(peer);
            responder.send_problem(rejection);
            return Outcome::Ended;
        }
    };
    let mut exchange = Exchange::new(peer, &limits);
    let (mut head, content) = request.into_parts();
    fields::join_cookies(&mut head.headers);
    let body = if content.is_end_stream() {
        Body::empty()
    } else {
        let length = fields::content_length(&head.headers);
        let receiver = H2Receiver::new(content, length, &io, &usage, &limits);
        let content = Arc::clone(exchange.share(receiver, expects_continue));
        Body::streamed(content, length, false)
    };
    exchange.attach(&mut head.extensions, true);
    responder.content = exchange.content.as_deref();

    let called = pin!(service::call(service, Request::from_parts(head, body)));
    let ran = exchange.run(&mut responder, called).await;
    let H2Responder { mut respond, has_answered, .. } = responder;
    match ran {
        Ok(()) => {
            if let Some(content) = exchange.finish() {
                body::discard(content, &limits).await;
            }
        }
        Err(Interrupted::Aborted) => respond.send_reset(Reason::CANCEL),
        Err(Interrupted::Failed) => respond.send_reset(Reason::INTERNAL_ERROR),
        Err(Interrupted::PeerGone) => {
            // A body still yields the content that has arrived.
            exchange.content = None;
            if !has_answered {
                return Outcome::Reset;
            }
        }
    }
    Outcome::Ended
}

/// The sending side of a stream.
struct H2Responder<'a> {
    respond: SendResponse<Bytes>,
    /// The stream after the head of the final response.
    sender: Option<SendStream<Bytes>>,
    /// Content that waits for the peer's window.
    unsent: Bytes,
    unsent_is_last: bool,
    io: &'a IoMonitor,
    content: Option<&'a SharedContent<H2Receiver>>,
    is_head_request: bool,
    has_answered: bool,
}

impl<'a> H2Responder<'a> {
    fn new(respond: SendResponse<Bytes>, io: &'a IoMonitor, is_head_request: bool) -> Self {
        H2Responder {
            respond,
            sender: None,
            unsent: Bytes::new(),
            unsent_is_last: false,
            io,
            content: None,
            is_head_request,
            has_answered: false,
        }
    }

    /// Returns the stream, which is open as long as content follows.
    fn sender(&mut self) -> Result<&mut SendStream<Bytes>, Interrupted> {
        self.sender.as_mut().ok_or(Interrupted::PeerGone)
    }
}

impl Responder for H2Responder<'_> {
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(content) = self.content {
            content.with(|content, _| content.receiver.poll_background(cx));
        }
        match &mut self.sender {
            None => self.respond.poll_reset(cx).map(drop),
            Some(sender) => sender.poll_reset(cx).map(drop),
        }
    }

    fn poll_interim_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Interrupted>> {
        // h2 queues interim responses without a bound, so they wait for the socket here.
        self.io.poll_writable(cx).map(Ok)
    }

    fn send_interim(&mut self, mut head: Response<()>) {
        fields::finish_interim(&mut head);
        if let Err(error) = self.respond.send_informational(head) {
            tracing::debug!(%error, "an interim response was not sent");
        }
    }

    fn send_head(
        &mut self,
        mut head: response::Parts,
        size: &SizeHint,
        is_end_stream: bool,
    ) -> Result<bool, Interrupted> {
        self.has_answered = true;
        let has_content = fields::finish_head(&mut head, self.is_head_request, size, is_end_stream);
        let sender = self.respond.send_response(Response::from_parts(head, ()), !has_content);
        let sender = sender.map_err(|_| Interrupted::PeerGone)?;
        self.sender = has_content.then_some(sender);
        Ok(has_content)
    }

    fn has_room(&self) -> bool {
        self.unsent.is_empty()
    }

    fn send_data(&mut self, data: Bytes, is_last: bool) -> Result<bool, Interrupted> {
        if !data.is_empty() {
            self.sender()?.reserve_capacity(data.len());
            self.unsent = data;
            self.unsent_is_last = is_last;
        } else if is_last {
            self.send_end(None)?;
        }
        Ok(is_last)
    }

    fn send_end(&mut self, trailers: Option<HeaderMap>) -> Result<(), Interrupted> {
        let sender = self.sender()?;
        let sent = match trailers {
            None => sender.send_data(Bytes::new(), true),
            Some(mut trailers) => {
                fields::remove_connection_fields(&mut trailers);
                sender.send_trailers(trailers)
            }
        };
        sent.map_err(|_| Interrupted::PeerGone)
    }

    fn send_problem(&mut self, rejection: Rejection) {
        self.has_answered = true;
        let (head, body) = rejection.response().into_parts();
        if let Ok(mut sender) = self.respond.send_response(Response::from_parts(head, ()), false) {
            // It fits any window; if the peer gives none, h2 keeps it until the stream ends.
            let _ = sender.send_data(body, true);
        }
    }

    fn unflushed(&self) -> usize {
        self.unsent.len()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Interrupted>> {
        while !self.unsent.is_empty() {
            let sender = self.sender.as_mut().ok_or(Interrupted::PeerGone)?;
            let mut capacity = sender.capacity();
            if capacity == 0 {
                capacity = match ready!(sender.poll_capacity(cx)) {
                    Some(Ok(capacity)) => capacity,
                    Some(Err(_)) | None => return Poll::Ready(Err(Interrupted::PeerGone)),
                };
            }
            let piece = self.unsent.split_to(capacity.min(self.unsent.len()));
            let ends = self.unsent_is_last && self.unsent.is_empty();
            sender.send_data(piece, ends).map_err(|_| Interrupted::PeerGone)?;
            if !self.unsent.is_empty() {
                sender.reserve_capacity(self.unsent.len());
            }
        }
        Poll::Ready(Ok(()))
    }
}
