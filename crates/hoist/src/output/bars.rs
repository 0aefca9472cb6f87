//! Progress bars on a terminal: one per running upload, and one for all files.

use std::fmt::Display;
use std::time::Duration;

use hoist_client::{Activity, Progress};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Bytes;

/// The width of a bar in columns.
const WIDTH: usize = 24;

/// All bars of a run.
#[derive(Clone, Debug)]
pub(crate) struct Bars {
    all: MultiProgress,
    is_colored: bool,
}

/// The bar of one upload. Removed from the terminal on drop.
#[derive(Debug)]
pub(crate) struct Bar(ProgressBar);

/// The template of an upload of unknown length.
const ENDLESS: &str = "{prefix:24} {spinner} {msg}";

impl Bars {
    pub(super) fn new(is_colored: bool) -> Self {
        Self { all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()), is_colored }
    }

    /// Runs `act` while the bars are hidden.
    pub(super) fn suspend<T>(&self, act: impl FnOnce() -> T) -> T {
        self.all.suspend(act)
    }

    /// Adds a bar for one upload, above the bar for all files.
    pub(crate) fn add(&self, label: &str) -> Bar {
        let bar = self.all.insert(0, ProgressBar::new(0));
        bar.set_style(self.style());
        bar.set_prefix(shortened(label));
        Bar(bar)
    }

    /// Adds the bar for all files.
    pub(crate) fn total(&self, files: usize) -> Bar {
        let bar = self.all.add(ProgressBar::new(files as u64));
        bar.set_style(self.style());
        bar.set_prefix("all files");
        Bar(bar)
    }

    fn style(&self) -> ProgressStyle {
        let color = if self.is_colored { ".cyan/dim" } else { "" };
        let template = format!("{{prefix:24}} {{bar:{WIDTH}{color}}} {{percent:>3}} %  {{msg}}");
        ProgressStyle::with_template(&template).expect("sound").progress_chars("=> ")
    }
}

impl Bar {
    /// Draws the progress of an upload.
    pub(crate) fn show(&self, at: &Progress) {
        let Self(bar) = self;
        match at.length {
            Some(length) => bar.set_length(length),
            // The length of a stream is unknown until its end.
            None => bar.set_style(ProgressStyle::with_template(ENDLESS).expect("sound")),
        }
        bar.set_position(at.sent);
        bar.set_message(sentence(at));
        bar.tick();
    }

    /// Draws the number of finished files.
    pub(crate) fn count(&self, done: usize, text: impl Display) {
        self.0.set_position(done as u64);
        self.0.set_message(text.to_string());
        self.0.tick();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Formats progress as text: bytes, rate, time left, retries.
fn sentence(at: &Progress) -> String {
    let of = at.length.map(|length| format!(" of {}", Bytes(length))).unwrap_or_default();
    let doing = match at.activity {
        Activity::Sending => format!("  {}/s", Bytes(at.rate)),
        Activity::Waiting(pause) => format!("  retry in {} ms", pause.as_millis()),
        _ => String::new(),
    };
    let is_sending = at.activity == Activity::Sending;
    let eta = at.eta.filter(|_| is_sending).map(|eta| format!("  {} left", Clock(eta))).unwrap_or_default();
    let retries = match at.retries {
        0 => String::new(),
        1 => "  1 retry".to_owned(),
        many => format!("  {many} retries"),
    };
    format!("{}{of}{doing}{eta}{retries}", Bytes(at.sent))
}

/// A duration, displayed as `m:ss` or `h:mm:ss`.
struct Clock(Duration);

impl Display for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.as_secs();
        match seconds / 3600 {
            0 => write!(f, "{}:{:02}", seconds / 60, seconds % 60),
            hours => write!(f, "{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
        }
    }
}

/// Shortens a path to its end, which identifies the file better than its start.
fn shortened(label: &str) -> String {
    const MOST: usize = 24;
    let many = label.chars().count();
    if many <= MOST {
        return label.to_owned();
    }
    let end: String = label.chars().skip(many - (MOST - 3)).collect();
    format!("...{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_paths_fit_their_columns() {
        for (seconds, expected) in [(0, "0:00"), (75, "1:15"), (3_600, "1:00:00"), (86_399, "23:59:59")] {
            assert_eq!(Clock(Duration::from_secs(seconds)).to_string(), expected);
        }
        assert_eq!(shortened("film.mkv"), "film.mkv");
        let long = shortened("/a/very/long/path/that/leads/to/film.mkv");
        assert_eq!((long.chars().count(), long.starts_with("...")), (24, true));
        assert!(long.ends_with("/film.mkv"));
    }

    #[test]
    fn bar_templates_are_valid() {
        for is_colored in [true, false] {
            let bar = Bars::new(is_colored).add("film");
            bar.show(&Progress::default());
        }
    }
}
