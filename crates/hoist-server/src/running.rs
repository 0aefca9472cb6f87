//! The background work of an endpoint, from the first request to the last.
//!
//! Owns the order of starting and stopping; the passes over the store are in `sweep.rs`.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::shared::Hoist;

/// The background work of an endpoint: recovery after a crash, sweeping, and draining at the end.
///
/// Returned by [`Hoist::start`]. Keep it while the endpoint serves requests, and call [`stop`](Running::stop) last. If
/// dropped, recovery and sweeping end, and requests are still answered.
#[must_use = "dropping it ends recovery and sweeping"]
pub struct Running {
    hoist: Hoist,
    tasks: TaskTracker,
    recovered: CancellationToken,
    sweep_interval: watch::Sender<Duration>,
    stop: DropGuard,
}

impl Hoist {
    /// Starts the background work of this endpoint. Must be called once, before the first request.
    ///
    /// Recovery runs beside the requests: it counts the stored uploads, delivers those that a crash left undelivered,
    /// and removes those that no client can continue. Until it has counted those that quotas need (the open ones, and all
    /// if there is a quota of bytes), `/readyz` answers 503 and creations wait. Expired uploads are removed every `sweep_interval`, the first time after
    /// one interval.
    ///
    /// # Cancellation
    /// Safe to drop; call it again.
    pub async fn start(&self, sweep_interval: Duration) -> Running {
        self.prepare().await;
        let (tasks, stop, recovered) =
            (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
        let (hoist, stopped, is_recovered) = (self.clone(), stop.clone(), recovered.clone().drop_guard());
        tasks.spawn(async move {
            let _is_recovered = is_recovered;
            Box::pin(hoist.catch_up(stopped)).await;
        });
        let (hoist, stopped) = (self.clone(), stop.clone());
        let (sweep_interval, interval) = watch::channel(sweep_interval);
        tasks.spawn(async move { Box::pin(hoist.sweep_at(interval, stopped)).await });
        if let Some(outbox) = self.shared().outbox.clone() {
            let (hoist, stopped) = (self.clone(), stop.clone());
            tasks.spawn(async move { Box::pin(outbox.run(hoist, stopped)).await });
        }
        tasks.close();
        Running { hoist: self.clone(), tasks, recovered, sweep_interval, stop: stop.drop_guard() }
    }
}

impl Running {
    /// Completes when the recovery has counted the uploads that quotas need, so that creations do not wait and `/readyz`
    /// answers 200.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub async fn ready(&self) {
        self.hoist.latest().shared().ledger.counted().await;
    }

    /// Completes when the recovery has ended. Requests may be served before.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub async fn recovered(&self) {
        self.recovered.cancelled().await;
    }

    /// Changes the interval between sweeps. The next one is a whole interval from now.
    pub fn set_sweep_interval(&self, interval: Duration) {
        self.sweep_interval.send_if_modified(|current| std::mem::replace(current, interval) != interval);
    }

    /// Ends the background work, then [drains](Hoist::drain) the endpoint: transfers end and their bytes are stored.
    /// Call it when the server stops accepting connections, so that no client waits for the end of a long upload.
    ///
    /// # Cancellation
    /// If dropped, background work and transfers still end, but nothing waits for them.
    pub async fn stop(self) {
        drop(self.stop);
        self.hoist.drain().await;
        self.tasks.wait().await;
    }
}
