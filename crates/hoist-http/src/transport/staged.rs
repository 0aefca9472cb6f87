//! Reading from TLS in large pieces: the socket beneath, and the records above.
//!
//! rustls reads 4 KiB at a time, which took five system calls for a record of 16 KiB, and yields one record at a time.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::Socket;
use crate::accepted::Accepted;

/// Bytes that one read of the socket takes at most.
const READ_BYTES: usize = 64 << 10;

pub(super) type Tls = tokio_rustls::server::TlsStream<StagedSocket>;

/// A socket with a buffer for what it received. The buffer is freed when there is nothing to read, so that idle
/// connections hold none.
pub(crate) struct StagedSocket {
    socket: Socket,
    staged: BytesMut,
    /// The error that TLS has found behind bytes that were read, for the next read.
    failure: Option<io::Error>,
}

impl StagedSocket {
    pub(crate) fn new(socket: Socket) -> Self {
        StagedSocket { socket, staged: BytesMut::new(), failure: None }
    }

    pub(super) fn accepted(&self) -> &Accepted {
        &self.socket.accepted
    }

    /// Reads into the empty buffer. Leaves it empty at the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.socket.asks_kernel && self.socket.accepted.poll_read_ready(cx).is_pending() {
            self.staged = BytesMut::new();
            return Poll::Pending;
        }
        self.staged.reserve(READ_BYTES);
        let polled = poll_read_buf(Pin::new(&mut self.socket), cx, &mut self.staged);
        if polled.is_pending() {
            self.staged = BytesMut::new();
        }
        polled.map_ok(drop)
    }
}

impl AsyncRead for StagedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.staged.is_empty() {
            ready!(self.poll_fill(cx))?;
        }
        let bytes = self.staged.len().min(buf.remaining());
        buf.put_slice(&self.staged[..bytes]);
        self.staged.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

/// The content of a TLS stream, of which one read takes all records that have arrived.
pub(super) struct Records<'a>(&'a mut Tls);

impl<'a> Records<'a> {
    /// If `only_arrived`, the kernel is asked, so that pending means that no more records have arrived.
    pub(super) fn of(tls: &'a mut Tls, only_arrived: bool) -> Self {
        tls.get_mut().0.socket.asks_kernel = only_arrived;
        Records(tls)
    }
}

impl AsyncRead for Records<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let tls = &mut *self.0;
        if let Some(error) = tls.get_mut().0.failure.take() {
            return Poll::Ready(Err(error));
        }
        let start = buf.filled().len();
        loop {
            let before = buf.filled().len();
            let polled = Pin::new(&mut *tls).poll_read(cx, buf);
            let has_read = buf.filled().len() > before;
            if before == start && !has_read {
                return polled;
            }
            match polled {
                Poll::Ready(Ok(())) if has_read && buf.remaining() > 0 => {}
                // The end is found again by the next read.
                Poll::Ready(Ok(())) | Poll::Pending => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => {
                    tls.get_mut().0.failure = Some(error);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for StagedSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::exchange::poll_once;

    #[tokio::test]
    async fn a_read_takes_what_has_arrived_and_an_idle_socket_holds_no_buffer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
        let mut peer = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
        let (tcp, _) = listener.accept().await.expect("accepted");
        let mut socket = StagedSocket::new(Socket::new(Accepted::Tcp(tcp)));
        for _ in 0..2 {
            peer.write_all(&[7; 100]).await.expect("sent");
            let mut first = [0; 10];
            socket.read_exact(&mut first).await.expect("received");
            assert_eq!(socket.staged.len(), 90);
            let mut rest = [0; 90];
            socket.read_exact(&mut rest).await.expect("received");
            assert_eq!((first, rest), ([7; 10], [7; 90]));
            assert!(poll_once(pin!(socket.read(&mut first))).await.is_pending());
            assert_eq!(socket.staged.capacity(), 0);
        }
        drop(peer);
        assert_eq!(socket.read(&mut [0; 10]).await.expect("the end"), 0);
    }
}
