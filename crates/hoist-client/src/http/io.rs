//! A connection's bytes, counted, and readable to the end when the peer has stopped reading.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A byte stream in both directions.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A TCP connection, with or without TLS.
pub(crate) type Stream = Box<dyn Duplex>;

/// The activity of a connection.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    bytes: AtomicU64,
    deaf: AtomicBool,
    alert: AtomicBool,
}

impl Traffic {
    /// Bytes that moved, in both directions.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// True once the peer has stopped reading.
    pub(crate) fn peer_stopped_reading(&self) -> bool {
        self.deaf.load(Ordering::Relaxed)
    }

    /// True if the peer's first bytes were a TLS alert, although this side speaks cleartext.
    pub(crate) fn received_tls_alert(&self) -> bool {
        self.alert.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Counts bytes in both directions, and survives the end of one of them.
///
/// A server that answers before it has read the whole request may close at once, and its kernel then resets the
/// connection for the unread bytes. Writing fails at that moment; the answer may be there to be read all the same.
/// So a failed write stops writing and nothing else: reading tells how the connection ended.
pub(crate) struct MonitoredStream {
    stream: Stream,
    moved: Arc<Traffic>,
    deaf: bool,
    has_read: bool,
}

/// The first bytes of an alert (RFC 8446, Record Protocol): its content type and the major version.
const ALERT: [u8; 2] = [21, 3];

impl MonitoredStream {
    pub(crate) fn new(stream: Stream, moved: Arc<Traffic>) -> Self {
        Self { stream, moved, deaf: false, has_read: false }
    }

    fn wrote(&mut self, cx: &Context<'_>, result: &io::Result<usize>) -> Poll<io::Result<usize>> {
        let Ok(bytes) = *result else { return self.deafen(cx) };
        self.moved.add(bytes);
        Poll::Ready(Ok(bytes))
    }

    /// Stops writing. The task is woken, because it may be about to wait for nothing but this write, and has to read.
    fn deafen<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        self.deaf = true;
        self.moved.deaf.store(true, Ordering::Relaxed);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsyncRead for MonitoredStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        let new = &buffer.filled()[before..];
        self.moved.add(new.len());
        if !self.has_read && !new.is_empty() {
            self.has_read = true;
            self.moved.alert.store(new.starts_with(&ALERT), Ordering::Relaxed);
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for MonitoredStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.deaf {
            return Poll::Pending;
        }
        let result = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        self.wrote(cx, &result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.deaf {
            return Poll::Pending;
        }
        let result = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices));
        self.wrote(cx, &result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.deaf {
            return Poll::Pending;
        }
        if ready!(Pin::new(&mut self.stream).poll_flush(cx)).is_ok() {
            return Poll::Ready(Ok(()));
        }
        self.deafen(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.deaf {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;

    use super::*;

    /// A connection whose writes fail behind the head, and whose answer is there only then: the order of events that a
    /// test over sockets meets once in a thousand runs.
    struct AnsweredThenReset {
        written: usize,
        answer: &'static [u8],
    }

    impl AsyncWrite for AnsweredThenReset {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if self.written > 0 {
                self.written = usize::MAX;
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            self.written = bytes.len().min(10);
            Poll::Ready(Ok(self.written))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for AnsweredThenReset {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if self.written < usize::MAX {
                return Poll::Pending;
            }
            buffer.put_slice(std::mem::take(&mut self.answer));
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_failed_write_does_not_hide_the_answer() {
        let answer = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nmuch";
        let moved = Arc::new(Traffic::default());
        let stream = MonitoredStream::new(Box::new(AnsweredThenReset { written: 0, answer }), moved.clone());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a connection");
        let request = http::Request::post("/uploads").body(Full::new(Bytes::from_static(b"content")));
        let asked = async {
            let response = sender.send_request(request.expect("a request")).await.expect("an answer");
            (response.status().as_u16(), response.into_body().collect().await.expect("content").to_bytes())
        };
        let asked = tokio::select! {
            asked = asked => asked,
            // There is still content to write, and the peer no longer reads it.
            ended = connection => panic!("the connection ended: {ended:?}"),
        };
        assert_eq!((asked.0, &asked.1[..]), (413, &b"much"[..]));
        assert_eq!((moved.bytes(), moved.peer_stopped_reading()), (10 + answer.len() as u64, true));
    }
}
