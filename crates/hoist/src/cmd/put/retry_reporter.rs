//! Reports of failed attempts: a message with the cause and the times of the next attempt and of the end, and a JSON event.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hoist_client::{FailedAttempt, Progress};
use serde_json::json;
use tokio::sync::watch;

use crate::clock;
use crate::cmd::client;
use crate::output::{Bytes, Console, FileLabel};

/// The reporter of the failed attempts of one upload.
pub(super) struct RetryReporter {
    console: Console,
    /// The file, as messages and as events name it.
    label: (String, String),
    progress: watch::Receiver<Progress>,
    last_cause: Mutex<String>,
}

impl RetryReporter {
    pub(super) fn new(console: &Console, label: &FileLabel, progress: watch::Receiver<Progress>) -> Self {
        let label = (label.to_string(), label.raw.clone());
        Self { console: console.clone(), label, progress, last_cause: Mutex::default() }
    }

    /// Reports an attempt. Beside a bar, which shows the pause, a cause is printed only once in a row.
    pub(super) fn report(&self, attempt: FailedAttempt<'_>) {
        let FailedAttempt { error, attempts, pause, budget_left, acknowledged, .. } = attempt;
        let (label, raw) = &self.label;
        let cause = client::described(error);
        self.console.output.event(&json!({
            "event": "retry", "file": raw, "retries": self.progress.borrow().retries, "attempt": attempts,
            "cause": cause, "wait": pause.as_secs_f64(), "give_up": budget_left.as_secs_f64(),
            "offset": acknowledged,
        }));
        let mut last = self.last_cause.lock().unwrap_or_else(PoisonError::into_inner);
        let is_shown = attempts > 1 && *last == cause && self.console.bars.is_some();
        if !is_shown {
            let stored = if acknowledged > 0 {
                format!("the server has {}, ", Bytes(acknowledged))
            } else {
                String::new()
            };
            let (pause, end) = (Pause(pause), clock::time_of_day_in(budget_left));
            self.console
                .message(format_args!("{label}: {cause}; {stored}retrying in {pause}, giving up at {end}"));
        }
        *last = cause;
    }
}

/// A pause, displayed in seconds.
struct Pause(Duration);

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        if seconds < 10.0 { write!(f, "{seconds:.1} s") } else { write!(f, "{seconds:.0} s") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_pauses_have_a_decimal() {
        for (millis, expected) in [(0, "0.0 s"), (340, "0.3 s"), (2_000, "2.0 s"), (12_400, "12 s")] {
            assert_eq!(Pause(Duration::from_millis(millis)).to_string(), expected);
        }
    }
}
