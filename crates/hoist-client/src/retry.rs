//! Retries: the time that failing attempts may take, for one upload and for all uploads to an origin, and the report of
//! each failed attempt.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::error::Error;
use crate::origin::Origin;
use crate::origin_cache::OriginCache;

/// The least time that an attempt gets, however little of the budget is left.
const ATTEMPT_TIME_MIN: Duration = Duration::from_secs(1);

/// An attempt that has failed and is going to be repeated.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FailedAttempt<'a> {
    /// The cause.
    pub error: &'a Error,
    /// The number of attempts in a row without progress, from 1.
    pub attempts: u32,
    /// The pause before the next attempt.
    pub pause: Duration,
    /// The time left until the client gives up, counted from the failure. Progress renews it.
    pub budget_left: Duration,
    /// Bytes that the server has acknowledged.
    pub acknowledged: u64,
}

/// A function that is called for each failed attempt.
#[derive(Clone, Default)]
pub(crate) struct RetryObserver(Option<Arc<ObserverFn>>);

type ObserverFn = dyn Fn(FailedAttempt<'_>) + Send + Sync;

impl RetryObserver {
    pub(crate) fn new(observer: impl Fn(FailedAttempt<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(observer)))
    }

    fn notify(&self, attempt: FailedAttempt<'_>) {
        if let Self(Some(observer)) = self {
            observer(attempt);
        }
    }
}

impl fmt::Debug for RetryObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RetryObserver").field(&self.0.is_some()).finish()
    }
}

/// The settings and the state that the attempts of one upload have in common with others.
pub(crate) struct RetryContext<'a> {
    /// The time without progress after which to give up.
    pub(crate) budget: Duration,
    /// The origin of the upload URL, which shares the budget.
    pub(crate) origin: Origin,
    pub(crate) origins: &'a OriginCache,
    pub(crate) observer: &'a RetryObserver,
    /// Bytes of the upload that the server has acknowledged.
    pub(crate) acknowledged: u64,
}

/// The attempts of one upload, or of one query, since its last progress.
#[derive(Debug, Default)]
pub(crate) struct RetryClock {
    attempts: u32,
    failing_since: Option<Instant>,
}

impl RetryClock {
    /// Starts again, because the server has acknowledged something new.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Returns the longest time that the next attempt may wait for the peer: what is left of the budget. A budget of
    /// zero allows one attempt, which is not limited.
    pub(crate) fn patience(&self, context: &RetryContext<'_>) -> Duration {
        let budget = context.budget;
        if budget.is_zero() {
            return Duration::MAX;
        }
        let left = |since: Instant| budget.saturating_sub(since.elapsed());
        let shared = context.origins.get(&context.origin).failing_since;
        let left = self.failing_since.into_iter().chain(shared).map(left).min();
        left.unwrap_or(budget).max(ATTEMPT_TIME_MIN)
    }

    /// Counts an attempt that has failed after no byte had moved since `since`. Reports it and returns the pause before
    /// the next one.
    ///
    /// # Errors
    /// Returns [`Error::Exhausted`] if the budget of the upload or that of its origin does not allow another attempt.
    pub(crate) fn fail(
        &mut self,
        context: &RetryContext<'_>,
        error: Error,
        since: Instant,
        pause: Duration,
    ) -> Result<Duration, Error> {
        let RetryContext { budget, ref origin, origins, observer, acknowledged } = *context;
        let now = clock::now();
        self.attempts += 1;
        let attempts = self.attempts;
        let own_since = *self.failing_since.get_or_insert(since);
        let shared_since = origins.note_failure(origin, since);
        let left = |since: Instant| budget.saturating_sub(now.saturating_duration_since(since));
        let (own_left, shared_left) = (left(own_since), left(shared_since));
        let is_over = |left: Duration| left.is_zero() || pause > left;
        if is_over(own_left) || is_over(shared_left) {
            return Err(Error::Exhausted {
                attempts,
                concerns_origin: is_over(shared_left),
                source: Box::new(error),
            });
        }
        let budget_left = own_left.min(shared_left);
        tracing::debug!(%error, attempts, ?pause, ?budget_left, acknowledged, "the attempt failed");
        observer.notify(FailedAttempt { error: &error, attempts, pause, budget_left, acknowledged });
        Ok(pause)
    }
}

/// Returns the time since which no byte has moved when an attempt that began at `began` ends with an error.
pub(crate) fn silent_since(error: &Error, began: Instant) -> Instant {
    let now = clock::now();
    match error {
        Error::Connect { .. } => began,
        Error::Idle(limit) => now.checked_sub(*limit).unwrap_or(began),
        _ => now,
    }
}

impl OriginCache {
    /// Notes a failed attempt at an origin. Returns the time since which none of its uploads has made progress.
    fn note_failure(&self, origin: &Origin, since: Instant) -> Instant {
        let mut failing_since = since;
        self.update(origin, |facts| {
            let since = facts.progressed_at.map_or(since, |at| since.max(at));
            failing_since = *facts.failing_since.get_or_insert(since);
        });
        failing_since
    }

    /// Notes that an upload to an origin has made progress, which renews the budget of all.
    pub(crate) fn note_progress(&self, origin: &Origin) {
        self.update(origin, |facts| {
            (facts.failing_since, facts.progressed_at) = (None, Some(clock::now()));
        });
    }
}
