//! Removes expired uploads, and finishes uploads that a crash interrupted.
//!
//! Owns the passes over the store. They run beside the requests, list a few uploads at a time, take the claim of each
//! upload they touch, and read only uploads that may have expired.

use std::time::Duration;

use hoist_proto::types::UploadId;
use hoist_store::store::{Error, UploadGroup, UploadSummary};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admission::Filled;
use crate::lifetimes::Scope;
use crate::shared::Hoist;
use crate::transition::Removal;

/// A background sweep pauses for this many times the duration of each listing, to leave the disk to requests.
const PAUSE_FACTOR: u32 = 20;

/// The time after which a failed recovery is tried again.
const RECOVERY_RETRY: Duration = Duration::from_secs(5);

/// The result of a sweep or a recovery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Uploads that were listed.
    pub seen: usize,
    /// Uploads that were removed.
    pub removed: usize,
    /// Complete uploads that were delivered to the target.
    pub delivered: usize,
}

/// Uploads that a crash left unfinished.
#[derive(Default)]
struct Unfinished {
    due: Vec<UploadId>,
    orphaned: Vec<UploadId>,
    composed: Vec<UploadId>,
}

impl Hoist {
    /// Visits every stored upload: counts it for the quotas, delivers it if a crash left it undelivered, and removes
    /// it if no client can continue it. Must be called once before the first request. A server that answers requests
    /// meanwhile calls [`prepare`](Hoist::prepare) before them and [`catch_up`](Hoist::catch_up) alongside them
    /// instead.
    ///
    /// Expired uploads are left to [`sweep`](Hoist::sweep), so that a wrong clock at the start deletes nothing.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read. The failure of a single upload is logged, and the upload is
    /// left.
    ///
    /// # Cancellation
    /// Safe to drop between two uploads; call it again.
    pub async fn recover(&self) -> Result<Swept, Error> {
        self.prepare().await;
        let (mut swept, unfinished) = self.count_stored().await?;
        for (ids, is_orphaned) in [(unfinished.due, false), (unfinished.orphaned, true)] {
            for id in ids {
                self.finish_or_remove(id, is_orphaned, false, &mut swept).await;
            }
        }
        // After the other uploads, which may be parts: a crash may have come between the last part and the join.
        for id in unfinished.composed {
            self.finish(id).await;
        }
        Ok(swept)
    }

    /// Prepares a recovery beside requests. Until the recovery has counted the stored uploads, the server is not ready
    /// (`/readyz`), and creations wait if there are quotas.
    ///
    /// # Cancellation
    /// Safe to drop; call it again.
    pub async fn prepare(&self) {
        let shared = self.shared();
        match shared.store.last_used().await {
            Ok(seen) => shared.clock.resume(seen),
            Err(failure) => {
                tracing::warn!(error = %crate::error::chain(&failure), "cannot read when the store was last used");
            }
        }
        self.set_last_used().await;
        shared.ledger.fill();
    }

    /// Lists all stored uploads and counts them for the quotas.
    async fn count_stored(&self) -> Result<(Swept, Unfinished), Error> {
        let shared = self.shared();
        let (mut swept, mut unfinished) = (Swept::default(), Unfinished::default());
        for (group, filled) in [(UploadGroup::Open, Filled::Open), (UploadGroup::Complete, Filled::All)] {
            let mut listing = shared.store.list(group, None).await?;
            while let Some(summaries) = listing.next().await? {
                swept.seen += summaries.len();
                for summary in summaries {
                    shared.ledger.found(&summary);
                    shared.lifetimes.note(group, lifetime(&summary));
                    unfinished.note(&summary);
                }
            }
            shared.ledger.filled(filled);
        }
        shared.lifetimes.set_known();
        Ok((swept, unfinished))
    }

    /// Recovers beside requests until `stop` is cancelled. Tries again after a pause if the store cannot be read. Deliveries
    /// and joins are left to [`sweep_every`](Hoist::sweep_every).
    ///
    /// # Cancellation
    /// As [`Hoist::recover`].
    pub async fn catch_up(&self, stop: CancellationToken) {
        let catching_up = async {
            let (mut swept, unfinished) = loop {
                match self.count_stored().await {
                    Ok(counted) => break counted,
                    Err(failure) => {
                        tracing::error!(error = %crate::error::chain(&failure), "cannot list the stored uploads; trying again");
                        tokio::time::sleep(RECOVERY_RETRY).await;
                    }
                }
            };
            let due = unfinished.due.len() + unfinished.composed.len();
            tracing::info!(uploads = swept.seen, due, "counted the stored uploads");
            for id in unfinished.due.into_iter().chain(unfinished.composed) {
                self.shared().backlog.add(id);
            }
            for id in unfinished.orphaned {
                self.finish_or_remove(id, true, false, &mut swept).await;
            }
        };
        stop.run_until_cancelled(catching_up).await;
    }

    /// Removes expired uploads once. Steps of the wall clock do not count towards their age.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    ///
    /// # Cancellation
    /// As [`Hoist::recover`].
    pub async fn sweep(&self) -> Result<Swept, Error> {
        self.set_last_used().await;
        self.pass(true, false).await
    }

    /// Sweeps every `interval`, and retries failed deliveries, until `stop` is cancelled. Removes uploads only if the wall
    /// clock has run evenly for an interval.
    ///
    /// # Cancellation
    /// As [`Hoist::recover`].
    pub async fn sweep_every(&self, interval: Duration, stop: CancellationToken) {
        self.sweep_at(watch::channel(interval).1, stop).await;
    }

