//! HTTP/2 connections, by the h2 crate, which reports interim responses.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::{Connection, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use hoist_proto::client::OnInterim;
use http::{Request, Response, Uri, header};
use http_body_util::BodyExt;

use super::driven::Driven;
use super::exchange::{
    ExchangeEnd, ExchangeError, ExpectContinue, HeldContent, InterimObserver, read_content,
};
use super::io::MonitoredStream;
use crate::error::Error;
use crate::location::request_target;
use crate::progress::ContentFlow;
use crate::response::FinalResponse;
use crate::source::RequestBody;

/// The receive window. Responses are small.
const WINDOW_BYTES: u32 = 1024 * 1024;
/// Bytes buffered for sending.
const SEND_BUFFER_BYTES: usize = 1024 * 1024;

/// The scheme of a request, as one of its extensions, for `:scheme`. True for `https`.
#[derive(Clone, Copy)]
pub(super) struct SchemeIsHttps(pub(super) bool);

pub(super) struct H2Connection {
    sender: SendRequest<Bytes>,
    driven: Driven<Connection<MonitoredStream, Bytes>, h2::Error>,
}

/// The next event of a running request.
enum Event {
    Interim(Response<()>),
    /// All content is handed over, or the server accepts no more of it.
    Sent,
    ExpectTimeout,
    Final(Response<RecvStream>),
}

impl H2Connection {
    pub(super) async fn open(stream: MonitoredStream) -> Result<Self, Error> {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
        builder.max_send_buffer_size(SEND_BUFFER_BYTES).enable_push(false);
        let handshake = builder.handshake(stream).await;
        let (sender, connection) = handshake.map_err(|error| Error::Lost { source: error.into() })?;
        Ok(Self { sender, driven: Driven::new(connection) })
    }

    pub(super) async fn is_reusable(&mut self) -> bool {
        self.driven.run(tokio::task::yield_now()).await;
        self.driven.is_open() && self.ready().await.is_ok()
    }

    /// Waits until the server accepts another stream.
    async fn ready(&mut self) -> Result<(), h2::Error> {
        let sender = &mut self.sender;
        self.driven.run(poll_fn(|cx| sender.poll_ready(cx))).await
    }

    pub(super) async fn exchange(
        &mut self,
        request: Request<RequestBody>,
        flow: &ContentFlow,
        expect: Option<ExpectContinue>,
        observer: &mut impl InterimObserver,
    ) -> Result<(ExchangeEnd, bool), ExchangeError> {
        let unsent = |error| ExchangeError { error, reached: false, sent: 0 };
        let (head, content) = translate(request).map_err(unsent)?;
        self.ready().await.map_err(|error| self.failed(error, false, flow))?;
        let is_empty = http_body::Body::is_end_stream(&content);
        let begun = self.sender.send_request(head, is_empty);
        let (mut response, stream) = begun.map_err(|error| self.failed(error, false, flow))?;
        let mut gate = HeldContent::new(expect);
        let mut sending = pin!(send(content, stream));
        let mut is_sent = is_empty;
        let response = loop {
            let next = async {
                tokio::select! {
                    biased;
                    event = next(&mut response) => event,
                    sent = &mut sending, if !is_sent => sent.map(|()| Event::Sent),
                    () = gate.timeout() => Ok(Event::ExpectTimeout),
                }
            };
            match self.driven.run(next).await.map_err(|error| self.failed(error, true, flow))? {
                Event::Interim(interim) => {
                    let decision = observer.on_interim(interim.status(), interim.headers(), flow.bytes());
                    if decision.await == OnInterim::Stop {
                        return Ok((ExchangeEnd::Stopped { sent: flow.bytes() }, false));
                    }
                    gate.release();
                }
                Event::Sent => is_sent = true,
                Event::ExpectTimeout => gate.release(),
                Event::Final(response) => break response,
            }
        };
        let sent = flow.bytes();
        let is_sent = is_sent && (is_empty || flow.has_ended());
        let (parts, mut body) = response.into_parts();
        let poll = |cx: &mut Context<'_>| {
            body.poll_data(cx).map_ok(|bytes| {
                let _ = body.flow_control().release_capacity(bytes.len());
                bytes
            })
        };
        let (content, is_whole) = self.driven.run(read_content(poll)).await;
        let response = FinalResponse::new(parts, content, sent);
        Ok((ExchangeEnd::Response(response), is_sent && is_whole && self.driven.is_open()))
    }

    /// Prefers the error of the connection to that of the request.
    fn failed(&mut self, error: h2::Error, reached: bool, flow: &ContentFlow) -> ExchangeError {
        let reached = reached && error.reason() != Some(h2::Reason::REFUSED_STREAM);
        let source = self.driven.cause().unwrap_or(error).into();
        ExchangeError { error: Error::Lost { source }, reached, sent: flow.bytes() }
    }
}

/// Awaits the next response, interim or final.
async fn next(response: &mut ResponseFuture) -> Result<Event, h2::Error> {
    poll_fn(|cx| {
        // Interim responses first: h2 drops those that are pending when it returns the final response.
        if let Poll::Ready(Some(interim)) = response.poll_informational(cx) {
            return Poll::Ready(interim.map(Event::Interim));
        }
        Pin::new(&mut *response).poll(cx).map_ok(Event::Final)
    })
    .await
}

/// Hands the content over as fast as flow control allows.
async fn send(mut content: RequestBody, mut stream: SendStream<Bytes>) -> Result<(), h2::Error> {
    loop {
        let Some(frame) = content.frame().await else { break };
        // The source keeps its error for the caller. The server only learns that the stream is cancelled.
        let Ok(frame) = frame else {
            stream.send_reset(h2::Reason::CANCEL);
            return Ok(());
        };
        let Ok(mut bytes) = frame.into_data() else { continue };
        while !bytes.is_empty() {
            stream.reserve_capacity(bytes.len());
            let Some(capacity) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return Ok(()) };
            let piece = bytes.split_to(capacity?.min(bytes.len()));
            stream.send_data(piece, false)?;
        }
    }
    stream.send_data(Bytes::new(), true)
}

/// Converts a request to HTTP/2: with an absolute URL instead of `Host`.
fn translate(request: Request<RequestBody>) -> Result<(Request<()>, RequestBody), Error> {
    let (mut parts, content) = request.into_parts();
    let host = parts.headers.remove(header::HOST);
    let host = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_https = parts.extensions.remove::<SchemeIsHttps>().is_some_and(|scheme| scheme.0);
    let scheme = if is_https { "https" } else { "http" };
    let url: Result<Uri, _> = format!("{scheme}://{host}{}", request_target(&parts.uri)).parse();
    parts.uri = url.map_err(|_| Error::Field("the host"))?;
    Ok((Request::from_parts(parts, ()), content))
}
