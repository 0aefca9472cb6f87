//! The content of an h2 request, and the flow-control window it holds.
//!
//! Owns the rule that window is given back when the *consumer* has dropped the bytes, not when it got them: what
//! a slow disk has not taken yet is memory the peer must not fill again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use ::h2::{FlowControl, RecvStream};
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::interim::Queue;
use crate::pace::Pace;
use crate::{BodyError, Limits};

/// A stream's content while a body reads it, until the response is complete.
pub(super) struct Lent {
    state: Mutex<State>,
    window: Arc<Window>,
}

struct State {
    /// The content, or what a body that still polls is told.
    content: Result<RecvStream, BodyError>,
    pace: Pace,
    window_bytes: usize,
    waiting: Option<Waker>,
    /// Takes the 100 (Continue) that the first poll of the body asks for.
    expecting: Option<Arc<Queue>>,
}

impl Lent {
    pub(super) fn new(mut content: RecvStream, expecting: Option<Arc<Queue>>, limits: &Limits) -> Arc<Self> {
        let window = Arc::new(Window(Mutex::new(Some(content.flow_control().clone()))));
        let pace = Pace::new(limits);
        let window_bytes = usize::try_from(limits.h2_stream_window_bytes).unwrap_or(usize::MAX);
        let state = State { content: Ok(content), pace, window_bytes, waiting: None, expecting };
        Arc::new(Lent { state: Mutex::new(state), window })
    }

    /// Ends the body, which yields `Aborted` if it is still in use, and lets go of the stream: h2 resets it with
    /// `NO_ERROR` once everything queued has been sent and nobody holds it any more.
    pub(super) fn take_back(&self) {
        let (content, waker) = {
            let mut state = self.lock();
            (std::mem::replace(&mut state.content, Err(BodyError::Aborted)), state.waiting.take())
        };
        drop(content);
        self.window.close();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of an h2 request that has content.
pub(crate) struct Incoming {
    lent: Arc<Lent>,
    /// Bytes still to be yielded; `None` if the peer did not say.
    left: Option<u64>,
    ended: bool,
}

impl Incoming {
    pub(super) fn new(lent: Arc<Lent>, length: Option<u64>) -> Self {
        Incoming { lent, left: length, ended: false }
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut state = self.lent.lock();
        let polled = state.poll_frame(cx, &self.lent.window);
        match &polled {
            Poll::Pending => {
                if !state.waiting.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    state.waiting = Some(cx.waker().clone());
                }
            }
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.left = self.left.map(|left| left.saturating_sub(bytes));
                self.ended = frame.is_trailers();
            }
            Poll::Ready(None | Some(Err(_))) => self.ended = true,
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

impl Drop for Incoming {
    /// Content nobody wants is not kept, and does not hold window.
    fn drop(&mut self) {
        let content = std::mem::replace(&mut self.lent.lock().content, Err(BodyError::Aborted));
        drop(content);
    }
}

impl State {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        window: &Arc<Window>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let content = match &mut self.content {
            Ok(content) => content,
            Err(error) => return Poll::Ready(Some(Err(*error))),
        };
        if let Some(queue) = self.expecting.take() {
            queue.push_continue();
        }
        loop {
            match content.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) if data.is_empty() => {}
                Poll::Ready(Some(Ok(data))) => {
                    self.pace.arrived(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(window.hold(data)))));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(reason(&error)))),
                Poll::Ready(None) => break,
                Poll::Pending => {
                    // While the consumer sits on the window, it is not the peer we wait for.
                    if content.flow_control().used_capacity() > self.window_bytes / 2 {
                        self.pace.pause();
                        return Poll::Pending;
                    }
                    let error = ready!(self.pace.poll_waiting(cx));
                    self.content = Err(error);
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        match ready!(content.poll_trailers(cx)) {
            Ok(None) => Poll::Ready(None),
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Err(error) => Poll::Ready(Some(Err(reason(&error)))),
        }
    }
}

fn reason(error: &::h2::Error) -> BodyError {
    if error.is_library() {
        BodyError::Malformed("the peer broke the rules of HTTP/2")
    } else {
        BodyError::Cut
    }
}

/// The way back of a stream's window, for as long as the stream is there.
struct Window(Mutex<Option<FlowControl>>);

impl Window {
    fn hold(self: &Arc<Self>, data: Bytes) -> Bytes {
        Bytes::from_owner(Held { data, window: Arc::clone(self) })
    }

    fn close(&self) {
        let flow = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(flow);
    }
}

/// Bytes that give their window back when they are dropped.
struct Held {
    data: Bytes,
    window: Arc<Window>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(flow) = &mut *self.window.0.lock().unwrap_or_else(PoisonError::into_inner) {
            // An error means that the stream has ended and its window with it.
            let _ = flow.release_capacity(self.data.len());
        }
    }
}
