//! A socket that leaves the runtime's event queue while its peer is faster than its reader.
//!
//! A registered socket causes an event, and wakes a thread of the runtime, each time bytes arrive, even while another
//! thread is reading them. That takes a fifth of the processor time of a fast upload. A socket from which many reads in a
//! row got bytes is therefore taken out of the queue, and put back by the first read or write that has to wait.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::io::retry_on_intr;
use socket2::SockRef;
use tokio::io::{AsyncWrite, Interest};
use tokio::runtime::Handle;

use crate::accepted::Accepted;
use crate::sync::lock;

/// The number of reads in a row that got bytes after which a socket counts as busy.
const BUSY_READS: u32 = 16;

/// A connected, non-blocking socket, for one task that reads and one that writes. Clones are the same socket.
#[derive(Clone)]
pub(crate) struct SharedSocket(Arc<Shared>);

struct Shared {
    runtime: Handle,
    is_tcp: bool,
    /// Reads in a row that got bytes.
    reads: AtomicU32,
    place: Mutex<Place>,
}

/// The place of a socket: in the runtime's event queue or outside.
enum Place {
    /// Cloned for the time of a call, so that a sole owner is not in use.
    Queued {
        accepted: Arc<Accepted>,
        /// True while the task that writes waits for an event.
        writer_waits: bool,
    },
    /// Used under the lock.
    Busy(OwnedFd),
    /// The runtime refused to register the socket, because it is shutting down.
    Closed,
}

impl SharedSocket {
    /// Takes over a connection that the present runtime has accepted.
    pub(crate) fn new(accepted: Accepted) -> Self {
        Self(Arc::new(Shared {
            runtime: Handle::current(),
            is_tcp: matches!(accepted, Accepted::Tcp(_)),
            reads: AtomicU32::new(0),
            place: Mutex::new(Place::Queued { accepted: Arc::new(accepted), writer_waits: false }),
        }))
    }

