//! Removes expired uploads, and finishes uploads that a crash interrupted.
//!
//! Owns the surveys of the store and the visits to single uploads. Both run beside the requests. A survey lists a few
//! uploads at a time; a visit takes the claim of its upload. The [index](crate::expiries) says which uploads to visit,
//! and when the next survey is due.

use std::time::Duration;

use hoist_proto::types::{Timestamp, UploadId};
use hoist_proto::upload::Upload;
use hoist_store::store::{Error, EventSource, UploadGroup, UploadSummary};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admission::Filled;
use crate::expiries::Filed;
use crate::shared::{Hoist, Shared};
use crate::transition::Removal;

/// The groups in the order in which they are surveyed. An upload that is completed in between is in both surveys.
const GROUPS: [UploadGroup; 2] = [UploadGroup::Open, UploadGroup::Complete];

/// The time after which a failed recovery is tried again.
const RECOVERY_RETRY: Duration = Duration::from_secs(5);

/// The result of a sweep or a recovery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Uploads that were listed or visited.
    pub seen: usize,
    /// Uploads that were removed.
    pub removed: usize,
    /// Complete uploads that were delivered to the target.
    pub delivered: usize,
}

/// The speed of a survey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// As fast as the store allows.
    Full,
    /// With a pause after each step, as long as the step, to leave the disk to requests.
    Background,
}

