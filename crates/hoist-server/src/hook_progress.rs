//! Reports of a transfer's progress to hooks, and its end at their wish.

use std::sync::Arc;
use std::time::Duration;

use hoist_proto::amendment::Amendment;
use hoist_proto::types::Offset;
use hoist_proto::upload::Upload;
use tokio::time::Instant;

use crate::claim::Claim;
use crate::hook::{Point, Stop};
use crate::shared::Shared;

/// The progress of one transfer, as hooks learn of it: at intervals if it has moved, and once at its end.
pub(crate) struct HookProgress {
    interval: Duration,
    received: Offset,
    told: Offset,
    next: Instant,
    stop: Arc<Stop>,
}

impl HookProgress {
    /// Returns the progress of a transfer that begins at `at`, if hooks want to know.
    pub(crate) fn begin(shared: &Shared, upload: &Upload, at: Offset) -> Option<Self> {
        if !shared.hooks.wants(Point::PostReceive) || !upload.has_events() {
            return None;
        }
        let interval = shared.hooks.progress_interval();
        let next = Instant::now() + interval;
        Some(Self { interval, received: at, told: Offset::ZERO, next, stop: Arc::default() })
    }

    /// Counts content, and tells the hooks if it is time.
    pub(crate) fn received(&mut self, bytes: u64, shared: &Shared, claim: &Claim, upload: &Upload) {
        self.received = self.received.advance(bytes).unwrap_or(self.received);
        if self.next <= Instant::now() {
            self.tell(shared, claim, upload);
        }
    }

    /// Completes when it is time to tell the hooks of content that has arrived.
    pub(crate) async fn due(progress: Option<&Self>) {
        match progress {
            Some(progress) if progress.told != progress.received => {
                tokio::time::sleep_until(progress.next).await;
            }
            Some(_) | None => std::future::pending().await,
        }
    }

    /// Completes when a hook stops the upload.
    pub(crate) async fn stopped(progress: Option<&Self>) {
        match progress {
            Some(progress) => progress.stop.wished().await,
            None => std::future::pending().await,
        }
    }

    /// Tells the hooks, unless they know.
    pub(crate) fn tell(&mut self, shared: &Shared, claim: &Claim, upload: &Upload) {
        self.next = Instant::now() + self.interval;
        if self.told == self.received {
            return;
        }
        self.told = self.received;
        let (offset, stop) = (self.received.get(), Some(Arc::clone(&self.stop)));
        shared.notify_stoppable(Point::PostReceive, upload, offset, &claim.scope.facts, stop);
    }

    /// Returns the changes to the answer that the hook wanted when it stopped the upload.
    pub(crate) fn amendment(&self) -> Amendment {
        self.stop.amendment()
    }
}
