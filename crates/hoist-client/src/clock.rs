//! The clocks of the operating system. Nothing else in this crate reads them.

use std::time::SystemTime;

use tokio::time::Instant;

/// Returns the time of the monotonic clock.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Returns the time of day.
pub(crate) fn wall_clock() -> SystemTime {
    SystemTime::now()
}
