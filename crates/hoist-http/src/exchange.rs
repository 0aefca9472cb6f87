//! One request and its response, whichever version of HTTP carries them.
//!
//! Owns the course of an exchange: the handles in the request's extensions, the call of the service, the order of
//! interim and final responses, the abort, a peer that stops reading, and the end. A transport adds the framing: a
//! [`Receiver`] for the request's content and a [`Responder`] for the responses.
//!
//! A transport creates an [`Exchange`], shares the request's content with it, attaches the handles to the request, and
//! runs it with a responder. If [`run`](Exchange::run) succeeds, the response is complete and [`Exchange::finish`]
//! returns the content, whose rest the transport may discard. Otherwise the transport resets the stream or connection,
//! for the given reason.

use std::future::{Future, poll_fn};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Extensions, HeaderMap, Response, response};
use http_body::SizeHint;
use tokio::task::coop::unconstrained;

use crate::abort::Abort;
use crate::content::{Content, Receiver, SharedContent};
use crate::direct::{Direct, DirectBody};
use crate::interim::Interim;
use crate::limits::Limits;
use crate::pace::Stall;
use crate::rejection::Rejection;
use crate::service::{BoxError, HttpBody, Sender};
use crate::transport;

/// The number of times within [`Limits::write_idle`] at which the progress of a body that sends itself is checked.
const STALL_CHECKS: u32 = 4;

/// The sending side of one exchange, as a version of HTTP implements it.
pub(crate) trait Responder {
    /// Ready once the peer has reset the stream. Polled whenever the exchange is, so background work belongs here.
    fn poll_reset(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// Ready while the peer takes interim responses. An error means that it takes nothing any more.
    fn poll_interim_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Interrupted>>;

    /// Sends an interim response.
    fn send_interim(&mut self, head: Response<()>);

    /// Sends the head of the final response, whose body has the given size. Returns whether content follows.
    fn send_head(
        &mut self,
        head: response::Parts,
        size: &SizeHint,
        is_end_stream: bool,
    ) -> Result<bool, Interrupted>;

    /// Returns whether more content may be sent before a flush.
    fn has_room(&self) -> bool;

    /// Sends content, after which the body may be known to end. Returns whether the response has ended.
    fn send_data(&mut self, data: Bytes, is_last: bool) -> Result<bool, Interrupted>;

    /// Ends the content, if [`send_data`](Self::send_data) has not.
    fn send_end(&mut self, trailers: Option<HeaderMap>) -> Result<(), Interrupted>;

    /// Returns the socket, if content of a known length can be sent to it as it is.
    fn direct_socket(&self) -> Option<Arc<OwnedFd>> {
        None
    }

    /// Sends the connection's own response.
    fn send_problem(&mut self, rejection: Rejection);

    /// Returns the bytes that have been sent and that a flush has not handed on.
    fn unflushed(&self) -> usize;

    /// Hands on everything that was sent. Pending means that the peer has to take something first.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Interrupted>>;
}

/// The reason why an exchange ended before its response was complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupted {
    /// The service used [`Abort`](crate::Abort).
    Aborted,
    /// The peer reset the stream or disconnected.
    PeerGone,
    /// The peer does not read its response, or the response's body failed.
    Failed,
}

/// The transport's side of the handles that a service holds. Dropping it ends them all.
pub(crate) struct Exchange<'a, R: Receiver> {
    peer: Sender,
    limits: &'a Limits,
    interims: Interim,
    abort: Abort,
    /// The content that was shared with the service. If it is `None` when the exchange is dropped, a body still yields
    /// the content that has arrived, and then ends with an error.
    pub(crate) content: Option<Arc<SharedContent<R>>>,
}

impl<'a, R: Receiver> Exchange<'a, R> {
    pub(crate) fn new(peer: Sender, limits: &'a Limits) -> Self {
        let interims = Interim::new(limits.interims_max);
        Exchange { peer, limits, interims, abort: Abort::new(), content: None }
    }

    /// Shares the request's content with the service. If the peer expects a `100 (Continue)`, it is sent when the body
    /// is first polled.
    pub(crate) fn share(&mut self, receiver: R, expects_continue: bool) -> &Arc<SharedContent<R>> {
        let continues = expects_continue.then(|| self.interims.clone());
        let content = SharedContent::new(receiver, continues, self.abort.clone(), self.limits);
        self.content.insert(Arc::new(content))
    }

    /// Adds the peer and the handles of the exchange to the extensions of its request. [`Interim`](crate::Interim) is
    /// left out if the peer does not understand interim responses.
    pub(crate) fn attach(&self, extensions: &mut Extensions, takes_interims: bool) {
        self.peer.insert_into(extensions);
        extensions.insert(self.abort.clone());
        if takes_interims {
            extensions.insert(self.interims.clone());
        }
    }