    /// Does what [`sweep_every`](Hoist::sweep_every) does, at an interval that may change.
    pub(crate) async fn sweep_at(&self, interval: watch::Receiver<Duration>, stop: CancellationToken) {
        let sweeping = async { tokio::join!(self.sweep_loop(interval), self.retry_due()) };
        stop.run_until_cancelled(Box::pin(sweeping)).await;
    }

    async fn sweep_loop(&self, mut interval: watch::Receiver<Duration>) {
        loop {
            let pause = *interval.borrow_and_update();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Ok(()) = interval.changed() => continue,
            }
            let hoist = self.latest();
            let is_even = hoist.shared().clock.even_for() >= pause;
            hoist.set_last_used().await;
            match hoist.pass(is_even, true).await {
                Ok(Swept { seen, removed, delivered }) if removed + delivered > 0 => {
                    tracing::info!(seen, removed, delivered, "swept");
                }
                Ok(_) => {}
                Err(failure) => {
                    tracing::error!(error = %crate::error::chain(&failure), "cannot sweep the store");
                }
            }
        }
    }

    async fn retry_due(&self) {
        loop {
            self.shared().backlog.wait_for_due().await;
            self.latest().finish_due().await;
        }
    }

    /// Makes the attempts that are due. Returns the number of uploads that were finished.
    async fn finish_due(&self) -> usize {
        let mut delivered = 0;
        for id in self.shared().backlog.due() {
            delivered += usize::from(self.finish(id).await);
        }
        delivered
    }

    /// Makes one attempt to finish an upload, unless a request has its claim. Returns whether it is finished.
    async fn finish(&self, id: UploadId) -> bool {
        let shared = self.shared();
        let Some(claim) = shared.claims.take_unwanted(id) else { return false };
        // Failures have been logged. Those of the target or the store postpone the next attempt.
        match shared.fetch(&claim).await {
            Ok(Some(upload)) if upload.awaits_delivery() => shared.deliver_due(&claim, upload).await.is_ok(),
            Ok(Some(upload)) if upload.composition.is_composed() && !upload.is_complete() => {
                shared.pending_parts.add(&upload);
                match shared.try_join(&claim, upload).await {
                    Ok(upload) if upload.is_complete() => true,
                    // A part is missing. Its completion adds the upload to the backlog again.
                    Ok(_) if shared.backlog.wait(id).is_none() => {
                        shared.backlog.done(id);
                        false
                    }
                    Ok(_) | Err(_) => false,
                }
            }
            Ok(_) => {
                shared.backlog.done(id);
                false
            }
            Err(_) => {
                shared.backlog.failed(id);
                false
            }
        }
    }

    async fn set_last_used(&self) {
        let Some(seen) = self.shared().clock.note() else { return };
        if let Err(failure) = self.shared().store.set_last_used(&seen).await {
            tracing::warn!(error = %crate::error::chain(&failure), "cannot store when the store was last used");
        }
    }

    async fn pass(&self, removes: bool, is_paced: bool) -> Result<Swept, Error> {
        let shared = self.shared();
        let mut swept = Swept { delivered: self.finish_due().await, ..Swept::default() };
        for group in [UploadGroup::Open, UploadGroup::Complete] {
            let unchanged_since = match shared.lifetimes.scope(group, shared.clock.now()) {
                Scope::All => None,
                Scope::UnchangedSince(unchanged_since) => Some(unchanged_since),
                Scope::Nothing => continue,
            };
            let mut listing = shared.store.list(group, unchanged_since).await?;
            loop {
                let begun = tokio::time::Instant::now();
                let Some(summaries) = listing.next().await? else { break };
                let took = begun.elapsed();
                for summary in summaries {
                    swept.seen += 1;
                    let has_expired = removes && self.has_expired(&summary);
                    if !has_expired && !summary.awaits_delivery {
                        continue;
                    }
                    self.finish_or_remove(summary.id, false, removes, &mut swept).await;
                }
                if is_paced {
                    tokio::time::sleep(took.saturating_mul(PAUSE_FACTOR)).await;
                }
            }
        }
        Ok(swept)
    }

    fn has_expired(&self, summary: &UploadSummary) -> bool {
        let clock = &self.shared().clock;
        let touched = clock.present(summary.touched);
        lifetime(summary).is_some_and(|lifetime| touched.plus(lifetime) <= clock.now())
    }

    /// Delivers or removes an upload if that is due and no request has its claim. Failures have been logged.
    async fn finish_or_remove(&self, id: UploadId, is_orphaned: bool, removes: bool, swept: &mut Swept) {
        let shared = self.shared();
        let Some(claim) = shared.claims.take_unwanted(id) else { return };
        let Ok(Some(upload)) = shared.fetch(&claim).await else { return };
        if upload.awaits_delivery() {
            swept.delivered += usize::from(shared.deliver_due(&claim, upload).await.is_ok());
            return;
        }
        let Ok(upload) = shared.refreshed(upload).await else { return };
        let removal = if removes && upload.is_expired(shared.clock.now()) {
            Removal::Expired
        } else if is_orphaned && !upload.is_complete() {
            Removal::Discarded
        } else {
            return;
        };
        swept.removed += usize::from(shared.remove(&claim, &upload, removal).await.is_ok());
    }
}

impl Unfinished {
    fn note(&mut self, summary: &UploadSummary) {
        if summary.awaits_delivery {
            self.due.push(summary.id);
        } else if summary.is_open && !summary.can_resume {
            // Its only request ended with the process.
            self.orphaned.push(summary.id);
        }
        if summary.is_open && summary.composition.is_composed() {
            self.composed.push(summary.id);
        }
    }
}

fn lifetime(summary: &UploadSummary) -> Option<Duration> {
    summary.expires.map(|end| end.until(summary.touched))
}
