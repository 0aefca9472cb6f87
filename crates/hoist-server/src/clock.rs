//! The time by which uploads expire: the wall clock, corrected by the monotonic one.
//!
//! Owns the detection of clock steps. A wall clock can be wrong: a machine starts before it has asked a time server, a
//! battery is empty, a guest was paused. Deleting by a wrong clock cannot be undone, so a step never makes an upload
//! older. While the process runs, the wall clock is compared with the monotonic one; at the start, with the time at which
//! the store was last known to be in use ([`Store::last_used`](hoist_store::store::Store::last_used)).
//!
//! The correction is applied to an upload when it is loaded (`Clock::correct`): the time of its last change moves
//! forward by each step that the clock has made since. Everything that is computed from it, the expiry that a client is
//! told included, is then true in terms of the wall clock as it is now. The store keeps the steps for later runs, since its
//! times stay as they were written. A step to a time that is still to come was a mistake, and moves nothing.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hoist_proto::types::Timestamp;
use hoist_proto::upload::Upload;
use hoist_store::store::{ClockStep, LastUsed};

use crate::locked;

/// The longest time between two runs that counts towards the age of uploads. Longer times on the wall clock are taken
/// for a wrong clock.
pub(crate) const STOP_MAX: Duration = Duration::from_hours(24);

/// The monotonic time for which the wall clock must have run evenly after a step of more than [`STOP_MAX`] before the
/// new time is trusted and stored.
const ADOPTED_AFTER: Duration = Duration::from_hours(24);

/// The largest difference between the two clocks from one reading to the next that is not a step. Slewing changes the
/// rate of a clock by 0.05 %, and a leap second is one second.
const TOLERANCE: Duration = Duration::from_secs(2);

const START: Timestamp = Timestamp::from_millis(0);

const STEPS_MAX: usize = 64;

/// The two clocks of a machine.
pub trait TimeSource: Send + Sync + 'static {
    /// The wall clock, which may be wrong and may be set.
    fn wall(&self) -> SystemTime;

    /// The time since an arbitrary moment, by a clock that never goes back and cannot be set.
    fn monotonic(&self) -> Duration;
}

/// The clocks of the operating system. The default.
#[derive(Clone, Copy, Debug)]
pub struct SystemClocks(Instant);

impl Default for SystemClocks {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl TimeSource for SystemClocks {
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

pub(crate) struct Clock {
    source: Box<dyn TimeSource>,
    timeline: Mutex<Timeline>,
}

impl Clock {
    pub(crate) fn new(source: Box<dyn TimeSource>) -> Self {
        let (wall, steady) = (timestamp(source.wall()), source.monotonic());
        Self { source, timeline: Mutex::new(Timeline::starting(wall, steady)) }
    }

    /// Returns the time of the wall clock, uncorrected. Logs a step since the last reading.
    pub(crate) fn now(&self) -> Timestamp {
        self.observe(|_, wall, _| wall)
    }

    /// Continues from the time at which the store was last in use and the earlier steps of the clock. Called once at the
    /// start.
    pub(crate) fn resume(&self, seen: Option<LastUsed>) {
        let Some(seen) = seen else { return };
        let step = self.observe(|timeline, wall, steady| timeline.resume(seen, wall, steady));
        match step {
            Some(Step::Forward(by)) => tracing::error!(
                ahead_s = by.as_secs(),
                "the system clock is far ahead of when the data directory was last used; time beyond 24 hours does \
                 not count towards the age of uploads; check the clock"
            ),
            Some(Step::Back(by)) => tracing::error!(
                behind_s = by.as_secs(),
                "the system clock is behind the time at which the data directory was last used; nothing expires that is \
                 newer than the clock; check the clock"
            ),
            None => {}
        }
    }

    /// Returns the upload with the time of its last change in terms of the present wall clock.
    pub(crate) fn correct(&self, upload: Upload) -> Upload {
        let touched = self.present(upload.touched);
        Upload { touched, ..upload }
    }

    /// Returns an earlier time of the wall clock in terms of the present wall clock. Never before `then`.
    pub(crate) fn present(&self, then: Timestamp) -> Timestamp {
        self.observe(|timeline, _, _| timeline.present(then))
    }

