//! [`Interim`]: the handle with which a service sends interim (1xx) responses.
//!
//! Owns the queue between the handle and the connection, and the rule that nothing follows the final response.
//! How an interim response looks on the wire is the connection's business.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use http::{Response, StatusCode};

/// Sends interim (1xx) responses for one request, at once and while its body is still being received.
///
/// Found in the request's extensions if, and only if, the peer can take interim responses: never for HTTP/1.0.
/// Clones speak for the same request. Nothing here waits; what cannot be sent yet is queued, within
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
#[derive(Clone)]
pub struct Interim(Arc<Queue>);

impl Interim {
    /// Queues an interim response: status 102 to 199. Everything sent goes out in order, and before the final
    /// response.
    ///
    /// `100 (Continue)` is not for services: the server sends it when the body is first polled.
    ///
    /// # Errors
    /// [`Gone`] says why it will never be sent.
    pub fn send(&self, head: Response<()>) -> Result<(), Gone> {
        self.0.push(head, Kind::Ordered)
    }

    /// Queues an interim response that only matters while it is the latest: it replaces an earlier `progress`
    /// that has not been sent yet, and is dropped when the final response is ready first.
    ///
    /// # Errors
    /// [`Gone`] says why it will never be sent.
    pub fn progress(&self, head: Response<()>) -> Result<(), Gone> {
        self.0.push(head, Kind::Progress)
    }
}

impl std::fmt::Debug for Interim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interim").finish_non_exhaustive()
    }
}

/// Why an interim response will never be sent. The request itself may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Gone {
    /// The final response has begun.
    #[error("the final response has begun")]
    Answered,
    /// The connection or stream has ended.
    #[error("the connection has ended")]
    Lost,
    /// The peer does not read, and as much as may be is already queued.
    #[error("too many interim responses wait for the peer to read them")]
    Full,
    /// The status is not one a service may send as an interim response: 102 to 199.
    #[error("not the status of an interim response")]
    Status,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The server's own 100.
    Continue,
    Ordered,
    Progress,
}

/// What connection and handle share. `closed` is set under the same lock as `waiting` is emptied, so that no
/// interim response can follow the final one.
pub(crate) struct Queue {
    max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Kind, Response<()>)>,
    closed: Option<Gone>,
    connection: Option<Waker>,
}

impl Queue {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Queue { max, state: Mutex::default() })
    }

    pub(crate) fn handle(self: &Arc<Self>) -> Interim {
        Interim(Arc::clone(self))
    }

    /// Queues the 100 (Continue) a waiting client needs. It has no bound of its own, being sent once.
    pub(crate) fn push_continue(&self) {
        let mut head = Response::new(());
        *head.status_mut() = StatusCode::CONTINUE;
        // Too late means that the final response has begun, and it replaces the 100.
        let _ = self.push(head, Kind::Continue);
    }

    fn push(&self, head: Response<()>, kind: Kind) -> Result<(), Gone> {
        let status = head.status().as_u16();
        if kind != Kind::Continue && !matches!(status, 102..=199) {
            return Err(Gone::Status);
        }
        let waker = {
            let mut state = self.lock();
            if let Some(gone) = state.closed {
                return Err(gone);
            }
            if kind == Kind::Progress {
                state.waiting.retain(|(kind, _)| *kind != Kind::Progress);
            }
            if kind != Kind::Continue && state.waiting.len() >= self.max.max(1) {
                return Err(Gone::Full);
            }
            state.waiting.push_back((kind, head));
            state.connection.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// The next interim response to send. The connection is woken when there is one.
    pub(crate) fn poll_next(&self, cx: &Context<'_>) -> Poll<Response<()>> {
        let mut state = self.lock();
        if let Some((_, head)) = state.waiting.pop_front() {
            return Poll::Ready(head);
        }
        if !state.connection.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.connection = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// The final response begins: nothing can be queued from here on, and what was promised in order is
    /// returned to be sent first. A 100 and progress have lost their meaning.
    pub(crate) fn answer(&self) -> impl Iterator<Item = Response<()>> + use<> {
        let mut state = self.lock();
        state.closed.get_or_insert(Gone::Answered);
        let waiting = std::mem::take(&mut state.waiting);
        waiting.into_iter().filter(|(kind, _)| *kind == Kind::Ordered).map(|(_, head)| head)
    }

    /// The connection or stream has ended, or the peer no longer takes anything.
    pub(crate) fn lost(&self) {
        let mut state = self.lock();
        state.closed.get_or_insert(Gone::Lost);
        state.waiting.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, offset: u32) -> Response<()> {
        Response::builder().status(status).header("upload-offset", offset).body(()).unwrap()
    }

    fn drain(queue: &Queue) -> Vec<String> {
        let cx = Context::from_waker(Waker::noop());
        let mut out = Vec::new();
        while let Poll::Ready(head) = queue.poll_next(&cx) {
            let offset = head.headers().get("upload-offset").map_or("-", |v| v.to_str().unwrap());
            out.push(format!("{} {offset}", head.status().as_u16()));
        }
        out
    }

    #[test]
    fn progress_replaces_progress_and_keeps_the_order_of_the_rest() {
        let queue = Queue::new(4);
        let interim = queue.handle();
        interim.progress(head(104, 1)).unwrap();
        interim.send(head(103, 2)).unwrap();
        queue.push_continue();
        interim.progress(head(104, 3)).unwrap();
        assert_eq!(drain(&queue), ["103 2", "100 -", "104 3"]);
    }

    #[test]
    fn nothing_follows_the_final_response() {
        let queue = Queue::new(4);
        let interim = queue.handle();
        interim.send(head(103, 1)).unwrap();
        interim.progress(head(104, 2)).unwrap();
        queue.push_continue();
        let last: Vec<_> = queue.answer().map(|head| head.status().as_u16()).collect();
        assert_eq!(last, [103]);
        assert_eq!(interim.send(head(104, 3)), Err(Gone::Answered));
        assert_eq!(interim.progress(head(104, 3)), Err(Gone::Answered));
        queue.lost();
        assert_eq!(interim.send(head(104, 3)), Err(Gone::Answered));
    }

    #[test]
    fn the_queue_is_bounded_and_takes_only_interim_statuses() {
        let queue = Queue::new(2);
        let interim = queue.handle();
        for status in [100, 101, 200, 404] {
            assert_eq!(interim.send(head(status, 0)), Err(Gone::Status));
        }
        interim.send(head(102, 1)).unwrap();
        interim.progress(head(104, 2)).unwrap();
        assert_eq!(interim.send(head(104, 3)), Err(Gone::Full));
        interim.progress(head(104, 4)).unwrap();
        assert_eq!(drain(&queue), ["102 1", "104 4"]);
        queue.lost();
        assert_eq!(interim.send(head(104, 5)), Err(Gone::Lost));
    }
}
