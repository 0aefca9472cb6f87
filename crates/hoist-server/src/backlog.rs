//! Uploads to be finished without a client: those whose target failed, and those whose claim was taken when their last
//! part came.
//!
//! Owns when an attempt may be made. A target that fails costs a reading of the whole content each time, so after the
//! first few failures attempts become rare, whether a client asks for them or not.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hoist_proto::types::UploadId;
use tokio::sync::Notify;
use tokio::time::Instant;

/// So many failures postpone nothing that a client asks for: a target may have been restarted, and a request that would
/// complete an upload makes two attempts.
const FREE_FAILURES: u32 = 5;

/// The time between two attempts, the first time and at most.
const DELAY: Duration = Duration::from_secs(1);
const DELAY_MAX: Duration = Duration::from_mins(10);

/// Uploads to be finished.
#[derive(Default)]
pub(crate) struct Backlog {
    entries: Mutex<HashMap<UploadId, Entry>>,
    changed: Notify,
}

struct Entry {
    failures: u32,
    /// The time of the next scheduled attempt.
    next: Instant,
    /// The time before which no client's request starts an attempt.
    postponed: Option<Instant>,
}

impl Backlog {
    /// The time for which an upload is to be left alone; none when an attempt may be made now.
    pub(crate) fn wait(&self, id: UploadId) -> Option<Duration> {
        let postponed = self.entries().get(&id).and_then(|entry| entry.postponed)?;
        Some(postponed.saturating_duration_since(Instant::now())).filter(|wait| !wait.is_zero())
    }

    /// Adds an upload, to be tried soon.
    pub(crate) fn add(&self, id: UploadId) {
        let next = Instant::now() + DELAY;
        self.entries().entry(id).or_insert(Entry { failures: 0, next, postponed: None });
        self.changed.notify_one();
    }

    /// Notes that an attempt failed.
    pub(crate) fn failed(&self, id: UploadId) {
        let now = Instant::now();
        let mut entries = self.entries();
        let entry = entries.entry(id).or_insert(Entry { failures: 0, next: now, postponed: None });
        entry.failures = entry.failures.saturating_add(1);
        let doublings = entry.failures.saturating_sub(FREE_FAILURES);
        let delay = DELAY.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(DELAY_MAX);
        entry.next = now + delay;
        entry.postponed = (doublings > 0).then_some(entry.next);
        drop(entries);
        self.changed.notify_one();
    }

    /// Notes that an upload is finished, or gone.
    pub(crate) fn done(&self, id: UploadId) {
        self.entries().remove(&id);
    }

    /// The uploads whose attempt is due, each of them put off for a moment.
    pub(crate) fn due(&self) -> Vec<UploadId> {
        let now = Instant::now();
        let mut entries = self.entries();
        let due = entries.iter_mut().filter(|(_, entry)| entry.next <= now);
        due.map(|(id, entry)| {
            entry.next = now + DELAY;
            *id
        })
        .collect()
    }

    /// Completes when an attempt is due.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn wait_for_due(&self) {
        loop {
            let next = self.entries().values().map(|entry| entry.next).min();
            let changed = self.changed.notified();
            match next {
                None => changed.await,
                Some(next) => {
                    if tokio::time::timeout_at(next, changed).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<UploadId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: UploadId = UploadId::from_bits([1; 16]);

    #[tokio::test(start_paused = true)]
    async fn attempts_become_rare_and_never_end() {
        let backlog = Backlog::default();
        let begun = Instant::now();
        let mut attempts = 0;
        backlog.failed(ID);
        while begun.elapsed() < Duration::from_hours(2) {
            backlog.wait_for_due().await;
            assert_eq!(backlog.due(), [ID]);
            backlog.failed(ID);
            attempts += 1;
        }
        assert!((15..30).contains(&attempts), "{attempts}");
        assert!(backlog.wait(ID).is_some_and(|wait| wait <= DELAY_MAX));
        backlog.done(ID);
        assert!(backlog.wait(ID).is_none() && backlog.due().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_failures_postpone_nothing_for_a_client() {
        let backlog = Backlog::default();
        for _ in 0..FREE_FAILURES {
            backlog.failed(ID);
            assert_eq!(backlog.wait(ID), None);
        }
        backlog.failed(ID);
        assert!(backlog.wait(ID).is_some());
    }
}
