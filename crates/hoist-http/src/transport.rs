//! The byte stream under a connection: TCP, or TLS over it.
//!
//! Owns how a stream is split so that two tasks can use its halves, and how it is cut off. It knows no HTTP.

use std::future::poll_fn;
use std::io::{self, IoSlice};
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
type Tls = tokio_rustls::server::TlsStream<TcpStream>;
#[cfg(feature = "tls")]
type SharedTls = std::sync::Arc<std::sync::Mutex<Tls>>;

/// One accepted connection, before it is known which HTTP it speaks.
pub(crate) enum Stream {
    Tcp(TcpStream),
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
            Stream::Tcp(tcp) => tcp.readable().await,
            #[cfg(feature = "tls")]
            Stream::Tls(_) => Ok(()),
        }
    }

    pub(crate) fn into_split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Stream::Tcp(tcp) => {
                let (read, write) = tcp.into_split();
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
            Stream::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
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
            Stream::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
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
            ReadHalf::Tls(tls) => {
                let read = std::task::ready!(poll_read_buf(Pin::new(&mut *lock(tls)), cx, buf));
                // A peer that ends TLS without close_notify has still ended: framing tells a cut from an end.
                Poll::Ready(match read {
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                    read => read,
                })
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
                let _ = SockRef::from(lock(&tls).get_ref().0).set_linger(Some(Duration::ZERO));
            }
        }
    }
}

/// The lock is held for one system call at most, never while waiting.
#[cfg(feature = "tls")]
fn lock(tls: &SharedTls) -> std::sync::MutexGuard<'_, Tls> {
    tls.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
