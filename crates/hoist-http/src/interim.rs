//! [`Interim`]: the handle with which a service sends interim (1xx) responses.
//!
//! Owns the queue between the service and the exchange, and the rule that no interim response follows the final one.
//! Each transport encodes interim responses itself.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use http::{Response, StatusCode};

use crate::sync::{lock, register, wake};

/// The handle that sends interim (1xx) responses for one request, at once and while its body is still arriving.
///
/// Found in the request's extensions, except for HTTP/1.0, which has no interim responses. Clones belong to the same
/// request. No method waits; responses that cannot be sent yet are queued, up to
/// [`Limits::interims_max`](crate::Limits::interims_max).
///
/// ```
/// # fn f(request: http::Request<()>) -> Result<(), Box<dyn std::error::Error>> {
/// if let Some(interim) = request.extensions().get::<hoist_http::Interim>() {
///     let hint = http::Response::builder().status(103).header("link", "</style.css>; rel=preload");
///     interim.send(hint.body(())?)?;
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Interim(Arc<Queue>);

/// The interim responses of one request that have not been sent.
#[derive(Debug)]
struct Queue {
    max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<(Kind, Response<()>)>,
    /// Set under the lock that empties `waiting`, so that no interim response can follow the final one.
    closed: Option<InterimError>,
    exchange: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The server's own `100 (Continue)`.
    Continue,
    Ordered,
    Progress,
}

impl Interim {
    pub(crate) fn new(max: usize) -> Self {
        Interim(Arc::new(Queue { max, state: Mutex::default() }))
    }

    /// Queues an interim response with a status of 102 to 199. It is sent after those queued before it, and before the
    /// final response.
    ///
    /// The server sends `100 (Continue)` itself, when the body is first polled.
    ///
    /// # Errors
    /// Returns an [`InterimError`] if it will never be sent.
    pub fn send(&self, head: Response<()>) -> Result<(), InterimError> {
        self.push(head, Kind::Ordered)
    }

    /// Queues an interim response that matters only while it is the latest. It replaces an earlier `progress` that has
    /// not been sent yet, and is dropped if the final response is ready first.
    ///
    /// # Errors
    /// Returns an [`InterimError`] if it will never be sent.
    pub fn progress(&self, head: Response<()>) -> Result<(), InterimError> {
        self.push(head, Kind::Progress)
    }

    /// Queues a `100 (Continue)`. It does not count towards the bound, because it is sent once.
    pub(crate) fn push_continue(&self) {
        let mut head = Response::new(());
        *head.status_mut() = StatusCode::CONTINUE;
        // If the final response has begun, it replaces the `100 (Continue)`.
        let _ = self.push(head, Kind::Continue);
    }

    fn push(&self, head: Response<()>, kind: Kind) -> Result<(), InterimError> {
        let status = head.status().as_u16();
        if kind != Kind::Continue && !matches!(status, 102..=199) {
            return Err(InterimError::InvalidStatus);
        }
        let mut state = lock(&self.0.state);
        if let Some(error) = state.closed {
            return Err(error);
        }
        if kind == Kind::Progress {
            state.waiting.retain(|(kind, _)| *kind != Kind::Progress);
        }
        if kind != Kind::Continue && state.waiting.len() >= self.0.max.max(1) {
            return Err(InterimError::Full);
        }
        state.waiting.push_back((kind, head));
        let waker = state.exchange.take();
        drop(state);
        wake(waker);
        Ok(())
    }

    /// Returns the next interim response to send.
    pub(crate) fn poll_next(&self, cx: &Context<'_>) -> Poll<Response<()>> {
        let mut state = lock(&self.0.state);
        if let Some((_, head)) = state.waiting.pop_front() {
            if state.waiting.is_empty() {
                // The next one may be hours away.
                state.waiting = VecDeque::new();
            }
            return Poll::Ready(head);
        }
        register(&mut state.exchange, cx);
        Poll::Pending
    }

    /// Closes the queue before the final response. Returns the responses that must be sent first, and drops
    /// `100 (Continue)` and progress, which no longer matter.
    pub(crate) fn close(&self) -> impl Iterator<Item = Response<()>> + use<> {
        let mut state = lock(&self.0.state);
        state.closed.get_or_insert(InterimError::Answered);
        let waiting = std::mem::take(&mut state.waiting);
        waiting.into_iter().filter(|(kind, _)| *kind == Kind::Ordered).map(|(_, head)| head)
    }

    /// Closes and empties the queue, because the peer takes no more responses.
    pub(crate) fn disconnect(&self) {
        let mut state = lock(&self.0.state);
        state.closed.get_or_insert(InterimError::Disconnected);
        state.waiting.clear();
    }
}

/// The reason why an interim response will never be sent. The request itself may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InterimError {
    /// The final response has begun.
    #[error("the final response has begun")]
    Answered,
    /// The connection or stream has ended.
    #[error("the connection has ended")]
    Disconnected,
    /// The peer does not read, and the queue is full.
    #[error("the queue of interim responses is full")]
    Full,
    /// The status is not one from 102 to 199.
    #[error("the status is not that of an interim response")]
    InvalidStatus,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, offset: u32) -> Response<()> {
        Response::builder().status(status).header("upload-offset", offset).body(()).unwrap()
    }

    fn drain(interim: &Interim) -> Vec<String> {
        let cx = Context::from_waker(Waker::noop());
        let mut out = Vec::new();
        while let Poll::Ready(head) = interim.poll_next(&cx) {
            let offset = head.headers().get("upload-offset").map_or("-", |v| v.to_str().unwrap());
            out.push(format!("{} {offset}", head.status().as_u16()));
        }
        out
    }

    #[test]
    fn progress_replaces_progress_and_keeps_the_order_of_the_rest() {
        let interim = Interim::new(4);
        interim.progress(head(104, 1)).unwrap();
        interim.send(head(103, 2)).unwrap();
        interim.push_continue();
        interim.progress(head(104, 3)).unwrap();
        assert_eq!(drain(&interim), ["103 2", "100 -", "104 3"]);
    }

    #[test]
    fn no_interim_response_follows_the_final_one() {
        let interim = Interim::new(4);
        interim.send(head(103, 1)).unwrap();
        interim.progress(head(104, 2)).unwrap();
        interim.push_continue();
        let last: Vec<_> = interim.close().map(|head| head.status().as_u16()).collect();
        assert_eq!(last, [103]);
        assert_eq!(interim.send(head(104, 3)), Err(InterimError::Answered));
        assert_eq!(interim.progress(head(104, 3)), Err(InterimError::Answered));
        interim.disconnect();
        assert_eq!(interim.send(head(104, 3)), Err(InterimError::Answered));
    }

    #[test]
    fn the_queue_is_bounded_and_takes_only_interim_statuses() {
        let interim = Interim::new(2);
        for status in [100, 101, 200, 404] {
            assert_eq!(interim.send(head(status, 0)), Err(InterimError::InvalidStatus));
        }
        interim.send(head(102, 1)).unwrap();
        interim.progress(head(104, 2)).unwrap();
        assert_eq!(interim.send(head(104, 3)), Err(InterimError::Full));
        interim.progress(head(104, 4)).unwrap();
        assert_eq!(drain(&interim), ["102 1", "104 4"]);
        interim.disconnect();
        assert_eq!(interim.send(head(104, 5)), Err(InterimError::Disconnected));
    }
}
