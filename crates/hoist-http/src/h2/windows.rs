//! The flow-control windows of a connection: how they grow with their use, and the budget they are taken from.
//!
//! Owns the numbers. `h2.rs` applies them to its connection, `h2/body.rs` reports what streams use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::limits::Limits;

/// The smallest and the largest connection window that the protocol allows.
const CONNECTION_WINDOW_MIN: u32 = 65_535;
const CONNECTION_WINDOW_MAX: u32 = (1 << 31) - 1;

/// The smallest useful window of a stream.
const STREAM_WINDOW_MIN: u32 = 16 << 10;

/// The rate up to which a window may limit no stream: 10 Gbit/s.
const BYTES_PER_MICRO_MAX: u64 = 1250;

/// The round trip from which on a window grows to its aim at once. A shorter one may be the delay of a busy machine.
const LONG_ROUND_TRIP: Duration = Duration::from_millis(20);

/// The windows that a connection grants: one size for all its streams, and one for all streams together.
///
/// The connection's window has room for the window of each stream, and for one more of the first size, so that streams
/// whose services do not read cannot use up the window of the others. Both are taken from the server's budget, and grow
/// no more when it is used up. The windows of streams never shrink: that is legal, but made clients on h2 0.4 stall.
pub(super) struct Windows {
    lease: Lease,
    /// The first connection window.
    base: u32,
    /// The first window of a stream.
    stream_base: u32,
    stream_max: u32,
    /// The present window of each stream.
    stream: u32,
    /// The connection's window, as far as it is renewed.
    target: u32,
    /// Bytes that were granted beyond `target` and not used up yet. The peer may still send them.
    excess: u32,
    /// The number of bytes given back to the peer up to the last look.
    released: u64,
    usage: Arc<Usage>,
}

impl Windows {
    pub(super) fn new(budget: &Budget, limits: &Limits) -> Self {
        let lease = budget.take(limits.h2_connection_window_bytes);
        let base = lease.bytes;
        let stream = limits.h2_stream_window_bytes.clamp(STREAM_WINDOW_MIN, base);
        let usage = Arc::new(Usage::new(stream));
        Windows {
            lease,
            base,
            stream_base: stream,
            stream_max: limits.h2_stream_window_bytes_max.min(CONNECTION_WINDOW_MAX),
            stream,
            target: base,
            excess: 0,
            released: 0,
            usage,
        }
    }

    /// Returns the window of each stream.
    pub(super) fn stream(&self) -> u32 {
        self.stream
    }

    /// Returns the window of the connection.
    pub(super) fn connection(&self) -> u32 {
        self.target
    }

    /// Returns the account that streams keep of their use of the windows.
    pub(super) fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }

    /// Fits the connection's window to the number of its streams. Returns the new window if it is another one.
    pub(super) fn fit(&mut self, streams: usize) -> Option<u32> {
        let wished = self.wished(streams, self.stream);
        let old = self.target;
        if wished > old {
            self.reach(wished);
        } else if streams <= 1 && wished < old {
            // Only when few streams are left, so that the window does not flap.
            self.settle();
            self.excess += old - wished;
            self.target = wished;
        }
        (self.target != old).then_some(self.target)
    }

    /// Grows the connection's window to hold larger windows of its streams: over a long link as large as it needs, else
    /// twice as large, and less if the budget requires it. Returns the new window of a stream, or `None` if it has its
    /// largest size or the budget is used up.
    pub(super) fn grow(&mut self, streams: usize) -> Option<u32> {
        let double = self.stream.saturating_mul(2).min(self.stream_max);
        let aim = self.usage.aim.swap(0, Ordering::Relaxed);
        let mut stream = aim.clamp(double, self.stream_max);
        while stream > self.stream {
            if self.reach(self.wished(streams, stream)) {
                return Some(stream);
            }
            if stream == double {
                break;
            }
            stream = (stream / 2).max(double);
        }
        None
    }

    /// Notes the window that each stream has now.
    pub(super) fn stream_has_grown(&mut self, stream: u32) {
        self.stream = stream;
        self.usage.stream.store(stream, Ordering::Relaxed);
    }

    /// Returns the connection's window that `streams` streams with windows of `stream` bytes should have.
    fn wished(&self, streams: usize, stream: u32) -> u32 {
        let streams = u32::try_from(streams).unwrap_or(u32::MAX).max(1);
        let all = streams.saturating_mul(stream).saturating_add(self.stream_base);
        all.clamp(self.base, CONNECTION_WINDOW_MAX)
    }

    /// Grows the connection's window to `wished`. Returns whether it has that size now.
    fn reach(&mut self, wished: u32) -> bool {
        self.settle();
        let more = wished.saturating_sub(self.target);
        let reused = more.min(self.excess);
        if !self.lease.grow(more - reused) {
            return false;
        }
        self.excess -= reused;
        self.target += more;
        true
    }

    /// Gives back to the budget what the peer has used up of its excess.
    fn settle(&mut self) {
        let released = self.usage.released.load(Ordering::Relaxed);
        let used = u32::try_from(released - self.released).unwrap_or(u32::MAX).min(self.excess);
        self.released = released;
        self.excess -= used;
        self.lease.shrink(used);
    }
}

