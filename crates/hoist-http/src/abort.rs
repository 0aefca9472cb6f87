//! [`Abort`]: the handle with which a service ends one request without a response.
//!
//! Owns the state that the service and the exchange share. Each transport resets its connection or stream itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use crate::sync::{lock, register, wake};

/// The handle that ends one request without a response: HTTP/1.1 resets the connection, HTTP/2 this one stream.
///
/// Found in every request's extensions. It may be used from any task, at any time and more than once; after the
/// response is complete it has no effect. A stalled peer cannot delay it. The request's [`Body`](crate::Body), if it is
/// still in use, ends with [`BodyError::Aborted`](crate::BodyError::Aborted), and the service's future is dropped.
#[derive(Clone, Debug)]
pub struct Abort(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    content_ends: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    fired: bool,
    disarmed: bool,
    exchange: Option<Waker>,
}

impl Abort {
    pub(crate) fn new() -> Self {
        Abort(Arc::default())
    }

    /// Ends the request now.
    pub fn abort(&self) {
        let mut state = lock(&self.0.state);
        if !state.disarmed {
            state.fired = true;
            let waker = state.exchange.take();
            drop(state);
            wake(waker);
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

    /// Returns whether the content ends after the bytes that have arrived.
    pub(crate) fn content_ends(&self) -> bool {
        self.0.content_ends.load(Ordering::Acquire)
    }

    /// Returns whether the request was aborted. If not, wakes the task when it is.
    pub(crate) fn fired(&self, cx: &Context<'_>) -> bool {
        let mut state = lock(&self.0.state);
        if !state.fired {
            register(&mut state.exchange, cx);
        }
        state.fired
    }

    /// Disarms all clones, because the response is complete.
    pub(crate) fn disarm(&self) {
        let mut state = lock(&self.0.state);
        state.disarmed = true;
        state.exchange = None;
    }
}
