//! The byte stream under an HTTP/2 connection, observed.
//!
//! Owns the facts that the `h2` crate does not report: whether the peer takes what is written, whether it sends
//! anything, and whether all bytes that have arrived were read.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::wakeups::Wakeups;
use crate::sync::{lock, register, wake};
use crate::transport::Stream;

/// The bytes after which a connection that never waits for its peer lets others run.
const TURN_BYTES: usize = 1 << 20;

pub(super) struct Io {
    stream: Stream,
    /// The bytes that were read to detect HTTP/2.
    first: Bytes,
    /// Bytes read since a read last had to wait.
    turn_bytes: usize,
    monitor: Arc<IoMonitor>,
    /// The end of the stream, or the error that ended it, until the connection takes it.
    end: Option<io::Result<()>>,
    /// True after a write has failed. What is written from then on is discarded, so that the connection still reads
    /// what the peer had sent.
    write_failed: bool,
}

/// The state of a connection's socket, shared by its streams.
#[derive(Default)]
pub(super) struct IoMonitor {
    /// True while the socket takes no bytes.
    write_blocked: AtomicBool,
    writers: Mutex<Vec<Waker>>,
    reads: AtomicU64,
    wakeups: Arc<Wakeups>,
    end: Mutex<End>,
    catch_up: Mutex<CatchUp>,
}

/// The state of the end of the byte stream. It is withheld from h2, which drops the requests that it has read when it
/// reads the end before they are accepted.
#[derive(Default, PartialEq)]
enum End {
    /// Passed on when it is read.
    #[default]
    PassedOn,
    /// To be withheld.
    Awaited,
    Withheld,
}

/// Requests of streams that the connection read all bytes that have arrived, numbered in order.
#[derive(Default)]
struct CatchUp {
    requested: u64,
    done: u64,
    /// The connection's task, which reads.
    connection: Option<Waker>,
    streams: Vec<Waker>,
}

impl IoMonitor {
    /// Ready while the socket takes bytes.
    pub(super) fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.write_blocked.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        let mut writers = lock(&self.writers);
        // Unblocking takes the same lock after it changes the flag, so no wake-up is lost.
        if !self.write_blocked.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        if !writers.iter().any(|waker| waker.will_wake(cx.waker())) {
            writers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Returns the wake-ups of the tasks that read content.
    pub(super) fn wakeups(&self) -> &Arc<Wakeups> {
        &self.wakeups
    }

    /// Returns the number of reads that brought bytes.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Ready once the connection has read all bytes that had arrived when this was first polled. `ticket` belongs to
    /// the caller and starts as `None`.
    pub(super) fn poll_caught_up(&self, ticket: &mut Option<u64>, cx: &Context<'_>) -> Poll<()> {
        let mut state = lock(&self.catch_up);
        let number = *ticket.get_or_insert_with(|| {
            state.requested += 1;
            state.requested
        });
        if state.done >= number {
            return Poll::Ready(());
        }
        if !state.streams.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.streams.push(cx.waker().clone());
        }
        let connection = state.connection.take();
        drop(state);
        wake(connection);
        Poll::Pending
    }

    /// Withholds the end of the byte stream from now on, until [`release_end`](Self::release_end).
    pub(super) fn withhold_end(&self) {
        *lock(&self.end) = End::Awaited;
    }

    /// Passes the end on if it was withheld. Returns whether it was.
    pub(super) fn release_end(&self) -> bool {
        let mut end = lock(&self.end);
        let is_withheld = *end == End::Withheld;
        if is_withheld {
            *end = End::PassedOn;
        }
        is_withheld
    }

    /// Returns whether the end that was just read is to be withheld. All bytes before it have been read.
    fn withholds_end(&self) -> bool {
        let mut end = lock(&self.end);
        if *end == End::PassedOn {
            return false;
        }
        *end = End::Withheld;
        drop(end);
        self.caught_up(u64::MAX);
        true
    }

    /// Returns the number of the latest request to catch up that is not done. If there is none, the next one wakes the
    /// task.
    fn catch_up_request(&self, cx: &Context<'_>) -> Option<u64> {
        let mut state = lock(&self.catch_up);
        if state.requested > state.done {
            return Some(state.requested);
        }
        register(&mut state.connection, cx);
        None
    }

    fn caught_up(&self, number: u64) {
        let mut state = lock(&self.catch_up);
        state.done = number;
        let streams = std::mem::take(&mut state.streams);
        drop(state);
        streams.into_iter().for_each(Waker::wake);
    }

