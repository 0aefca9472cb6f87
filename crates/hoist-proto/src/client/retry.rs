//! How often and how long a client tries again.
//!
//! Owns the pauses; what is worth another attempt is decided where answers are read.

use std::time::Duration;

/// How long to go on when nothing goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// The longest first wait; each further one may be twice as long.
    pub first: Duration,
    /// The longest of all waits, unless the server asks for more.
    pub most: Duration,
    /// How long to try without a single new byte being acknowledged.
    pub budget: Duration,
    /// How many times to try without a single new byte being acknowledged.
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
    /// How long to wait before the attempt after this one, where `failing` is how long nothing has gone on and the server
    /// may have asked for a pause. None when the retries are used up.
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

    /// Full jitter: anything from nothing to a bound that doubles, so that clients cut together come back apart.
    //= IETF-CLI-20
    pub(super) fn wait(&self, attempt: u32, random: u64) -> Duration {
        let doubled = 1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        let bound = self.first.saturating_mul(doubled).min(self.most);
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        let share = (u128::from(nanos) * u128::from(random)) >> 64;
        Duration::from_nanos(u64::try_from(share).expect("no more than the bound"))
    }
}
