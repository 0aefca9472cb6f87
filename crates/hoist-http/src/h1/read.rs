//! The reading side of an HTTP/1.1 connection, and how it is lent to a request's body.
//!
//! Owns the read buffer and everything that happens between the socket and a frame. A [`Body`](crate::Body)
//! reads straight from the socket, in whichever task it lives; the connection takes the reader back when the
//! response is complete.

use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, timeout_at};

use super::body::{Decoded, Framing};
use super::head::{Head, Heads, Reject};
use crate::abort::Latch;
use crate::interim::Queue;
use crate::pace::Pace;
use crate::transport::ReadHalf;
use crate::{BodyError, Limits};

/// Where reading begins: enough for any common head.
const READ_BYTES_FIRST: usize = 8 << 10;

pub(super) struct Reader {
    half: ReadHalf,
    buf: BytesMut,
    heads: Heads,
    framing: Framing,
    pace: Pace,
    read_bytes: usize,
    failed: Option<BodyError>,
    limits: Arc<Limits>,
}

impl Reader {
    pub(super) fn new(half: ReadHalf, first: BytesMut, limits: &Arc<Limits>) -> Box<Self> {
        Box::new(Reader {
            half,
            buf: first,
            heads: Heads::default(),
            framing: Framing::Done,
            pace: Pace::new(limits),
            read_bytes: READ_BYTES_FIRST,
            failed: None,
            limits: Arc::clone(limits),
        })
    }

    /// The next head in the bytes that are already here.
    pub(super) fn buffered_head(&mut self) -> Result<Option<Head>, Reject> {
        self.heads.next(&mut self.buf, &self.limits)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// The content of the request that was just parsed begins here.
    pub(super) fn begin(&mut self, framing: Framing) {
        self.framing = framing;
        self.pace = Pace::new(&self.limits);
    }

    /// Whether the request has been read to its end.
    pub(super) fn finished(&self) -> bool {
        self.framing == Framing::Done && self.failed.is_none()
    }

    pub(super) fn failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Bytes known to be left on the wire; `None` for the chunked coding.
    fn left(&self) -> Option<u64> {
        self.framing.left().map(|left| left.saturating_sub(self.buf.len() as u64))
    }

    /// Reads from the socket; zero means that the peer has finished sending.
    ///
    /// The buffer appears only when there is something to read, so that idle connections hold none.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buf.is_empty() {
            ready!(self.half.poll_readable(cx))?;
        }
        let spare = self.make_room();
        let read = ready!(self.half.poll_read(cx, &mut self.buf))?;
        self.grow(read, spare);
        Poll::Ready(Ok(read))
    }

    /// The same for what has arrived: pending means that the kernel has nothing.
    fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let spare = self.make_room();
        let read = ready!(self.half.poll_arrived(cx, &mut self.buf))?;
        self.grow(read, spare);
        Poll::Ready(Ok(read))
    }

    /// Makes sure that there is room to read into, and says how much.
    fn make_room(&mut self) -> usize {
        let spare = self.buf.capacity() - self.buf.len();
        if spare < self.read_bytes / 4 && !self.buf.try_reclaim(self.read_bytes) {
            // The consumer still has the old buffer. What is left in it is a piece of a line at most, or a head.
            let mut next = BytesMut::with_capacity(self.read_bytes + self.buf.len());
            next.extend_from_slice(&self.buf);
            self.buf = next;
        }
        self.buf.capacity() - self.buf.len()
    }

    /// Only a body that keeps filling the buffer earns a larger one.
    fn grow(&mut self, read: usize, spare: usize) {
        if read == spare && self.framing != Framing::Done {
            self.read_bytes = (self.read_bytes * 2).min(self.limits.read_bytes_max.max(READ_BYTES_FIRST));
        }
    }

    /// Gives memory back between requests.
    pub(super) fn rest(&mut self) {
        if self.buf.is_empty() {
            self.buf = BytesMut::new();
            self.read_bytes = READ_BYTES_FIRST;
        }
    }

    /// The next piece of the content. With `ends`, it ends with what has arrived.
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        ends: bool,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.failed {
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            match self.framing.decode(&mut self.buf, &self.limits) {
                Ok(Decoded::Data(data)) => {
                    self.pace.pause();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Decoded::Trailers(trailers)) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Ok(Decoded::End) => return Poll::Ready(None),
                Ok(Decoded::More) => {}
                Err(reason) => return self.fail(BodyError::Malformed(reason)),
            }
            match if ends { self.poll_arrived(cx) } else { self.poll_fill(cx) } {
                Poll::Ready(Ok(0) | Err(_)) => return self.fail(BodyError::Cut),
                Poll::Ready(Ok(bytes)) => self.pace.arrived(bytes),
                Poll::Pending if ends => return self.fail(BodyError::Aborted),
                Poll::Pending => {
                    let error = ready!(self.pace.poll_waiting(cx));
                    return self.fail(error);
                }
            }
        }
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.failed = Some(error);
        Poll::Ready(Some(Err(error)))
    }

    /// Reads the rest of the content and throws it away, within the limits. True if its end was reached.
    pub(super) async fn drain(&mut self, until: Instant) -> bool {
        let mut bytes_left = self.limits.drain_bytes_max;
        while !self.failed() {
            match timeout_at(until, poll_fn(|cx| self.poll_frame(cx, false))).await {
                Ok(None) => return true,
                Ok(Some(Ok(frame))) => {
                    let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                    let Some(left) = bytes_left.checked_sub(bytes) else { return false };
                    bytes_left = left;
                }
                Ok(Some(Err(_))) | Err(_) => return false,
            }
        }
        false
    }

    /// Reads until the peer has closed its side, so that closing ours does not destroy what it has not read.
    ///
    /// Past the bytes that may be thrown away nothing more is read, which slows a sending peer down, but it
    /// still has its time to notice the answer.
    pub(super) async fn linger(&mut self, until: Instant) {
        let mut bytes_left = self.limits.drain_bytes_max;
        loop {
            self.buf.clear();
            match timeout_at(until, poll_fn(|cx| self.poll_fill(cx))).await {
                Ok(Ok(read)) if read > 0 => match bytes_left.checked_sub(read as u64) {
                    Some(left) => bytes_left = left,
                    None => break,
                },
                _ => return,
            }
        }
        self.buf = BytesMut::new();
        let _ = timeout_at(until, self.half.failed()).await;
    }
}

