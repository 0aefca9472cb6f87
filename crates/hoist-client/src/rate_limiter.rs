//! The rate limit that all connections of a client share.
//!
//! Grants are consecutive: each begins when the bytes of the previous one have been sent at the rate, whichever connection
//! asked for it. A connection asks for its next frame after it has sent the last one, so connections take turns, and the
//! share of one that ends or stalls passes to the others at once.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::clock;
use crate::lock::lock;

/// The number of frames per second, if one connection takes the whole rate.
const FRAMES_PER_SECOND: u64 = 32;
/// The time that late frames may catch up on. Timers, threads and disks are late now and then, which must not lower the
/// rate; a longer silence is a slow network or a slow source, which must not cause a burst.
const CATCH_UP_MAX: Duration = Duration::from_millis(500);

/// Limits the bytes per second of many connections together.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    bytes_per_second: u64,
    /// The time at which the next grant begins; `None` before the first.
    next: Mutex<Option<Instant>>,
}

impl RateLimiter {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), next: Mutex::default() }
    }

    /// Returns the most bytes of one frame. Small frames keep the rate steady and the turns of connections short.
    fn frame_bytes_max(&self) -> u64 {
        (self.bytes_per_second / FRAMES_PER_SECOND).max(1)
    }

    fn time_of(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Returns the time from which on `bytes` more bytes may be sent.
    fn grant(&self, bytes: u64, now: Instant) -> Instant {
        let mut next = lock(&self.next);
        let earliest = now.checked_sub(CATCH_UP_MAX).unwrap_or(now);
        let begin = next.map_or(now, |next| next.max(earliest));
        *next = Some(begin + self.time_of(bytes));
        begin
    }

    /// Takes back a grant that was not used.
    fn give_back(&self, bytes: u64) {
        let mut next = lock(&self.next);
        *next = next.and_then(|next| next.checked_sub(self.time_of(bytes)));
    }
}

/// The turns of one connection.
pub(crate) struct Turns {
    limiter: Arc<RateLimiter>,
    /// The bytes that are granted and not sent yet, and the time to wait for; `None` if that has come.
    granted: Option<(u64, Option<Pin<Box<Sleep>>>)>,
}

impl Turns {
    pub(crate) fn new(limiter: Arc<RateLimiter>) -> Self {
        Self { limiter, granted: None }
    }

    /// Waits for the turn of this connection, which has `bytes` bytes to send. Returns the number of bytes it may send now:
    /// at least one, if there are any. The same turn is returned until [`on_sent`](Self::on_sent).
    pub(crate) fn poll_turn(&mut self, bytes: u64, cx: &mut Context<'_>) -> Poll<u64> {
        let limiter = &self.limiter;
        let (granted, pause) = self.granted.get_or_insert_with(|| {
            let (granted, now) = (bytes.min(limiter.frame_bytes_max()), clock::now());
            let begin = limiter.grant(granted, now);
            (granted, (begin > now).then(|| Box::pin(tokio::time::sleep_until(begin))))
        });
        if let Some(waiting) = pause {
            ready!(waiting.as_mut().poll(cx));
            *pause = None;
        }
        Poll::Ready(*granted)
    }

    /// Ends the turn.
    pub(crate) fn on_sent(&mut self) {
        self.granted = None;
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        if let Some((bytes, _)) = self.granted.take() {
            self.limiter.give_back(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Sends `bytes` bytes, and returns the seconds at which the last frame was sent.
    async fn send(limiter: &Arc<RateLimiter>, bytes: u64) -> f64 {
        let (began, mut turns, mut left) = (clock::now(), Turns::new(limiter.clone()), bytes);
        while left > 0 {
            left -= poll_fn(|cx| turns.poll_turn(left, cx)).await;
            turns.on_sent();
        }
        clock::now().duration_since(began).as_secs_f64()
    }

    fn assert_close(seconds: f64, expected: f64) {
        // A frame takes a 32nd of a second, and a timer may be late by a millisecond.
        assert!((seconds - expected).abs() < 0.04, "{seconds} s instead of {expected} s");
    }

    #[tokio::test(start_paused = true)]
    async fn one_connection_gets_the_whole_rate() {
        for rate in [1, 1000, 10_000_000, 100_000_000, 1_000_000_000] {
            let limiter = Arc::new(RateLimiter::new(rate));
            let frame = limiter.time_of(limiter.frame_bytes_max()).as_secs_f64();
            let took = send(&limiter, 10 * rate).await;
            // The last frame is sent a frame early, or less if it is shorter.
            assert!((9.998 - frame..10.002).contains(&took), "{rate}: {took} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_share_the_rate_and_the_rest_get_the_share_of_one_that_ended() {
        let limiter = Arc::new(RateLimiter::new(1_000_000));
        let (big, small, tiny) =
            tokio::join!(send(&limiter, 10_000_000), send(&limiter, 2_000_000), send(&limiter, 1_000_000));
        // Three share until the tiny one has its 1 MB, then two until the small one has another 1 MB.
        assert_close(tiny, 3.0);
        assert_close(small, 5.0);
        assert_close(big, 13.0);
    }

    #[tokio::test(start_paused = true)]
    async fn late_frames_catch_up_and_a_long_silence_causes_no_burst() {
        let limiter = Arc::new(RateLimiter::new(1_000_000));
        let mut turns = Turns::new(limiter);
        let mut send_until_it_has_to_wait = || {
            let mut sent = 0;
            while let Poll::Ready(bytes) =
                turns.poll_turn(u64::MAX, &mut Context::from_waker(std::task::Waker::noop()))
            {
                sent += bytes;
                turns.on_sent();
            }
            sent
        };
        let frame = 31_250;
        assert_eq!(send_until_it_has_to_wait(), frame);
        // The grant of the pending turn begins one frame after the first, so 60 ms later two frames are due.
        tokio::time::advance(Duration::from_micros(62_500)).await;
        assert_eq!(send_until_it_has_to_wait(), 2 * frame);
        for _ in 0..10 {
            tokio::time::advance(Duration::from_micros(93_750)).await;
            assert_eq!(send_until_it_has_to_wait(), 3 * frame, "nothing is lost by being late");
        }
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!(send_until_it_has_to_wait(), 18 * frame, "the pending frame, and what 500 ms allow");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_ends_gives_its_grant_back() {
        let limiter = Arc::new(RateLimiter::new(32));
        let wait = async |bytes| {
            let mut turns = Turns::new(limiter.clone());
            poll_fn(|cx| turns.poll_turn(bytes, cx)).await;
            turns.on_sent();
        };
        wait(1).await;
        for _ in 0..1000 {
            let mut turns = Turns::new(limiter.clone());
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(turns.poll_turn(1, &mut cx).is_pending());
        }
        let began = clock::now();
        wait(1).await;
        assert!(clock::now().duration_since(began) < Duration::from_millis(35));
    }
}