/// The use of a connection's windows, which its streams report.
pub(super) struct Usage {
    /// The window of each stream.
    stream: AtomicU32,
    /// Bytes whose window was given back to the peer.
    released: AtomicU64,
    /// The shortest time between a ping and its pong, in microseconds. `u64::MAX` if none was measured.
    round_trip_micros: AtomicU64,
    /// Asks the connection to measure a round trip.
    measurement: Notify,
    /// Asks the connection for larger windows.
    growth: Notify,
    /// The window that a stream has asked for, if it needs more than twice the present one.
    aim: AtomicU32,
}

impl Usage {
    fn new(stream: u32) -> Self {
        Usage {
            stream: AtomicU32::new(stream),
            released: AtomicU64::new(0),
            round_trip_micros: AtomicU64::new(u64::MAX),
            measurement: Notify::new(),
            growth: Notify::new(),
            aim: AtomicU32::new(0),
        }
    }

    /// Notes that the window of these bytes was given back to the peer.
    pub(super) fn released(&self, bytes: usize) {
        self.released.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Notes the time between a ping and its pong.
    pub(super) fn measured(&self, round_trip: Duration) {
        let micros = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX - 1);
        self.round_trip_micros.fetch_min(micros, Ordering::Relaxed);
    }

    /// Returns when a stream asks for a measurement of the round trip.
    pub(super) async fn measurement_wanted(&self) {
        self.measurement.notified().await;
    }

    /// Returns when a stream asks for larger windows.
    pub(super) async fn growth_wanted(&self) {
        self.growth.notified().await;
    }

    /// Asks for larger windows if `took`, the time in which a stream used half of its window, is no longer than a round
    /// trip: then the window limits the stream.
    fn half_used(&self, took: Duration) {
        let micros = self.round_trip_micros.load(Ordering::Relaxed);
        let window = u64::from(self.stream.load(Ordering::Relaxed));
        if micros == u64::MAX {
            self.measurement.notify_one();
        } else if took <= Duration::from_micros(micros) && window < micros.saturating_mul(BYTES_PER_MICRO_MAX)
        {
            self.ask_for(self.needed_at_once());
            // A busy machine measures too much, and then the next time is shorter.
            self.measurement.notify_one();
        }
    }

    /// Asks for larger windows for a stream of which `left` bytes are still to come, if its link is long. Returns whether
    /// it did.
    fn expects(&self, left: u64) -> bool {
        let window = self.stream.load(Ordering::Relaxed);
        let aim = u64::from(self.needed_at_once()).min(left);
        let needs_more = aim > u64::from(window);
        if needs_more {
            self.ask_for(u32::try_from(aim).unwrap_or(u32::MAX));
        }
        needs_more
    }

    fn ask_for(&self, window: u32) {
        self.aim.fetch_max(window, Ordering::Relaxed);
        self.growth.notify_one();
    }

    /// Returns the window that a stream needs, or zero if the round trip is short or unknown.
    fn needed_at_once(&self) -> u32 {
        let micros = self.round_trip_micros.load(Ordering::Relaxed);
        if micros == u64::MAX || Duration::from_micros(micros) < LONG_ROUND_TRIP {
            return 0;
        }
        u32::try_from(micros.saturating_mul(BYTES_PER_MICRO_MAX)).unwrap_or(u32::MAX)
    }
}

