//! Syncs of transfers whose peer pauses.
//!
//! A peer that hangs is often followed by a request that takes its upload over, which has to wait until the content is
//! durable. A disk that is busy with other uploads takes tens of milliseconds for that. So the sync begins when the peer
//! pauses, and the request finds it done.

use std::time::Duration;

use hoist_store::store::Writer;
use tokio::time::{Instant, sleep_until};

/// The time without content after which a peer pauses. Longer than most round trips, which bursts of content are apart.
const PAUSE: Duration = Duration::from_millis(250);
/// The shortest time between two syncs of one transfer.
const INTERVAL: Duration = Duration::from_secs(1);
/// The fewest bytes that are worth a sync of their own.
const BYTES_MIN: u64 = 64 << 10;

/// The content of a transfer since its last sync in a pause.
#[derive(Default)]
pub(crate) struct Pause {
    unsynced_bytes: u64,
    /// The time of the last sync.
    synced: Option<Instant>,
}

impl Pause {
    /// Counts accepted content.
    pub(crate) fn accepted(&mut self, bytes: u64) {
        self.unsynced_bytes += bytes;
    }

    /// Completes when the peer has paused, and a sync is due. Called when the content before the pause has been counted.
    pub(crate) async fn due(&self) {
        if self.unsynced_bytes < BYTES_MIN {
            return std::future::pending().await;
        }
        let paused = Instant::now() + PAUSE;
        sleep_until(self.synced.map_or(paused, |synced| paused.max(synced + INTERVAL))).await;
    }

    /// Starts a sync of what the writer has accepted.
    pub(crate) fn start_sync(&mut self, writer: &mut dyn Writer) {
        *self = Self { unsynced_bytes: 0, synced: Some(Instant::now()) };
        writer.start_sync();
    }
}
