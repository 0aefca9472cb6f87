//! Readiness (`/readyz`): whether the server can take uploads, and the reason if it cannot.
//!
//! Owns the health checks of the store. However often readiness is asked for, one check runs at a time and its result is
//! reused for a moment. A store that does not answer delays no answer for longer than [`CHECK_TIMEOUT`].

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode, header};

use crate::answer::{self, Answer};
use crate::error;
use crate::health::Unready;
use crate::shared::{Hoist, Shared};

/// The longest time for which the result of a check is reused.
const AGE_MAX: Duration = Duration::from_secs(2);

/// The longest time that an answer waits for a check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// Answers a request for the readiness: 200, or 503 with the reason; as JSON if the peer accepts that.
pub(crate) async fn answer(hoist: &Hoist, fields: &HeaderMap) -> Answer {
    let shared = hoist.shared();
    let unready = if shared.draining.is_cancelled() {
        Some(Unready::ShuttingDown)
    } else if !shared.ledger.is_ready() {
        Some(Unready::Counting)
    } else {
        check(hoist).await
    };
    let mut lines = fields.get_all(header::ACCEPT).iter();
    let is_json = lines.any(|line| line.to_str().is_ok_and(|types| types.contains("application/json")));
    let mut answer = match (unready.map(Unready::description), is_json) {
        (None, false) => answer::document("text/plain; charset=utf-8", "ready\n"),
        (None, true) => answer::document("application/json", "{\"ready\":true}\n"),
        (Some((_, text)), false) => answer::document("text/plain; charset=utf-8", format!("{text}\n")),
        (Some((reason, text)), true) => {
            let document = serde_json::json!({ "ready": false, "reason": reason, "detail": text });
            answer::document("application/json", format!("{document}\n"))
        }
    };
    if unready.is_some() {
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    answer
}

/// Returns the result of the last check if that is recent, and otherwise of a new one.
async fn check(hoist: &Hoist) -> Option<Unready> {
    let health = &hoist.shared().health;
    let mut last = health.last.subscribe();
    if let Some((checked, unready)) = *last.borrow_and_update()
        && checked.elapsed() < AGE_MAX
    {
        return unready;
    }
    let checked = async {
        if health.is_checking.swap(true, Ordering::AcqRel) {
            // The result of the check that is running.
            let _ = last.changed().await;
        } else {
            // In a task of the server: the next caller must not wait for a check that was dropped.
            let _ = hoist
                .own(|shared| async move {
                    shared.check_store().await;
                    Ok(())
                })
                .await;
        }
    };
    if tokio::time::timeout(CHECK_TIMEOUT, checked).await.is_err() {
        health.report(Some(Unready::Silent), String::new);
        return Some(Unready::Silent);
    }
    health.last.borrow().and_then(|(_, unready)| unready)
}

impl Shared {
    async fn check_store(&self) {
        let checked = self.store.check_health().await;
        let unready = checked.as_ref().err().map(Unready::of);
        self.health.report(unready, || {
            checked.as_ref().err().map(|failure| error::chain(failure)).unwrap_or_default()
        });
        self.health.is_checking.store(false, Ordering::Release);
        self.health.last.send_replace(Some((Instant::now(), unready)));
    }
}
