//! A connection as the operating system accepts it: TCP or a unix socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll};

use tokio::io::{Interest, Ready};
use tokio::net::{TcpStream, UnixStream};

/// An accepted connection of the operating system.
pub(crate) enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Accepted {
    /// Takes over a non-blocking socket that the runtime does not know.
    pub(crate) fn register(fd: OwnedFd, is_tcp: bool) -> io::Result<Self> {
        if is_tcp {
            TcpStream::from_std(fd.into()).map(Self::Tcp)
        } else {
            UnixStream::from_std(fd.into()).map(Self::Unix)
        }
    }

    /// Returns the socket, which the runtime forgets.
    pub(crate) fn into_fd(self) -> io::Result<OwnedFd> {
        match self {
            Accepted::Tcp(tcp) => tcp.into_std().map(OwnedFd::from),
            Accepted::Unix(unix) => unix.into_std().map(OwnedFd::from),
        }
    }

    pub(crate) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match self {
            Accepted::Tcp(tcp) => tcp.ready(interest).await,
            Accepted::Unix(unix) => unix.ready(interest).await,
        }
    }

    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Accepted::Tcp(tcp) => tcp.poll_read_ready(cx),
            Accepted::Unix(unix) => unix.poll_read_ready(cx),
        }
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Accepted::Tcp(tcp) => tcp.poll_write_ready(cx),
            Accepted::Unix(unix) => unix.poll_write_ready(cx),
        }
    }

    /// Makes a call on the socket. If it would have had to wait, the runtime takes note of that.
    pub(crate) fn try_io<T>(
        &self,
        interest: Interest,
        call: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        match self {
            Accepted::Tcp(tcp) => tcp.try_io(interest, call),
            Accepted::Unix(unix) => unix.try_io(interest, call),
        }
    }
}

impl AsFd for Accepted {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Accepted::Tcp(tcp) => tcp.as_fd(),
            Accepted::Unix(unix) => unix.as_fd(),
        }
    }
}