/// The result of a visit to an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Visited {
    /// The upload is gone, or expires at a later time, if at all.
    Done(Option<(UploadGroup, Timestamp)>),
    /// A request has its claim, or a failure was logged.
    Again,
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
        let (mut swept, mut unfinished) = (Swept::default(), Unfinished::default());
        for group in GROUPS {
            swept.seen += self.count(group, Pace::Full, &mut unfinished).await?;
        }
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

    /// Lists a group and counts it for the quotas. If creations wait for that, it has no pauses.
    async fn count(
        &self,
        group: UploadGroup,
        pace: Pace,
        unfinished: &mut Unfinished,
    ) -> Result<usize, Error> {
        let ledger = &self.shared().ledger;
        let pace = if ledger.is_ready() { pace } else { Pace::Full };
        let found = |summary: &UploadSummary| {
            ledger.found(summary);
            unfinished.note(summary);
            if let Some(outbox) = &self.shared().outbox {
                outbox.found(EventSource::Stored(summary.id), &summary.pending_sinks);
            }
        };
        let seen = self.survey(group, pace, found).await?;
        ledger.filled(match group {
            UploadGroup::Open => Filled::Open,
            UploadGroup::Complete => Filled::All,
        });
        Ok(seen)
    }

    /// Lists a group, and files the uploads that may expire. Returns the number of uploads.
    async fn survey(
        &self,
        group: UploadGroup,
        pace: Pace,
        mut visit: impl FnMut(&UploadSummary) + Send,
    ) -> Result<usize, Error> {
        let Shared { store, clock, expiries, .. } = self.shared();
        let survey = expiries.begin(group, clock.steps());
        let mut listing = store.list(group).await?;
        let mut seen = 0;
        loop {
            let begun = tokio::time::Instant::now();
            let Some(summaries) = listing.next().await? else { break };
            let took = begun.elapsed();
            seen += summaries.len();
            for summary in &summaries {
                if let Some(expires) = summary.expires {
                    let lifetime = expires.until(summary.touched);
                    expiries.file(group, (clock.present(summary.touched).plus(lifetime), summary.id));
                }
                visit(summary);
            }
            if pace == Pace::Background {
                tokio::time::sleep(took).await;
            }
        }
        expiries.end(&survey);
        Ok(seen)
    }

    /// Recovers beside requests until `stop` is cancelled. Tries again after a pause if the store cannot be read. Deliveries
    /// and joins are left to [`sweep_every`](Hoist::sweep_every).
    ///
    /// # Cancellation
    /// As [`Hoist::recover`].
    pub async fn catch_up(&self, stop: CancellationToken) {
        let catching_up = async {
            let (mut swept, mut due) = (Swept::default(), 0);
            for group in GROUPS {
                let mut unfinished = Unfinished::default();
                swept.seen += self.count_at_last(group, &mut unfinished).await;
                due += unfinished.due.len() + unfinished.composed.len();
                for id in unfinished.due.into_iter().chain(unfinished.composed) {
                    self.shared().backlog.add(id);
                }
                for id in unfinished.orphaned {
                    self.finish_or_remove(id, true, false, &mut swept).await;
                }
            }
            tracing::info!(uploads = swept.seen, due, "counted the stored uploads");
        };
        stop.run_until_cancelled(Box::pin(catching_up)).await;
    }

    /// Counts a group beside requests, however often the store has to be asked.
    async fn count_at_last(&self, group: UploadGroup, unfinished: &mut Unfinished) -> usize {
        loop {
            match self.count(group, Pace::Background, unfinished).await {
                Ok(seen) => return seen,
                Err(failure) => {
                    tracing::error!(error = %crate::error::chain(&failure), "cannot list the stored uploads; trying again");
                    *unfinished = Unfinished::default();
                    tokio::time::sleep(RECOVERY_RETRY).await;
                }
            }
        }
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
        self.pass(true, Pace::Full).await
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
            match hoist.pass(is_even, Pace::Background).await {
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

    /// Visits the uploads that are due. Surveys a group first if others may have expired.
    async fn pass(&self, removes: bool, pace: Pace) -> Result<Swept, Error> {
        let Shared { clock, expiries, ledger, .. } = self.shared();
        let mut swept = Swept { delivered: self.finish_due().await, ..Swept::default() };
        // The survey of the start comes first.
        if !removes || !ledger.is_filled() {
            return Ok(swept);
        }
        for group in GROUPS {
            let now = clock.now();
            loop {
                if expiries.needs_survey(group, now, clock.steps()) {
                    swept.seen += self.survey(group, pace, |_| ()).await?;
                }
                let is_any_settled = self.visit_due(group, now, &mut swept).await;
                // Otherwise more has expired than the index holds.
                if !is_any_settled || !expiries.needs_survey(group, now, clock.steps()) {
                    break;
                }
            }
        }
        Ok(swept)
    }

    /// Visits the uploads of a group that are due. Returns true if any entry is settled.
    async fn visit_due(&self, group: UploadGroup, now: Timestamp, swept: &mut Swept) -> bool {
        let expiries = &self.shared().expiries;
        let (mut last, mut is_any_settled) = (None, false);
        while let Some(due) = expiries.next_due(group, last, now) {
            is_any_settled |= self.visit(group, due, swept).await;
            last = Some(due);
        }
        is_any_settled
    }

    /// Delivers or removes an upload that is due, or files it again. If that fails, its entry stays for the next sweep,
    /// and false is returned.
    async fn visit(&self, group: UploadGroup, due: Filed, swept: &mut Swept) -> bool {
        swept.seen += 1;
        let (_, id) = due;
        let Visited::Done(next) = self.finish_or_remove(id, false, true, swept).await else { return false };
        let expiries = &self.shared().expiries;
        expiries.drop_entry(group, &due);
        if let Some((group, expires)) = next {
            expiries.file(group, (expires, id));
        }
        true
    }

    /// Delivers or removes an upload if that is due and no request has its claim. Failures have been logged.
    async fn finish_or_remove(
        &self,
        id: UploadId,
        is_orphaned: bool,
        removes: bool,
        swept: &mut Swept,
    ) -> Visited {
        let shared = self.shared();
        let Some(claim) = shared.claims.take_unwanted(id) else { return Visited::Again };
        let upload = match shared.fetch(&claim).await {
            Ok(Some(upload)) => upload,
            Ok(None) => return Visited::Done(None),
            Err(_) => return Visited::Again,
        };
        if upload.awaits_delivery() {
            let Ok(delivered) = shared.deliver_due(&claim, upload).await else { return Visited::Again };
            swept.delivered += 1;
            return Visited::later(&delivered);
        }
        let Ok(upload) = shared.refreshed(upload).await else { return Visited::Again };
        let removal = if removes && upload.is_expired(shared.clock.now()) {
            Removal::Expired
        } else if is_orphaned && !upload.is_complete() {
            Removal::Discarded
        } else {
            return Visited::later(&upload);
        };
        match shared.remove(&claim, &upload, removal).await {
            Ok(()) => {
                swept.removed += 1;
                Visited::Done(None)
            }
            Err(_) => Visited::Again,
        }
    }
}

impl Visited {
    fn later(upload: &Upload) -> Self {
        let group = if upload.is_complete() { UploadGroup::Complete } else { UploadGroup::Open };
        Self::Done(upload.expires().map(|expires| (group, expires)))
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
