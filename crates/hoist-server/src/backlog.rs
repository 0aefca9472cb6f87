//! Uploads to finish without a client: those whose target failed, and those that were claimed when their last part was
//! complete.
//!
//! Owns the times of the attempts. Each failing attempt reads the whole content, so after the first few failures attempts
//! become rare, also those that a client asks for.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use hoist_proto::types::UploadId;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::locked;

/// The number of failures after which an attempt at a client's request is still made at once: a target may have been
/// restarted, and a request that completes an upload makes two attempts.
const FREE_FAILURES: u32 = 5;

const DELAY: Duration = Duration::from_secs(1);
const DELAY_MAX: Duration = Duration::from_mins(10);

#[derive(Default)]
pub(crate) struct Backlog {
    entries: Mutex<HashMap<UploadId, Entry>>,
    changed: Notify,
}

struct Entry {
    failures: u32,
    /// The time of the next scheduled attempt.
    next: Instant,
    /// The time until which a client's request starts no attempt.
    postponed: Option<Instant>,
}

impl Backlog {
    /// Returns the time for which no attempt may be made, or `None` if one may be made now.
    pub(crate) fn wait(&self, id: UploadId) -> Option<Duration> {
        let postponed = locked(&self.entries).get(&id).and_then(|entry| entry.postponed)?;
        Some(postponed.saturating_duration_since(Instant::now())).filter(|wait| !wait.is_zero())
    }

    pub(crate) fn add(&self, id: UploadId) {
        let next = Instant::now() + DELAY;
        locked(&self.entries).entry(id).or_insert(Entry { failures: 0, next, postponed: None });
        self.changed.notify_one();
    }

    pub(crate) fn failed(&self, id: UploadId) {
        let now = Instant::now();
        let mut entries = locked(&self.entries);
        let entry = entries.entry(id).or_insert(Entry { failures: 0, next: now, postponed: None });
        entry.failures = entry.failures.saturating_add(1);
        let doublings = entry.failures.saturating_sub(FREE_FAILURES);
        let delay = DELAY.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(DELAY_MAX);
        entry.next = now + delay;
        entry.postponed = (doublings > 0).then_some(entry.next);
        drop(entries);
        self.changed.notify_one();
    }

    pub(crate) fn done(&self, id: UploadId) {
        locked(&self.entries).remove(&id);
    }

    /// Returns the uploads whose attempt is due, and postpones each briefly.
    pub(crate) fn due(&self) -> Vec<UploadId> {
        let now = Instant::now();
        let mut entries = locked(&self.entries);
        let due = entries.iter_mut().filter(|(_, entry)| entry.next <= now);
        due.map(|(id, entry)| {
            entry.next = now + DELAY;
            *id
        })
        .collect()
    }

    pub(crate) async fn wait_for_due(&self) {
        loop {
            let next = locked(&self.entries).values().map(|entry| entry.next).min();
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
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: UploadId = UploadId::from_bits([1; 16]);

    #[tokio::test(start_paused = true)]
    async fn attempts_become_rare_and_never_stop() {
        let backlog = Backlog::default();
        let started = Instant::now();
        let mut attempts = 0;
        backlog.failed(ID);
        while started.elapsed() < Duration::from_hours(2) {
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
    async fn the_first_failures_delay_no_client() {
        let backlog = Backlog::default();
        for _ in 0..FREE_FAILURES {
            backlog.failed(ID);
            assert_eq!(backlog.wait(ID), None);
        }
        backlog.failed(ID);
        assert!(backlog.wait(ID).is_some());
    }
}
