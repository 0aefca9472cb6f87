//! One request on an h2 connection, from its head to the end of its response.
//!
//! Owns the order of interim and final responses: h2 itself would send an interim response after the final one
//! and so kill the stream.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use ::h2::server::SendResponse;
use ::h2::{Reason, RecvStream, SendStream};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, COOKIE, DATE, EXPECT, HOST, HeaderMap, HeaderValue};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode};

use super::body::{Incoming, Lent};
use super::io::Gate;
use crate::abort::Latch;
use crate::h1::head::{Reject, is_sound};
use crate::interim::Queue;
use crate::pace::Stall;
use crate::serve::{self, BoxError, HttpBody, HttpService};
use crate::{Body, Limits, Peer, date};

/// What became of a stream, as far as the connection has to know.
pub(super) enum Outcome {
    Ended,
    /// The peer reset it before it was answered.
    Reset,
}

/// Why an exchange ends before its response does.
enum Broken {
    /// By `Abort`.
    Aborted,
    /// The peer reset the stream or is gone.
    Lost,
    /// The peer does not read, or the response's body failed.
    Failed,
}

pub(super) struct Exchange {
    respond: SendResponse<Bytes>,
    peer: Peer,
    limits: Arc<Limits>,
    gate: Arc<Gate>,
    queue: Arc<Queue>,
    latch: Arc<Latch>,
    /// The request's content, if it has any.
    lent: Option<Arc<Lent>>,
}

/// Everything a service's handles share with the stream. Dropping it, however that comes about, ends them.
struct Loan {
    lent: Option<Arc<Lent>>,
    queue: Arc<Queue>,
    latch: Arc<Latch>,
}

impl Loan {
    /// The peer is gone: a body in use elsewhere still yields what arrived, and then ends by itself.
    fn leave_content(mut self) {
        self.lent = None;
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.latch.done();
        self.queue.lost();
        if let Some(lent) = self.lent.take() {
            lent.take_back();
        }
    }
}

impl Exchange {
    pub(super) fn new(
        respond: SendResponse<Bytes>,
        peer: Peer,
        limits: &Arc<Limits>,
        gate: &Arc<Gate>,
    ) -> Self {
        let (limits, gate) = (Arc::clone(limits), Arc::clone(gate));
        let queue = Queue::new(limits.interims_max);
        Exchange { respond, peer, limits, gate, queue, latch: Latch::new(), lent: None }
    }

    /// # Cancellation
    /// Dropping the future resets the stream; a body in use elsewhere ends with an error.
    pub(super) async fn run<S, B>(mut self, request: Request<RecvStream>, service: S) -> Outcome
    where
        S: HttpService<B>,
        B: HttpBody,
    {
        if let Some(reject) = refuse(&request) {
            self.problem(reject);
            return Outcome::Ended;
        }
        let is_head = *request.method() == Method::HEAD;
        let (request, loan) = self.lend(request);
        let answer = match self.answer(serve::call(service, request)).await {
            Ok(answer) => answer,
            Err(broken) => {
                let lost = matches!(broken, Broken::Lost);
                self.give_up(&broken);
                if lost {
                    loan.leave_content();
                    return Outcome::Reset;
                }
                return Outcome::Ended;
            }
        };
        for interim in self.queue.answer() {
            self.interim(interim);
        }
        match answer {
            Some(response) => {
                if let Err(broken) = self.respond(response, is_head).await {
                    let lost = matches!(broken, Broken::Lost);
                    self.give_up(&broken);
                    if lost {
                        loan.leave_content();
                    }
                    return Outcome::Ended;
                }
            }
            None => self.problem(Reject::Service),
        }
        loan.latch.done();
        if let Some(lent) = &loan.lent {
            lent.drain(&self.limits).await;
        }
        Outcome::Ended
    }

