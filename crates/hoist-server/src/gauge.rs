//! The gauge of a running transfer: its client, its bytes and its rate, for the operator.
//!
//! The transfer counts its bytes as the store accepts them. Reading the gauge does not disturb it.

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::locked;

/// The time between two marks. The rate is that of the last one to two such times.
const MARK_INTERVAL: Duration = Duration::from_secs(1);

/// The measure of a transfer.
#[derive(Debug)]
pub(crate) struct Gauge {
    pub(crate) client: Option<IpAddr>,
    begun: Instant,
    bytes: AtomicU64,
    /// The milliseconds since the beginning at which the next mark is due.
    next_mark: AtomicU64,
    marks: Mutex<Marks>,
}

/// The bytes at two earlier times.
#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    older: Mark,
    newer: Mark,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    at: Duration,
    bytes: u64,
}

impl Default for Gauge {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Gauge {
    /// Returns the gauge of a transfer that begins now.
    pub(crate) fn new(client: Option<IpAddr>) -> Self {
        let next_mark = AtomicU64::new(millis(MARK_INTERVAL));
        Self { client, begun: Instant::now(), bytes: AtomicU64::new(0), next_mark, marks: Mutex::default() }
    }

    /// Counts bytes that the store has accepted. Called by the transfer alone.
    pub(crate) fn accepted(&self, bytes: u64) {
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let at = self.begun.elapsed();
        if millis(at) >= self.next_mark.load(Ordering::Relaxed) {
            self.next_mark.store(millis(at + MARK_INTERVAL), Ordering::Relaxed);
            let mut marks = locked(&self.marks);
            *marks = Marks { older: marks.newer, newer: Mark { at, bytes } };
        }
    }

    /// Returns the bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the time since the beginning.
    pub(crate) fn duration(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Returns the bytes a second, of the last one to two seconds. If no content arrives, it falls towards zero.
    pub(crate) fn bytes_per_second(&self) -> u64 {
        let since = locked(&self.marks).older;
        let millis = millis(self.begun.elapsed().saturating_sub(since.at)).max(1);
        let bytes = u128::from(self.bytes().saturating_sub(since.bytes));
        u64::try_from(bytes * 1000 / u128::from(millis)).unwrap_or(u64::MAX)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_that_of_the_last_seconds() {
        let gauge = Gauge::default();
        assert_eq!((gauge.bytes(), gauge.bytes_per_second()), (0, 0));
        let run = async |steps: u64, bytes| {
            for _ in 0..steps {
                tokio::time::advance(Duration::from_millis(100)).await;
                gauge.accepted(bytes);
            }
        };
        run(5, 1000).await;
        assert_eq!(gauge.bytes_per_second(), 10_000, "from the first bytes on");
        run(95, 1000).await;
        assert_eq!((gauge.bytes_per_second(), gauge.duration()), (10_000, Duration::from_secs(10)));
        // Two seconds later nothing of the earlier rate is left.
        run(21, 50).await;
        assert_eq!(gauge.bytes_per_second(), 500);
        tokio::time::advance(Duration::from_mins(1)).await;
        assert!(gauge.bytes_per_second() < 20, "stalled");
    }
}