    fn set_write_blocked(&self, blocked: bool) {
        if self.write_blocked.swap(blocked, Ordering::AcqRel) && !blocked {
            let writers = std::mem::take(&mut *lock(&self.writers));
            writers.into_iter().for_each(Waker::wake);
        }
    }
}

impl Io {
    pub(super) fn new(stream: Stream, first: Bytes, monitor: Arc<IoMonitor>) -> Self {
        Self { stream, first, turn_bytes: 0, monitor, end: None, write_failed: false }
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let filled = buf.filled().len();
        let mut polled = if self.turn_bytes < TURN_BYTES {
            self.stream.poll_read(cx, buf, false)
        } else {
            cx.waker().wake_by_ref();
            Poll::Pending
        };
        // h2 reads until no bytes are left, and hands out all of them before it reads again.
        while polled.is_pending()
            && let Some(number) = self.monitor.catch_up_request(cx)
        {
            polled = self.stream.poll_read(cx, buf, true);
            if polled.is_pending() {
                self.monitor.caught_up(number);
            }
        }
        self.turn_bytes += buf.filled().len() - filled;
        if polled.is_pending() {
            self.turn_bytes = 0;
        } else {
            self.monitor.reads.fetch_add(1, Ordering::Relaxed);
            self.monitor.wakeups.bytes_read(buf.filled().len() - filled);
        }
        polled
    }

    /// Completes a write of `bytes`. A failed one counts as complete, and so do all that follow.
    fn written(&mut self, written: Poll<io::Result<usize>>, bytes: usize) -> Poll<io::Result<usize>> {
        self.monitor.set_write_blocked(written.is_pending());
        match written {
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "an HTTP/2 connection takes no more bytes");
                self.write_failed = true;
                Poll::Ready(Ok(bytes))
            }
            written => written,
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let bytes = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first[..bytes]);
            self.first.advance(bytes);
            return Poll::Ready(Ok(()));
        }
        let filled = buf.filled().len();
        let polled = match self.end.take() {
            Some(end) => Poll::Ready(end),
            None => self.poll_stream(cx, buf),
        };
        match polled {
            Poll::Ready(end)
                if (end.is_err() || buf.filled().len() == filled) && self.monitor.withholds_end() =>
            {
                self.end = Some(end);
                Poll::Pending
            }
            polled => polled,
        }
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        // No more bytes will be read.
        self.monitor.caught_up(u64::MAX);
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.write_failed {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = self.stream.io().poll_write(cx, buf);
        self.written(written, buf.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = bufs.iter().map(|buf| buf.len()).sum();
        if self.write_failed {
            return Poll::Ready(Ok(bytes));
        }
        let written = self.stream.io().poll_write_vectored(cx, bufs);
        self.written(written, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_failed {
            return Poll::Ready(Ok(()));
        }
        let flushed = self.stream.io().poll_flush(cx);
        self.write_failed = matches!(flushed, Poll::Ready(Err(_)));
        if self.write_failed { Poll::Ready(Ok(())) } else { flushed }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.io().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write as _;

    use tokio::net::TcpListener;

    use super::*;
    use crate::accepted::Accepted;
    use crate::shared_socket::SharedSocket;
    use crate::transport::StagedSocket;

    #[tokio::test]
    async fn a_connection_lets_others_run_although_more_bytes_have_arrived() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(bytes) = client.write(&vec![7; 64 << 10]) {
            sent += bytes;
        }
        assert!(sent > TURN_BYTES, "the system holds {sent} bytes");
        let accepted = Accepted::Tcp(listener.accept().await.unwrap().0);
        let staged = StagedSocket::new(SharedSocket::new(accepted), Arc::default());
        let mut io = Io::new(Stream::Plain(staged), Bytes::new(), Arc::default());
        let (mut got, mut turn) = (0, 0);
        while got < sent {
            let mut bytes = vec![0; 16 << 10];
            let mut buf = ReadBuf::new(&mut bytes);
            let polled = poll_fn(|cx| {
                let polled = Pin::new(&mut io).poll_read(cx, &mut buf);
                if polled.is_pending() {
                    turn = 0;
                }
                polled.map(|read| read.map(|()| buf.filled().len()))
            });
            let read = polled.await.unwrap();
            got += read;
            turn += read;
            assert!(turn < TURN_BYTES + (16 << 10), "{turn}");
        }
    }
}
