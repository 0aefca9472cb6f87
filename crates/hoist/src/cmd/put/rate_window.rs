//! The rate at which an upload moves, measured over the last seconds.

use std::collections::VecDeque;
use std::time::Duration;

use hoist_client::{Activity, Progress};
use tokio::time::Instant;

/// The time over which the rate is measured.
const WINDOW: Duration = Duration::from_secs(3);

/// The offsets of the last seconds. The rate falls to zero while nothing moves, and does not depend on the number of
/// requests in which the content is sent.
#[derive(Default)]
pub(super) struct RateWindow {
    offsets: VecDeque<(Instant, u64)>,
    retries: u32,
}

impl RateWindow {
    /// Returns the progress with the rate and remaining time of the window. Until the rate is known it is zero.
    pub(super) fn measured(&mut self, mut at: Progress, now: Instant) -> Progress {
        let was_interrupted =
            at.retries != self.retries || self.offsets.back().is_some_and(|(_, sent)| *sent > at.sent);
        if was_interrupted {
            self.retries = at.retries;
            self.offsets.clear();
        }
        // An upload that is resumed starts at its offset, which is known when it is sent.
        if matches!(at.activity, Activity::Sending | Activity::Done) || !self.offsets.is_empty() {
            self.offsets.push_back((now, at.sent));
        }
        while self.offsets.get(1).is_some_and(|(time, _)| now - *time >= WINDOW) {
            self.offsets.pop_front();
        }
        let (rate, length) = (self.rate(), at.length);
        at.rate = rate;
        at.eta = length
            .and_then(|length| length.saturating_sub(at.sent).checked_div(rate))
            .map(Duration::from_secs);
        at
    }

    fn rate(&self) -> u64 {
        let (Some((start, first)), Some((end, last))) = (self.offsets.front(), self.offsets.back()) else {
            return 0;
        };
        let millis = u64::try_from((*end - *start).as_millis()).unwrap_or(u64::MAX);
        (last - first).saturating_mul(1000).checked_div(millis).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let (mut window, start) = (RateWindow::default(), Instant::now());
        let mut at = Progress::default();
        let mut rate = |at: &Progress, millis| {
            let measured = window.measured(*at, start + Duration::from_millis(millis));
            (measured.rate, measured.eta.map(|eta| eta.as_secs()))
        };
        assert_eq!(rate(&at, 0), (0, None), "nothing is sent yet");
        (at.activity, at.sent, at.length) = (Activity::Sending, 5000, Some(9000));
        assert_eq!(rate(&at, 100), (0, None), "the offset of a resumed upload does not count");
        at.sent = 5100;
        assert_eq!(rate(&at, 200), (1000, Some(3)));
        // Requests without content in between, as in an upload in chunks.
        (at.activity, at.sent) = (Activity::Asking, 5200);
        assert_eq!(rate(&at, 300), (1000, Some(3)));
        assert_eq!(rate(&at, 10_000), (0, None), "nothing has moved for a while");
        (at.retries, at.sent, at.activity) = (1, 5150, Activity::Sending);
        assert_eq!(rate(&at, 10_100), (0, None), "an interruption starts the window again");
        at.sent = 5350;
        assert_eq!(rate(&at, 10_300), (1000, Some(3)));
    }
}