    /// Ready when a read may find bytes.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.queued() {
            Some(accepted) => self.poll_queued(&accepted, cx),
            // A read finds out.
            None => Poll::Ready(Ok(())),
        }
    }

    /// Reads into the spare capacity of `buf`, which must have some. Zero bytes mean that the peer has finished sending.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        let spare = buf.capacity() - buf.len();
        // As epoll(7) allows: a read of a stream that does not fill its buffer has emptied the socket.
        self.poll_receive(cx, spare, |fd| read(fd, buf))
    }

    /// Moves received bytes into an empty pipe. Zero bytes mean that the peer has finished sending.
    pub(crate) fn poll_splice(
        &self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        bytes_max: usize,
    ) -> Poll<io::Result<usize>> {
        // What the pipe had no room for is still in the socket, so only an error shows that it is empty.
        self.poll_receive(cx, 0, |fd| splice(fd, pipe, bytes_max))
    }

    /// Receives by a call that returns the number of bytes. Less than `full`, but some, mean that the socket is empty.
    fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        full: usize,
        mut receive: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let Some(accepted) = self.queued() else {
                match self.use_busy(&mut receive) {
                    Some(done) => return Poll::Ready(done),
                    None => continue,
                }
            };
            ready!(self.poll_queued(&accepted, cx))?;
            let mut done = None;
            let tried = accepted.try_io(Interest::READABLE, || {
                let bytes = receive(accepted.as_fd())?;
                done = Some(bytes);
                // The error makes the runtime wait for the next event.
                if 0 < bytes && bytes < full { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match (done, tried) {
                (Some(bytes), _) => {
                    drop(accepted);
                    self.count_read();
                    return Poll::Ready(Ok(bytes));
                }
                (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(error));
                }
                (None, _) => self.0.reads.store(0, Ordering::Relaxed),
            }
        }
    }

    /// Reads what the kernel holds. Pending means that no bytes have arrived, and does not wake the task.
    pub(crate) fn poll_read_arrived(&self, buf: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        let done = match &*lock(&self.0.place) {
            Place::Queued { accepted, .. } => read(accepted.as_fd(), buf),
            Place::Busy(fd) => read(fd.as_fd(), buf),
            Place::Closed => Err(io::ErrorKind::NotConnected.into()),
        };
        match done {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            done => Poll::Ready(done),
        }
    }

    /// Writes some of the bytes. At most one task may wait for that.
    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            let Some(accepted) = self.queued() else {
                match self.use_busy(|fd| write(fd, slices)) {
                    Some(done) => return Poll::Ready(done),
                    None => continue,
                }
            };
            let ready = accepted.poll_write_ready(cx);
            self.set_writer_waits(ready.is_pending());
            ready!(ready)?;
            match accepted.try_io(Interest::WRITABLE, || write(accepted.as_fd(), slices)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// Waits until the connection has failed, without reading the bytes it still holds.
    pub(crate) async fn failed(&self) {
        self.enter_queue(&mut lock(&self.0.place));
        if let Some(accepted) = self.queued() {
            // An error of the runtime means that it is shutting down.
            let _ = accepted.ready(Interest::ERROR).await;
        }
    }

    /// Makes closing the socket reset the connection. Unix sockets know no reset: their peer sees the end of the stream.
    pub(crate) fn reset_when_closed(&self) {
        // An error means that the connection has ended already, or that the socket has no such option.
        let _ = self.with_options(|socket| socket.set_linger(Some(Duration::ZERO)));
    }

    /// Ends the sending direction.
    pub(crate) fn shut_down(&self) -> io::Result<()> {
        self.with_options(|socket| socket.shutdown(Shutdown::Write))
    }

    fn with_options(&self, act: impl FnOnce(SockRef<'_>) -> io::Result<()>) -> io::Result<()> {
        match &*lock(&self.0.place) {
            Place::Queued { accepted, .. } => act(SockRef::from(&**accepted)),
            Place::Busy(fd) => act(SockRef::from(fd)),
            Place::Closed => Ok(()),
        }
    }

    fn poll_queued(&self, accepted: &Accepted, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ready = accepted.poll_read_ready(cx);
        if ready.is_pending() {
            self.0.reads.store(0, Ordering::Relaxed);
        }
        ready
    }

    fn queued(&self) -> Option<Arc<Accepted>> {
        match &*lock(&self.0.place) {
            Place::Queued { accepted, .. } => Some(Arc::clone(accepted)),
            Place::Busy(_) | Place::Closed => None,
        }
    }

    fn set_writer_waits(&self, waits: bool) {
        if let Place::Queued { writer_waits, .. } = &mut *lock(&self.0.place) {
            *writer_waits = waits;
        }
    }

    /// Makes a call on a busy socket. Returns `None` if the socket is in the queue, perhaps because the call would have had
    /// to wait.
    fn use_busy<T>(&self, call: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>) -> Option<io::Result<T>> {
        let mut place = lock(&self.0.place);
        let done = match &*place {
            Place::Queued { .. } => return None,
            Place::Busy(fd) => call(fd.as_fd()),
            Place::Closed => Err(io::ErrorKind::NotConnected.into()),
        };
        match done {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.enter_queue(&mut place);
                None
            }
            done => Some(done),
        }
    }

    /// Counts a read that got bytes. After many in a row the socket leaves the queue, unless a task waits for its events.
    fn count_read(&self) {
        if self.0.reads.fetch_add(1, Ordering::Relaxed) < BUSY_READS {
            return;
        }
        leave_queue(&mut lock(&self.0.place));
    }

    /// Takes the socket out of the queue, so that writes by another thread cause no events, and returns a descriptor for
    /// them. Returns `None` if there is none left.
    fn lend(&self) -> Option<OwnedFd> {
        let mut place = lock(&self.0.place);
        leave_queue(&mut place);
        match &*place {
            Place::Queued { accepted, .. } => accepted.as_fd().try_clone_to_owned().ok(),
            Place::Busy(fd) => fd.try_clone().ok(),
            Place::Closed => None,
        }
    }

    fn enter_queue(&self, place: &mut Place) {
        self.0.reads.store(0, Ordering::Relaxed);
        let _runtime = self.0.runtime.enter();
        *place = match std::mem::replace(place, Place::Closed) {
            Place::Busy(fd) => match Accepted::register(fd, self.0.is_tcp) {
                Ok(accepted) => Place::Queued { accepted: Arc::new(accepted), writer_waits: false },
                Err(error) => {
                    tracing::debug!(%error, "cannot wait for events of a connection");
                    Place::Closed
                }
            },
            unchanged => unchanged,
        };
    }
}

/// Takes a socket out of the queue, unless a task waits for its events or is about to.
fn leave_queue(place: &mut Place) {
    *place = match std::mem::replace(place, Place::Closed) {
        Place::Queued { accepted, writer_waits: false } => match Arc::try_unwrap(accepted) {
            Ok(accepted) => accepted.into_fd().map_or(Place::Closed, Place::Busy),
            Err(accepted) => Place::Queued { accepted, writer_waits: false },
        },
        unchanged => unchanged,
    };
}

