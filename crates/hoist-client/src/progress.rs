//! How far an upload is, for whoever watches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// How far an upload is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes handed to the connection: where sending is in the representation. Goes back when an interruption lost some.
    pub sent: u64,
    /// Bytes the server said it has.
    pub acknowledged: u64,
    /// Bytes of the representation; 0 until the source was opened.
    pub length: u64,
    /// How many requests had to be repeated.
    pub retries: u32,
}

/// Counts what one request's content hands over, and tells the watchers.
#[derive(Clone)]
pub(crate) struct Meter {
    watch: watch::Sender<Progress>,
    start: u64,
    bytes: Arc<AtomicU64>,
}

impl Meter {
    /// A meter for content that begins at `start`.
    pub(crate) fn new(watch: &watch::Sender<Progress>, start: u64) -> Self {
        watch.send_modify(|progress| progress.sent = start);
        Self { watch: watch.clone(), start, bytes: Arc::default() }
    }

    /// A meter nobody reads.
    pub(crate) fn unread() -> Self {
        Self::new(&watch::Sender::default(), 0)
    }

    pub(crate) fn add(&self, bytes: u64) {
        let sent = self.start + self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.watch.send_modify(|progress| progress.sent = sent);
    }

    /// Bytes handed over so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}
