//! The content of an h2 request, and the flow-control window it holds.
//!
//! Owns the rule that window is given back when the *consumer* has dropped the bytes, not when it got them: what
//! a slow disk has not taken yet is memory the peer must not fill again. A consumer that keeps the bytes and asks
//! for more, as one that collects a whole body does, has its own bound and gets more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use ::h2::{FlowControl, RecvStream};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::timeout;

use super::io::Gate;
use crate::abort::Latch;
use crate::interim::Queue;
use crate::pace::Pace;
use crate::{BodyError, Limits};

/// A stream's content while a body reads it, until the response is complete.
pub(super) struct Lent {
    state: Mutex<State>,
    window: Arc<Window>,
    latch: Arc<Latch>,
    gate: Arc<Gate>,
}

struct State {
    /// The content, or what a body that still polls is told.
    content: Result<RecvStream, BodyError>,
    pace: Pace,
    waiting: Option<Waker>,
    /// The body has been dropped, and so many bytes more are thrown away while the service goes on.
    abandoned: bool,
    discards_left: u64,
    /// Takes the 100 (Continue) that the first poll of the body asks for.
    expecting: Option<Arc<Queue>>,
    /// The request that the connection read all that has arrived, once the content is to end with that.
    catching_up: Option<u64>,
}

impl Lent {
    pub(super) fn new(
        mut content: RecvStream,
        expecting: Option<Arc<Queue>>,
        limits: &Limits,
        latch: &Arc<Latch>,
        gate: &Arc<Gate>,
    ) -> Arc<Self> {
        let window = Window::new(content.flow_control().clone());
        let state = State {
            content: Ok(content),
            pace: Pace::new(limits),
            waiting: None,
            abandoned: false,
            discards_left: limits.drain_bytes_max,
            expecting,
            catching_up: None,
        };
        let (latch, gate) = (Arc::clone(latch), Arc::clone(gate));
        Arc::new(Lent { state: Mutex::new(state), window, latch, gate })
    }

    /// Ends the body, which yields `Aborted` if it is still in use, and lets go of the stream: h2 resets it with
    /// `NO_ERROR` once everything queued has been sent and nobody holds it any more.
    pub(super) fn take_back(&self) -> Option<RecvStream> {
        let (content, waker) = {
            let mut state = self.lock();
            (std::mem::replace(&mut state.content, Err(BodyError::Aborted)), state.waiting.take())
        };
        self.window.close();
        if let Some(waker) = waker {
            waker.wake();
        }
        content.ok()
    }

    /// Ends the body, and throws away what the peer still sends until it has ended the stream, within the limits:
    /// some clients do not see an answer when their stream is reset while they send.
    ///
    /// Past the bytes that may be thrown away the peer is given no more window, so that it stops sending, but it
    /// still has its time to notice the answer.
    pub(super) async fn drain(&self, limits: &Limits) {
        let Some(mut content) = self.take_back() else { return };
        let mut bytes_left = limits.drain_bytes_max;
        let discard = async {
            while let Some(Ok(data)) = content.data().await {
                bytes_left = bytes_left.saturating_sub(data.len() as u64);
                if bytes_left > 0 {
                    let _ = content.flow_control().release_capacity(data.len());
                }
            }
        };
        // Out of time or not, dropping the content resets the stream if it has not ended.
        let _ = timeout(limits.drain_time, discard).await;
    }

