//! The progress of an upload, published on a watch channel.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock;

/// The progress of an upload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The offset in the representation up to which bytes were handed to the connection. Decreases when an interruption
    /// has lost some.
    pub sent: u64,
    /// Bytes that the server has acknowledged.
    pub acknowledged: u64,
    /// Bytes of the representation; `None` while unknown, which for a stream may last until its end.
    pub length: Option<u64>,
    /// The number of requests that had to be repeated.
    pub retries: u32,
    /// The offset at which the upload was resumed after the latest interruption: bytes that were not sent again.
    pub resumed_bytes: u64,
    /// Bytes per second, smoothed over the last few seconds.
    pub rate: u64,
    /// The remaining time at that rate; `None` while unknown.
    pub eta: Option<Duration>,
    /// The current activity.
    pub activity: Activity,
    /// The way the upload started.
    pub start: Start,
}

/// The current activity of an upload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activity {
    /// Opening the source and finding out what the server supports.
    #[default]
    Preparing,
    /// Sending a request without content.
    Asking,
    /// Sending content.
    Sending,
    /// Pausing for this long before the next attempt.
    Waiting(Duration),
    /// The upload is complete.
    Done,
}

/// The way an upload started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// A new upload.
    #[default]
    Fresh,
    /// An upload of a previous run, resumed at its offset.
    Resumed,
    /// An upload that was created elsewhere, continued by its URL.
    Found,
    /// A new upload, because the source has changed since a previous run.
    Changed,
    /// A new upload, because the server no longer has the one of a previous run.
    Forgotten,
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fresh => "started",
            Self::Resumed => "resumed an upload of an earlier run",
            Self::Found => "continued the upload at the URL",
            Self::Changed => "started again, because the file has changed since an earlier run",
            Self::Forgotten => "started again, because the server no longer has the upload of an earlier run",
        })
    }
}

/// The time after which an older rate counts for half of the smoothed rate.
const HALF_LIFE: Duration = Duration::from_secs(2);
/// The shortest time over which a rate is measured. Over less, it depends on buffers more than on the network.
const RATE_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(crate) struct Reporter {
    watch: watch::Sender<Progress>,
}

impl Reporter {
    pub(crate) fn subscribe(&self) -> watch::Receiver<Progress> {
        self.watch.subscribe()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Progress)) {
        self.watch.send_modify(change);
    }

    /// Returns a meter for content that begins at the offset `start`.
    pub(crate) fn meter(&self, start: u64) -> Meter {
        self.update(|progress| progress.sent = start);
        let report = MeterReport { watch: self.watch.clone(), start, since: clock::now(), counted: 0 };
        Meter { flow: Arc::default(), report: Some(Box::new(report)) }
    }
}

/// Counts the bytes of one request's content and publishes the rate. The default publishes nothing.
#[derive(Default)]
pub(crate) struct Meter {
    pub(crate) flow: Arc<ContentFlow>,
    report: Option<Box<MeterReport>>,
}

struct MeterReport {
    watch: watch::Sender<Progress>,
    start: u64,
    /// The start of the current rate interval, and the bytes counted before it.
    since: Instant,
    counted: u64,
}

/// The state of a request's content, shared with the connection that sends it.
#[derive(Debug, Default)]
pub(crate) struct ContentFlow {
    bytes: AtomicU64,
    ended: AtomicBool,
    starved: AtomicBool,
}

impl ContentFlow {
    /// Returns the bytes handed to the connection so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns whether all content has been handed to the connection.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Returns whether the connection is waiting for the source.
    pub(crate) fn is_starved(&self) -> bool {
        self.starved.load(Ordering::Relaxed)
    }
}

impl Meter {
    pub(crate) fn end(&self) {
        self.flow.ended.store(true, Ordering::Relaxed);
    }

    pub(crate) fn set_starved(&self, is_starved: bool) {
        self.flow.starved.store(is_starved, Ordering::Relaxed);
    }

    pub(crate) fn add(&mut self, bytes: u64) {
        let sum = self.flow.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let Some(report) = &mut self.report else { return };
        let (now, sent) = (clock::now(), report.start + sum);
        let (elapsed, counted) = (now.duration_since(report.since), sum - report.counted);
        let is_due = elapsed >= RATE_INTERVAL;
        report.watch.send_modify(|progress| {
            progress.sent = sent;
            if is_due {
                progress.rate = smoothed(progress.rate, counted, elapsed);
                progress.eta = remaining(progress);
            }
        });
        if is_due {
            (report.since, report.counted) = (now, sum);
        }
    }
}

/// Returns the smoothed rate after `bytes` more in the time `elapsed`.
fn smoothed(before: u64, bytes: u64, elapsed: Duration) -> u64 {
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    let now = bytes.saturating_mul(1000) / millis;
    if before == 0 {
        return now;
    }
    // The weight of the new rate in thousandths: nearly all after a long time.
    let half = u64::try_from(HALF_LIFE.as_millis()).unwrap_or(u64::MAX);
    let weight = millis.saturating_mul(1000) / millis.saturating_add(half);
    let (old, new) = (u128::from(before) * u128::from(1000 - weight), u128::from(now) * u128::from(weight));
    u64::try_from((old + new) / 1000).unwrap_or(u64::MAX)
}

fn remaining(progress: &Progress) -> Option<Duration> {
    let left = progress.length?.saturating_sub(progress.sent);
    (progress.rate > 0).then(|| Duration::from_secs(left / progress.rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_smoothed_over_some_seconds() {
        let tick = Duration::from_millis(100);
        let mut rate = 0;
        for _ in 0..10 {
            rate = smoothed(rate, 1000, tick);
        }
        assert_eq!(rate, 10_000);
        rate = smoothed(rate, 0, tick);
        assert!((9_000..10_000).contains(&rate), "{rate}");
        rate = smoothed(rate, 1_000_000, Duration::from_secs(1000));
        assert!((1_000..1_100).contains(&rate), "the old rate hardly counts after a long time: {rate}");
    }

    #[test]
    fn the_remaining_time_is_known_when_length_and_rate_are() {
        let progress = Progress { sent: 400, length: Some(1000), rate: 100, ..Progress::default() };
        assert_eq!(remaining(&progress), Some(Duration::from_secs(6)));
        assert_eq!(remaining(&Progress { length: None, ..progress }), None);
        assert_eq!(remaining(&Progress { rate: 0, ..progress }), None);
    }
}
