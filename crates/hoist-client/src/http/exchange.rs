//! One exchange over a connection: the request to send, the observer of interim responses, and the outcomes.

use std::pin::Pin;
use std::time::Duration;

use hoist_proto::client::OnInterim;
use http::{HeaderMap, Request, StatusCode};
use tokio::time::Sleep;

use crate::error::Error;
use crate::origin::Origin;
use crate::response::FinalResponse;
use crate::source::{Gate, RequestBody};

/// The most content of a response that is kept.
pub(super) const RESPONSE_BYTES_MAX: usize = 1024 * 1024;
/// The value of `User-Agent`.
pub(super) const USER_AGENT: &str = concat!("hoist-client/", env!("CARGO_PKG_VERSION"));

/// A request to send.
pub(crate) struct OutgoingRequest {
    pub(crate) head: Request<()>,
    pub(crate) content: RequestBody,
    pub(crate) expect_continue: Option<ExpectContinue>,
    /// The origin of the URL that the caller of this library gave. Only this origin is sent the caller's header fields.
    pub(crate) caller_origin: Origin,
}

impl OutgoingRequest {
    /// A request without content.
    pub(crate) fn without_content(head: Request<()>, caller_origin: Origin) -> Self {
        Self { head, content: RequestBody::none(), expect_continue: None, caller_origin }
    }
}

/// Holds back the content of a request until an interim response arrives or the timeout has passed.
pub(crate) struct ExpectContinue {
    /// The gate that the content waits for.
    pub(crate) gate: Gate,
    pub(crate) timeout: Duration,
}

/// The gate of an [`ExpectContinue`] while it is closed, with the timer that opens it.
pub(super) struct HeldContent(Option<(Gate, Pin<Box<Sleep>>)>);

impl HeldContent {
    pub(super) fn new(expect: Option<ExpectContinue>) -> Self {
        Self(expect.map(|ExpectContinue { gate, timeout }| (gate, Box::pin(tokio::time::sleep(timeout)))))
    }

    /// Waits for the timeout; forever if the content is not held back.
    pub(super) async fn timeout(&mut self) {
        match &mut self.0 {
            Some((_, timer)) => timer.as_mut().await,
            None => std::future::pending().await,
        }
    }

    /// Lets the content pass. Idempotent.
    pub(super) fn release(&mut self) {
        if let Some((gate, _)) = self.0.take() {
            gate.open();
        }
    }
}

/// An observer of the interim responses to a request.
pub(crate) trait InterimObserver: Send {
    /// Receives an interim response and returns whether to go on with the request. `sent` counts the bytes of content
    /// handed to the connection so far.
    fn on_interim(
        &mut self,
        status: StatusCode,
        fields: &HeaderMap,
        sent: u64,
    ) -> impl Future<Output = OnInterim> + Send;
}

/// An observer that ignores all interim responses.
pub(crate) struct NoObserver;

impl InterimObserver for NoObserver {
    async fn on_interim(&mut self, _: StatusCode, _: &HeaderMap, _: u64) -> OnInterim {
        OnInterim::Continue
    }
}

/// The end of an exchange that did not fail.
#[derive(Debug)]
pub(crate) enum ExchangeEnd {
    /// The final response arrived.
    Response(FinalResponse),
    /// The observer stopped the request after an interim response.
    Stopped {
        /// Bytes of the request's content handed to the connection.
        sent: u64,
    },
}

/// A failure to get a final response.
#[derive(Debug)]
pub(crate) struct ExchangeError {
    pub(crate) error: Error,
    /// True if the server may have received any part of the request.
    pub(crate) reached: bool,
    /// Bytes of the request's content handed to the connection.
    pub(crate) sent: u64,
}