/// A reader that is lent to a body until the connection wants it back.
pub(super) struct Lent {
    state: Mutex<State>,
    latch: Arc<Latch>,
}

struct State {
    /// The reader, or what a body that still polls is told.
    reader: Result<Box<Reader>, BodyError>,
    waiting: Option<Waker>,
    /// Takes the 100 (Continue) that the first poll of the body asks for.
    expecting: Option<Arc<Queue>>,
    /// Woken when the body has failed, because nothing else may tell the connection that the peer is gone.
    connection: Option<Waker>,
}

impl Lent {
    pub(super) fn new(reader: Box<Reader>, expecting: Option<Arc<Queue>>, latch: &Arc<Latch>) -> Arc<Self> {
        let state = State { reader: Ok(reader), waiting: None, expecting, connection: None };
        Arc::new(Lent { state: Mutex::new(state), latch: Arc::clone(latch) })
    }

    /// The body that reads from here.
    pub(super) fn incoming(self: &Arc<Self>, length: Option<u64>) -> Incoming {
        Incoming { lent: Arc::clone(self), left: length, ended: length == Some(0) }
    }

    /// Takes the reader back. A body that is still in use ends with an error.
    pub(super) fn take_back(&self) -> Option<Box<Reader>> {
        let (reader, waker) = {
            let mut state = self.lock();
            (std::mem::replace(&mut state.reader, Err(BodyError::Aborted)).ok(), state.waiting.take())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        reader
    }

    /// Whether the content has been read to its end, or to an error; if not, the task is woken by an error.
    pub(super) fn over(&self, cx: &Context<'_>) -> bool {
        let mut state = self.lock();
        let over = state.reader.as_ref().map_or(true, |reader| reader.finished() || reader.failed());
        if !over {
            state.connection = Some(cx.waker().clone());
        }
        over
    }

    /// Whether the connection cannot be used again: the rest of the content is known to be more than is worth
    /// throwing away, or the peer waits for a 100 that will not come and may never send the content.
    pub(super) fn hopeless(&self, drain_bytes_max: u64) -> bool {
        let state = self.lock();
        match &state.reader {
            Ok(reader) => {
                reader.failed()
                    || reader.left().is_some_and(|left| left > drain_bytes_max)
                    || (state.expecting.is_some() && reader.is_empty())
            }
            Err(_) => true,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of an HTTP/1.1 request that has content.
pub(crate) struct Incoming {
    lent: Arc<Lent>,
    /// Bytes still to be yielded; `None` for the chunked coding.
    left: Option<u64>,
    ended: bool,
}

impl Incoming {
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let ends = self.lent.latch.content_ends();
        let mut state = self.lent.lock();
        let state = &mut *state;
        let polled = match &mut state.reader {
            Ok(reader) => {
                // Content that has arrived needs no permission any more.
                if !ends
                    && let Some(queue) = state.expecting.take()
                    && reader.is_empty()
                {
                    queue.push_continue();
                }
                reader.poll_frame(cx, ends)
            }
            Err(error) => Poll::Ready(Some(Err(*error))),
        };
        match &polled {
            Poll::Pending => {
                if !state.waiting.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    state.waiting = Some(cx.waker().clone());
                }
            }
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.left = self.left.map(|left| left.saturating_sub(bytes));
                self.ended = self.left == Some(0) || frame.is_trailers();
            }
            Poll::Ready(None) => self.ended = true,
            Poll::Ready(Some(Err(_))) => {
                self.ended = true;
                if let Some(waker) = state.connection.take() {
                    waker.wake();
                }
            }
        }
        polled
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.ended
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}