    /// Returns the monotonic time for which the wall clock has run evenly.
    pub(crate) fn even_for(&self) -> Duration {
        self.observe(|timeline, _, steady| steady.saturating_sub(timeline.even_since))
    }

    /// Returns the number of steps so far, also of those that were too short to be remembered.
    pub(crate) fn steps(&self) -> u64 {
        self.observe(|timeline, _, _| timeline.count)
    }

    /// Returns the state to store for the next start: the steps, and the last time at which the wall clock was trusted.
    pub(crate) fn note(&self) -> Option<LastUsed> {
        self.observe(Timeline::note)
    }

    fn observe<T>(&self, act: impl FnOnce(&mut Timeline, Timestamp, Duration) -> T) -> T {
        let mut timeline = locked(&self.timeline);
        // Read under the lock, because readings out of order would look like a step.
        let (wall, steady) = (timestamp(self.source.wall()), self.source.monotonic());
        let step = timeline.observe(wall, steady);
        let done = act(&mut timeline, wall, steady);
        drop(timeline);
        match step {
            Some(Step::Forward(by)) => tracing::error!(
                by_s = by.as_secs(),
                "the system clock stepped forward; uploads keep the age they had, and nothing is removed for it"
            ),
            Some(Step::Back(by)) => tracing::error!(
                by_s = by.as_secs(),
                "the system clock stepped back; uploads may be kept for longer by as much"
            ),
            None => {}
        }
        done
    }
}

/// A difference between the wall clock and the time that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Forward(Duration),
    Back(Duration),
}

struct Timeline {
    wall: Timestamp,
    steady: Duration,
    /// The time since which the wall clock has run evenly.
    even_since: Duration,
    /// The number of steps.
    count: u64,
    /// The time of the wall clock's last step by more than [`STOP_MAX`].
    doubted_at: Option<Duration>,
    steps: Vec<ClockStep>,
    /// The last time at which the store was in use and the clock was trusted.
    seen: Option<Timestamp>,
    /// The wall clock at a start before that time, until it is corrected.
    behind_since: Option<Timestamp>,
}

impl Timeline {
    fn starting(wall: Timestamp, steady: Duration) -> Self {
        Self {
            wall,
            steady,
            even_since: steady,
            count: 0,
            doubted_at: None,
            steps: Vec::new(),
            seen: None,
            behind_since: None,
        }
    }

    fn observe(&mut self, wall: Timestamp, steady: Duration) -> Option<Step> {
        let passed = steady.saturating_sub(self.steady);
        let expected = self.wall.plus(passed);
        let tolerance = TOLERANCE + passed / 1000;
        let (ahead, behind) = (wall.until(expected), expected.until(wall));
        let before = std::mem::replace(&mut self.wall, wall);
        self.steady = steady;
        if ahead > tolerance {
            self.step(ahead, steady);
            self.add(ClockStep { since: START, until: before.plus(passed), by: ahead, to: wall });
            if self.seen.is_none_or(|seen| seen <= wall) {
                self.behind_since = None;
            }
            Some(Step::Forward(ahead))
        } else if behind > tolerance {
            self.step(behind, steady);
            Some(Step::Back(behind))
        } else {
            None
        }
    }

    fn resume(&mut self, seen: LastUsed, wall: Timestamp, steady: Duration) -> Option<Step> {
        let LastUsed { at, steps } = seen;
        self.seen = Some(at);
        self.steps = steps;
        let (stopped, behind) = (wall.until(at), at.until(wall));
        if behind > TOLERANCE {
            self.step(behind, steady);
            self.behind_since = Some(wall);
            return Some(Step::Back(behind));
        }
        // A stop is measured from that time, so a longer one replaces those since.
        self.steps.retain(|step| step.until != step.to || step.to <= at);
        let excess = stopped.checked_sub(STOP_MAX).filter(|excess| !excess.is_zero())?;
        self.step(stopped, steady);
        // It is unknown which of the store's times are from before the step, so all of them are moved.
        self.add(ClockStep { since: START, until: wall, by: excess, to: wall });
        Some(Step::Forward(stopped))
    }

