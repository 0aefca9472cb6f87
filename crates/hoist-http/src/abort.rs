//! [`Abort`]: the handle with which a service ends one request without a response.
//!
//! Owns the latch between the handle and the exchange. Each transport resets its connection or stream itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use crate::sync::lock;

/// The handle that ends one request without a response: HTTP/1.1 resets the connection, HTTP/2 this one stream.
///
/// Found in every request's extensions. It may be used from any task, at any time and more than once; after the
/// response is complete it has no effect. A stalled peer cannot delay it. The request's [`Body`](crate::Body), if it is
/// still in use, ends with [`BodyError::Aborted`](crate::BodyError::Aborted), and the service's future is dropped.
#[derive(Clone)]
pub struct Abort(Arc<Latch>);

impl Abort {
    /// Ends the request now.
    pub fn abort(&self) {
        let waker = {
            let mut state = lock(&self.0.state);
            if state.disarmed {
                return;
            }
            state.fired = true;
            state.exchange.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ends the request's content after the bytes that have arrived. The service can still respond.
    ///
    /// The [`Body`](crate::Body) yields the bytes that the server and its kernel hold, and then
    /// [`BodyError::Aborted`](crate::BodyError::Aborted) instead of waiting for the peer. Content whose end has arrived
    /// is complete and ends as usual. Takes effect when the body is polled next.
    pub fn end_content(&self) {
        self.0.content_ends.store(true, Ordering::Release);
    }
}

impl std::fmt::Debug for Abort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Abort").finish_non_exhaustive()
    }
}

/// The state that a handle and its exchange share.
#[derive(Default)]
pub(crate) struct Latch {
    state: Mutex<State>,
    content_ends: AtomicBool,
}

#[derive(Default)]
struct State {
    fired: bool,
    disarmed: bool,
    exchange: Option<Waker>,
}

impl Latch {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn handle(self: &Arc<Self>) -> Abort {
        Abort(Arc::clone(self))
    }

    /// Returns whether the content ends after the bytes that have arrived.
    pub(crate) fn content_ends(&self) -> bool {
        self.content_ends.load(Ordering::Acquire)
    }

    /// Returns whether the request was aborted. If not, wakes the task when it is.
    pub(crate) fn fired(&self, cx: &Context<'_>) -> bool {
        let mut state = lock(&self.state);
        if !state.fired && !state.exchange.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.exchange = Some(cx.waker().clone());
        }
        state.fired
    }

    /// Disarms the handles, because the response is complete.
    pub(crate) fn disarm(&self) {
        let mut state = lock(&self.state);
        state.disarmed = true;
        state.exchange = None;
    }
}
