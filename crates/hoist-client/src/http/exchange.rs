//! One exchange over a connection: the request to send, the observer of interim responses, and the outcomes.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hoist_proto::client::OnInterim;
use http::{HeaderMap, Request, StatusCode};
use tokio::time::Sleep;

use crate::error::Error;
use crate::origin::Origin;
use crate::response::FinalResponse;
use crate::source::{Gate, RequestBody};

/// The most content of a response that is kept.
const RESPONSE_BYTES_MAX: usize = 1024 * 1024;
pub(super) const USER_AGENT: &str = concat!("hoist-client/", env!("CARGO_PKG_VERSION"));

pub(crate) struct OutgoingRequest {
    pub(crate) head: Request<()>,
    pub(crate) content: RequestBody,
    pub(crate) expect_continue: Option<ExpectContinue>,
    /// The origin of the URL that the caller of this library gave. Only this origin is sent the caller's header fields.
    pub(crate) caller_origin: Origin,
    /// The longest time to wait for a connection, or for any byte over it. The timeouts of the client apply, too.
    pub(crate) patience: Duration,
}

impl OutgoingRequest {
    pub(crate) fn without_content(head: Request<()>, caller_origin: Origin, patience: Duration) -> Self {
        Self { head, content: RequestBody::none(), expect_continue: None, caller_origin, patience }
    }
}

/// Holds back the content of a request until an interim response arrives or the timeout has passed.
pub(crate) struct ExpectContinue {
    pub(crate) gate: Gate,
    pub(crate) timeout: Duration,
}

/// The gate of an [`ExpectContinue`] while the content is held back, with the timer that ends that.
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
        self.0 = None;
    }
}

/// Reads the content of a response up to the limit. Returns it, and whether that was all of it.
pub(super) async fn read_content<E>(
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<Option<Result<Bytes, E>>>,
) -> (Bytes, bool) {
    let mut content = BytesMut::new();
    while content.len() < RESPONSE_BYTES_MAX {
        match poll_fn(&mut poll).await {
            Some(Ok(bytes)) => {
                content.extend_from_slice(&bytes[..bytes.len().min(RESPONSE_BYTES_MAX - content.len())]);
            }
            ended => return (content.freeze(), ended.is_none()),
        }
    }
    (content.freeze(), false)
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

pub(crate) struct NoObserver;

impl InterimObserver for NoObserver {
    async fn on_interim(&mut self, _: StatusCode, _: &HeaderMap, _: u64) -> OnInterim {
        OnInterim::Continue
    }
}

/// The end of an exchange that did not fail.
#[derive(Debug)]
pub(crate) enum ExchangeEnd {
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