    /// Waits for the service to respond, and sends its interim responses and its final one.
    ///
    /// # Errors
    /// The response is incomplete, and the stream or connection must be reset.
    ///
    /// # Cancellation
    /// The response is left incomplete; [`Abort`](crate::Abort), [`Interim`](crate::Interim) and the body keep working
    /// until the exchange is dropped.
    pub(crate) async fn run<T, F, B>(
        &self,
        responder: &mut T,
        service: Pin<&mut F>,
    ) -> Result<(), Interrupted>
    where
        T: Responder,
        F: Future<Output = Result<Response<B>, BoxError>>,
        B: HttpBody,
    {
        let response = self.response(responder, service).await?;
        for interim in self.interims.close() {
            responder.send_interim(interim);
        }
        match response {
            Some(response) => self.respond(responder, response).await?,
            None => responder.send_problem(Rejection::SERVICE_FAILED),
        }
        self.abort.disarm();
        Ok(())
    }

    /// Takes the content back after the response. A body that is still in use ends with an error.
    pub(crate) fn finish(mut self) -> Option<Content<R>> {
        self.content.take()?.take()
    }

    /// Runs the service to its response, and sends interim responses meanwhile. Returns `None` if the service failed.
    async fn response<T, F, B>(
        &self,
        responder: &mut T,
        mut service: Pin<&mut F>,
    ) -> Result<Option<Response<B>>, Interrupted>
    where
        T: Responder,
        F: Future<Output = Result<Response<B>, BoxError>>,
    {
        let mut is_gone = false;
        let response = poll_fn(|cx| {
            if self.abort.fired(cx) {
                return Poll::Ready(Err(Interrupted::Aborted));
            }
            if !is_gone && responder.poll_reset(cx).is_ready() {
                is_gone = true;
                self.interims.disconnect();
                // Without content to read, the service is not worth a call.
                if self.has_read_content(cx) {
                    return Poll::Ready(Err(Interrupted::PeerGone));
                }
            }
            if let Poll::Ready(response) = service.as_mut().poll(cx) {
                return Poll::Ready(Ok(response));
            }
            if !is_gone && self.poll_interims(cx, responder).is_err() {
                is_gone = true;
                self.interims.disconnect();
            }
            // A peer that is gone may have sent something, which the service reads to its end first.
            if is_gone && self.has_read_content(cx) {
                return Poll::Ready(Err(Interrupted::PeerGone));
            }
            Poll::Pending
        });
        match response.await? {
            Ok(response) if !response.status().is_informational() => Ok(Some(response)),
            Ok(response) => {
                tracing::error!(status = %response.status(), "the service returned an interim response as its final one");
                Ok(None)
            }
            Err(error) => {
                tracing::warn!(%error, "the service failed");
                Ok(None)
            }
        }
    }

    /// Returns whether no content is left to read. Otherwise, the task is woken at its end.
    fn has_read_content(&self, cx: &Context<'_>) -> bool {
        self.content.as_ref().is_none_or(|content| content.poll_read(cx).is_ready())
    }

    /// Sends the interim responses that the peer takes now. One at a time, so that progress can be replaced until it
    /// is written.
    fn poll_interims<T: Responder>(
        &self,
        cx: &mut Context<'_>,
        responder: &mut T,
    ) -> Result<(), Interrupted> {
        while responder.poll_interim_ready(cx)?.is_ready()
            && let Poll::Ready(head) = self.interims.poll_next(cx)
        {
            responder.send_interim(head);
        }
        Ok(())
    }

    /// Sends the final response.
    async fn respond<T: Responder, B: HttpBody>(
        &self,
        responder: &mut T,
        response: Response<B>,
    ) -> Result<(), Interrupted> {
        let (mut head, body) = response.into_parts();
        let direct = head.extensions.remove::<Direct>();
        let size = body.size_hint();
        let length = size.exact();
        let has_content = responder.send_head(head, &size, body.is_end_stream())?;
        if !has_content && responder.unflushed() == 0 {
            return Ok(());
        }
        if let (Some(direct), Some(length), Some(socket)) = (direct, length, responder.direct_socket()) {
            // On the heap, so that other exchanges do not keep room for it.
            return Box::pin(self.respond_directly(responder, direct, length, socket, body)).await;
        }
        self.respond_in_frames(responder, pin!(has_content.then_some(body))).await
    }

    /// Lets the response's body send its content to the socket, or sends it in frames if the body cannot.
    async fn respond_directly<T: Responder, B: HttpBody>(
        &self,
        responder: &mut T,
        direct: Direct,
        length: u64,
        socket: Arc<OwnedFd>,
        mut body: B,
    ) -> Result<(), Interrupted> {
        if let Some(body) = direct.body(&mut body)
            && self.send_directly(responder, body, &socket).await?
        {
            return if body.sent() == length { Ok(()) } else { Err(Interrupted::Failed) };
        }
        drop(socket);
        self.respond_in_frames(responder, pin!(Some(body))).await
    }

