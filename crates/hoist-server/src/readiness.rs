//! The health of the store, checked at most every two seconds however often readiness is asked for.

use std::time::{Duration, Instant};

use hoist_store::store::Store;
use tokio::sync::Mutex;

const AGE_MAX: Duration = Duration::from_secs(2);

/// The result of the last health check of the store.
#[derive(Default)]
pub(crate) struct Readiness(Mutex<Option<(Instant, bool)>>);

impl Readiness {
    /// Returns whether the store is healthy, from the last check if that is recent.
    pub(crate) async fn is_healthy(&self, store: &dyn Store) -> bool {
        // Held during the check, so that concurrent callers share one.
        let mut last = self.0.lock().await;
        if let Some((checked, is_healthy)) = *last
            && checked.elapsed() < AGE_MAX
        {
            return is_healthy;
        }
        let health = store.check_health().await;
        if let Err(failure) = &health {
            tracing::error!(error = crate::error::chain(failure), "the store cannot take uploads");
        }
        *last = Some((Instant::now(), health.is_ok()));
        health.is_ok()
    }
}
