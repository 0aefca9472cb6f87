//! The content of one request, shared by the transport that receives it and the [`Body`](crate::Body) that reads it.
//!
//! Owns the hand-over between the two: a body reads straight from the transport, in whichever task it lives, until the
//! transport takes its receiving side back at the end of the response. Owns the minimum rate, `100 (Continue)` and the
//! early end of content as well. Framing is behind [`Receiver`].

use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use crate::abort::Abort;
use crate::body::{BodyError, PollFrame, Source};
use crate::interim::Interim;
use crate::limits::Limits;
use crate::pace::Pace;
use crate::sync::{lock, register, wake};

/// The receiving side of one request's content, as a version of HTTP implements it.
pub(crate) trait Receiver: Send + 'static {
    /// Returns the next frame, and reports the bytes that arrive to `pace`. Pending means that the peer has to send
    /// more. If `only_arrived`, yields the bytes that have arrived, the kernel's included, and then
    /// [`BodyError::Aborted`].
    fn poll_frame(&mut self, cx: &mut Context<'_>, pace: &mut Pace, only_arrived: bool) -> PollFrame;

    /// Returns whether the content has been yielded to its end.
    fn is_end_stream(&self) -> bool;

    /// Returns whether [`poll_splice`](Self::poll_splice) may move bytes.
    fn can_splice(&self) -> bool {
        false
    }

    /// Moves the next bytes into a pipe, as [`Splice::poll_splice`](crate::Splice::poll_splice) says, and reports them to
    /// `pace`.
    fn poll_splice(
        &mut self,
        _cx: &mut Context<'_>,
        _pace: &mut Pace,
        _pipe: BorrowedFd<'_>,
        _bytes_max: usize,
    ) -> Poll<Option<NonZeroUsize>> {
        Poll::Ready(None)
    }

    /// Returns whether content has arrived that was not yielded yet, as far as that is known.
    fn has_arrived(&self) -> bool {
        false
    }

    /// Gives the content up, because it arrives too slowly.
    fn stop(&mut self) {}

    /// Notes that the body was dropped, so that the rest of the content has no reader.
    fn body_dropped(&mut self) {}
}

/// The content of a request whose receiving side the transport holds.
pub(crate) struct Content<R> {
    pub(crate) receiver: R,
    /// True if reading the content has failed.
    pub(crate) has_failed: bool,
    pace: Pace,
}

impl<R: Receiver> Content<R> {
    /// Returns whether the content was read to its end, without an error.
    pub(crate) fn is_complete(&self) -> bool {
        !self.has_failed && self.receiver.is_end_stream()
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>, only_arrived: bool) -> PollFrame {
        let polled = self.receiver.poll_frame(cx, &mut self.pace, only_arrived);
        if polled.is_ready() {
            self.has_failed |= matches!(polled, Poll::Ready(Some(Err(_))));
            return polled;
        }
        let error = ready!(self.pace.poll_waiting(cx));
        self.has_failed = true;
        self.receiver.stop();
        Poll::Ready(Some(Err(error)))
    }

    /// Reads the rest of the content and discards it, up to [`Limits::drain_bytes_max`]. Returns whether its end was
    /// reached.
    pub(crate) async fn discard(&mut self, limits: &Limits, until: Instant) -> bool {
        let mut bytes_left = limits.drain_bytes_max;
        loop {
            match timeout_at(until, poll_fn(|cx| self.poll_frame(cx, false))).await {
                Ok(Some(Ok(frame))) => {
                    let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                    let Some(left) = bytes_left.checked_sub(bytes) else { return false };
                    bytes_left = left;
                }
                Ok(None) => return true,
                Ok(Some(Err(_))) | Err(_) => return false,
            }
        }
    }
}

/// The content of a request while a body may read it.
pub(crate) struct SharedContent<R> {
    state: Mutex<State<R>>,
    abort: Abort,
}

struct State<R> {
    /// `None` after the transport has taken the content back.
    content: Option<Content<R>>,
    /// Receives the `100 (Continue)` that the first poll of the body asks for.
    continues: Option<Interim>,
    /// The task that waits for content.
    body: Option<Waker>,
    /// The task of the transport, if it waits for the end of the content.
    transport: Option<Waker>,
}

impl<R: Receiver> SharedContent<R> {
    /// Shares what `receiver` yields. The first poll of the body queues a `100 (Continue)` in `continues`.
    pub(crate) fn new(receiver: R, continues: Option<Interim>, abort: Abort, limits: &Limits) -> Self {
        let content = Some(Content { receiver, has_failed: false, pace: Pace::new(limits) });
        SharedContent { state: Mutex::new(State { content, continues, body: None, transport: None }), abort }
    }

    /// Takes the content back. A body that is still in use ends with [`BodyError::Aborted`].
    pub(crate) fn take(&self) -> Option<Content<R>> {
        let mut state = lock(&self.state);
        let (content, waker) = (state.content.take(), state.body.take());
        drop(state);
        wake(waker);
        content
    }

    /// Ready once the body has read the content to its end or to an error.
    pub(crate) fn poll_read(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = lock(&self.state);
        let content = state.content.as_ref();
        if content.is_none_or(|content| content.has_failed || content.receiver.is_end_stream()) {
            return Poll::Ready(());
        }
        register(&mut state.transport, cx);
        Poll::Pending
    }

    /// Calls `look` with the content, and with whether the peer still waits for a `100 (Continue)`. Returns `None` if
    /// the content was taken back.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Content<R>, bool) -> T) -> Option<T> {
        let mut state = lock(&self.state);
        let awaits_continue = state.continues.is_some();
        state.content.as_mut().map(|content| look(content, awaits_continue))
    }
}

impl<R: Receiver> Source for SharedContent<R> {
    fn poll_frame(&self, cx: &mut Context<'_>) -> PollFrame {
        let only_arrived = self.abort.content_ends();
        let mut state = lock(&self.state);
        let state = &mut *state;
        let Some(content) = &mut state.content else { return Poll::Ready(Some(Err(BodyError::Aborted))) };
        // Content that has arrived needs no permission.
        if !only_arrived
            && let Some(queue) = state.continues.take()
            && !content.receiver.has_arrived()
        {
            queue.push_continue();
        }
        let polled = content.poll_frame(cx, only_arrived);
        match &polled {
            Poll::Pending => register(&mut state.body, cx),
            // Nothing else may tell the transport that the peer has disconnected.
            Poll::Ready(Some(Err(_))) => wake(state.transport.take()),
            Poll::Ready(_) => {}
        }
        polled
    }

    fn can_splice(&self) -> bool {
        lock(&self.state).content.as_ref().is_some_and(|content| content.receiver.can_splice())
    }

    fn poll_splice(
        &self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        bytes_max: usize,
    ) -> Poll<Option<NonZeroUsize>> {
        let mut state = lock(&self.state);
        let state = &mut *state;
        let Some(content) = &mut state.content else { return Poll::Ready(None) };
        if self.abort.content_ends() || state.continues.is_some() || content.has_failed {
            return Poll::Ready(None);
        }
        if let Poll::Ready(moved) = content.receiver.poll_splice(cx, &mut content.pace, pipe, bytes_max) {
            return Poll::Ready(moved);
        }
        // The next frame is the error.
        if content.pace.poll_waiting(cx).is_ready() {
            return Poll::Ready(None);
        }
        register(&mut state.body, cx);
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.state).content.as_ref().is_some_and(|content| content.receiver.is_end_stream())
    }

    fn body_dropped(&self) {
        if let Some(content) = &mut lock(&self.state).content {
            content.receiver.body_dropped();
        }
    }
}
