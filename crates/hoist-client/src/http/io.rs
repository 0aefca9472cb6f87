//! A byte stream that counts its traffic, and that can be read to the end after the peer has stopped reading.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::tls_fault;

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A TCP connection, with or without TLS.
pub(crate) type Stream = Box<dyn Duplex>;

/// The traffic of a connection, shared with the request that runs over it.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    bytes: AtomicU64,
    peer_stopped_reading: AtomicBool,
    received_tls_alert: AtomicBool,
}

impl Traffic {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns whether a write has failed, so that the peer reads no more.
    pub(crate) fn peer_stopped_reading(&self) -> bool {
        self.peer_stopped_reading.load(Ordering::Relaxed)
    }

    /// Returns whether the first bytes from the peer were a TLS alert. On a cleartext connection that means that the peer
    /// expects TLS.
    pub(crate) fn received_tls_alert(&self) -> bool {
        self.received_tls_alert.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A stream that counts bytes, and whose failed writes do not prevent reads.
///
/// A server that answers before it has read the whole request may close the connection at once, and its kernel then
/// resets the connection because of the unread bytes. The next write fails although the response may have arrived. So a
/// failed write only stops writing, and the result of reading decides how the connection ended.
pub(crate) struct MonitoredStream {
    stream: Stream,
    traffic: Arc<Traffic>,
    stopped_writing: bool,
    has_read: bool,
}

/// The first bytes of a TLS alert (RFC 8446, Record Protocol): its content type and the major version.
const TLS_ALERT: [u8; 2] = [21, 3];

impl MonitoredStream {
    pub(crate) fn new(stream: Stream, traffic: Arc<Traffic>) -> Self {
        Self { stream, traffic, stopped_writing: false, has_read: false }
    }

    fn on_write(&mut self, cx: &Context<'_>, result: &io::Result<usize>) -> Poll<io::Result<usize>> {
        let Ok(bytes) = *result else { return self.stop_writing(cx) };
        self.traffic.add(bytes);
        Poll::Ready(Ok(bytes))
    }

    /// Stops writing. Wakes the task, which may otherwise wait for this write only and not read.
    fn stop_writing<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        self.stopped_writing = true;
        self.traffic.peer_stopped_reading.store(true, Ordering::Relaxed);
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
        let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer)).map_err(tls_fault::in_words);
        let new = &buffer.filled()[before..];
        self.traffic.add(new.len());
        if !self.has_read && !new.is_empty() {
            self.has_read = true;
            self.traffic.received_tls_alert.store(new.starts_with(&TLS_ALERT), Ordering::Relaxed);
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for MonitoredStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.stopped_writing {
            return Poll::Pending;
        }
        let result = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        self.on_write(cx, &result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.stopped_writing {
            return Poll::Pending;
        }
        let result = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices));
        self.on_write(cx, &result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.stopped_writing {
            return Poll::Pending;
        }
        if ready!(Pin::new(&mut self.stream).poll_flush(cx)).is_ok() {
            return Poll::Ready(Ok(()));
        }
        self.stop_writing(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.stopped_writing {
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

    /// A connection whose writes fail after the head, and whose response can be read only then. A test over sockets would
    /// meet this order of events once in a thousand runs.
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
        let traffic = Arc::new(Traffic::default());
        let stream =
            MonitoredStream::new(Box::new(AnsweredThenReset { written: 0, answer }), traffic.clone());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a connection");
        let request = http::Request::post("/uploads").body(Full::new(Bytes::from_static(b"content")));
        let asked = async {
            let response = sender.send_request(request.expect("a request")).await.expect("an answer");
            (response.status().as_u16(), response.into_body().collect().await.expect("content").to_bytes())
        };
        let asked = tokio::select! {
            asked = asked => asked,
            // It waits for the content to be written, which never happens.
            ended = connection => panic!("the connection ended: {ended:?}"),
        };
        assert_eq!((asked.0, &asked.1[..]), (413, &b"much"[..]));
        assert_eq!((traffic.bytes(), traffic.peer_stopped_reading()), (10 + answer.len() as u64, true));
    }
}
