//! The time that a peer may keep the server waiting, for a request's content and for a response to be read.
//!
//! Owns the clockwork of [`Limits::body_idle`], `body_rate_min`, `body_rate_window` and `write_idle` for every version
//! of HTTP. For content, time counts only while the service waits for bytes.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::body::BodyError;
use crate::limits::Limits;

/// The pace of one request's content.
pub(crate) struct Pace {
    idle: Duration,
    rate_min: u64,
    window: Duration,
    /// The current wait for bytes.
    waiting: Option<Waiting>,
    window_waited: Duration,
    window_bytes: u64,
    timer: Timer,
}

struct Waiting {
    since: Instant,
    /// The start of the part that the current window has not counted yet.
    uncounted_since: Instant,
}

impl Pace {
    pub(crate) fn new(limits: &Limits) -> Self {
        Pace {
            idle: limits.body_idle,
            // Without a window there is no rate.
            rate_min: if limits.body_rate_window.is_zero() { 0 } else { limits.body_rate_min },
            window: limits.body_rate_window,
            waiting: None,
            window_waited: Duration::ZERO,
            window_bytes: 0,
            timer: Timer::default(),
        }
    }

    /// Counts bytes that the peer has sent.
    pub(crate) fn arrived(&mut self, bytes: usize) {
        self.window_bytes += bytes as u64;
        self.pause();
    }

    /// Ends the current wait.
    pub(crate) fn pause(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            self.window_waited += waiting.uncounted_since.elapsed();
        }
    }

    /// Waits for bytes. Ready with an error when the peer has used up its time.
    pub(crate) fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let now = Instant::now();
        let waiting = self.waiting.get_or_insert(Waiting { since: now, uncounted_since: now });
        let mut deadline = waiting.since + self.idle;
        if now >= deadline {
            return Poll::Ready(BodyError::Idle);
        }
        if self.rate_min > 0 {
            let mut window_at = waiting.uncounted_since + self.window.saturating_sub(self.window_waited);
            if now >= window_at {
                let due = u128::from(self.rate_min) * self.window.as_millis() / 1000;
                if u128::from(self.window_bytes) < due {
                    return Poll::Ready(BodyError::TooSlow);
                }
                self.window_waited = Duration::ZERO;
                self.window_bytes = 0;
                waiting.uncounted_since = now;
                window_at = now + self.window;
            }
            deadline = deadline.min(window_at.max(now));
        }
        if self.timer.poll(cx, deadline).is_ready() {
            // The deadline passed between reading the clock and arming the timer: poll again at once.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

/// A timer that is cheap to move forward. It is re-armed only when it fires too early, so that a busy body does not
/// touch the runtime's timer wheel for every read.
#[derive(Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Ready once `deadline` has passed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

/// The time for which the peer has left a response unread.
#[derive(Default)]
pub(crate) struct Stall {
    since: Option<Instant>,
    timer: Timer,
}

impl Stall {
    /// Starts again, because the peer took bytes.
    pub(crate) fn moved(&mut self) {
        self.since = None;
    }

    /// Ready when the peer has taken nothing for `limit`.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, limit: Duration) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        self.timer.poll(cx, since + limit)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn limits(idle: u64, rate: u64, window: u64) -> Limits {
        Limits {
            body_idle: Duration::from_secs(idle),
            body_rate_min: rate,
            body_rate_window: Duration::from_secs(window),
            ..Default::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_idle() {
        let mut pace = Pace::new(&limits(5, 100, 60));
        let began = Instant::now();
        assert_eq!(poll_fn(|cx| pace.poll_waiting(cx)).await, BodyError::Idle);
        assert_eq!(began.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_is_an_error_and_a_slow_service_is_not() {
        let mut pace = Pace::new(&limits(50, 100, 60));
        let mut waited = 0;
        let error = loop {
            let wait = poll_fn(|cx| pace.poll_waiting(cx));
            if let Ok(error) = tokio::time::timeout(Duration::from_secs(10), wait).await {
                break error;
            }
            waited += 10;
            pace.arrived(500);
            // The time that the service takes does not count against the peer.
            tokio::time::sleep(Duration::from_secs(100)).await;
        };
        assert_eq!((error, waited), (BodyError::TooSlow, 50));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_at_the_minimum_rate_may_continue() {
        let mut pace = Pace::new(&limits(50, 100, 60));
        for _ in 0..100 {
            let wait = poll_fn(|cx| pace.poll_waiting(cx));
            assert!(tokio::time::timeout(Duration::from_secs(9), wait).await.is_err());
            pace.arrived(1000);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_of_zero_bounds_no_rate() {
        let mut pace = Pace::new(&limits(5, 100, 0));
        let mut polls = 0;
        let waited = poll_fn(|cx| {
            polls += 1;
            pace.poll_waiting(cx)
        });
        assert_eq!(waited.await, BodyError::Idle);
        assert!(polls <= 3, "{polls} polls in 5 s of waiting");
    }
}
