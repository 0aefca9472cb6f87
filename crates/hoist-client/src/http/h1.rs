//! HTTP/1.1 connections, by hyper.

use std::pin::{Pin, pin};
use std::task::Context;

use hoist_proto::client::OnInterim;
use http::{HeaderMap, Request, StatusCode};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;

use super::driven::Driven;
use super::exchange::{
    ExchangeEnd, ExchangeError, ExpectContinue, HeldContent, InterimObserver, read_content,
};
use super::io::MonitoredStream;
use crate::error::Error;
use crate::progress::ContentFlow;
use crate::response::FinalResponse;
use crate::source::RequestBody;

/// Interim responses that are queued for the observer. Further ones are dropped, as they would add nothing.
const QUEUED_INTERIMS_MAX: usize = 16;

pub(super) struct H1Connection {
    sender: http1::SendRequest<RequestBody>,
    driven: Driven<http1::Connection<TokioIo<MonitoredStream>, RequestBody>, hyper::Error>,
}

/// The next event of a running request.
enum Event {
    Interim(StatusCode, HeaderMap),
    /// hyper has dropped the callback, so no further interim responses will come.
    InterimsEnded,
    ExpectTimeout,
    Final(http::Response<Incoming>),
}

impl H1Connection {
    pub(super) async fn open(stream: MonitoredStream) -> Result<Self, Error> {
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| Error::Lost { source: error.into() })?;
        Ok(Self { sender, driven: Driven::new(connection) })
    }

    pub(super) async fn is_reusable(&mut self) -> bool {
        // One poll of the connection notices that the server has closed it.
        self.driven.run(tokio::task::yield_now()).await;
        self.driven.is_open() && self.driven.run(self.sender.ready()).await.is_ok()
    }

    /// Sends a request and returns its end, and whether the connection can carry another request. The response counts
    /// as soon as its head has arrived: whatever the server does to the connection afterwards is no failure.
    //= TDR-104-04
    pub(super) async fn exchange(
        &mut self,
        mut request: Request<RequestBody>,
        flow: &ContentFlow,
        expect: Option<ExpectContinue>,
        observer: &mut impl InterimObserver,
    ) -> Result<(ExchangeEnd, bool), ExchangeError> {
        let (interim_sender, mut interims) = mpsc::channel(QUEUED_INTERIMS_MAX);
        hyper::ext::on_informational(&mut request, move |interim| {
            let _ = interim_sender.try_send((interim.status(), interim.headers().clone()));
        });
        let mut gate = HeldContent::new(expect);
        let mut response = pin!(self.sender.try_send_request(request));
        let mut interims_ended = false;
        let response = loop {
            let next = async {
                tokio::select! {
                    biased;
                    interim = interims.recv(), if !interims_ended => Ok(
                        interim.map_or(Event::InterimsEnded, |(status, fields)| Event::Interim(status, fields))
                    ),
                    response = &mut response => response.map(Event::Final),
                    () = gate.timeout() => Ok(Event::ExpectTimeout),
                }
            };
            match self.driven.run(next).await.map_err(|error| self.failed(error, flow))? {
                Event::Interim(status, fields) => {
                    if observer.on_interim(status, &fields, flow.bytes()).await == OnInterim::Stop {
                        return Ok((ExchangeEnd::Stopped { sent: flow.bytes() }, false));
                    }
                    gate.release();
                }
                Event::InterimsEnded => interims_ended = true,
                Event::ExpectTimeout => gate.release(),
                Event::Final(response) => break response,
            }
        };
        let sent = flow.bytes();
        let is_sent = flow.has_ended();
        let (parts, mut body) = response.into_parts();
        let poll = |cx: &mut Context<'_>| {
            Pin::new(&mut body).poll_frame(cx).map_ok(|frame| frame.into_data().unwrap_or_default())
        };
        let (content, is_whole) = self.driven.run(read_content(poll)).await;
        // A server that refuses content may never read it, nor what follows on the connection. All of it having been
        // sent only means that it fit into the socket buffers.
        let is_read = sent == 0 || parts.status.is_success();
        let is_reusable = is_sent && is_read && is_whole && self.driven.is_open();
        let response = FinalResponse::new(parts, content, sent);
        Ok((ExchangeEnd::Response(response), is_reusable))
    }

    /// Prefers the error of the connection to that of the request. hyper returns a request that it has not begun to send.
    fn failed(&mut self, mut error: TrySendError<Request<RequestBody>>, flow: &ContentFlow) -> ExchangeError {
        let reached = error.take_message().is_none();
        let source = self.driven.cause().unwrap_or_else(|| error.into_error()).into();
        ExchangeError { error: Error::Lost { source }, reached, sent: flow.bytes() }
    }
}
