//! [`Body`]: the content of a request, whichever version of HTTP carries it.
//!
//! Owns the public type and its errors. Content that is still arriving comes from a [`Source`].

use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// One step of reading content: `None` is its end.
pub(crate) type PollFrame = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

/// The content of a request, as it arrives.
///
/// It may be moved to another task and read there, also after the service's future has been dropped. It ends with the
/// response (unread content then yields [`BodyError::Aborted`]) or with the connection. Bytes that arrived before a
/// peer disconnected are always yielded before [`BodyError::Disconnected`].
///
/// The size hint is exact for a `Content-Length` and for no content at all, and unknown for the chunked coding.
#[derive(Default)]
pub struct Body {
    buffered: Bytes,
    streamed: Option<Streamed>,
}

impl Body {
    /// Returns a body without content.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Returns the handle that moves the content past the process, if the connection can do that: over HTTP/1.1 without
    /// TLS, with a stated length.
    ///
    /// The body knows nothing of the bytes that are moved, except that its end shows when all of them were.
    pub fn splice(&self) -> Option<Splice> {
        let source =
            &self.streamed.as_ref().filter(|body| body.ends_at_length && body.left.is_some())?.source;
        source.can_splice().then(|| Splice(Arc::clone(source)))
    }

    /// Returns a body that reads from `source`.
    pub(crate) fn streamed(source: Arc<dyn Source>, length: Option<u64>, ends_at_length: bool) -> Self {
        let streamed = Streamed { source, left: length, ends_at_length, ended: false };
        Body { buffered: Bytes::new(), streamed: Some(streamed) }
    }
}

/// A body whose content is complete, for tests of services.
impl From<Bytes> for Body {
    fn from(buffered: Bytes) -> Self {
        Body { buffered, streamed: None }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> PollFrame {
        if let Some(streamed) = &mut self.streamed {
            return streamed.poll_frame(cx);
        }
        let data = std::mem::take(&mut self.buffered);
        Poll::Ready((!data.is_empty()).then(|| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        let streamed = self.streamed.as_ref();
        streamed.map_or(self.buffered.is_empty(), |body| body.ended || body.source.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let buffered = Some(self.buffered.len() as u64);
        let length = self.streamed.as_ref().map_or(buffered, |body| body.left);
        length.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("size_hint", &http_body::Body::size_hint(self)).finish_non_exhaustive()
    }
}

/// The shared end of a request's content that a [`Body`] reads from. A transport holds the other end.
pub(crate) trait Source: Send + Sync {
    /// Returns the next frame. It is not polled again after the end or an error.
    fn poll_frame(&self, cx: &mut Context<'_>) -> PollFrame;

    /// Returns whether no frame follows.
    fn is_end_stream(&self) -> bool;

    /// Tells the transport that the body was dropped.
    fn body_dropped(&self);

    /// Returns whether [`poll_splice`](Self::poll_splice) may move bytes.
    fn can_splice(&self) -> bool {
        false
    }

    /// Does what [`Splice::poll_splice`] says.
    fn poll_splice(
        &self,
        _cx: &mut Context<'_>,
        _pipe: BorrowedFd<'_>,
        _bytes_max: usize,
    ) -> Poll<Option<NonZeroUsize>> {
        Poll::Ready(None)
    }
}

/// Moves the content of a request from the kernel's receive buffer into a pipe, so that it is not copied into the process.
/// See [`Body::splice`].
#[derive(Clone)]
pub struct Splice(Arc<dyn Source>);

impl Splice {
    /// Moves at most `bytes_max` of the next bytes into an empty pipe, and returns their number. Pending means that the
    /// peer has to send more.
    ///
    /// `None` means that the body has to be polled for its next frame instead: bytes in the process come first, and ends
    /// and errors are frames.
    pub fn poll_splice(
        &self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        bytes_max: usize,
    ) -> Poll<Option<NonZeroUsize>> {
        self.0.poll_splice(cx, pipe, bytes_max)
    }
}

impl std::fmt::Debug for Splice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Splice").finish_non_exhaustive()
    }
}

/// Content that is read from a [`Source`].
struct Streamed {
    source: Arc<dyn Source>,
    /// The bytes still to be yielded; `None` if the peer has not stated a length.
    left: Option<u64>,
    /// True if no trailers can follow content of a stated length.
    ends_at_length: bool,
    ended: bool,
}

impl Streamed {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> PollFrame {
        if self.ended {
            return Poll::Ready(None);
        }
        let polled = self.source.poll_frame(cx);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.left = self.left.map(|left| left.saturating_sub(bytes));
                self.ended = frame.is_trailers() || self.ends_at_length && self.left == Some(0);
            }
            Poll::Ready(None | Some(Err(_))) => self.ended = true,
        }
        polled
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        self.source.body_dropped();
    }
}

/// The reason why a request body ended before its end. All bytes that arrived before it were yielded first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The peer closed or reset the connection or the stream.
    #[error("the peer disconnected before the end of the content")]
    Disconnected,
    /// The server ended the request: by [`Abort`](crate::Abort), because the response is complete, or because the
    /// server stops.
    #[error("the server ended the request before the end of its content")]
    Aborted,
    /// No content arrived for [`Limits::body_idle`](crate::Limits::body_idle).
    #[error("no content arrived within the idle timeout")]
    Idle,
    /// Less content arrived than [`Limits::body_rate_min`](crate::Limits::body_rate_min).
    #[error("the content arrived more slowly than the minimum rate")]
    TooSlow,
    /// The framing of the content is malformed, for the given reason.
    #[error("malformed content: {0}")]
    Malformed(&'static str),
}
