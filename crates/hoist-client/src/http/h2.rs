//! HTTP/2, by the h2 crate, which lets interim responses through.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use h2::client::{Connection, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use hoist_proto::client::Heard;
use http::response::Parts;
use http::{Request, Response, Uri, header};
use http_body_util::BodyExt;

use super::driven::Driven;
use super::io::{MonitoredStream, Traffic};
use super::{ANSWER_BYTES, ExchangeEnd, ExpectContinue, FinalResponse, InterimObserver, Unanswered};
use crate::error::Error;
use crate::progress::ContentFlow;
use crate::source::RequestBody;

/// The receive window. Answers are small.
const WINDOW_BYTES: u32 = 1024 * 1024;
/// Bytes handed to the connection before they are written.
const SEND_BYTES: usize = 1024 * 1024;

/// A connection, as long as it lives, and why it ended.
pub(super) struct H2Connection {
    sender: SendRequest<Bytes>,
    driven: Driven<Connection<MonitoredStream, Bytes>, h2::Error>,
    moved: Arc<Traffic>,
}

/// The next event of a request under way.
enum Event {
    Interim(Response<()>),
    /// All content is handed over, or the server wants no more of it.
    Sent,
    Waited,
    Final(Response<RecvStream>),
}

impl H2Connection {
    pub(super) async fn open(stream: MonitoredStream, moved: Arc<Traffic>) -> Result<Self, Error> {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
        builder.max_send_buffer_size(SEND_BYTES).enable_push(false);
        let handshake = builder.handshake(stream).await;
        let (sender, connection) = handshake.map_err(|error| Error::Lost { source: error.into() })?;
        let driven = Driven::new(connection);
        Ok(Self { sender, driven, moved })
    }

    pub(super) fn moved(&self) -> Arc<Traffic> {
        self.moved.clone()
    }

    /// True if the next request may go over it.
    pub(super) async fn is_there(&mut self) -> bool {
        self.driven.run(tokio::task::yield_now()).await;
        let sender = &mut self.sender;
        self.driven.is_there() && self.driven.run(poll_fn(|cx| sender.poll_ready(cx))).await.is_ok()
    }

    /// Sends the request and reads its answer, and says whether the connection is good for another.
    pub(super) async fn converse(
        &mut self,
        request: Request<RequestBody>,
        flow: &ContentFlow,
        awaited: Option<ExpectContinue>,
        observer: &mut dyn InterimObserver,
    ) -> Result<(ExchangeEnd, bool), Unanswered> {
        let (head, content) = translated(request).map_err(|error| Unanswered { error, reached: false })?;
        let sender = &mut self.sender;
        let ready = self.driven.run(poll_fn(|cx| sender.poll_ready(cx))).await;
        ready.map_err(|error| self.unanswered(error, false))?;
        let has_none = http_body::Body::is_end_stream(&content);
        let begun = self.sender.send_request(head, has_none);
        let (mut response, stream) = begun.map_err(|error| self.unanswered(error, false))?;
        let gate = awaited.as_ref().map(|awaited| awaited.gate.clone());
        let mut waits = gate.is_some();
        let limit = awaited.map(|awaited| awaited.limit).unwrap_or_default();
        let mut patience = pin!(tokio::time::sleep(limit));
        let mut sending = pin!(send(content, stream));
        let mut is_sent = has_none;
        let response = loop {
            let next = async {
                tokio::select! {
                    biased;
                    event = next(&mut response) => event,
                    sent = &mut sending, if !is_sent => sent.map(|()| Event::Sent),
                    () = &mut patience, if waits => Ok(Event::Waited),
                }
            };
            match self.driven.run(next).await.map_err(|error| self.unanswered(error, true))? {
                Event::Interim(interim) => {
                    if observer.on_interim(interim.status(), interim.headers(), flow.bytes()).await
                        == Heard::Stop
                    {
                        return Ok((ExchangeEnd::Stopped { sent: flow.bytes() }, false));
                    }
                    waits = false;
                    gate.iter().for_each(crate::source::Gate::open);
                }
                Event::Sent => is_sent = true,
                Event::Waited => {
                    waits = false;
                    gate.iter().for_each(crate::source::Gate::open);
                }
                Event::Final(response) => break response,
            }
        };
        let sent = flow.bytes();
        let is_sent = is_sent && (has_none || flow.has_ended());
        let (parts, mut body) = response.into_parts();
        let (content, is_whole) = self.driven.run(read(&mut body)).await;
        let Parts { status, version, headers: fields, .. } = parts;
        let answer = FinalResponse { status, version, fields, content, sent };
        Ok((ExchangeEnd::Response(answer), is_sent && is_whole && self.driven.is_there()))
    }

    fn unanswered(&mut self, error: h2::Error, reached: bool) -> Unanswered {
        let reached = reached && error.reason() != Some(h2::Reason::REFUSED_STREAM);
        Unanswered { error: Error::Lost { source: self.driven.cause().unwrap_or(error).into() }, reached }
    }
}

/// The next response, interim or final.
async fn next(response: &mut ResponseFuture) -> Result<Event, h2::Error> {
    poll_fn(|cx| {
        // Interim responses first: the final one passes them over.
        if let std::task::Poll::Ready(Some(interim)) = response.poll_informational(cx) {
            return std::task::Poll::Ready(interim.map(Event::Interim));
        }
        Pin::new(&mut *response).poll(cx).map_ok(Event::Final)
    })
    .await
}

/// Hands content over as fast as the server's windows allow.
async fn send(mut content: RequestBody, mut stream: SendStream<Bytes>) -> Result<(), h2::Error> {
    loop {
        let Some(frame) = content.frame().await else { break };
        // Why the source failed is kept where it failed; the server is told that no more comes.
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

/// A request as HTTP/2 has it: with the whole URL and without the fields of an HTTP/1.1 connection.
fn translated(request: Request<RequestBody>) -> Result<(Request<()>, RequestBody), Error> {
    let (mut parts, content) = request.into_parts();
    let host = parts.headers.remove(header::HOST);
    let host = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default();
    let scheme = parts
        .extensions
        .remove::<super::SchemeIsHttps>()
        .map_or("http", |secure| if secure.0 { "https" } else { "http" });
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let url: Result<Uri, _> = format!("{scheme}://{host}{target}").parse();
    parts.uri = url.map_err(|_| Error::Field("the host"))?;
    Ok((Request::from_parts(parts, ()), content))
}

/// The content of an answer, and whether that was all of it.
async fn read(body: &mut RecvStream) -> (Bytes, bool) {
    let mut content = BytesMut::new();
    while content.len() < ANSWER_BYTES {
        match body.data().await {
            Some(Ok(bytes)) => {
                let _ = body.flow_control().release_capacity(bytes.len());
                content.extend_from_slice(&bytes[..bytes.len().min(ANSWER_BYTES - content.len())]);
            }
            ended => return (content.freeze(), ended.is_none()),
        }
    }
    (content.freeze(), false)
}
