//! Reading in large pieces: the socket beneath, and the records of TLS above.
//!
//! rustls reads 4 KiB at a time, which took five system calls for a record of 16 KiB, and yields one record at a time. The
//! `h2` crate reads a frame in two parts, which took two system calls for each.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::buffers::Buffers;
use crate::shared_socket::SharedSocket;

/// Bytes that one read of the socket takes at most, unless a larger buffer is there to be used again.
const READ_BYTES: usize = 128 << 10;

#[cfg(feature = "tls")]
pub(super) type Tls = tokio_rustls::server::TlsStream<StagedSocket>;

/// A socket with a buffer for what it received. The buffer is given back when there is nothing to read, so that idle
/// connections hold none.
pub(crate) struct StagedSocket {
    socket: SharedSocket,
    buffers: Arc<Buffers>,
    staged: Vec<u8>,
    /// The number of staged bytes that were taken.
    taken: usize,
    /// True if a read asks the kernel, so that pending means that no bytes have arrived.
    asks_kernel: bool,
    /// The error that TLS has found behind bytes that were read, for the next read.
    #[cfg(feature = "tls")]
    failure: Option<io::Error>,
}

impl StagedSocket {
    pub(crate) fn new(socket: SharedSocket, buffers: Arc<Buffers>) -> Self {
        StagedSocket {
            socket,
            buffers,
            staged: Vec::new(),
            taken: 0,
            asks_kernel: false,
            #[cfg(feature = "tls")]
            failure: None,
        }
    }

    pub(super) fn socket(&self) -> &SharedSocket {
        &self.socket
    }

    /// Makes reads ask the kernel, or wait for the runtime's events again.
    pub(super) fn ask_kernel(&mut self, asks_kernel: bool) {
        self.asks_kernel = asks_kernel;
    }

    /// Reads into the empty buffer. Leaves it empty at the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut staged = std::mem::take(&mut self.staged);
        self.taken = 0;
        staged.clear();
        let readable = if self.asks_kernel { Poll::Ready(Ok(())) } else { self.socket.poll_readable(cx) };
        let polled = match readable {
            Poll::Ready(Ok(())) => {
                if staged.capacity() == 0 {
                    staged = self.buffers.take(READ_BYTES);
                }
                self.poll_receive(cx, &mut staged)
            }
            unreadable => unreadable,
        };
        if staged.is_empty() {
            self.buffers.give_back(staged);
        } else {
            self.staged = staged;
        }
        polled
    }

    fn poll_receive(&self, cx: &mut Context<'_>, staged: &mut Vec<u8>) -> Poll<io::Result<()>> {
        let polled = if self.asks_kernel {
            self.socket.poll_read_arrived(staged)
        } else {
            self.socket.poll_read(cx, staged)
        };
        polled.map_ok(drop)
    }
}

impl Drop for StagedSocket {
    fn drop(&mut self) {
        self.buffers.give_back(std::mem::take(&mut self.staged));
    }
}

impl AsyncRead for StagedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.taken == self.staged.len() {
            ready!(self.poll_fill(cx))?;
        }
        let staged = &self.staged[self.taken..];
        let bytes = staged.len().min(buf.remaining());
        buf.put_slice(&staged[..bytes]);
        self.taken += bytes;
        Poll::Ready(Ok(()))
    }
}

/// The content of a TLS stream, of which one read takes all records that have arrived.
#[cfg(feature = "tls")]
pub(super) struct Records<'a>(&'a mut Tls);

#[cfg(feature = "tls")]
impl<'a> Records<'a> {
    /// If `only_arrived`, the kernel is asked, so that pending means that no more records have arrived.
    pub(super) fn of(tls: &'a mut Tls, only_arrived: bool) -> Self {
        tls.get_mut().0.ask_kernel(only_arrived);
        Records(tls)
    }
}

#[cfg(feature = "tls")]
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
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.socket.poll_write(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.shut_down())
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::accepted::Accepted;
    use crate::exchange::poll_once;

    #[tokio::test]
    async fn a_read_takes_what_has_arrived_and_an_idle_socket_holds_no_buffer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
        let mut peer = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
        let (tcp, _) = listener.accept().await.expect("accepted");
        let mut socket = StagedSocket::new(SharedSocket::new(Accepted::Tcp(tcp)), Arc::default());
        for _ in 0..2 {
            peer.write_all(&[7; 100]).await.expect("sent");
            let mut first = [0; 10];
            socket.read_exact(&mut first).await.expect("received");
            assert_eq!(socket.staged.len() - socket.taken, 90);
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