    /// Returns whether the body has sent its content. If not, no byte was sent.
    async fn send_directly<T: Responder>(
        &self,
        responder: &mut T,
        body: &mut dyn DirectBody,
        socket: &Arc<OwnedFd>,
    ) -> Result<bool, Interrupted> {
        let mut stall = Stall::default();
        let (mut is_flushed, mut sent, mut checks) = (false, 0, 0);
        let end = poll_fn(|cx| {
            loop {
                if self.abort.fired(cx) {
                    return Poll::Ready(Err(Interrupted::Aborted));
                }
                if responder.poll_reset(cx).is_ready() {
                    return Poll::Ready(Err(Interrupted::PeerGone));
                }
                if !is_flushed {
                    is_flushed = responder.poll_flush(cx)?.is_ready();
                }
                if is_flushed && let Poll::Ready(end) = body.poll_send(cx, socket) {
                    return Poll::Ready(end.map_err(failed));
                }
                // The body does not tell when the socket takes something, so its count is compared now and then.
                ready!(stall.poll(cx, self.limits.write_idle / STALL_CHECKS));
                stall.moved();
                // If there is room, the peer waits for the body.
                let is_stalled = body.sent() == sent && !transport::has_room(socket);
                sent = body.sent();
                checks = if is_stalled { checks + 1 } else { 0 };
                if checks == STALL_CHECKS {
                    return Poll::Ready(Err(self.stalled()));
                }
            }
        });
        end.await
    }

    fn stalled(&self) -> Interrupted {
        tracing::debug!(peer = %self.peer, "the peer does not read its response");
        Interrupted::Failed
    }

    /// Sends the content of the response's body as it yields it.
    async fn respond_in_frames<T: Responder, B: HttpBody>(
        &self,
        responder: &mut T,
        mut body: Pin<&mut Option<B>>,
    ) -> Result<(), Interrupted> {
        let mut stall = Stall::default();
        let sent = poll_fn(|cx| {
            loop {
                if self.abort.fired(cx) {
                    return Poll::Ready(Err(Interrupted::Aborted));
                }
                if responder.poll_reset(cx).is_ready() {
                    return Poll::Ready(Err(Interrupted::PeerGone));
                }
                let sent = send_ready(cx, responder, body.as_mut())?;
                let unflushed = responder.unflushed();
                match responder.poll_flush(cx)? {
                    Poll::Ready(()) => stall.moved(),
                    Poll::Pending => {
                        if responder.unflushed() < unflushed {
                            stall.moved();
                        }
                        ready!(stall.poll(cx, self.limits.write_idle));
                        return Poll::Ready(Err(self.stalled()));
                    }
                }
                match sent {
                    Sent::All => return Poll::Ready(Ok(())),
                    Sent::Available => return Poll::Pending,
                    Sent::UpToRoom => {}
                }
            }
        });
        sent.await
    }
}

impl<R: Receiver> Drop for Exchange<'_, R> {
    fn drop(&mut self) {
        self.abort.disarm();
        self.interims.disconnect();
        if let Some(content) = self.content.take() {
            content.take();
        }
    }
}

/// The part of a response's body that has been sent.
enum Sent {
    All,
    /// All that was available.
    Available,
    /// As much as the responder has room for.
    UpToRoom,
}

/// Sends the content that the response's body has ready. The body is dropped at its end.
fn send_ready<T: Responder, B: HttpBody>(
    cx: &mut Context<'_>,
    responder: &mut T,
    mut body: Pin<&mut Option<B>>,
) -> Result<Sent, Interrupted> {
    while responder.has_room() {
        let Some(mut content) = body.as_mut().as_pin_mut() else { return Ok(Sent::All) };
        let frame = match content.as_mut().poll_frame(cx) {
            Poll::Pending => return Ok(Sent::Available),
            Poll::Ready(frame) => frame.transpose().map_err(failed)?,
        };
        let has_ended = match frame.map(http_body::Frame::into_data) {
            Some(Ok(data)) => responder.send_data(data, content.is_end_stream())?,
            Some(Err(frame)) => {
                responder.send_end(frame.into_trailers().ok())?;
                true
            }
            None => {
                responder.send_end(None)?;
                true
            }
        };
        if has_ended {
            body.set(None);
        }
    }
    Ok(if body.is_none() { Sent::All } else { Sent::UpToRoom })
}

fn failed(error: impl Into<BoxError>) -> Interrupted {
    tracing::debug!(error = %error.into(), "the response's body failed");
    Interrupted::Failed
}

/// The message that is logged when a service panics and takes its stream with it.
pub(crate) const SERVICE_PANICKED: &str = "a service panicked, its stream is reset";

/// Polls an exchange of a multiplexed connection once, up to where it first waits. Returns `None` if it panicked.
///
/// The connection does so for each request in turn, so that the service receives requests in the order in which they
/// arrived. Tasks of their own start in any order.
pub(crate) async fn poll_once<F: Future>(mut exchange: Pin<&mut F>) -> Poll<Option<F::Output>> {
    let first = poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| exchange.as_mut().poll(cx)));
        Poll::Ready(polled.map_or_else(
            |_| {
                tracing::error!("{SERVICE_PANICKED}");
                Poll::Ready(None)
            },
            |polled| polled.map(Some),
        ))
    });
    // Outside the task's budget: once that is used up, an exchange would wait before it has started.
    unconstrained(first).await
}
