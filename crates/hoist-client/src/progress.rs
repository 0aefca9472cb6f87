//! The progress of an upload, for its watchers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// The progress of an upload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes handed to the connection: where sending is in the representation. Goes back when an interruption lost some.
    pub sent: u64,
    /// Bytes the server said it has.
    pub acknowledged: u64,
    /// Bytes of the representation; `None` until it is known, which for a stream is at its end.
    pub length: Option<u64>,
    /// The number of requests that had to be repeated.
    pub retries: u32,
    /// Bytes that did not have to be sent again: where the latest interruption was resumed.
    pub resumed_bytes: u64,
    /// Bytes in a second, smoothed over the last few.
    pub rate: u64,
    /// The time left at that rate; `None` while it is unknown.
    pub eta: Option<Duration>,
    /// The current activity.
    pub activity: Activity,
    /// The way it began.
    pub start: Start,
}

/// The current activity of an upload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activity {
    /// It looks at the source and at what is known of the server.
    #[default]
    Preparing,
    /// It asks the server something.
    Asking,
    /// It sends content.
    Sending,
    /// It waits this long before the next attempt.
    Waiting(Duration),
    /// The server has it all.
    Done,
}

/// The way an upload began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// As a new one.
    #[default]
    Fresh,
    /// At the offset where an earlier run ended.
    Resumed,
    /// At the offset of an upload that was created elsewhere, resumed by its URL.
    Found,
    /// As a new one: the source is not what it was when an earlier run began to upload it.
    Changed,
    /// As a new one: the server has nothing any more of what an earlier run began.
    Forgotten,
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fresh => "begun",
            Self::Resumed => "resumed where an earlier run was ended",
            Self::Found => "continued: the URL is that of an upload",
            Self::Changed => "begun afresh, because the file has changed since an earlier run",
            Self::Forgotten => "begun afresh, because the server has nothing any more of an earlier run",
        })
    }
}

/// The weight of an older rate after one second: a half.
const HALF_LIFE: Duration = Duration::from_secs(2);

/// Publishes the progress of one upload.
#[derive(Debug)]
pub(crate) struct Reporter {
    watch: watch::Sender<Progress>,
    now: fn() -> Instant,
}

impl Reporter {
    pub(crate) fn new(now: fn() -> Instant) -> Self {
        Self { watch: watch::Sender::default(), now }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Progress> {
        self.watch.subscribe()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Progress)) {
        self.watch.send_modify(change);
    }

    /// A meter for content that begins at `start`.
    pub(crate) fn meter(&self, start: u64) -> Meter {
        self.watch.send_modify(|progress| progress.sent = start);
        let report =
            MeterReport { watch: self.watch.clone(), start, now: self.now, since: (self.now)(), counted: 0 };
        Meter { flow: Arc::default(), report: Some(Box::new(report)) }
    }
}

/// Counts what one request's content hands over, and tells the watchers.
pub(crate) struct Meter {
    flow: Arc<ContentFlow>,
    report: Option<Box<MeterReport>>,
}

struct MeterReport {
    watch: watch::Sender<Progress>,
    start: u64,
    now: fn() -> Instant,
    since: Instant,
    counted: u64,
}

/// The flow of a request's content so far.
#[derive(Debug, Default)]
pub(crate) struct ContentFlow {
    bytes: AtomicU64,
    ended: AtomicBool,
    starved: AtomicBool,
}

impl ContentFlow {
    /// Bytes handed over so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// True if that was all of it.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// True while the connection waits for the source.
    pub(crate) fn is_starved(&self) -> bool {
        self.starved.load(Ordering::Relaxed)
    }
}

impl Meter {
    /// A meter that is not read.
    pub(crate) fn unread() -> Self {
        Self { flow: Arc::default(), report: None }
    }

    pub(crate) fn flow(&self) -> Arc<ContentFlow> {
        self.flow.clone()
    }

    pub(crate) fn end(&self) {
        self.flow.ended.store(true, Ordering::Relaxed);
    }

    pub(crate) fn starve(&self, is_starved: bool) {
        self.flow.starved.store(is_starved, Ordering::Relaxed);
    }

    pub(crate) fn add(&mut self, bytes: u64) {
        let sum = self.flow.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let Some(report) = &mut self.report else { return };
        let (now, sent) = ((report.now)(), report.start + sum);
        let (since, counted) = (now.duration_since(report.since), sum - report.counted);
        // A rate over less than this says more about buffers than about the network.
        let is_due = since >= Duration::from_millis(100);
        report.watch.send_modify(|progress| {
            progress.sent = sent;
            if is_due {
                progress.rate = smoothed(progress.rate, counted, since);
                progress.eta = remaining(progress);
            }
        });
        if is_due {
            (report.since, report.counted) = (now, sum);
        }
    }
}

/// The rate after `bytes` more in the time `since` the last look.
fn smoothed(before: u64, bytes: u64, since: Duration) -> u64 {
    let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX).max(1);
    let now = bytes.saturating_mul(1000) / millis;
    if before == 0 {
        return now;
    }
    // The share of the new: all of it after a long silence.
    let half = u64::try_from(HALF_LIFE.as_millis()).unwrap_or(u64::MAX);
    let share = millis.saturating_mul(1000) / millis.saturating_add(half);
    let (old, new) = (u128::from(before) * u128::from(1000 - share), u128::from(now) * u128::from(share));
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
    fn the_rate_is_smooth_and_follows() {
        let tick = Duration::from_millis(100);
        let mut rate = 0;
        for _ in 0..10 {
            rate = smoothed(rate, 1000, tick);
        }
        assert_eq!(rate, 10_000);
        rate = smoothed(rate, 0, tick);
        assert!((9_000..10_000).contains(&rate), "{rate}");
        rate = smoothed(rate, 1_000_000, Duration::from_secs(1000));
        assert!((1_000..1_100).contains(&rate), "a long silence leaves little of the old: {rate}");
    }

    #[test]
    fn the_end_can_be_foreseen_when_the_length_is_known() {
        let progress = Progress { sent: 400, length: Some(1000), rate: 100, ..Progress::default() };
        assert_eq!(remaining(&progress), Some(Duration::from_secs(6)));
        assert_eq!(remaining(&Progress { length: None, ..progress }), None);
        assert_eq!(remaining(&Progress { rate: 0, ..progress }), None);
    }
}
