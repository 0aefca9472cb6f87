//! How an upload's course is told: as a bar where there is one, as events in JSON, as the lines worth reading elsewhere.

use std::time::Duration;

use hoist_client::{Activity, Progress, Start};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::output::{Bar, Bytes, Stage};

/// How often somebody looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often JSON tells how far it is.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How often a line without bars says that there was an interruption.
const COMPLAIN_EVERY: Duration = Duration::from_secs(5);

/// What was told of one upload so far.
pub(super) struct Course<'a> {
    stage: &'a Stage,
    label: &'a str,
    bar: Option<Bar>,
    start: Option<Start>,
    retries: u32,
    told: Option<(Instant, u64)>,
    complained: Option<Instant>,
}

impl<'a> Course<'a> {
    pub(super) fn new(stage: &'a Stage, label: &'a str) -> Self {
        let bar = stage.bars.as_ref().map(|bars| bars.add(label));
        Self { stage, label, bar, start: None, retries: 0, told: None, complained: None }
    }

    /// Tells what happens, until nobody polls it any more.
    pub(super) async fn follow(&mut self, progress: &watch::Receiver<Progress>) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = ticks.tick().await;
            let at = *progress.borrow();
            self.look(&at);
            self.complain(&at, now);
            self.count(&at, now);
            if let Some(bar) = &self.bar {
                bar.show(&at);
            }
        }
    }

    /// Tells how it began, once it has, and that it was interrupted.
    pub(super) fn look(&mut self, at: &Progress) {
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
                self.stage.talk(format_args!("{}: {}{place}", self.label, at.start));
            }
            self.stage.output.event(&json!({
                "event": "send", "file": self.label, "start": word(at.start),
                "offset": offset, "length": at.length,
            }));
        }
        if at.retries > self.retries {
            let wait = match at.activity {
                Activity::Waiting(pause) => Some(pause.as_secs_f64()),
                _ => None,
            };
            self.stage.output.event(&json!({
                "event": "retry", "file": self.label, "retries": at.retries, "wait": wait,
                "offset": at.acknowledged,
            }));
        }
    }

    /// Says that there was an interruption, where no bar shows it.
    fn complain(&mut self, at: &Progress, now: Instant) {
        let is_news = at.retries > self.retries;
        self.retries = self.retries.max(at.retries);
        let awaits_delivery = self.complained.is_none_or(|before| now - before >= COMPLAIN_EVERY);
        if is_news && awaits_delivery && self.bar.is_none() {
            self.complained = Some(now);
            let at = Bytes(at.acknowledged);
            self.stage.talk(format_args!("{}: interrupted, trying again; the server has {at}", self.label));
        }
    }

    fn count(&mut self, at: &Progress, now: Instant) {
        let awaits_delivery =
            self.told.is_none_or(|(before, sent)| now - before >= TELL_EVERY && sent != at.sent);
        if at.activity != Activity::Preparing && awaits_delivery {
            self.told = Some((now, at.sent));
            self.stage.output.event(&json!({
                "event": "progress", "file": self.label, "sent": at.sent, "acknowledged": at.acknowledged,
                "length": at.length, "rate": at.rate, "eta": at.eta.map(|eta| eta.as_secs()),
                "retries": at.retries,
            }));
        }
    }
}

/// How an upload began, as programs read it.
pub(super) fn word(start: Start) -> &'static str {
    match start {
        Start::Resumed => "resumed",
        Start::Found => "found",
        Start::Changed => "changed",
        Start::Forgotten => "forgotten",
        _ => "fresh",
    }
}
