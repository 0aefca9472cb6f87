//! The columns of progress bars, for each width of the terminal from 40 columns.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::output::Bytes;

/// The width of a terminal that does not tell its own.
const USUAL_COLUMNS: usize = 80;
/// The widest bar, in columns.
const BAR_MAX: usize = 40;
/// Columns at the end of a line that are left empty, so that the echo of Ctrl-C does not wrap.
const MARGIN: usize = 2;

/// The numbers that a line shows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moved {
    pub(super) sent: u64,
    pub(super) length: Option<u64>,
    /// Bytes per second; zero if unknown.
    pub(super) rate: u64,
    /// The pause before the next attempt.
    pub(super) pause: Option<Duration>,
    pub(super) retries: u32,
}

impl Moved {
    /// Returns the remaining time at the current rate.
    fn left(&self) -> Option<Duration> {
        let left = self.length?.checked_sub(self.sent)?;
        left.checked_div(self.rate).map(Duration::from_secs)
    }
}

/// The columns of a terminal of one width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    columns: usize,
    detail: Detail,
}

/// The numbers that fit beside a bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    /// The time left; for all files everything but the bar.
    Least,
    /// The bytes, rate and time left, in short form.
    Short,
    /// The same in long form, and the retries.
    Full,
}

impl Layout {
    /// Returns the layout for the current width of the terminal at standard error.
    pub(super) fn current() -> Self {
        let size = rustix::termios::tcgetwinsize(io::stderr());
        let columns = size.map_or(0, |size| usize::from(size.ws_col));
        Self::of(if columns == 0 { USUAL_COLUMNS } else { columns })
    }

    fn of(columns: usize) -> Self {
        let detail = match columns {
            0..64 => Detail::Least,
            64..120 => Detail::Short,
            _ => Detail::Full,
        };
        Self { columns, detail }
    }

    /// Returns the width of the first column.
    fn title_columns(self) -> usize {
        match self.detail {
            Detail::Least => 12,
            Detail::Short => 20,
            Detail::Full => 28,
        }
    }

    /// Returns the width of the numbers after the percentage.
    fn message_columns(self) -> usize {
        match self.detail {
            Detail::Least => "1:00:00".len(),
            Detail::Short => "123M/123M  123M/s  23:59:59".len(),
            Detail::Full => "1023.9 MiB of 1023.9 MiB  1023.9 MiB/s  23:59:59 left".len(),
        }
    }

    fn bar_columns(self) -> usize {
        let others = self.title_columns() + " ".len() + " 100 %  ".len() + self.message_columns() + MARGIN;
        self.columns.saturating_sub(others).min(BAR_MAX)
    }

    /// Returns the template of an upload.
    pub(super) fn template(self, has_length: bool, is_colored: bool) -> String {
        let (title, bar) = (self.title_columns(), self.bar_columns());
        let color = if is_colored { ".cyan/dim" } else { "" };
        match (has_length, bar) {
            (true, 1..) => format!("{{title:{title}!}} {{bar:{bar}{color}}} {{percent:>3}} %  {{numbers}}"),
            (true, 0) => format!("{{title:{title}!}} {{percent:>3}} %"),
            (false, _) => format!("{{title:{title}!}} {{spinner}} {{numbers}}"),
        }
    }

    /// Returns the template of all files.
    pub(super) fn total_template(self, is_colored: bool) -> String {
        match self.detail {
            Detail::Least => "{title} {numbers}".to_owned(),
            Detail::Short | Detail::Full => self.template(true, is_colored),
        }
    }

    /// Returns the number of finished files.
    pub(super) fn total_title(self, files: usize, done: usize, failed: usize) -> String {
        let failures = if failed > 0 { format!(", {failed} failed") } else { String::new() };
        match self.detail {
            Detail::Least => format!("{done}/{files}"),
            Detail::Short => format!("{done}/{files} files{failures}"),
            Detail::Full => format!("{done} of {files} files{failures}"),
        }
    }

    /// Shortens the name of a file to its end, which identifies the file better than its start.
    pub(super) fn title(self, name: &str) -> String {
        let most = self.title_columns();
        let many = name.chars().count();
        if many <= most {
            return name.to_owned();
        }
        let end: String = name.chars().skip(many - (most - 3)).collect();
        format!("...{end}")
    }

    /// Formats the numbers of an upload.
    pub(super) fn message(self, moved: &Moved) -> String {
        if let Some(pause) = moved.pause {
            let seconds = pause.as_secs() + u64::from(pause.subsec_millis() >= 500);
            return match self.detail {
                Detail::Least => format!("in {seconds} s"),
                Detail::Short | Detail::Full => format!("retry in {seconds} s"),
            };
        }
        let left = moved.left().map(|left| Clock(left).to_string());
        let Moved { sent, length, .. } = *moved;
        match self.detail {
            Detail::Least if length.is_none() => format!("{} {}", Short(sent), rate(moved, self.detail)),
            Detail::Least => left.unwrap_or_default(),
            Detail::Short | Detail::Full => self.numbers(moved),
        }
    }

