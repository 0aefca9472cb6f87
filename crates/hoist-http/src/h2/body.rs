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
use super::wakeups::Reader;
use super::windows::{StreamUsage, Usage};
use crate::body::{BodyError, PollFrame};
use crate::content::{Content, Receiver};
use crate::limits::Limits;
use crate::pace::Pace;
use crate::sync::{lock, register, wake};

/// The receiving side of a stream.
pub(super) struct H2Receiver {
    /// `None` after the content has arrived too slowly.
    stream: Option<RecvStream>,
    flow: FlowControl,
    window: Arc<Mutex<Window>>,
    usage: StreamUsage,
    reader: Arc<Reader>,
    /// Wakes `reader`.
    waker: Waker,
    io: Arc<IoMonitor>,
    /// True if the body was dropped, so that content is discarded while the service runs.
    is_discarding: bool,
    discards_left: u64,
    /// The request to the connection to read all bytes that have arrived, if the content ends with them.
    catch_up: Option<u64>,
}

impl H2Receiver {
    /// Receives content of which the peer has announced `length` bytes.
    pub(super) fn new(
        mut stream: RecvStream,
        length: Option<u64>,
        io: &Arc<IoMonitor>,
        usage: &Arc<Usage>,
        limits: &Limits,
    ) -> Self {
        let reader = Reader::new(io.wakeups());
        H2Receiver {
            flow: stream.flow_control().clone(),
            stream: Some(stream),
            window: Arc::default(),
            usage: StreamUsage::new(usage, length),
            waker: Waker::from(Arc::clone(&reader)),
            reader,
            io: Arc::clone(io),
            is_discarding: false,
            discards_left: limits.drain_bytes_max,
            catch_up: None,
        }
    }

    /// Gives back the window of dropped bytes, and discards content without a reader. Wakes the task when there is more
    /// to do.
    pub(super) fn poll_background(&mut self, cx: &mut Context<'_>) {
        register(&mut lock(&self.window).stream, cx);
        give_back(&self.window, &mut self.flow, &self.usage);
        if let (true, Some(stream)) = (self.is_discarding, &mut self.stream) {
            while self.discards_left > 0
                && let Poll::Ready(Some(Ok(data))) = stream.poll_data(cx)
            {
                release(&mut self.flow, &self.usage, data.len());
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
        self.reader.register(cx);
        let cx = &mut Context::from_waker(&self.waker);
        loop {
            match stream.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) if data.is_empty() => {}
                Poll::Ready(Some(Ok(data))) => {
                    pace.arrived(data.len());
                    self.usage.took(data.len());
                    give_back(&self.window, &mut self.flow, &self.usage);
                    return Poll::Ready(Some(Ok(Frame::data(hold(
                        &self.window,
                        self.usage.renew_at(),
                        data,
                    )))));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(body_error(&error)))),
                Poll::Ready(None) => break,
                Poll::Pending if has_all => return Poll::Ready(Some(Err(BodyError::Aborted))),
                Poll::Pending => {
                    self.usage.waits();
                    // The consumer asks for more without dropping what it holds.
                    let mut window = lock(&self.window);
                    window.age += 1;
                    window.returned += std::mem::take(&mut window.held);
                    drop(window);
                    give_back(&self.window, &mut self.flow, &self.usage);
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
        let waker = lock(&self.window).stream.take();
        wake(waker);
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
    // Dropping the content releases the stream: h2 resets it with `NO_ERROR` once all queued frames are sent.
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
#[derive(Default)]
struct Window {
    /// Bytes that the consumer holds.
    held: usize,
    /// Bytes that were dropped or written off, whose window has not been given back yet.
    returned: usize,
    /// The number of returned bytes at which the stream's task gives them back. Until then it is left to the body, which
    /// gives them back when it is polled.
    renew_at: usize,
    /// The number of times that the held bytes were written off.
    age: u64,
    stream: Option<Waker>,
}

fn hold(window: &Arc<Mutex<Window>>, renew_at: usize, data: Bytes) -> Bytes {
    let mut held = lock(window);
    held.renew_at = renew_at;
    held.held += data.len();
    let age = held.age;
    drop(held);
    Bytes::from_owner(Held { data, age, window: Arc::clone(window) })
}

/// Gives back the window of dropped bytes.
fn give_back(window: &Mutex<Window>, flow: &mut FlowControl, usage: &StreamUsage) {
    let returned = std::mem::take(&mut lock(window).returned);
    if returned > 0 {
        release(flow, usage, returned);
    }
}

fn release(flow: &mut FlowControl, usage: &StreamUsage, bytes: usize) {
    // An error means that the stream has ended and its window with it.
    if flow.release_capacity(bytes).is_ok() {
        usage.released(bytes);
    }
}

/// Bytes that give their window back when they are dropped.
struct Held {
    data: Bytes,
    age: u64,
    window: Arc<Mutex<Window>>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut window = lock(&self.window);
        if window.age == self.age {
            window.held -= self.data.len();
            window.returned += self.data.len();
            let waker = if window.returned < window.renew_at { None } else { window.stream.take() };
            drop(window);
            wake(waker);
        }
    }
}
