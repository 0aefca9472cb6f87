//! Progress bars on a terminal: one per running upload, and one for all files with their bytes, rate and time left.
//!
//! `bars/layout.rs` has the columns for each width of the terminal.

mod layout;
mod stderr_terminal;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hoist_client::{Activity, Progress};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use self::layout::{Layout, Moved};
use self::stderr_terminal::StderrTerminal;
use super::FileLabel;

/// The number of times per second that the bars are drawn at most.
const DRAWS_PER_SECOND: u8 = 20;

/// All bars of a run.
#[derive(Clone, Debug)]
pub(crate) struct Bars {
    all: MultiProgress,
    is_colored: bool,
    total: Arc<Mutex<Option<Total>>>,
}

/// The bar of all files, and the numbers it shows.
#[derive(Debug)]
struct Total {
    bar: LaidOutBar,
    files: usize,
    done: usize,
    failed: usize,
    /// Bytes of the uploads that have ended, and of those that run.
    sent: u64,
    /// Bytes of all uploads whose length is known.
    length: u64,
    rate: u64,
}

/// The bar of one upload. Removed from the terminal on drop.
#[derive(Debug)]
pub(crate) struct Bar {
    line: LaidOutBar,
    bars: Bars,
    /// The part of this upload in the total.
    share: Share,
}

/// The numbers of one upload that are part of the total.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    sent: u64,
    length: u64,
    rate: u64,
}

impl Bars {
    pub(super) fn new(is_colored: bool) -> Self {
        // Otherwise the colors would depend on standard output.
        console::set_colors_enabled(is_colored);
        let terminal = Box::new(StderrTerminal::new());
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::term_like_with_hz(
            terminal,
            DRAWS_PER_SECOND,
        ));
        Self { all, is_colored, total: Arc::default() }
    }

    /// Runs `act` while the bars are hidden.
    pub(super) fn suspend<T>(&self, act: impl FnOnce() -> T) -> T {
        self.all.suspend(act)
    }

    /// Removes all bars from the terminal. No bar is drawn afterwards.
    pub(super) fn end(&self) {
        // Fails only if the terminal is gone.
        let _ = self.all.clear();
        self.all.set_draw_target(ProgressDrawTarget::hidden());
    }

    /// Adds a bar for one upload, above the bar for all files. `expected` is its length in the total.
    pub(crate) fn add(&self, label: &FileLabel, expected: Option<u64>) -> Bar {
        let line =
            LaidOutBar::new(self.all.insert(0, ProgressBar::new(0)), label.to_string(), self.is_colored);
        let share = Share { length: expected.unwrap_or_default(), ..Share::default() };
        Bar { line, bars: self.clone(), share }
    }

    /// Adds the bar for all files, of which `done` are uploaded already. `length` is the sum of the other files' lengths.
    pub(crate) fn add_total(&self, files: usize, done: usize, length: u64) {
        let bar = LaidOutBar::new(self.all.add(ProgressBar::new(length)), String::new(), self.is_colored);
        let total = Total { bar, files, done, failed: 0, sent: 0, length, rate: 0 };
        *self.total() = Some(total);
        self.change_total(|_| {});
    }

    /// Counts a file that has been uploaded, or has failed, and draws the bar for all files.
    pub(crate) fn count(&self, is_done: bool) {
        self.change_total(|total| if is_done { total.done += 1 } else { total.failed += 1 });
    }

    fn total(&self) -> MutexGuard<'_, Option<Total>> {
        lock(&self.total)
    }

    fn change_total(&self, change: impl FnOnce(&mut Total)) {
        if let Some(total) = &mut *self.total() {
            change(total);
            total.draw();
        }
    }
}

impl Total {
    /// Replaces the share of one upload.
    fn replace(&mut self, before: Share, now: Share) {
        let replaced = |sum: u64, before: u64, now: u64| sum.saturating_sub(before).saturating_add(now);
        self.sent = replaced(self.sent, before.sent, now.sent);
        self.length = replaced(self.length, before.length, now.length);
        self.rate = replaced(self.rate, before.rate, now.rate);
    }

    fn draw(&mut self) {
        let Self { files, done, failed, sent, length, rate, .. } = *self;
        let moved = Moved { sent, length: Some(length), rate, ..Moved::default() };
        let title = Layout::current().total_title(files, done, failed);
        self.bar.title = title;
        self.bar.draw_total(&moved);
    }
}

