//! [`Body`]: what a request carries, whichever HTTP it came by.
//!
//! Owns the public type and its errors. Where the bytes come from is in `h1/read.rs` and `h2/body.rs`.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// The content of a request, as it arrives.
///
/// It may be moved to another task and read there, also after the service's future has been dropped: it ends
/// with the response (what is unread then yields [`BodyError::Aborted`]) or with the connection. Bytes that
/// arrived before a peer vanished are always yielded before [`BodyError::Cut`].
///
/// Its size hint is exact for a `Content-Length` and for no content at all, unknown for the chunked coding.
#[derive(Default)]
pub struct Body(Kind);

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Whole(Bytes),
    H1(crate::h1::Incoming),
    H2(crate::h2::Incoming),
}

impl Body {
    /// A body without content.
    pub fn empty() -> Self {
        Body(Kind::Empty)
    }

    pub(crate) fn h1(incoming: crate::h1::Incoming) -> Self {
        Body(Kind::H1(incoming))
    }

    pub(crate) fn h2(incoming: crate::h2::Incoming) -> Self {
        Body(Kind::H2(incoming))
    }
}

/// A body that is there already, for tests of services.
impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Body(if bytes.is_empty() { Kind::Empty } else { Kind::Whole(bytes) })
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Whole(bytes) => {
                let frame = Frame::data(std::mem::take(bytes));
                self.0 = Kind::Empty;
                Poll::Ready(Some(Ok(frame)))
            }
            Kind::H1(incoming) => incoming.poll_frame(cx),
            Kind::H2(incoming) => incoming.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Whole(_) => false,
            Kind::H1(incoming) => incoming.is_end_stream(),
            Kind::H2(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::H1(incoming) => incoming.size_hint(),
            Kind::H2(incoming) => incoming.size_hint(),
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match &self.0 {
            Kind::Empty => "empty",
            Kind::Whole(_) => "whole",
            Kind::H1(_) => "h1",
            Kind::H2(_) => "h2",
        };
        f.debug_tuple("Body").field(&kind).finish()
    }
}

/// Why a request body ended before its end. Everything that arrived before was yielded first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The peer vanished: it closed or reset the connection or the stream.
    #[error("the peer ended the connection before the end of the content")]
    Cut,
    /// We ended it: by [`Abort`](crate::Abort), because the response is complete, or because the server stops.
    #[error("the server ended the request before the end of its content")]
    Aborted,
    /// Nothing arrived for [`Limits::body_idle`](crate::Limits::body_idle).
    #[error("no content arrived for too long")]
    Idle,
    /// Less arrived than [`Limits::body_rate_min`](crate::Limits::body_rate_min).
    #[error("the content arrived too slowly")]
    TooSlow,
    /// The peer broke the framing, for the reason given.
    #[error("malformed content: {0}")]
    Malformed(&'static str),
}
