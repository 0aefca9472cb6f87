//! [`Abort`]: the handle with which a service ends one exchange without answering it.
//!
//! Owns the latch between the handle and the connection. What ending means is the connection's business.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

/// Ends one request without an answer: HTTP/1.1 closes the connection abruptly, h2 resets this one stream.
///
/// Found in every request's extensions. It may be used from any task at any time, more than once; after the
/// response is done it does nothing. A stalled peer cannot delay it. The request's [`Body`](crate::Body), if
/// it is still being read anywhere, ends with [`BodyError::Aborted`](crate::BodyError::Aborted), and the
/// service's future is dropped.
#[derive(Clone)]
pub struct Abort(Arc<Latch>);

impl Abort {
    /// Ends the request now.
    pub fn abort(&self) {
        let waker = {
            let mut state = self.0.lock();
            if state.done {
                return;
            }
            state.fired = true;
            state.connection.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ends the request's content after the bytes that have arrived. The request can still be answered.
    ///
    /// The [`Body`](crate::Body) yields what the server and its kernel hold already, and then
    /// [`BodyError::Aborted`](crate::BodyError::Aborted) instead of waiting for the peer. Content whose end is
    /// among these bytes is whole and ends as usual. Takes effect when the body is polled next.
    pub fn end_content(&self) {
        self.0.content_ends.store(true, Ordering::Release);
    }
}

impl std::fmt::Debug for Abort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Abort").finish_non_exhaustive()
    }
}

#[derive(Default)]
pub(crate) struct Latch {
    state: Mutex<State>,
    content_ends: AtomicBool,
}

#[derive(Default)]
struct State {
    fired: bool,
    done: bool,
    connection: Option<Waker>,
}

impl Latch {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn handle(self: &Arc<Self>) -> Abort {
        Abort(Arc::clone(self))
    }

    /// Returns `true` if the content ends after the bytes that have arrived.
    pub(crate) fn content_ends(&self) -> bool {
        self.content_ends.load(Ordering::Acquire)
    }

    /// Returns `true` if the exchange is to end. If not, registers the task to be woken when that changes.
    pub(crate) fn fired(&self, cx: &Context<'_>) -> bool {
        let mut state = self.lock();
        if !state.fired && !state.connection.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.connection = Some(cx.waker().clone());
        }
        state.fired
    }

    /// The response is done: aborting has no meaning any more.
    pub(crate) fn done(&self) {
        let mut state = self.lock();
        state.done = true;
        state.connection = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
