//! Progress responses: when a peer is told how much of its content is stored, and how much that is.
//!
//! Owns the cadence. What a progress response looks like is the dialect's, that it is the latest the transport's.

use std::time::Duration;

use hoist_http::Interim;
use hoist_proto::dialect::Dialect;
use hoist_proto::types::{Durable, Offset};
use hoist_store::store::Writer;
use tokio::time::Instant;

use crate::claim::Claim;

/// Tells a peer how much of its content is stored while more arrives: the latest offset, seldom enough. A peer that waits to
/// be told before it sends more is told, too.
//= IETF-INT-13, IETF-INC-02
pub(crate) struct Progress {
    dialect: Dialect,
    interim: Interim,
    /// Where the content that was accepted ends.
    accepted: Offset,
    told: Durable,
    /// When the peer may be told again.
    next: Instant,
    /// When the peer is taken to wait for that.
    waits: Instant,
}

/// The shortest time between two progress responses.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// The fewest bytes between two progress responses, while there are more to come.
const PROGRESS_BYTES_MIN: u64 = 1 << 20;

impl Progress {
    /// Progress from `at` on, where the peer knows that it is.
    pub(crate) fn new(dialect: Dialect, interim: Interim, at: Durable) -> Self {
        let next = Instant::now() + PROGRESS_INTERVAL;
        Self { dialect, interim, accepted: at.offset(), told: at, next, waits: next }
    }

    /// Notes content, and tells what is stored if it is time.
    pub(crate) fn accepted(&mut self, bytes: u64, writer: &mut dyn Writer, claim: &Claim) {
        self.accepted = self.accepted.advance(bytes).unwrap_or(self.accepted);
        let now = Instant::now();
        self.waits = now + PROGRESS_INTERVAL;
        if self.next <= now {
            self.tell(PROGRESS_BYTES_MIN, writer, claim);
        }
    }

    /// Completes when it is time to tell a peer that sends nothing.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn due(progress: Option<&Self>) {
        match progress {
            Some(progress) if progress.told.offset() < progress.accepted => {
                tokio::time::sleep_until(progress.next.max(progress.waits)).await;
            }
            Some(_) | None => std::future::pending().await,
        }
    }

    /// Tells what is stored, if that is at least so much more than was told.
    pub(crate) fn tell(&mut self, bytes_min: u64, writer: &mut dyn Writer, claim: &Claim) {
        self.next = Instant::now() + PROGRESS_INTERVAL;
        let durable = writer.start_sync();
        let news = durable.offset().bytes_since(self.told.offset()).unwrap_or(0);
        if news < bytes_min {
            return;
        }
        let Some(head) = self.dialect.progress(durable) else { return };
        self.told = durable;
        claim.tells(durable);
        // Who cannot be told is gone, which the body will say.
        let _ = self.interim.progress(head);
    }
}
