//! The byte stream under a connection: TCP, or TLS over it.
//!
//! Owns how a stream is split so that two tasks can use its halves, how it is read without waiting, and how it is
//! cut off. It knows no HTTP.

use std::future::poll_fn;
use std::io::{self, IoSlice, Read as _};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::io::poll_read_buf;

#[cfg(feature = "tls")]
type Tls = tokio_rustls::server::TlsStream<Socket>;
#[cfg(feature = "tls")]
type SharedTls = std::sync::Arc<std::sync::Mutex<Tls>>;

/// A TCP socket that can be read without waiting for the runtime to learn that it is readable.
pub(crate) struct Socket {
    tcp: TcpStream,
    /// True if a read that the runtime reports as pending is tried on the kernel's socket as well.
    asks_kernel: bool,
}

impl Socket {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        Socket { tcp, asks_kernel: false }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.tcp).poll_read(cx, buf) {
            Poll::Pending if self.asks_kernel => Pin::new(&mut Kernel(&self.tcp)).poll_read(cx, buf),
            polled => polled,
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// Reads from the kernel itself: pending means that nothing has arrived.
///
/// The runtime learns that a socket is readable some time after the bytes have arrived, and makes a task wait
/// that has used up its share of time. Neither says that there is nothing to read. No waker is registered.
struct Kernel<'a>(&'a TcpStream);

impl AsyncRead for Kernel<'_> {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let socket = SockRef::from(self.0);
        loop {
            match (&*socket).read(buf.initialize_unfilled()) {
                Ok(bytes) => {
                    buf.advance(bytes);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// One accepted connection, before it is known which HTTP it speaks.
pub(crate) enum Stream {
    Tcp(Socket),
    #[cfg(feature = "tls")]
    Tls(Box<Tls>),
}

impl Stream {
    /// Reads what is there, at least once.
    pub(crate) async fn read_some(&mut self, buf: &mut BytesMut) -> io::Result<usize> {
        poll_fn(|cx| poll_read_buf(Pin::new(&mut *self), cx, buf)).await
    }

    /// Waits without a buffer, where that is possible, until there is something to read.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(socket) => socket.tcp.readable().await,
            #[cfg(feature = "tls")]
            Stream::Tls(_) => Ok(()),
        }
    }

    /// Reads what has arrived, asking the kernel itself. Pending means that nothing has, and wakes like any read.
    pub(crate) fn poll_arrived(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.socket().asks_kernel = true;
        let polled = Pin::new(&mut *self).poll_read(cx, buf);
        self.socket().asks_kernel = false;
        polled
    }

    fn socket(&mut self) -> &mut Socket {
        match self {
            Stream::Tcp(socket) => socket,
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.get_mut().0,
        }
    }

    pub(crate) fn into_split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Stream::Tcp(socket) => {
                let (read, write) = socket.tcp.into_split();
                (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
            }
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => {
                let shared = SharedTls::new(std::sync::Mutex::new(*tls));
                (ReadHalf::Tls(SharedTls::clone(&shared)), WriteHalf::Tls(shared))
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(socket) => Pin::new(socket).poll_write(cx, buf),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(socket) => Pin::new(socket).poll_flush(cx),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

/// What the peer sends. May be polled by another task than the one that writes.
pub(crate) enum ReadHalf {
    Tcp(OwnedReadHalf),
    #[cfg(feature = "tls")]
    Tls(SharedTls),
}

impl ReadHalf {
    /// Ready when a read would not wait, where that can be known without a buffer; otherwise at once.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            ReadHalf::Tcp(tcp) => tcp.as_ref().poll_read_ready(cx),
            #[cfg(feature = "tls")]
            ReadHalf::Tls(_) => Poll::Ready(Ok(())),
        }
    }

    /// Reads into the spare capacity of `buf`; zero bytes mean that the peer has finished sending.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        match self {
            ReadHalf::Tcp(tcp) => poll_read_buf(Pin::new(tcp), cx, buf),
            #[cfg(feature = "tls")]
            ReadHalf::Tls(tls) => poll_read_buf(Pin::new(&mut *lock(tls)), cx, buf).map(ended),
        }
    }

    /// The same, asking the kernel itself: pending means that nothing has arrived, and may not wake.
    pub(crate) fn poll_arrived(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        match self {
            ReadHalf::Tcp(tcp) => poll_read_buf(Pin::new(&mut Kernel(tcp.as_ref())), cx, buf),
            #[cfg(feature = "tls")]
            ReadHalf::Tls(tls) => {
                let mut tls = lock(tls);
                tls.get_mut().0.asks_kernel = true;
                let polled = poll_read_buf(Pin::new(&mut *tls), cx, buf);
                tls.get_mut().0.asks_kernel = false;
                polled.map(ended)
            }
        }
    }

    /// Ready when the connection has failed, without reading what it still holds.
    pub(crate) async fn failed(&self) {
        match self {
            ReadHalf::Tcp(tcp) => {
                let _ = tcp.as_ref().ready(tokio::io::Interest::ERROR).await;
            }
            #[cfg(feature = "tls")]
            ReadHalf::Tls(_) => std::future::pending().await,
        }
    }
}

/// A peer that ends TLS without `close_notify` has still ended: framing tells a cut from an end.
#[cfg(feature = "tls")]
fn ended(read: io::Result<usize>) -> io::Result<usize> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        read => read,
    }
}

/// What we send.
pub(crate) enum WriteHalf {
    Tcp(OwnedWriteHalf),
    #[cfg(feature = "tls")]
    Tls(SharedTls),
}

impl WriteHalf {
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            WriteHalf::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            #[cfg(feature = "tls")]
            WriteHalf::Tls(tls) => Pin::new(&mut *lock(tls)).poll_write_vectored(cx, bufs),
        }
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            WriteHalf::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            #[cfg(feature = "tls")]
            WriteHalf::Tls(tls) => Pin::new(&mut *lock(tls)).poll_flush(cx),
        }
    }

    /// Says that nothing more will be sent. Reading goes on.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            WriteHalf::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            #[cfg(feature = "tls")]
            WriteHalf::Tls(tls) => Pin::new(&mut *lock(tls)).poll_shutdown(cx),
        }
    }

    /// Cuts the connection off when both halves are dropped: the peer sees a reset, never an orderly end.
    pub(crate) fn cut(self) {
        // Failing means that the connection is gone already.
        match self {
            WriteHalf::Tcp(tcp) => {
                let _ = SockRef::from(tcp.as_ref()).set_linger(Some(Duration::ZERO));
                tcp.forget();
            }
            #[cfg(feature = "tls")]
            WriteHalf::Tls(tls) => {
                let _ = SockRef::from(&lock(&tls).get_ref().0.tcp).set_linger(Some(Duration::ZERO));
            }
        }
    }
}

/// The lock is held for one system call at most, never while waiting.
#[cfg(feature = "tls")]
fn lock(tls: &SharedTls) -> std::sync::MutexGuard<'_, Tls> {
    tls.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
