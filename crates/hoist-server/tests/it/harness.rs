//! A service over a store in memory, requests with scripted content, and seeded random numbers.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hoist_http::BodyError;
use hoist_server::{Answer, Hoist};
use hoist_store::memory::MemoryStore;
use hoist_store::store::Store;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;
use tower_service::Service;

pub(crate) use hoist_proto::testing::SeededRng;

/// The timeout of every wait: longer than any response takes.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// The end of scripted content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// The content is complete.
    Whole,
    /// The peer disconnects.
    Cut,
    /// The peer stalls.
    Never,
}

/// Content in frames, as a transport would yield it.
pub(crate) struct Content {
    frames: VecDeque<Bytes>,
    ends: Ends,
    declared: Option<u64>,
    trailers: Option<HeaderMap>,
    /// Fires when the frames are used up.
    drained: Option<oneshot::Sender<()>>,
}

impl Content {
    pub(crate) fn none() -> Self {
        Self::new(&[], 1, Ends::Whole, Some(0))
    }

    pub(crate) fn sized(bytes: &[u8]) -> Self {
        Self::new(bytes, 4096, Ends::Whole, Some(bytes.len() as u64))
    }

    pub(crate) fn chunked(bytes: &[u8]) -> Self {
        Self::new(bytes, 4096, Ends::Whole, None)
    }

    /// Returns `bytes` in frames of `frame_bytes`. `declared` is the content length in the header section.
    pub(crate) fn new(bytes: &[u8], frame_bytes: usize, ends: Ends, declared: Option<u64>) -> Self {
        let frames = bytes.chunks(frame_bytes).map(Bytes::copy_from_slice).collect();
        Self { frames, ends, declared, trailers: None, drained: None }
    }

    pub(crate) fn with_trailer(mut self, name: &'static str, value: &str) -> Self {
        let value = http::HeaderValue::from_str(value).expect("a field value");
        self.trailers.get_or_insert_default().insert(name, value);
        self
    }

    /// Returns the content and a receiver that completes when the service has read all frames.
    pub(crate) fn watched(mut self) -> (Self, oneshot::Receiver<()>) {
        let (drained, watch) = oneshot::channel();
        self.drained = Some(drained);
        (self, watch)
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(frame) = self.frames.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        if let Some(drained) = self.drained.take() {
            // The receiver may have been dropped.
            let _ = drained.send(());
        }
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        match self.ends {
            Ends::Whole => Poll::Ready(None),
            Ends::Cut => Poll::Ready(Some(Err(BodyError::Disconnected))),
            // Never woken, as with a stalled peer.
            Ends::Never => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ends == Ends::Whole && self.frames.is_empty() && self.declared.is_some()
    }

    fn size_hint(&self) -> SizeHint {
        self.declared.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A response with its content collected.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    pub(crate) content: Bytes,
}

impl Got {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| value.to_str().expect("visible ASCII"))
    }

    pub(crate) fn offset(&self) -> Option<usize> {
        self.field("upload-offset").map(|text| text.parse().expect("an integer"))
    }
}

pub(crate) fn hoist(store: &MemoryStore) -> Hoist {
    Hoist::builder(Arc::new(store.clone()) as Arc<dyn Store>).build()
}

pub(crate) fn request(method: &str, fields: &[(&str, &str)], content: Content) -> Request<Content> {
    request_to("/uploads", method, fields, content)
}

pub(crate) fn request_to(
    path: &str,
    method: &str,
    fields: &[(&str, &str)],
    content: Content,
) -> Request<Content> {
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in fields {
        request = request.header(*name, value.as_bytes());
    }
    request.body(content).expect("a request")
}

/// Sends a request and returns its response, which must arrive within [`SOON`].
pub(crate) async fn send(hoist: &Hoist, request: Request<Content>) -> Got {
    let answer = hoist.clone().call(request);
    let answer = tokio::time::timeout(SOON, answer).await.expect("an answer in time").expect("infallible");
    collect(answer).await
}

pub(crate) async fn collect(answer: Answer) -> Got {
    let (head, content) = answer.into_parts();
    let content = http_body_util::BodyExt::collect(content).await.expect("infallible").to_bytes();
    Got { status: head.status, fields: head.headers, content }
}
