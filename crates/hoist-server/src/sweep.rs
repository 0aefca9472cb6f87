//! Removes what is over: abandoned uploads, and complete ones whose time has passed. Finishes what a crash left.

use std::time::Duration;

use hoist_proto::types::UploadId;
use hoist_store::store::Error;
use tokio_util::sync::CancellationToken;

use crate::admission::Filled;
use crate::layer::Hoist;

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

impl Hoist {
    /// Looks at everything the store has: counts it for the quotas, delivers what a crash left undelivered, removes what
    /// nobody could go on with. To be called once before the first request.
    ///
    /// What has merely expired stays for [`sweep`](Hoist::sweep): a clock that is wrong at the start must delete nothing.
    ///
    /// # Errors
    /// When the store cannot be read. Single uploads that fail are logged and left.
    ///
    /// # Cancellation
    /// Safe to drop between two uploads; call it again.
    pub async fn recover(&self) -> Result<Swept, Error> {
        let shared = self.shared();
        match shared.store.seen().await {
            Ok(seen) => shared.clock.resume(seen),
            Err(failure) => {
                tracing::warn!(error = %crate::error::chain(&failure), "cannot tell when the store was last in use");
            }
        }
        self.note_seen().await;
        shared.ledger.fill();
        let swept = self.pass(true, false).await?;
        shared.ledger.filled(Filled::All);
        Ok(swept)
    }

    /// Removes what is over. Steps of the wall clock do not count.
    ///
    /// # Errors
    /// When the store cannot be read.
    ///
    /// # Cancellation
    /// As [`Hoist::recover`].
    pub async fn sweep(&self) -> Result<Swept, Error> {
        self.note_seen().await;
        self.pass(false, true).await
    }

    /// Sweeps every `interval` until told to stop. Removes nothing unless the wall clock has run evenly for as long.
    ///
    /// # Cancellation
    /// As [`Hoist::recover`].
    pub async fn sweep_every(&self, interval: Duration, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
            let is_even = self.shared().clock.even_for() >= interval;
            self.note_seen().await;
            match self.pass(false, is_even).await {
                Ok(swept) if swept.removed + swept.delivered > 0 => {
                    tracing::info!(
                        seen = swept.seen,
                        removed = swept.removed,
                        delivered = swept.delivered,
                        "swept"
                    );
                }
                Ok(_) => {}
                Err(failure) => tracing::error!(error = %crate::error::chain(&failure), "cannot sweep"),
            }
        }
    }

    /// Keeps the time for the next start, unless it is in doubt.
    async fn note_seen(&self) {
        let Some(now) = self.shared().clock.trusted() else { return };
        if let Err(failure) = self.shared().store.note_seen(now).await {
            tracing::warn!(error = %crate::error::chain(&failure), "cannot note when the store was last in use");
        }
    }

    async fn pass(&self, first: bool, removes: bool) -> Result<Swept, Error> {
        let clock = &self.shared().clock;
        let mut swept = Swept::default();
        let mut composed = Vec::new();
        for sketch in self.shared().store.survey().await? {
            swept.seen += 1;
            if first {
                self.shared().ledger.found(&sketch);
            }
            if first && sketch.is_open && sketch.makeup.is_composed() {
                composed.push(sketch.id);
            }
            let lifetime = sketch.expires.map(|end| end.until(sketch.touched));
            let touched = clock.present(sketch.touched);
            let is_over = removes && lifetime.is_some_and(|lifetime| touched.plus(lifetime) <= clock.now());
            // At the start no request runs, so nobody will ever bring the rest.
            let is_orphaned = first && sketch.is_open && !sketch.can_resume && !sketch.is_due;
            if !is_over && !sketch.is_due && !is_orphaned {
                continue;
            }
            match self.look_at(sketch.id, is_orphaned, removes).await {
                Some(Outcome::Removed) => swept.removed += 1,
                Some(Outcome::Delivered) => swept.delivered += 1,
                None => {}
            }
        }
        // When their parts are as they will be: a crash may have come between the last of them and the whole.
        for id in composed {
            self.make_of_parts(id).await;
        }
        Ok(swept)
    }

    /// Makes an upload of its parts if they are complete, and has it wait for them otherwise.
    async fn make_of_parts(&self, id: UploadId) {
        let shared = self.shared();
        let Some(claim) = shared.claims.take_unwanted(id) else { return };
        match shared.fetch(&claim).await {
            Ok(Some(upload)) if !upload.is_complete() => {
                shared.waiting.add(&upload);
                if let Err(refusal) = shared.try_join(&claim, upload).await {
                    tracing::warn!(upload = %id.short(), refusal = refusal.problem().title, "not made of its parts");
                }
            }
            // A failure to load has been logged.
            Ok(_) | Err(_) => {}
        }
    }

    /// Takes one upload, if nobody is at it, and does what is to be done about it.
    async fn look_at(&self, id: UploadId, is_orphaned: bool, removes: bool) -> Option<Outcome> {
        let shared = self.shared();
        let claim = shared.claims.take_unwanted(id)?;
        let upload = shared.fetch(&claim).await.ok()??;
        if upload.is_due() {
            return shared.deliver_due(&claim, upload).await.ok().map(|_| Outcome::Delivered);
        }
        let upload = shared.refreshed(upload).await.ok()?;
        if is_orphaned || removes && upload.is_expired(shared.clock.now()) {
            return shared.erase(&claim, &upload).await.ok().map(|()| Outcome::Removed);
        }
        None
    }
}

enum Outcome {
    Removed,
    Delivered,
}
