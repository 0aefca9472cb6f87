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

use crate::sync::{lock, register, wake};
use crate::transport::Stream;

pub(super) struct Io {
    pub(super) stream: Stream,
    /// The bytes that were read to detect HTTP/2.
    pub(super) first: Bytes,
    pub(super) monitor: Arc<IoMonitor>,
}

/// The state of a connection's socket, shared by its streams.
#[derive(Default)]
pub(super) struct IoMonitor {
    /// True while the socket takes no bytes.
    write_blocked: AtomicBool,
    writers: Mutex<Vec<Waker>>,
    reads: AtomicU64,
    catch_up: Mutex<CatchUp>,
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
        let mut polled = self.stream.poll_read(cx, buf, false);
        // h2 reads until no bytes are left, and hands out all of them before it reads again.
        while polled.is_pending()
            && let Some(number) = self.monitor.catch_up_request(cx)
        {
            polled = self.stream.poll_read(cx, buf, true);
            if polled.is_pending() {
                self.monitor.caught_up(number);
            }
        }
        if polled.is_ready() {
            self.monitor.reads.fetch_add(1, Ordering::Relaxed);
        }
        polled
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
        let written = self.stream.io().poll_write(cx, buf);
        self.monitor.set_write_blocked(written.is_pending());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream.io().poll_write_vectored(cx, bufs);
        self.monitor.set_write_blocked(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.io().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.io().poll_shutdown(cx)
    }
}
