//! Progress responses: interim responses that report the durable offset during a transfer.
//!
//! Owns their cadence. The dialect encodes them, and the transport sends the latest.

use std::time::Duration;

use hoist_http::Interim;
use hoist_proto::dialect::Dialect;
use hoist_proto::types::{Durable, Offset};
use hoist_store::store::Writer;
use tokio::time::Instant;

use crate::claim::Claim;

/// Reports the durable offset to a peer while content arrives, and also while the peer waits for such a report before it
/// sends more.
//= IETF-INT-13, IETF-INC-02
pub(crate) struct Progress {
    dialect: Dialect,
    interim: Interim,
    accepted: Offset,
    reported: Durable,
    next: Instant,
    /// The time from which the peer is assumed to wait for a report.
    idle_from: Instant,
}

/// The shortest time between two progress responses.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// The fewest bytes between two progress responses, while there are more to come.
const PROGRESS_BYTES_MIN: u64 = 1 << 20;

impl Progress {
    /// Returns the progress of a transfer from `at` on, an offset that the peer knows.
    pub(crate) fn new(dialect: Dialect, interim: Interim, at: Durable) -> Self {
        let next = Instant::now() + PROGRESS_INTERVAL;
        Self { dialect, interim, accepted: at.offset(), reported: at, next, idle_from: next }
    }

    /// Records accepted content, and reports the durable offset if it is time. Returns whether it does.
    pub(crate) fn accepted(&mut self, bytes: u64, writer: &mut dyn Writer, claim: &Claim) -> bool {
        self.accepted = self.accepted.advance(bytes).unwrap_or(self.accepted);
        let now = Instant::now();
        self.idle_from = now + PROGRESS_INTERVAL;
        self.next <= now && self.report(PROGRESS_BYTES_MIN, writer, claim)
    }

    /// Completes when it is time to report to a peer that sends nothing.
    pub(crate) async fn due(progress: Option<&Self>) {
        match progress {
            Some(progress) if progress.reported.offset() < progress.accepted => {
                tokio::time::sleep_until(progress.next.max(progress.idle_from)).await;
            }
            Some(_) | None => std::future::pending().await,
        }
    }

    /// Reports the durable offset if it has grown by at least `bytes_min`. Returns whether it does.
    pub(crate) fn report(&mut self, bytes_min: u64, writer: &mut dyn Writer, claim: &Claim) -> bool {
        self.next = Instant::now() + PROGRESS_INTERVAL;
        let durable = writer.start_sync();
        let grown = durable.offset().bytes_since(self.reported.offset()).unwrap_or(0);
        if grown < bytes_min {
            return false;
        }
        let Some(head) = self.dialect.progress(durable) else { return false };
        self.reported = durable;
        claim.set_reported(durable);
        // A peer that cannot be reached is gone, and its body will fail.
        self.interim.progress(head).is_ok()
    }
}