/// The use that one stream makes of its window.
pub(super) struct StreamUsage {
    usage: Arc<Usage>,
    /// The bytes that the peer has announced and the consumer has not taken; zero if unknown.
    left: u64,
    /// True after larger windows were asked for because of `left`.
    has_asked: bool,
    since: Instant,
    bytes: usize,
    /// True if the consumer had taken all bytes at some time since `since`. If it never has, a larger window would only
    /// be memory for bytes that wait.
    was_waiting: bool,
}

impl StreamUsage {
    /// Returns the use of a stream, whose peer has announced `length` bytes.
    pub(super) fn new(usage: &Arc<Usage>, length: Option<u64>) -> Self {
        if usage.round_trip_micros.load(Ordering::Relaxed) == u64::MAX {
            // Now, because later the pong may wait behind content.
            usage.measurement.notify_one();
        }
        StreamUsage {
            usage: Arc::clone(usage),
            left: length.unwrap_or(0),
            has_asked: false,
            since: Instant::now(),
            bytes: 0,
            was_waiting: false,
        }
    }

    /// Notes that the window of these bytes was given back to the peer.
    pub(super) fn released(&self, bytes: usize) {
        self.usage.released(bytes);
    }

    /// Returns the number of bytes that are worth giving back to the peer: half of the window.
    pub(super) fn renew_at(&self) -> usize {
        (self.usage.stream.load(Ordering::Relaxed) / 2) as usize
    }

    /// Notes that the consumer waits for more bytes.
    pub(super) fn waits(&mut self) {
        self.was_waiting = true;
        // Not earlier: for a consumer that does not take what has arrived, a larger window would be memory.
        if !self.has_asked {
            self.has_asked = self.usage.expects(self.left);
        }
    }

    /// Notes bytes that the consumer takes.
    pub(super) fn took(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes as u64);
        self.bytes += bytes;
        if self.bytes < self.renew_at() {
            return;
        }
        let now = Instant::now();
        if self.was_waiting {
            self.usage.half_used(now - self.since);
        }
        (self.since, self.bytes, self.was_waiting) = (now, 0, false);
    }
}

/// The bytes of the windows that all HTTP/2 connections together may grant to their peers.
#[derive(Clone)]
pub(crate) struct Budget(Arc<AtomicU64>);

impl Budget {
    pub(crate) fn new(bytes: u64) -> Self {
        Budget(Arc::new(AtomicU64::new(bytes)))
    }

    /// Takes the window of one connection: `wished` bytes or what is left, but at least the protocol's minimum.
    fn take(&self, wished: u32) -> Lease {
        let bytes = self.reserve(|left| left.min(u64::from(wished)));
        Lease {
            bytes: bytes.clamp(CONNECTION_WINDOW_MIN, CONNECTION_WINDOW_MAX),
            budget: self.clone(),
            taken: bytes,
        }
    }

    /// Takes the part of the bytes left that `part` computes.
    fn reserve(&self, part: impl Fn(u64) -> u64) -> u32 {
        let mut taken = 0;
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            taken = part(left);
            left.checked_sub(taken)
        });
        u32::try_from(taken).expect("no more than a window is taken at once")
    }
}

/// One connection's part of the budget.
struct Lease {
    bytes: u32,
    taken: u32,
    budget: Budget,
}

impl Lease {
    /// Takes `more` bytes if that is at most half of what is left. Returns whether it did.
    fn grow(&mut self, more: u32) -> bool {
        let taken = self.budget.reserve(|left| if left / 2 >= u64::from(more) { u64::from(more) } else { 0 });
        self.bytes += taken;
        self.taken += taken;
        taken == more
    }

    /// Gives back `excess` bytes.
    fn shrink(&mut self, excess: u32) {
        let excess = excess.min(self.taken);
        self.bytes -= excess;
        self.taken -= excess;
        self.budget.0.fetch_add(u64::from(excess), Ordering::Relaxed);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.0.fetch_add(u64::from(self.taken), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
