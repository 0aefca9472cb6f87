//! The clocks of the operating system. Nothing else in this crate reads them.

use std::time::SystemTime;

use tokio::time::Instant;

pub(crate) fn now() -> Instant {
    Instant::now()
}

pub(crate) fn wall_clock() -> SystemTime {
    SystemTime::now()
}
