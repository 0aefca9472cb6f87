//! The time at which a store was last in use, and the steps of its clock.

use std::time::Duration;

use hoist_proto::types::Timestamp;

/// The time of the last use of a store, by a wall clock that may have been set since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastUsed {
    /// The last time at which the store was in use and the clock was trusted.
    pub at: Timestamp,
    /// The steps of the clock, oldest first. Times that the store has recorded before a step are corrected by it.
    pub steps: Vec<ClockStep>,
}

/// One step of the wall clock, and the correction for the times that were recorded before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockStep {
    /// The first time that is corrected.
    pub since: Timestamp,
    /// The last time that is corrected.
    pub until: Timestamp,
    /// The duration that is added to a time.
    pub by: Duration,
    /// The upper bound of corrected times.
    pub to: Timestamp,
}