    /// Returns the state for the next start. If the clock is behind now and right again then, the times recorded in between
    /// are moved to the last trusted time.
    fn note(&mut self, wall: Timestamp, steady: Duration) -> Option<LastUsed> {
        let is_trusted =
            self.doubted_at.is_none_or(|doubted| steady.saturating_sub(doubted) >= ADOPTED_AFTER);
        let mut steps = self.steps.clone();
        if let (Some(since), Some(to)) = (self.behind_since, self.seen) {
            steps.push(ClockStep { since, until: wall.min(to), by: to.until(since), to });
        }
        if is_trusted {
            if self.behind_since.take().is_some() {
                self.steps.clone_from(&steps);
            }
            self.seen = Some(wall);
        }
        self.seen.map(|at| LastUsed { at, steps })
    }

    fn step(&mut self, by: Duration, steady: Duration) {
        self.even_since = steady;
        self.count += 1;
        if by > STOP_MAX {
            self.doubted_at = Some(steady);
        }
    }

    fn add(&mut self, step: ClockStep) {
        if self.steps.len() >= STEPS_MAX {
            // Merged into one step that moves at least as many times at least as far.
            let oldest = self.steps.remove(0);
            let next = &mut self.steps[0];
            next.since = next.since.min(oldest.since);
            next.until = next.until.max(oldest.until);
            next.by = next.by.saturating_add(oldest.by);
        }
        self.steps.push(step);
    }