fn read(fd: BorrowedFd<'_>, buf: &mut Vec<u8>) -> io::Result<usize> {
    Ok(retry_on_intr(|| rustix::io::read(fd, spare_capacity(buf)))?)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn splice(fd: BorrowedFd<'_>, pipe: BorrowedFd<'_>, bytes_max: usize) -> io::Result<usize> {
    use rustix::pipe::{SpliceFlags, splice};
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    Ok(retry_on_intr(|| splice(fd, None, pipe, None, bytes_max, flags))?)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn splice(_: BorrowedFd<'_>, _: BorrowedFd<'_>, _: usize) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

fn write(fd: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    Ok(retry_on_intr(|| rustix::io::writev(fd, slices))?)
}

/// The half of a socket that sends. Dropping it ends the sending direction.
pub(crate) struct WriteEnd {
    socket: SharedSocket,
    /// True if the peer must not see an orderly end.
    is_reset: bool,
}

impl WriteEnd {
    pub(crate) fn new(socket: SharedSocket) -> Self {
        Self { socket, is_reset: false }
    }

    /// Returns a descriptor for writes by another thread, until this end is written to or the socket read from again.
    pub(crate) fn lend(&self) -> Option<OwnedFd> {
        self.socket.lend()
    }

    /// Makes dropping the last clone of the socket reset the connection. Unix sockets know no reset: their peer sees the
    /// end of the stream.
    pub(crate) fn reset(mut self) {
        self.is_reset = true;
        self.socket.reset_when_closed();
    }
}

impl AsyncWrite for WriteEnd {
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

impl Drop for WriteEnd {
    fn drop(&mut self) {
        if !self.is_reset {
            // An error means that the connection has ended already.
            let _ = self.socket.shut_down();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinSet;
    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    async fn pair() -> (TcpStream, SharedSocket) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, SharedSocket::new(Accepted::Tcp(listener.accept().await.unwrap().0)))
    }

    fn is_busy(socket: &SharedSocket) -> bool {
        matches!(*lock(&socket.0.place), Place::Busy(_))
    }

    /// Reads `bytes` bytes in reads of 1 KiB. Returns how many of them found the socket busy.
    async fn read(socket: &SharedSocket, bytes: usize) -> usize {
        let (mut got, mut busy) = (0, 0);
        while got < bytes {
            let mut buf = Vec::with_capacity(1024);
            let read = timeout(LONG, poll_fn(|cx| socket.poll_read(cx, &mut buf))).await;
            got += read.expect("bytes arrive").unwrap();
            busy += usize::from(is_busy(socket));
        }
        busy
    }

    #[tokio::test]
    async fn a_fast_peer_makes_a_socket_busy_until_a_read_has_to_wait() {
        let (mut client, socket) = pair().await;
        for _ in 0..3 {
            client.write_all(&vec![7; 64 << 10]).await.unwrap();
            assert!(read(&socket, 64 << 10).await > 10);
            let mut buf = Vec::with_capacity(1024);
            let mut next = Box::pin(poll_fn(|cx| socket.poll_read(cx, &mut buf)));
            assert!(poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx).is_pending())).await);
            assert!(!is_busy(&socket));
            client.write_all(b"more").await.unwrap();
            assert_eq!(timeout(LONG, next).await.expect("woken").unwrap(), 4);
        }
    }

    #[tokio::test]
    async fn a_slow_peer_leaves_its_socket_in_the_queue() {
        let (mut client, socket) = pair().await;
        for _ in 0..100 {
            client.write_all(b"a little").await.unwrap();
            assert_eq!(read(&socket, 8).await, 0);
        }
    }

    #[tokio::test]
    async fn a_writer_that_waits_is_woken_while_the_peer_sends_fast() {
        let (mut client, socket) = pair().await;
        let mut sender = WriteEnd::new(socket.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { sender.write_all(&vec![1; 16 << 20]).await });
        let waits = |socket: &SharedSocket| {
            matches!(*lock(&socket.0.place), Place::Queued { writer_waits: true, .. })
        };
        while !waits(&socket) {
            tokio::task::yield_now().await;
        }
        client.write_all(&vec![7; 64 << 10]).await.unwrap();
        assert_eq!(read(&socket, 64 << 10).await, 0);
        let mut all = vec![0; 16 << 20];
        timeout(LONG, client.read_exact(&mut all)).await.expect("the writer goes on").unwrap();
        tasks.join_next().await.unwrap().unwrap().unwrap();
    }

    #[tokio::test]
    async fn both_directions_of_a_busy_socket_work() {
        let (mut client, socket) = pair().await;
        client.write_all(&vec![7; 64 << 10]).await.unwrap();
        assert!(read(&socket, 32 << 10).await > 10 && is_busy(&socket));
        let mut sender = WriteEnd::new(socket.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { sender.write_all(&vec![1; 16 << 20]).await.map(|()| drop(sender)) });
        let mut all = Vec::new();
        timeout(LONG, client.read_to_end(&mut all)).await.expect("the end is sent").unwrap();
        assert_eq!(all.len(), 16 << 20);
        tasks.join_next().await.unwrap().unwrap().unwrap();
        read(&socket, 32 << 10).await;
        let mut buf = Vec::with_capacity(8);
        assert!(socket.poll_read_arrived(&mut buf).is_pending());
        drop(client);
        assert_eq!(timeout(LONG, poll_fn(|cx| socket.poll_read(cx, &mut buf))).await.unwrap().unwrap(), 0);
    }
}
