//! The pauses between attempts, and their number.

use std::time::Duration;

use super::Moment;

/// The retry policy while the server acknowledges nothing new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// The longest first pause; the bound doubles with each further one.
    pub first: Duration,
    /// The longest of all pauses, unless the server asks for more.
    pub most: Duration,
    /// The time to go on without a single new byte being acknowledged.
    pub budget: Duration,
    /// The number of attempts without a single new byte being acknowledged.
    pub attempts: u32,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            most: Duration::from_secs(30),
            budget: Duration::from_mins(5),
            attempts: 100,
        }
    }
}

impl Retries {
    /// Returns the pause before the next attempt, or `None` if the retries are used up. `attempt` counts the failed ones,
    /// `failing` is the time since the first of them, `at_least` the pause that the server asks for.
    pub fn pause(
        &self,
        attempt: u32,
        failing: Duration,
        at_least: Option<Duration>,
        random: u64,
    ) -> Option<Duration> {
        let wait = self.wait(attempt, random).saturating_add(at_least.unwrap_or_default());
        let is_over = attempt > self.attempts || failing.saturating_add(wait) > self.budget;
        (!is_over).then_some(wait)
    }

    /// Returns a pause with full jitter, from zero to a bound that doubles, so that clients that were cut off together do
    /// not return together.
    //= IETF-CLI-20
    pub(super) fn wait(&self, attempt: u32, random: u64) -> Duration {
        let doubled = 1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        let bound = self.first.saturating_mul(doubled).min(self.most);
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        let share = (u128::from(nanos) * u128::from(random)) >> 64;
        Duration::from_nanos(u64::try_from(share).expect("no more than the bound"))
    }
}

/// The attempts since the last progress.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    pub(super) attempts: u32,
    failing_since: Option<Duration>,
    /// Requests in a row that carried less because the server did not say how much it accepts.
    halvings: u32,
}

/// The most halvings of a request in a row: from a terabyte to a few megabytes.
const HALVINGS_MAX: u32 = 18;

impl Backoff {
    /// Counts a failed attempt and returns the pause after it, or `None` if the retries are used up.
    pub(super) fn pause(
        &mut self,
        retries: &Retries,
        at_least: Option<Duration>,
        moment: Moment,
    ) -> Option<Duration> {
        let since = *self.failing_since.get_or_insert(moment.elapsed);
        self.attempts += 1;
        retries.pause(self.attempts, moment.elapsed.saturating_sub(since), at_least, moment.random)
    }

    /// Returns the size of a request after one of `bytes` bytes was too large; `None` if no smaller one is allowed or
    /// enough were tried.
    //= IETF-LIM-09
    pub(super) fn smaller(&mut self, bytes: u64, append_max: u64, append_min: u64) -> Option<u64> {
        if (1..bytes).contains(&append_max) {
            return Some(append_max);
        }
        self.halvings += 1;
        let half = (bytes / 2).max(append_min.max(1));
        (half < bytes && self.halvings <= HALVINGS_MAX).then_some(half)
    }
}
