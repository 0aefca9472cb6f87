//! HTTP/1.1, by hyper.

use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hoist_proto::client::Heard;
use http::response::Parts;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;

use super::driven::Driven;
use super::io::{MonitoredStream, Traffic};
use super::{ANSWER_BYTES, ExchangeEnd, ExpectContinue, FinalResponse, InterimObserver, Unanswered};
use crate::error::Error;
use crate::progress::ContentFlow;
use crate::source::RequestBody;

/// Interim responses that may wait to be heard. More than that say nothing new.
const INTERIMS_MAX: usize = 16;

type HyperConnection = http1::Connection<TokioIo<MonitoredStream>, RequestBody>;

/// A connection, as long as it lives, and why it ended.
pub(super) struct H1Connection {
    sender: http1::SendRequest<RequestBody>,
    driven: Driven<HyperConnection, hyper::Error>,
    moved: Arc<Traffic>,
}

/// The next event of a request under way.
enum Event {
    Interim(StatusCode, HeaderMap),
    /// Nobody is there any more to tell of interim responses.
    Quiet,
    /// The time to wait for a sign is over.
    Waited,
    Final(http::Response<Incoming>),
}

impl H1Connection {
    pub(super) async fn open(stream: MonitoredStream, moved: Arc<Traffic>) -> Result<Self, Error> {
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| Error::Lost { source: error.into() })?;
        let driven = Driven::new(connection);
        Ok(Self { sender, driven, moved })
    }

    pub(super) fn moved(&self) -> Arc<Traffic> {
        self.moved.clone()
    }

    /// True if the next request may go over it.
    pub(super) async fn is_there(&mut self) -> bool {
        // A connection that the server has closed ends when it is polled.
        self.driven.run(tokio::task::yield_now()).await;
        self.driven.is_there() && self.driven.run(self.sender.ready()).await.is_ok()
    }

    /// Sends the request and reads its answer, and says whether the connection is good for another. The answer counts
    /// from its head on: what a peer that has answered does to the connection afterwards is no failure of the request.
    //= TDR-104-04
    pub(super) async fn converse(
        &mut self,
        mut request: Request<RequestBody>,
        flow: &ContentFlow,
        awaited: Option<ExpectContinue>,
        observer: &mut dyn InterimObserver,
    ) -> Result<(ExchangeEnd, bool), Unanswered> {
        let (interim_came, mut interims) = mpsc::channel(INTERIMS_MAX);
        hyper::ext::on_informational(&mut request, move |interim| {
            let _ = interim_came.try_send((interim.status(), interim.headers().clone()));
        });
        let gate = awaited.as_ref().map(|awaited| awaited.gate.clone());
        let mut waits = gate.is_some();
        let limit = awaited.map(|awaited| awaited.limit).unwrap_or_default();
        let mut patience = pin!(tokio::time::sleep(limit));
        let mut response = pin!(self.sender.try_send_request(request));
        let mut is_quiet = false;
        let response = loop {
            let next = async {
                tokio::select! {
                    biased;
                    interim = interims.recv(), if !is_quiet => {
                        Ok(interim.map_or(Event::Quiet, |(status, fields)| Event::Interim(status, fields)))
                    }
                    response = &mut response => response.map(Event::Final),
                    () = &mut patience, if waits => Ok(Event::Waited),
                }
            };
            match self.driven.run(next).await.map_err(|error| self.unanswered(error))? {
                Event::Interim(status, fields) => {
                    let sent = flow.bytes();
                    if observer.on_interim(status, &fields, sent).await == Heard::Stop {
                        return Ok((ExchangeEnd::Stopped { sent: flow.bytes() }, false));
                    }
                    waits = open(gate.as_ref());
                }
                Event::Quiet => is_quiet = true,
                Event::Waited => waits = open(gate.as_ref()),
                Event::Final(response) => break response,
            }
        };
        let sent = flow.bytes();
        let is_sent = flow.has_ended();
        let (parts, mut body) = response.into_parts();
        let (content, is_whole) = self.driven.run(read(&mut body)).await;
        let Parts { status, version, headers: fields, .. } = parts;
        // A server that refuses content may have left it unread, and then never reads what comes behind it: that all of it
        // was sent says no more than that it fits into sockets.
        let is_read = sent == 0 || status.is_success();
        let is_good = is_sent && is_read && is_whole && self.driven.is_there();
        let answer = FinalResponse { status, version, fields, content, sent };
        Ok((ExchangeEnd::Response(answer), is_good))
    }

    /// The error of the connection, which says more than that of the request it broke. A request that comes back was
    /// never begun.
    fn unanswered(&mut self, mut error: TrySendError<Request<RequestBody>>) -> Unanswered {
        let reached = error.take_message().is_none();
        let source = self.driven.cause().unwrap_or_else(|| error.into_error()).into();
        Unanswered { error: Error::Lost { source }, reached }
    }
}

/// Lets content pass; nothing is waited for any more.
fn open(gate: Option<&crate::source::Gate>) -> bool {
    if let Some(gate) = gate {
        gate.open();
    }
    false
}

/// The content of an answer, and whether that was all of it.
async fn read(body: &mut Incoming) -> (Bytes, bool) {
    let mut content = BytesMut::new();
    while content.len() < ANSWER_BYTES {
        match body.frame().await {
            Some(Ok(frame)) => {
                let Some(bytes) = frame.data_ref() else { continue };
                content.extend_from_slice(&bytes[..bytes.len().min(ANSWER_BYTES - content.len())]);
            }
            ended => return (content.freeze(), ended.is_none()),
        }
    }
    (content.freeze(), false)
}