    /// Formats the numbers of all files.
    pub(super) fn total_message(self, moved: &Moved) -> String {
        match self.detail {
            Detail::Least => {
                let length = moved.length.unwrap_or_default();
                let left = moved.left().map(|left| format!(" {}", Clock(left))).unwrap_or_default();
                format!("{}/{} {}{left}", Short(moved.sent), Short(length), rate(moved, self.detail))
            }
            Detail::Short | Detail::Full => self.numbers(moved),
        }
    }

    fn numbers(self, moved: &Moved) -> String {
        let Moved { sent, length, retries, .. } = *moved;
        let left = moved.left().map(|left| Clock(left).to_string());
        let mut parts = Vec::new();
        match (self.detail, length) {
            (Detail::Full, Some(length)) => parts.push(format!("{} of {}", Bytes(sent), Bytes(length))),
            (Detail::Full, None) => parts.push(Bytes(sent).to_string()),
            (_, Some(length)) => parts.push(format!("{}/{}", Short(sent), Short(length))),
            (_, None) => parts.push(Short(sent).to_string()),
        }
        if moved.rate > 0 {
            parts.push(rate(moved, self.detail));
        }
        match (left, self.detail, retries) {
            // Both do not fit. The time left is known again when the upload goes on.
            (_, Detail::Full, 1) => parts.push("1 retry".to_owned()),
            (_, Detail::Full, 2..) => parts.push(format!("{retries} retries")),
            (Some(left), Detail::Full, 0) => parts.push(format!("{left} left")),
            (Some(left), ..) => parts.push(left),
            (None, ..) => {}
        }
        parts.join("  ")
    }
}

/// Formats the rate. Empty if it is not known yet.
fn rate(moved: &Moved, detail: Detail) -> String {
    match (moved.rate, detail) {
        (0, _) => String::new(),
        (rate, Detail::Full) => format!("{}/s", Bytes(rate)),
        (rate, _) => format!("{}/s", Short(rate)),
    }
}

/// A number of bytes in at most five columns, with a binary unit: `1.2G`, `314M`.
struct Short(u64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [char; 6] = ['B', 'K', 'M', 'G', 'T', 'P'];
        let (mut whole, mut tenths, mut unit) = (self.0, 0, 0);
        while whole >= 1024 && unit + 1 < UNITS.len() {
            tenths = (whole % 1024) * 10 / 1024;
            whole /= 1024;
            unit += 1;
        }
        if whole < 10 && unit > 0 {
            write!(f, "{whole}.{tenths}{}", UNITS[unit])
        } else {
            write!(f, "{whole}{}", UNITS[unit])
        }
    }
}

/// A duration, displayed as `m:ss` or `h:mm:ss`.
struct Clock(Duration);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds / 3600 {
            0 => write!(f, "{}:{:02}", seconds / 60, seconds % 60),
            hours @ 1..100 => write!(f, "{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
            hours => write!(f, "{} d", hours / 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_fits_the_terminal() {
        let largest = Moved {
            sent: 1023 << 40,
            length: Some(1023 << 40 | 1 << 39),
            rate: 1023 << 20,
            ..Moved::default()
        };
        for columns in 40..=200 {
            let layout = Layout::of(columns);
            let bar = layout.title_columns() + 1 + layout.bar_columns() + " 100 %  ".len();
            assert!(layout.bar_columns() >= 3, "{columns}");
            for moved in [
                Moved { sent: 5, length: Some(10), ..Moved::default() },
                largest,
                Moved { pause: Some(Duration::from_secs(30)), ..largest },
                Moved { retries: 100, ..largest },
            ] {
                let message = layout.message(&moved);
                assert!(bar + message.len() <= columns, "{columns}: {message}");
                let title = layout.total_title(9999, 9999, 0);
                let message = layout.total_message(&moved);
                let before = if layout.detail == Detail::Least { title.len() + 1 } else { bar };
                assert!(before + message.len() <= columns, "{columns}: {title} {message}");
            }
            assert!(layout.title("/a/very/long/path/that/leads/to/film.mkv").ends_with("/film.mkv"));
        }
    }

    #[test]
    fn templates_are_valid() {
        for columns in [0, 10, 40, 80, 120] {
            for (has_length, is_colored) in [(true, true), (true, false), (false, false)] {
                let layout = Layout::of(columns);
                for template in [layout.template(has_length, is_colored), layout.total_template(is_colored)] {
                    assert!(indicatif::ProgressStyle::with_template(&template).is_ok(), "{template}");
                }
            }
        }
    }

    #[test]
    fn numbers_are_short() {
        for (bytes, expected) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0K"),
            (1536, "1.5K"),
            (12 << 20, "12M"),
            (u64::MAX, "16383P"),
        ] {
            assert_eq!(Short(bytes).to_string(), expected);
        }
        for (seconds, expected) in
            [(0, "0:00"), (75, "1:15"), (3_600, "1:00:00"), (86_399, "23:59:59"), (864_000, "10 d")]
        {
            assert_eq!(Clock(Duration::from_secs(seconds)).to_string(), expected);
        }
    }
}