    /// The request as the service sees it, and what it shares with us.
    fn lend(&mut self, request: Request<RecvStream>) -> (Request<Body>, Loan) {
        let (mut head, content) = request.into_parts();
        join_cookies(&mut head.headers);
        let expects = head.headers.contains_key(EXPECT);
        let (body, lent) = if content.is_end_stream() {
            (Body::empty(), None)
        } else {
            let expecting = expects.then(|| Arc::clone(&self.queue));
            let lent = Lent::new(content, expecting, &self.limits, &self.latch, &self.gate);
            self.lent = Some(Arc::clone(&lent));
            let length = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
            (Body::h2(Incoming::new(Arc::clone(&lent), length)), Some(lent))
        };
        head.extensions.insert(self.peer);
        head.extensions.insert(self.latch.handle());
        head.extensions.insert(self.queue.handle());
        let loan = Loan { lent, queue: Arc::clone(&self.queue), latch: Arc::clone(&self.latch) };
        (Request::from_parts(head, body), loan)
    }

    /// Runs the service to its response, sending interim responses meanwhile. `None` is a failed service.
    async fn answer<F, B>(&mut self, future: F) -> Result<Option<Response<B>>, Broken>
    where
        F: Future<Output = Result<Response<B>, BoxError>>,
    {
        let mut future = pin!(future);
        let answer = poll_fn(|cx| {
            if self.latch.fired(cx) {
                return Poll::Ready(Err(Broken::Aborted));
            }
            if let Some(lent) = &self.lent {
                lent.poll_background(cx);
            }
            if self.respond.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Broken::Lost));
            }
            if let Poll::Ready(answer) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(answer));
            }
            while self.gate.is_open(cx)
                && let Poll::Ready(head) = self.queue.poll_next(cx)
            {
                self.interim(head);
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

    fn interim(&mut self, mut head: Response<()>) {
        strip(head.headers_mut());
        head.headers_mut().remove(CONTENT_LENGTH);
        if let Err(error) = self.respond.send_informational(head) {
            tracing::debug!(%error, "an interim response was not sent");
        }
    }

    async fn respond<B: HttpBody>(&mut self, response: Response<B>, is_head: bool) -> Result<(), Broken> {
        let (mut head, body) = response.into_parts();
        strip(&mut head.headers);
        if !head.headers.contains_key(DATE) {
            head.headers.insert(DATE, date::now());
        }
        let length = body.size_hint().exact();
        let left_out = is_head || head.status == StatusCode::NOT_MODIFIED;
        if head.status == StatusCode::NO_CONTENT {
            head.headers.remove(CONTENT_LENGTH);
        } else if let Some(length) = length
            && !(left_out && (length == 0 || head.headers.contains_key(CONTENT_LENGTH)))
        {
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        let empty =
            left_out || head.status == StatusCode::NO_CONTENT || length == Some(0) && body.is_end_stream();
        let sent = self.respond.send_response(Response::from_parts(head, ()), empty);
        let mut sender = sent.map_err(|_| Broken::Lost)?;
        if empty {
            return Ok(());
        }
        let mut body = pin!(body);
        loop {
            match self.frame(&mut sender, body.as_mut()).await? {
                None => return sender.send_data(Bytes::new(), true).map_err(|_| Broken::Lost),
                Some(Err(trailers)) => {
                    let mut trailers = trailers;
                    strip(&mut trailers);
                    return sender.send_trailers(trailers).map_err(|_| Broken::Lost);
                }
                Some(Ok(data)) => {
                    let ended = body.is_end_stream();
                    self.data(&mut sender, data, ended).await?;
                    if ended {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// The next piece of the response's content, or its trailers.
    async fn frame<B: HttpBody>(
        &self,
        sender: &mut SendStream<Bytes>,
        mut body: Pin<&mut B>,
    ) -> Result<Option<Result<Bytes, HeaderMap>>, Broken> {
        loop {
            let frame = poll_fn(|cx| {
                self.watch(cx, sender)?;
                body.as_mut().poll_frame(cx).map(Ok)
            });
            let frame = frame.await?.transpose().map_err(|error| {
                tracing::debug!(error = %error.into(), "the response's body failed");
                Broken::Failed
            })?;
            let Some(frame) = frame else { return Ok(None) };
            match frame.into_data() {
                Ok(data) => return Ok(Some(Ok(data))),
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        return Ok(Some(Err(trailers)));
                    }
                }
            }
        }
    }

    /// Sends all of `data` as the peer's window allows.
    async fn data(&self, sender: &mut SendStream<Bytes>, mut data: Bytes, ended: bool) -> Result<(), Broken> {
        if data.is_empty() && ended {
            return sender.send_data(data, true).map_err(|_| Broken::Lost);
        }
        let mut stall = Stall::default();
        while !data.is_empty() {
            sender.reserve_capacity(data.len());
            let capacity = poll_fn(|cx| {
                self.watch(cx, sender)?;
                let capacity = sender.capacity();
                if capacity > 0 {
                    return Poll::Ready(Ok(capacity));
                }
                match sender.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(capacity))) => Poll::Ready(Ok(capacity)),
                    Poll::Ready(Some(Err(_)) | None) => Poll::Ready(Err(Broken::Lost)),
                    Poll::Pending => stall.poll(cx, self.limits.write_idle).map(|()| Err(Broken::Failed)),
                }
            });
            let capacity = capacity.await?;
            stall.moved();
            let piece = data.split_to(capacity.min(data.len()));
            sender.send_data(piece, ended && data.is_empty()).map_err(|_| Broken::Lost)?;
        }
        Ok(())
    }

    /// Whether the response is to go on.
    fn watch(&self, cx: &mut Context<'_>, sender: &mut SendStream<Bytes>) -> Result<(), Broken> {
        if self.latch.fired(cx) {
            return Err(Broken::Aborted);
        }
        if let Some(lent) = &self.lent {
            lent.poll_background(cx);
        }
        if sender.poll_reset(cx).is_ready() {
            return Err(Broken::Lost);
        }
        Ok(())
    }

    fn give_up(&mut self, broken: &Broken) {
        match broken {
            Broken::Aborted => self.respond.send_reset(Reason::CANCEL),
            Broken::Failed => self.respond.send_reset(Reason::INTERNAL_ERROR),
            Broken::Lost => {}
        }
    }

    /// Our own answer to what no service will see, or has failed on.
    fn problem(&mut self, reject: Reject) {
        let (status, body) = reject.problem();
        let response = Response::builder()
            .status(status)
            .header("content-type", "application/problem+json")
            .header(CONTENT_LENGTH, body.len())
            .header(DATE, date::now())
            .body(())
            .expect("a sound head");
        if let Ok(mut sender) = self.respond.send_response(response, false) {
            // It fits any window; if the peer gives none, h2 keeps it until the stream ends.
            let _ = sender.send_data(body.into(), true);
        }
    }
}

/// What the connection refuses itself.
fn refuse(request: &Request<RecvStream>) -> Option<Reject> {
    if *request.method() == Method::CONNECT {
        return Some(Reject::Connect);
    }
    let host = request.headers().get(HOST).filter(|host| !host.is_empty());
    let host = host.map(|host| Authority::try_from(host.as_bytes()));
    let is_told = request.uri().authority().is_none_or(is_sound)
        && host.is_none_or(|host| host.is_ok_and(|host| is_sound(&host)));
    if !is_told {
        return Some(Reject::Malformed("the authority is malformed"));
    }
    let unknown = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    request.headers().get_all(EXPECT).iter().any(unknown).then_some(Reject::Expectation)
}

/// Cookies may come in crumbs that no application knows (RFC 9113, Compressing the Cookie Header Field).
fn join_cookies(fields: &mut HeaderMap) {
    let crumbs: Vec<_> = fields.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        fields.insert(COOKIE, joined);
    }
}

/// Removes what is the connection's business, and would be an error in h2.
fn strip(fields: &mut HeaderMap) {
    for name in ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"] {
        fields.remove(name);
    }
}
