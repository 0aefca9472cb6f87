//! The byte stream under an h2 connection, observed.
//!
//! Owns what h2 does not tell: whether the peer takes what we write, whether it sends anything at all, and whether
//! everything that has arrived was read.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::transport::Stream;

pub(super) struct Io {
    stream: Stream,
    /// Read already, to find out that this is h2.
    first: Bytes,
    gate: std::sync::Arc<Gate>,
}

/// Closed while the peer takes nothing. h2 queues interim responses without a bound, so they wait here.
#[derive(Default)]
pub(super) struct Gate {
    closed: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
    reads: AtomicU64,
    catching_up: Mutex<CatchingUp>,
}

/// Requests to read everything that has arrived. They are numbered in the order of asking.
#[derive(Default)]
struct CatchingUp {
    asked: u64,
    done: u64,
    /// The connection's task, which reads.
    connection: Option<Waker>,
    waiting: Vec<Waker>,
}

impl Gate {
    /// Whether the peer takes what we write. If not, the task is woken when it does again.
    pub(super) fn is_open(&self, cx: &Context<'_>) -> bool {
        if !self.closed.load(Ordering::Acquire) {
            return true;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Opening takes the same lock after the flag is changed, so no wake-up is lost.
        if !self.closed.load(Ordering::Acquire) {
            return true;
        }
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        false
    }

    /// Counts the reads that brought something.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Ready once the connection has read everything that had arrived when this was first polled. `ticket` belongs to
    /// the caller and begins as `None`.
    pub(super) fn poll_caught_up(&self, ticket: &mut Option<u64>, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.catching_up();
        let number = *ticket.get_or_insert_with(|| {
            state.asked += 1;
            state.asked
        });
        if state.done >= number {
            return Poll::Ready(());
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.waiting.push(cx.waker().clone());
        }
        let connection = state.connection.take();
        drop(state);
        if let Some(waker) = connection {
            waker.wake();
        }
        Poll::Pending
    }

    /// The number of the latest request to catch up that is not yet done. If there is none, the next one wakes the task.
    fn behind(&self, cx: &Context<'_>) -> Option<u64> {
        let mut state = self.catching_up();
        if state.asked > state.done {
            return Some(state.asked);
        }
        if !state.connection.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.connection = Some(cx.waker().clone());
        }
        None
    }

    fn caught_up(&self, number: u64) {
        let mut state = self.catching_up();
        state.done = number;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    fn catching_up(&self) -> MutexGuard<'_, CatchingUp> {
        self.catching_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, closed: bool) {
        if self.closed.swap(closed, Ordering::AcqRel) && !closed {
            let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

impl Io {
    pub(super) fn new(stream: Stream, first: Bytes, gate: std::sync::Arc<Gate>) -> Self {
        Io { stream, first, gate }
    }

    fn written(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.gate.set(written.is_pending());
        written
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
        let mut polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        // h2 reads until there is nothing more, and hands out what it has read before it reads again.
        while polled.is_pending()
            && let Some(number) = self.gate.behind(cx)
        {
            polled = self.stream.poll_arrived(cx, buf);
            if polled.is_pending() {
                self.gate.caught_up(number);
            }
        }
        if polled.is_ready() {
            self.gate.reads.fetch_add(1, Ordering::Relaxed);
        }
        polled
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        // Nothing more will ever be read.
        self.gate.caught_up(u64::MAX);
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
