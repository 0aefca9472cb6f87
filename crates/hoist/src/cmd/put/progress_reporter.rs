//! Reports the progress of an upload: as a bar on a terminal, or as JSON events.

use std::time::Duration;

use hoist_client::{Activity, Progress, Start};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::rate_window::RateWindow;
use crate::output::{Bar, Bytes, Console, FileLabel};

/// The interval at which the progress is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The interval of JSON progress events.
const EVENT_INTERVAL: Duration = Duration::from_secs(1);

/// The reporter of one upload. Remembers what it has reported.
pub(super) struct ProgressReporter<'a> {
    console: &'a Console,
    label: &'a FileLabel,
    bar: Option<Bar>,
    rate: RateWindow,
    start: Option<Start>,
    last_event: Option<(Instant, u64)>,
}

impl<'a> ProgressReporter<'a> {
    /// Returns the reporter of an upload with this length, if it is known.
    pub(super) fn new(console: &'a Console, label: &'a FileLabel, length: Option<u64>) -> Self {
        let bar = console.bars.as_ref().map(|bars| bars.add(label, length));
        let rate = RateWindow::default();
        Self { console, label, bar, rate, start: None, last_event: None }
    }

    /// Reports progress until dropped. Never returns.
    pub(super) async fn follow(&mut self, progress: &watch::Receiver<Progress>) {
        let mut ticks = tokio::time::interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = ticks.tick().await;
            let at = self.rate.measured(*progress.borrow(), now);
            self.update(&at);
            self.report_progress(&at, now);
            if let Some(bar) = &mut self.bar {
                bar.show(&at);
            }
        }
    }

    /// Reports the start of the upload, once.
    pub(super) fn update(&mut self, at: &Progress) {
        let has_begun = matches!(at.activity, Activity::Sending | Activity::Done);
        if has_begun && self.start != Some(at.start) {
            self.start = Some(at.start);
            let offset = if matches!(at.start, Start::Resumed | Start::Found) { at.resumed_bytes } else { 0 };
            if at.start != Start::Fresh {
                let of = at.length.map(|length| format!(" of {}", Bytes(length))).unwrap_or_default();
                let place = match at.start {
                    Start::Resumed | Start::Found => format!(", at {}{of}", Bytes(offset)),
                    _ => String::new(),
                };
                self.console.message(format_args!("{}: {}{place}", self.label, at.start));
            }
            self.console.output.event(&json!({
                "event": "send", "file": self.label.raw, "start": start_name(at.start),
                "offset": offset, "length": at.length,
            }));
        }
    }

    fn report_progress(&mut self, at: &Progress, now: Instant) {
        let is_due =
            self.last_event.is_none_or(|(before, sent)| now - before >= EVENT_INTERVAL && sent != at.sent);
        if at.activity != Activity::Preparing && is_due {
            self.last_event = Some((now, at.sent));
            self.console.output.event(&json!({
                "event": "progress", "file": self.label.raw, "sent": at.sent, "acknowledged": at.acknowledged,
                "length": at.length, "rate": at.rate, "eta": at.eta.map(|eta| eta.as_secs()),
                "retries": at.retries,
            }));
        }
    }
}

/// Returns the name of a start in JSON events.
pub(super) fn start_name(start: Start) -> &'static str {
    match start {
        Start::Resumed => "resumed",
        Start::Found => "found",
        Start::Changed => "changed",
        Start::Forgotten => "forgotten",
        _ => "fresh",
    }
}