    /// What has to be done while a service runs: gives back the window of what was dropped, and throws away
    /// what nobody will read. The task is woken when there is more to do.
    pub(super) fn poll_background(&self, cx: &mut Context<'_>) {
        self.window.poll_settle(cx);
        let mut state = self.lock();
        let state = &mut *state;
        if let (true, Ok(content)) = (state.abandoned, &mut state.content) {
            while state.discards_left > 0
                && let Poll::Ready(Some(Ok(data))) = content.poll_data(cx)
            {
                let _ = content.flow_control().release_capacity(data.len());
                state.discards_left = state.discards_left.saturating_sub(data.len() as u64);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
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
        let polled = state.poll_frame(cx, &self.lent);
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
        self.ended || self.lent.lock().content.as_ref().is_ok_and(RecvStream::is_end_stream)
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

impl Drop for Incoming {
    /// Content nobody wants is thrown away by the stream's task.
    fn drop(&mut self) {
        self.lent.lock().abandoned = true;
        self.lent.window.wake();
    }
}

impl State {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        lent: &Lent,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let window = &lent.window;
        let ends = lent.latch.content_ends();
        // Before the content is polled, which may otherwise miss what the connection reads in between.
        let has_all = ends && lent.gate.poll_caught_up(&mut self.catching_up, cx).is_ready();
        let content = match &mut self.content {
            Ok(content) => content,
            Err(error) => return Poll::Ready(Some(Err(*error))),
        };
        if !ends && let Some(queue) = self.expecting.take() {
            queue.push_continue();
        }
        loop {
            match content.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) if data.is_empty() => {}
                Poll::Ready(Some(Ok(data))) => {
                    self.pace.arrived(data.len());
                    window.settle();
                    return Poll::Ready(Some(Ok(Frame::data(window.hold(data)))));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(reason(&error)))),
                Poll::Ready(None) => break,
                Poll::Pending if has_all => return Poll::Ready(Some(Err(BodyError::Aborted))),
                Poll::Pending => {
                    window.write_off();
                    let error = ready!(self.pace.poll_waiting(cx));
                    self.content = Err(error);
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        match content.poll_trailers(cx) {
            Poll::Pending if has_all => Poll::Ready(Some(Err(BodyError::Aborted))),
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(None)) => Poll::Ready(None),
            Poll::Ready(Ok(Some(trailers))) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(reason(&error)))),
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
///
/// Bytes may be dropped anywhere, also by h2 itself while it holds its lock (a service that sends back what it
/// gets). So dropping only counts, and the stream's task, or the body when it is polled, gives the window back.
struct Window {
    flow: Mutex<Option<FlowControl>>,
    account: Mutex<Account>,
}

#[derive(Default)]
struct Account {
    /// Bytes the consumer has.
    held: usize,
    /// Bytes it has dropped, or will not be waited for, whose window has not been given back yet.
    returned: usize,
    /// Counts how often all that was held was written off.
    age: u64,
    stream: Option<Waker>,
}

impl Window {
    fn new(flow: FlowControl) -> Arc<Self> {
        Arc::new(Window { flow: Mutex::new(Some(flow)), account: Mutex::default() })
    }

    fn hold(self: &Arc<Self>, data: Bytes) -> Bytes {
        let mut account = lock(&self.account);
        account.held += data.len();
        let age = account.age;
        drop(account);
        Bytes::from_owner(Held { data, age, window: Arc::clone(self) })
    }

    /// The consumer asks for more although it has not dropped what it got.
    fn write_off(&self) {
        let mut account = lock(&self.account);
        account.age += 1;
        account.returned += std::mem::take(&mut account.held);
        drop(account);
        self.settle();
    }

    /// Gives back what was dropped, and has the task woken when more is.
    fn poll_settle(&self, cx: &Context<'_>) {
        let mut account = lock(&self.account);
        if !account.stream.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            account.stream = Some(cx.waker().clone());
        }
        drop(account);
        self.settle();
    }

    fn wake(&self) {
        let waker = lock(&self.account).stream.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn settle(&self) {
        let returned = std::mem::take(&mut lock(&self.account).returned);
        if returned > 0
            && let Some(flow) = &mut *lock(&self.flow)
        {
            // An error means that the stream has ended and its window with it.
            let _ = flow.release_capacity(returned);
        }
    }

    fn close(&self) {
        let flow = lock(&self.flow).take();
        drop(flow);
    }
}

/// Bytes that give their window back when they are dropped.
struct Held {
    data: Bytes,
    age: u64,
    window: Arc<Window>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut account = lock(&self.window.account);
        if account.age == self.age {
            account.held -= self.data.len();
            account.returned += self.data.len();
            let waker = account.stream.take();
            drop(account);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