impl Bar {
    /// Draws the progress of an upload.
    pub(crate) fn show(&mut self, at: &Progress) {
        let is_sending = at.activity == Activity::Sending;
        let pause = if let Activity::Waiting(pause) = at.activity { Some(pause) } else { None };
        let rate = if is_sending { at.rate } else { 0 };
        let moved = Moved { sent: at.sent, length: at.length, rate, pause, retries: at.retries };
        self.line.draw(&moved);
        let share = Share { sent: at.sent, length: at.length.unwrap_or(at.sent), rate };
        self.set_share(share);
    }

    fn set_share(&mut self, share: Share) {
        let before = std::mem::replace(&mut self.share, share);
        self.bars.change_total(|total| total.replace(before, share));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        // An upload that has failed adds no more bytes.
        let sent = self.share.sent;
        self.set_share(Share { sent, length: sent, rate: 0 });
        self.line.bar.finish_and_clear();
    }
}

/// A bar whose columns fit the terminal.
#[derive(Debug)]
struct LaidOutBar {
    bar: ProgressBar,
    title: String,
    is_colored: bool,
    /// The template in use.
    template: String,
    /// The texts beside the bar. They are no `prefix` and `message` of indicatif, which draws after a change of either.
    texts: Arc<Mutex<Texts>>,
}

#[derive(Debug, Default)]
struct Texts {
    title: String,
    numbers: String,
}

impl LaidOutBar {
    fn new(bar: ProgressBar, title: String, is_colored: bool) -> Self {
        Self { bar, title, is_colored, template: String::new(), texts: Arc::default() }
    }

    fn draw(&mut self, moved: &Moved) {
        let layout = Layout::current();
        let template = layout.template(moved.length.is_some(), self.is_colored);
        let texts = Texts { title: layout.title(&self.title), numbers: layout.message(moved) };
        self.draw_as(template, texts, moved);
    }

    fn draw_total(&mut self, moved: &Moved) {
        let layout = Layout::current();
        let template = layout.total_template(self.is_colored);
        let texts = Texts { title: self.title.clone(), numbers: layout.total_message(moved) };
        self.draw_as(template, texts, moved);
    }

    fn draw_as(&mut self, template: String, texts: Texts, moved: &Moved) {
        *lock(&self.texts) = texts;
        if self.template != template {
            self.bar.set_style(self.style(&template));
            self.template = template;
        }
        // Draws once.
        self.bar.update(|state| {
            if let Some(length) = moved.length {
                state.set_len(length);
            }
            state.set_pos(moved.sent);
        });
    }

    fn style(&self, template: &str) -> ProgressStyle {
        let key = |text: fn(&Texts) -> &str| {
            let texts = Arc::clone(&self.texts);
            move |_: &ProgressState, line: &mut dyn fmt::Write| {
                line.write_str(text(&lock(&texts))).expect("writing to a string");
            }
        };
        let style = ProgressStyle::with_template(template).expect("a valid template");
        let style = style.progress_chars("=> ").with_key("title", key(|texts| &texts.title));
        style.with_key("numbers", key(|texts| &texts.numbers))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_total_follows_the_uploads() {
        let bars = Bars::new(false);
        bars.add_total(3, 0, 300);
        let (a, b) = (FileLabel::new(Path::new("a")), FileLabel::new(Path::new("b")));
        let mut first = bars.add(&a, Some(100));
        let mut second = bars.add(&b, None);
        let at = |sent, length, rate| {
            let mut at = Progress::default();
            (at.sent, at.length, at.rate, at.activity) = (sent, length, rate, Activity::Sending);
            at
        };
        let numbers = || {
            let total = bars.total();
            let total = total.as_ref().expect("a total");
            (total.sent, total.length, total.rate)
        };
        first.show(&at(10, Some(100), 5));
        assert_eq!(numbers(), (10, 300, 5));
        first.show(&at(50, Some(120), 7));
        second.show(&at(5, None, 1));
        assert_eq!(numbers(), (55, 325, 8));
        drop(first);
        assert_eq!(numbers(), (55, 255, 1), "a file that has failed adds no more");
        drop(second);
        assert_eq!(numbers(), (55, 255, 0));
    }
}
