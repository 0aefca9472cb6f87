//! Removes what is over: abandoned uploads, and complete ones whose time has passed. Finishes what a crash left.
//!
//! Owns the passes over the store. They go a few uploads at a time beside the requests, under the claim of each upload
//! they touch, and read only what may be over.

use std::time::Duration;

use hoist_proto::types::UploadId;
use hoist_store::store::{Error, UploadGroup, UploadSummary};
use tokio_util::sync::CancellationToken;

use crate::admission::Filled;
use crate::lifetimes::Scope;
use crate::shared::Hoist;
use crate::transition::Removal;

/// The part of the time that a sweep in the background may take from the disk: one in so many.
const PACE: u32 = 20;

/// The time after which a recovery that failed is begun again.
const RECOVERY_RETRY: Duration = Duration::from_secs(5);

/// What a sweep or a recovery did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Uploads looked at.
    pub seen: usize,
    /// Uploads removed because their time was over.
    pub removed: usize,
    /// Uploads whose content was whole and whose target had not been told.
    pub delivered: usize,
}

/// Work that a crash left.
#[derive(Default)]
struct Left {
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
        let (mut swept, left) = self.look_over().await?;
        for (ids, is_orphaned) in [(left.due, false), (left.orphaned, true)] {
            for id in ids {
                match self.look_at(id, is_orphaned, false).await {
                    Some(Outcome::Removed) => swept.removed += 1,
                    Some(Outcome::Delivered) => swept.delivered += 1,
                    None => {}
                }
            }
        }
        // When their parts are as they will be: a crash may have come between the last of them and the whole.
        for id in left.composed {
            self.make_of_parts(id).await;
        }
        Ok(swept)
    }

    /// Prepares a recovery beside requests. Until it has seen what there is, the server is not ready (`/readyz`), and
    /// creations wait for the quotas.
    ///
    /// # Cancellation
    /// Safe to drop; call it again.
    pub async fn prepare(&self) {
        let shared = self.shared();
        match shared.store.last_used().await {
            Ok(seen) => shared.clock.resume(seen),
            Err(failure) => {
                tracing::warn!(error = %crate::error::chain(&failure), "cannot tell when the store was last in use");
            }
        }
        self.set_last_used().await;
        shared.ledger.fill();
    }

    /// Looks at everything the store has.
    async fn look_over(&self) -> Result<(Swept, Left), Error> {
        let shared = self.shared();
        let (mut swept, mut left) = (Swept::default(), Left::default());
        for (group, filled) in [(UploadGroup::Open, Filled::Open), (UploadGroup::Complete, Filled::All)] {
            let mut listing = shared.store.list(group, None).await?;
            while let Some(summaries) = listing.next().await? {
                swept.seen += summaries.len();
                for summary in summaries {
                    shared.ledger.found(&summary);
                    shared.lifetimes.note(group, lifetime(&summary));
                    left.note(&summary);
                }
            }
            shared.ledger.filled(filled);
        }
        shared.lifetimes.set_known();
        Ok((swept, left))
    }

    /// Recovers beside requests, and begins again after a while if the store cannot be read, until told to stop. What is to
    /// be delivered or joined is left to [`sweep_every`](Hoist::sweep_every).
    ///
    /// # Cancellation
    /// As [`Hoist::recover`].
    pub async fn catch_up(&self, stop: CancellationToken) {
        loop {
            match stop.run_until_cancelled(self.look_over()).await {
                None => return,
                Some(Ok((swept, left))) => {
                    let due = left.due.len() + left.composed.len();
                    tracing::info!(uploads = swept.seen, due, "the uploads that are there are known");
                    for id in left.due.into_iter().chain(left.composed) {
                        self.shared().backlog.add(id);
                    }
                    for id in left.orphaned {
                        if stop.run_until_cancelled(self.look_at(id, true, false)).await.is_none() {
                            return;
                        }
                    }
                    return;
                }
                Some(Err(failure)) => {
                    tracing::error!(error = %crate::error::chain(&failure), "cannot look at the uploads that are there");
                }
            }
            if stop.run_until_cancelled(tokio::time::sleep(RECOVERY_RETRY)).await.is_none() {
                return;
            }
        }
    }

    /// Removes what is over. Steps of the wall clock do not count.
    ///
    /// # Errors
    /// When the store cannot be read.
    ///
    /// # Cancellation
    /// As [`Hoist::recover`].
    pub async fn sweep(&self) -> Result<Swept, Error> {
        self.set_last_used().await;
        self.pass(true, false).await
    }

    /// Sweeps every `interval`, and finishes uploads whose target failed, until told to stop. Removes nothing unless the
    /// wall clock has run evenly for as long.
    ///
    /// # Cancellation
    /// As [`Hoist::recover`].
    pub async fn sweep_every(&self, interval: Duration, stop: CancellationToken) {
        tokio::join!(self.pass_every(interval, &stop), self.work_off(&stop));
    }

    async fn pass_every(&self, interval: Duration, stop: &CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
            let is_even = self.shared().clock.even_for() >= interval;
            self.set_last_used().await;
            match stop.run_until_cancelled(self.pass(is_even, true)).await {
                None => return,
                Some(Ok(swept)) if swept.removed + swept.delivered > 0 => {
                    tracing::info!(
                        seen = swept.seen,
                        removed = swept.removed,
                        delivered = swept.delivered,
                        "swept"
                    );
                }
                Some(Ok(_)) => {}
                Some(Err(failure)) => tracing::error!(error = %crate::error::chain(&failure), "cannot sweep"),
            }
        }
    }

    async fn work_off(&self, stop: &CancellationToken) {
        while stop.run_until_cancelled(self.shared().backlog.wait_for_due()).await.is_some() {
            if stop.run_until_cancelled(self.finish_due()).await.is_none() {
                return;
            }
        }
    }

    /// Makes the attempts that are due.
    async fn finish_due(&self) -> usize {
        let mut delivered = 0;
        for id in self.shared().backlog.due() {
            delivered += usize::from(self.finish(id).await);
        }
        delivered
    }

    /// Makes one attempt to finish an upload, unless a request has its claim. Says whether it was delivered.
    async fn finish(&self, id: UploadId) -> bool {
        let shared = self.shared();
        let Some(claim) = shared.claims.take_unwanted(id) else { return false };
        // Failures have been logged, and postpone the next attempt where they were the target's or the store's.
        match shared.fetch(&claim).await {
            Ok(Some(upload)) if upload.awaits_delivery() => shared.deliver_due(&claim, upload).await.is_ok(),
            Ok(Some(upload)) if upload.composition.is_composed() && !upload.is_complete() => {
                shared.pending_parts.add(&upload);
                match shared.try_join(&claim, upload).await {
                    Ok(upload) if upload.is_complete() => true,
                    Ok(_) => {
                        // A part is missing, and will wake it.
                        if shared.backlog.wait(id).is_none() {
                            shared.backlog.done(id);
                        }
                        false
                    }
                    Err(_) => false,
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

    /// Keeps the state of the clock for the next start.
    async fn set_last_used(&self) {
        let Some(seen) = self.shared().clock.note() else { return };
        if let Err(failure) = self.shared().store.set_last_used(&seen).await {
            tracing::warn!(error = %crate::error::chain(&failure), "cannot note when the store was last in use");
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
                    let is_over = removes && self.is_over(&summary);
                    if !is_over && !summary.awaits_delivery {
                        continue;
                    }
                    match self.look_at(summary.id, false, removes).await {
                        Some(Outcome::Removed) => swept.removed += 1,
                        Some(Outcome::Delivered) => swept.delivered += 1,
                        None => {}
                    }
                }
                if is_paced {
                    tokio::time::sleep(took.saturating_mul(PACE)).await;
                }
            }
        }
        Ok(swept)
    }

    fn is_over(&self, summary: &UploadSummary) -> bool {
        let clock = &self.shared().clock;
        let touched = clock.present(summary.touched);
        lifetime(summary).is_some_and(|lifetime| touched.plus(lifetime) <= clock.now())
    }

    /// Makes an upload of its parts if they are complete, and has it wait for them otherwise.
    async fn make_of_parts(&self, id: UploadId) {
        let shared = self.shared();
        let Some(claim) = shared.claims.take_unwanted(id) else { return };
        match shared.fetch(&claim).await {
            Ok(Some(upload)) if !upload.is_complete() => {
                shared.pending_parts.add(&upload);
                if let Err(refusal) = shared.try_join(&claim, upload).await {
                    tracing::warn!(upload = %id.short(), refusal = refusal.problem().title, "not made of its parts");
                }
            }
            // A failure to load has been logged.
            Ok(_) | Err(_) => {}
        }
    }

    /// Takes one upload, if no request has it, and does what is to be done about it.
    async fn look_at(&self, id: UploadId, is_orphaned: bool, removes: bool) -> Option<Outcome> {
        let shared = self.shared();
        let claim = shared.claims.take_unwanted(id)?;
        let upload = shared.fetch(&claim).await.ok()??;
        if upload.awaits_delivery() {
            return shared.deliver_due(&claim, upload).await.ok().map(|_| Outcome::Delivered);
        }
        let upload = shared.refreshed(upload).await.ok()?;
        let is_orphaned = is_orphaned && !upload.is_complete();
        let is_expired = removes && upload.is_expired(shared.clock.now());
        if is_orphaned || is_expired {
            let removal = if is_expired { Removal::Expired } else { Removal::Discarded };
            return shared.remove(&claim, &upload, removal).await.ok().map(|()| Outcome::Removed);
        }
        None
    }
}

impl Left {
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

enum Outcome {
    Removed,
    Delivered,
}
