//! The byte stream under a connection: TCP or a unix socket, or TLS over either.
//!
//! Owns splitting a stream for two tasks, reading without waiting for the runtime, and resetting the connection. It
//! knows no HTTP.

mod staged;

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
#[cfg(feature = "tls")]
use tokio_util::io::poll_read_buf;

pub(crate) use self::staged::StagedSocket;
#[cfg(feature = "tls")]
use self::staged::{Records, Tls};
use crate::shared_socket::{SharedSocket, WriteEnd};
#[cfg(feature = "tls")]
use crate::sync::lock;

/// Locked while one buffer is filled or one system call is made.
#[cfg(feature = "tls")]
type SharedTls = Arc<std::sync::Mutex<Tls>>;

/// A byte stream in both directions.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// An accepted connection, before its version of HTTP is known.
pub(crate) enum Stream {
    Plain(StagedSocket),
    #[cfg(feature = "tls")]
    Tls(Box<Tls>),
}

impl Stream {
    /// Reads available bytes into the spare capacity of `buf`, waiting for the first one.
    pub(crate) async fn read_some(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        poll_fn(|cx| match self {
            Stream::Plain(staged) => staged.socket().poll_read(cx, buf),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => poll_read_buf(Pin::new(&mut **tls), cx, buf),
        })
        .await
    }

    /// Waits without a buffer until there are bytes to read. With TLS it returns at once.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Stream::Plain(staged) => poll_fn(|cx| staged.socket().poll_readable(cx)).await,
            #[cfg(feature = "tls")]
            Stream::Tls(_) => Ok(()),
        }
    }

    /// Reads from the peer. If `only_arrived`, asks the kernel, so that pending means that no bytes have arrived; the
    /// task is woken as for any read.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        only_arrived: bool,
    ) -> Poll<io::Result<()>> {
        match self {
            Stream::Plain(staged) => {
                staged.ask_kernel(only_arrived);
                Pin::new(staged).poll_read(cx, buf)
            }
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => Pin::new(&mut Records::of(tls, only_arrived)).poll_read(cx, buf),
        }
    }

    pub(crate) fn io(&mut self) -> Pin<&mut dyn Duplex> {
        match self {
            Stream::Plain(staged) => Pin::new(staged),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => Pin::new(&mut **tls),
        }
    }

    /// Splits the stream, of which [`poll_read`](Self::poll_read) has read nothing.
    pub(crate) fn into_split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Stream::Plain(staged) => {
                let socket = staged.socket().clone();
                (ReadHalf::Plain(socket.clone()), WriteHalf::Plain(WriteEnd::new(socket)))
            }
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => {
                let shared = SharedTls::new(std::sync::Mutex::new(*tls));
                (ReadHalf::Tls(SharedTls::clone(&shared)), WriteHalf::Tls(shared))
            }
        }
    }
}

/// The half that receives from the peer. Another task than the one that writes may poll it.
pub(crate) enum ReadHalf {
    Plain(SharedSocket),
    #[cfg(feature = "tls")]
    Tls(SharedTls),
}

impl ReadHalf {
    /// Ready when a read would not wait. With TLS, which needs a buffer to know, it is ready at once.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            ReadHalf::Plain(socket) => socket.poll_readable(cx),
            #[cfg(feature = "tls")]
            ReadHalf::Tls(_) => Poll::Ready(Ok(())),
        }
    }

    /// Reads into the spare capacity of `buf`, which must have some; zero bytes mean that the peer has finished sending.
    /// If `only_arrived`, asks the kernel: pending means that no bytes have arrived, and may not wake the task.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut Vec<u8>,
        only_arrived: bool,
    ) -> Poll<io::Result<usize>> {
        match self {
            ReadHalf::Plain(socket) if only_arrived => socket.poll_read_arrived(buf),
            ReadHalf::Plain(socket) => socket.poll_read(cx, buf),
            #[cfg(feature = "tls")]
            ReadHalf::Tls(tls) => {
                let mut tls = lock(tls);
                match poll_read_buf(Pin::new(&mut Records::of(&mut tls, only_arrived)), cx, buf) {
                    // The end of TLS without `close_notify`. The framing shows if it came early.
                    Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        Poll::Ready(Ok(0))
                    }
                    polled => polled,
                }
            }
        }
    }

    pub(crate) fn can_splice(&self) -> bool {
        match self {
            ReadHalf::Plain(_) => cfg!(any(target_os = "linux", target_os = "android")),
            #[cfg(feature = "tls")]
            ReadHalf::Tls(_) => false,
        }
    }

    /// Moves received bytes into an empty pipe.
    pub(crate) fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        bytes_max: usize,
    ) -> Poll<io::Result<usize>> {
        match self {
            ReadHalf::Plain(socket) => socket.poll_splice(cx, pipe, bytes_max),
            #[cfg(feature = "tls")]
            ReadHalf::Tls(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    /// Waits until the connection has failed, without reading the bytes it still holds.
    pub(crate) async fn failed(&self) {
        match self {
            ReadHalf::Plain(socket) => socket.failed().await,
            #[cfg(feature = "tls")]
            ReadHalf::Tls(_) => std::future::pending().await,
        }
    }
}

/// Returns whether the socket has room, or has failed.
pub(crate) fn has_room(socket: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&socket, PollFlags::OUT)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// The half that sends to the peer.
pub(crate) enum WriteHalf {
    Plain(WriteEnd),
    #[cfg(feature = "tls")]
    Tls(SharedTls),
}

impl WriteHalf {
    /// Calls `act` with the stream to write to. Shutting it down leaves the other half readable.
    pub(crate) fn with<T>(&mut self, act: impl FnOnce(Pin<&mut (dyn AsyncWrite + Unpin)>) -> T) -> T {
        match self {
            WriteHalf::Plain(end) => act(Pin::new(end)),
            #[cfg(feature = "tls")]
            WriteHalf::Tls(tls) => act(Pin::new(&mut *lock(tls))),
        }
    }

    /// Returns the socket, if it carries the bytes of HTTP as they are.
    pub(crate) fn direct(&self) -> Option<Arc<OwnedFd>> {
        match self {
            WriteHalf::Plain(end) => end.lend().map(Arc::new),
            #[cfg(feature = "tls")]
            WriteHalf::Tls(_) => None,
        }
    }

    /// Makes dropping both halves reset the connection, so that the peer does not see an orderly end. Unix sockets know no
    /// reset: their peer sees the end of the stream before the end of the message.
    pub(crate) fn reset(self) {
        match self {
            WriteHalf::Plain(end) => end.reset(),
            #[cfg(feature = "tls")]
            WriteHalf::Tls(tls) => {
                lock(&tls).get_ref().0.socket().reset_when_closed();
            }
        }
    }
}
