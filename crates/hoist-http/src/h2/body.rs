//! The content of an HTTP/2 request, and the flow-control window it holds.
//!
//! Owns the rule that window is given back when the *consumer* has dropped the bytes, not when it received them: bytes
//! that a slow disk has not taken yet are memory the peer must not fill again. A consumer that keeps the bytes and asks
//! for more, as one that collects a whole body does, has its own bound and gets more.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use ::h2::{FlowControl, RecvStream};
use bytes::Bytes;
use http_body::Frame;
use tokio::time::{Instant, timeout_at};

use super::io::IoMonitor;
use crate::body::{BodyError, PollFrame};
use crate::content::{Content, Receiver};
use crate::limits::Limits;
use crate::pace::Pace;
use crate::sync::lock;

/// The receiving side of a stream.
pub(super) struct H2Receiver {
    /// `None` after the content has arrived too slowly.
    stream: Option<RecvStream>,
    window: Arc<Window>,
    io: Arc<IoMonitor>,
    /// True if the body was dropped, so that content is discarded while the service runs.
    is_discarding: bool,
    discards_left: u64,
    /// The request to the connection to read all bytes that have arrived, if the content ends with them.
    catch_up: Option<u64>,
}

impl H2Receiver {
    pub(super) fn new(mut stream: RecvStream, io: &Arc<IoMonitor>, limits: &Limits) -> Self {
        H2Receiver {
            window: Window::new(stream.flow_control().clone()),
            stream: Some(stream),
            io: Arc::clone(io),
            is_discarding: false,
            discards_left: limits.drain_bytes_max,
            catch_up: None,
        }
    }

    /// Gives back the window of dropped bytes, and discards content without a reader. Wakes the task when there is more
    /// to do.
    pub(super) fn poll_background(&mut self, cx: &mut Context<'_>) {
        self.window.poll_give_back(cx);
        if let (true, Some(stream)) = (self.is_discarding, &mut self.stream) {
            while self.discards_left > 0
                && let Poll::Ready(Some(Ok(data))) = stream.poll_data(cx)
            {
                let _ = stream.flow_control().release_capacity(data.len());
                self.discards_left = self.discards_left.saturating_sub(data.len() as u64);
            }
        }
    }
}

impl Receiver for H2Receiver {
    fn poll_frame(&mut self, cx: &mut Context<'_>, pace: &mut Pace, only_arrived: bool) -> PollFrame {
        // Before the stream is polled, which could otherwise miss what the connection reads in between.
        let has_all = only_arrived && self.io.poll_caught_up(&mut self.catch_up, cx).is_ready();
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        loop {
            match stream.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) if data.is_empty() => {}
                Poll::Ready(Some(Ok(data))) => {
                    pace.arrived(data.len());
                    self.window.give_back();
                    return Poll::Ready(Some(Ok(Frame::data(self.window.hold(data)))));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(body_error(&error)))),
                Poll::Ready(None) => break,
                Poll::Pending if has_all => return Poll::Ready(Some(Err(BodyError::Aborted))),
                Poll::Pending => {
                    self.window.write_off();
                    return Poll::Pending;
                }
            }
        }
        match stream.poll_trailers(cx) {
            Poll::Pending if has_all => Poll::Ready(Some(Err(BodyError::Aborted))),
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(None)) => Poll::Ready(None),
            Poll::Ready(Ok(Some(trailers))) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(body_error(&error)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_some_and(RecvStream::is_end_stream)
    }

    fn stop(&mut self) {
        self.stream = None;
    }

    fn body_dropped(&mut self) {
        self.is_discarding = true;
        self.window.wake();
    }
}

impl Drop for H2Receiver {
    /// Releases the stream: h2 resets it with `NO_ERROR` once all queued frames are sent and no handle is left.
    fn drop(&mut self) {
        self.window.close();
    }
}

/// Discards what the peer still sends until it has ended the stream, within the limits: some clients do not see a
/// response when their stream is reset while they send.
///
/// After [`Limits::drain_bytes_max`] the peer gets no more window, so that it stops sending, but it still has its time
/// to notice the response.
pub(super) async fn discard(mut content: Content<H2Receiver>, limits: &Limits) {
    let until = Instant::now() + limits.drain_time;
    if !content.discard(limits, until).await
        && let Some(stream) = &mut content.receiver.stream
    {
        let _ = timeout_at(until, async { while let Some(Ok(_)) = stream.data().await {} }).await;
    }
    // Dropping the content resets the stream if it has not ended.
}

fn body_error(error: &::h2::Error) -> BodyError {
    if error.is_library() {
        BodyError::Malformed("the peer broke the rules of HTTP/2")
    } else {
        BodyError::Disconnected
    }
}

/// The flow-control window of a stream, as far as the consumer holds it.
///
/// Bytes may be dropped anywhere, also by h2 itself while it holds its lock (by a service that echoes its request). So
/// dropping only counts, and the stream's task, or the body when it is polled, gives the window back.
struct Window {
    flow: Mutex<Option<FlowControl>>,
    account: Mutex<Account>,
}

#[derive(Default)]
struct Account {
    /// Bytes that the consumer holds.
    held: usize,
    /// Bytes that were dropped or written off, whose window has not been given back yet.
    returned: usize,
    /// The number of times that the held bytes were written off.
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

    /// Stops waiting for the held bytes, because the consumer asks for more without dropping them.
    fn write_off(&self) {
        let mut account = lock(&self.account);
        account.age += 1;
        account.returned += std::mem::take(&mut account.held);
        drop(account);
        self.give_back();
    }

    /// Gives back the window of dropped bytes, and wakes the task when more are dropped.
    fn poll_give_back(&self, cx: &Context<'_>) {
        let mut account = lock(&self.account);
        if !account.stream.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            account.stream = Some(cx.waker().clone());
        }
        drop(account);
        self.give_back();
    }

    fn wake(&self) {
        let waker = lock(&self.account).stream.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn give_back(&self) {
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