    fn present(&self, then: Timestamp) -> Timestamp {
        let now = self.wall.plus(TOLERANCE);
        self.steps.iter().filter(|step| step.to <= now).fold(then, |then, step| {
            let is_before = (step.since..=step.until).contains(&then);
            if is_before { then.plus(step.by).min(step.to).max(then) } else { then }
        })
    }
}

fn timestamp(wall: SystemTime) -> Timestamp {
    let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;
    const LIFE: Duration = Duration::from_hours(7 * 24);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn seen(seconds: u64) -> LastUsed {
        LastUsed { at: at(seconds), steps: Vec::new() }
    }

    fn steady(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_clock_that_is_adjusted_slowly_does_not_step() {
        let mut timeline = Timeline::starting(at(1000 * DAY), steady(0));
        // Fast by 0.05 %, read once an hour for a week.
        for hour in 1..=168 {
            let wall = Timestamp::from_millis((1000 * DAY + hour * 3600) * 1000 + hour * 1800);
            assert_eq!(timeline.observe(wall, steady(hour * 3600)), None);
        }
        assert_eq!(timeline.present(at(5)), at(5));
        assert_eq!(
            timeline.note(at(1007 * DAY), steady(168 * 3600)).map(|seen| seen.at),
            Some(at(1007 * DAY))
        );
    }

    #[test]
    fn a_step_forward_makes_no_upload_older() {
        let start = 1000 * DAY;
        let mut timeline = Timeline::starting(at(start), steady(0));
        let ahead = start + 400 * DAY;
        let stepped = timeline.observe(at(ahead + 10), steady(10));
        assert_eq!(stepped, Some(Step::Forward(Duration::from_hours(400 * 24))));
        // Three seconds before the step, and a year before the start.
        for (then, age) in [(start + 7, 3), (start - 365 * DAY, 365 * DAY + 10)] {
            assert_eq!(at(ahead + 10).until(timeline.present(at(then))), steady(age), "{then}");
        }
        // Afterwards.
        assert_eq!(timeline.present(at(ahead + 11)), at(ahead + 11));
        let noted =
            |timeline: &mut Timeline, seconds| timeline.note(at(5), steady(seconds)).map(|seen| seen.at);
        assert_eq!((noted(&mut timeline, 20), noted(&mut timeline, 10 + DAY)), (None, Some(at(5))));
        assert_eq!(timeline.even_since, steady(10));
    }

    #[test]
    fn a_clock_that_is_set_right_again_makes_no_upload_older() {
        let mut timeline = Timeline::starting(at(0), steady(0));
        assert_eq!(timeline.resume(seen(1000 * DAY), at(0), steady(0)), Some(Step::Back(steady(1000 * DAY))));
        // An upload of the wrong time, then the right time.
        assert!(timeline.observe(at(1000 * DAY + 60), steady(60)).is_some());
        let touched = timeline.present(at(57));
        assert!(touched.plus(LIFE) > at(1000 * DAY + 60), "3 s old");
        assert_eq!(timeline.present(at(1000 * DAY - 1)), at(1000 * DAY - 1));
        // And back, and forth.
        assert_eq!(timeline.observe(at(70), steady(70)), Some(Step::Back(steady(1000 * DAY))));
        assert!(timeline.observe(at(1000 * DAY + 80), steady(80)).is_some());
        assert!(timeline.present(at(75)).plus(LIFE) > at(1000 * DAY + 80));
    }

    #[test]
    fn a_long_stop_counts_for_a_day() {
        let (last, wall) = (1000 * DAY, 1400 * DAY);
        let mut timeline = Timeline::starting(at(wall), steady(0));
        assert!(matches!(timeline.resume(seen(last), at(wall), steady(0)), Some(Step::Forward(_))));
        for (then, age) in [(last - DAY, 2 * DAY), (last + 60, DAY - 60), (last + 300 * DAY, 0)] {
            assert_eq!(at(wall).until(timeline.present(at(then))), steady(age), "{then}");
        }
        let mut timeline = Timeline::starting(at(last + DAY), steady(0));
        assert_eq!(timeline.resume(seen(last), at(last + DAY), steady(0)), None);
        assert_eq!(timeline.present(at(last - DAY)), at(last - DAY));
    }

    #[test]
    fn many_steps_are_remembered_in_little_space() {
        let mut timeline = Timeline::starting(at(DAY), steady(0));
        for step in 1..=1000 {
            assert!(timeline.observe(at(DAY + step * 100), steady(step)).is_some());
        }
        assert_eq!(timeline.steps.len(), STEPS_MAX);
        let age = at(DAY + 100_000).until(timeline.present(at(DAY)));
        assert!(age <= steady(1000), "{age:?}");
    }

    #[test]
    fn a_later_run_moves_the_times_of_a_run_whose_clock_was_behind() {
        let (right, behind) = (1000 * DAY, 600 * DAY);
        // Set right while the server runs, or while it is stopped.
        for corrected in [true, false] {
            let mut timeline = Timeline::starting(at(behind), steady(0));
            assert!(matches!(timeline.resume(seen(right), at(behind), steady(0)), Some(Step::Back(_))));
            assert_eq!(timeline.observe(at(behind + 20), steady(20)), None);
            if corrected {
                assert!(timeline.observe(at(right + 60), steady(60)).is_some());
            }
            let now = if corrected { right + 60 } else { behind + 20 };
            let noted = timeline.note(at(now), steady(60)).expect("the last trusted time is known");
            assert_eq!(noted.at, at(right));

            let mut next = Timeline::starting(at(right + 120), steady(0));
            assert_eq!(next.resume(noted.clone(), at(right + 120), steady(0)), None);
            let age = at(right + 120).until(next.present(at(behind + 10)));
            assert!(age <= steady(120), "{corrected}: {age:?}");
            assert_eq!(next.present(at(right + 5)), at(right + 5));
            // And the run after that.
            let noted = next.note(at(right + 180), steady(60)).expect("trusted");
            let mut last = Timeline::starting(at(right + DAY), steady(0));
            assert_eq!(last.resume(noted, at(right + DAY), steady(0)), None);
            assert!(at(right + DAY).until(last.present(at(behind + 10))) <= steady(DAY));
        }
    }

    #[test]
    fn a_reverted_step_moves_nothing_in_a_later_run() {
        let mut timeline = Timeline::starting(at(1000 * DAY), steady(0));
        assert_eq!(timeline.resume(seen(1000 * DAY), at(1000 * DAY), steady(0)), None);
        assert!(timeline.observe(at(1400 * DAY), steady(10)).is_some());
        assert!(timeline.observe(at(1000 * DAY + 20), steady(20)).is_some());
        let noted = timeline.note(at(1000 * DAY + 20), steady(20)).expect("known");
        let mut next = Timeline::starting(at(1001 * DAY), steady(0));
        next.resume(noted, at(1001 * DAY), steady(0));
        assert_eq!(next.present(at(999 * DAY)), at(999 * DAY));
    }
}
