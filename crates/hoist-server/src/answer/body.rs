//! The body of a response: in memory, a range of an upload's stored content, or pieces without an end that is known.
//!
//! Stored content is read when the transport asks for it and not before, so that a slow peer occupies one buffer.

use std::fmt;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hoist_http::DirectBody;
use hoist_store::store::{BoxFuture, Error, Reader};
use http_body::{Frame, SizeHint};

use crate::meter::Meter;

/// The body of an [`Answer`](super::Answer).
pub struct Body {
    source: Source,
    /// The number of bytes sent.
    sent: Arc<AtomicU64>,
    /// Reports the request when the body is dropped.
    _meter: Option<Box<Meter>>,
}

enum Source {
    Memory(Bytes),
    Store { reading: Reading, bytes_left: u64 },
    Pieces(PiecesLeft),
}

/// A source of content in pieces, each of which is asked for when the transport has taken the one before.
pub(crate) trait Pieces: Send + 'static {
    /// Returns the next piece; `None` at the end.
    fn next(&mut self) -> BoxFuture<'_, Option<Bytes>>;
}

enum PiecesLeft {
    Idle(Box<dyn Pieces>),
    /// The next piece is awaited. It returns the source.
    Waiting(BoxFuture<'static, (Box<dyn Pieces>, Option<Bytes>)>),
    Ended,
}

enum Reading {
    Idle(Box<dyn Reader>),
    /// A read is in progress. It returns the reader.
    Waiting(ReadFuture<Option<Bytes>>),
    /// Content is being sent to the socket. It returns the reader.
    Sending(ReadFuture<bool>),
    Ended,
}

type ReadFuture<T> = Pin<Box<dyn Future<Output = (Box<dyn Reader>, Result<T, Error>)> + Send>>;

/// The stored content is shorter than its record states.
#[derive(Debug, thiserror::Error)]
#[error("the stored content ends {0} bytes early")]
struct Short(u64);

impl Body {
    /// Returns a body of the first `bytes` bytes of `reader`.
    pub(crate) fn stored(reader: Box<dyn Reader>, bytes: u64) -> Self {
        Source::Store { reading: Reading::Idle(reader), bytes_left: bytes }.into()
    }

    /// Returns a body of pieces.
    pub(crate) fn of_pieces(pieces: Box<dyn Pieces>) -> Self {
        Source::Pieces(PiecesLeft::Idle(pieces)).into()
    }

    /// Returns the body with the measure of its request, which counts what is sent.
    pub(crate) fn measured(self, meter: Meter) -> Self {
        Self { sent: meter.sent(), _meter: Some(Box::new(meter)), ..self }
    }

    /// Returns the number of bytes to come, if it is known.
    fn bytes_left(&self) -> Option<u64> {
        match &self.source {
            Source::Memory(content) => Some(content.len() as u64),
            Source::Store { bytes_left, .. } => Some(*bytes_left),
            Source::Pieces(PiecesLeft::Ended) => Some(0),
            Source::Pieces(PiecesLeft::Idle(_) | PiecesLeft::Waiting(_)) => None,
        }
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(content: T) -> Self {
        Source::Memory(content.into()).into()
    }
}

impl From<Source> for Body {
    fn from(source: Source) -> Self {
        Self { source, sent: Arc::default(), _meter: None }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::from(Bytes::new())
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes_left() {
            Some(bytes) => write!(f, "Body({bytes} bytes)"),
            None => f.write_str("Body(pieces)"),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = crate::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let next = match &mut self.source {
            Source::Memory(content) => {
                Ok(Some(std::mem::take(content)).filter(|content| !content.is_empty()))
            }
            Source::Store { reading, bytes_left } => ready!(reading.poll(cx, bytes_left)),
            Source::Pieces(pieces) => Ok(ready!(pieces.poll(cx))),
        };
        if let Ok(Some(piece)) = &next {
            self.sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        Poll::Ready(next.map(|piece| piece.map(Frame::data)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.bytes_left() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.bytes_left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl DirectBody for Body {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        socket: &Arc<OwnedFd>,
    ) -> Poll<Result<bool, crate::BoxError>> {
        let Source::Store { reading, bytes_left } = &mut self.source else { return Poll::Ready(Ok(false)) };
        let was_sent = ready!(reading.poll_send(cx, socket, *bytes_left, &self.sent))?;
        if was_sent {
            *bytes_left = 0;
        }
        Poll::Ready(Ok(was_sent))
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl PiecesLeft {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut future = match std::mem::replace(self, Self::Ended) {
            Self::Idle(mut pieces) => Box::pin(async move {
                let piece = pieces.next().await;
                (pieces, piece)
            }),
            Self::Waiting(future) => future,
            Self::Ended => return Poll::Ready(None),
        };
        let Poll::Ready((pieces, piece)) = future.as_mut().poll(cx) else {
            *self = Self::Waiting(future);
            return Poll::Pending;
        };
        if piece.is_some() {
            *self = Self::Idle(pieces);
        }
        Poll::Ready(piece)
    }
}

impl Reading {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        bytes_left: &mut u64,
    ) -> Poll<Result<Option<Bytes>, crate::BoxError>> {
        let mut future = match std::mem::replace(self, Self::Ended) {
            Self::Idle(mut reader) if *bytes_left > 0 => Box::pin(async move {
                let read = reader.next().await;
                (reader, read)
            }),
            Self::Waiting(future) => future,
            Self::Idle(_) | Self::Sending(_) | Self::Ended => return Poll::Ready(Ok(None)),
        };
        let Poll::Ready((reader, read)) = future.as_mut().poll(cx) else {
            *self = Self::Waiting(future);
            return Poll::Pending;
        };
        let mut piece = read?.ok_or(Short(*bytes_left))?;
        piece.truncate(usize::try_from(*bytes_left).unwrap_or(usize::MAX));
        *bytes_left -= piece.len() as u64;
        if *bytes_left > 0 {
            *self = Self::Idle(reader);
        }
        Poll::Ready(Ok(Some(piece)))
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        socket: &Arc<OwnedFd>,
        bytes: u64,
        sent: &Arc<AtomicU64>,
    ) -> Poll<Result<bool, crate::BoxError>> {
        let mut future = match std::mem::replace(self, Self::Ended) {
            Self::Idle(mut reader) => {
                let (socket, sent) = (Arc::clone(socket), Arc::clone(sent));
                Box::pin(async move {
                    let was_sent = reader.send(&socket, bytes, &sent).await;
                    (reader, was_sent)
                })
            }
            Self::Sending(future) => future,
            reading @ (Self::Waiting(_) | Self::Ended) => {
                *self = reading;
                return Poll::Ready(Ok(false));
            }
        };
        let Poll::Ready((reader, was_sent)) = future.as_mut().poll(cx) else {
            *self = Self::Sending(future);
            return Poll::Pending;
        };
        if !was_sent? {
            *self = Self::Idle(reader);
            return Poll::Ready(Ok(false));
        }
        Poll::Ready(Ok(true))
    }
}
