//! The command's output: data on standard output, talk on standard error.
//!
//! Owns both streams. A stream that is closed or full ends nothing but the printing: `Output::report` goes on where the
//! result stands whether or not it is read, `Output::result` and `Output::data` give an error where printing was all there
//! was to do. Bars are in `output/bars.rs`.

mod bars;

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

pub(crate) use self::bars::{Bar, Bars};
use crate::exit::Failure;

/// An error of writing to standard output.
#[derive(Debug)]
pub(crate) struct StdoutError(io::Error);

impl StdoutError {
    /// Returns `true` if the reader has closed the pipe, as `head` does when it has read enough.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }

    pub(crate) fn cause(&self) -> &io::Error {
        &self.0
    }
}

impl From<io::Error> for StdoutError {
    fn from(error: io::Error) -> Self {
        Self(error)
    }
}

impl fmt::Display for StdoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot write to standard output")
    }
}

impl std::error::Error for StdoutError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// The two streams, and how much to say in which form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
}

impl Output {
    pub(crate) const fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// Whether programs read it.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// Prints one result: a line of text, or the same as one line of JSON. Flushed, so that a waiting reader gets it.
    pub(crate) fn result(self, text: impl fmt::Display, json: &Value) -> Result<(), StdoutError> {
        let mut stdout = io::stdout().lock();
        if self.json {
            writeln!(stdout, "{json}")?;
        } else {
            writeln!(stdout, "{text}")?;
        }
        Ok(stdout.flush()?)
    }

    /// Prints the result of something that is done, and whose outcome stands if it cannot be printed. A reader that has
    /// gone wants no more; any other error is told on standard error, also when quiet.
    pub(crate) fn report(self, text: impl fmt::Display, json: &Value) {
        if let Err(error) = self.result(text, json)
            && !error.is_closed()
        {
            warn_unwritten(&error);
        }
    }

    /// Prints text that is data by itself.
    pub(crate) fn data(text: impl fmt::Display) -> Result<(), StdoutError> {
        let mut stdout = io::stdout().lock();
        write!(stdout, "{text}")?;
        Ok(stdout.flush()?)
    }

    /// Returns `true` if text on standard output may have colors: on a terminal, unless `NO_COLOR` is set
    /// (<https://no-color.org>).
    pub(crate) fn is_colored(self) -> bool {
        !self.json && io::stdout().is_terminal() && !is_plain()
    }

    /// Prints a message to standard error unless quiet. Ignores write errors.
    pub(crate) fn message(self, text: impl fmt::Display) {
        if !self.quiet {
            let _ = writeln!(io::stderr().lock(), "hoist: {text}");
        }
    }

    /// Tells why the command failed, also when quiet.
    pub(crate) fn failure(self, failure: &Failure) {
        let exit = failure.exit;
        let mut stderr = io::stderr().lock();
        let _ = if self.json {
            let error = json!({ "error": failure.to_string(), "exit": exit.code(), "kind": exit.name() });
            writeln!(stderr, "{error}")
        } else {
            writeln!(stderr, "hoist: {failure} (exit {})", exit.code())
        };
    }

    /// Bars, where they can be seen and are wanted. Without color where `NO_COLOR` says so (<https://no-color.org>).
    pub(crate) fn bars(self) -> Option<Bars> {
        let is_seen = !self.quiet && !self.json && io::stderr().is_terminal();
        is_seen.then(|| Bars::new(!is_plain()))
    }

    /// Tells programs one of many things that happen, which may be lost.
    pub(crate) fn event(self, json: &Value) {
        if self.json {
            let mut stdout = io::stdout().lock();
            let _ = writeln!(stdout, "{json}").and_then(|()| stdout.flush());
        }
    }
}

fn is_plain() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

fn warn_unwritten(error: &StdoutError) {
    let why = error.cause();
    let _ = writeln!(io::stderr().lock(), "hoist: warning: {error}: {why}; results are missing there");
}

/// The two streams with bars between their lines, where there are bars.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    pub(crate) output: Output,
    pub(crate) bars: Option<Bars>,
    /// Set when a warning about a result that could not be written has been printed.
    has_warned: Arc<AtomicBool>,
}

impl Console {
    pub(crate) fn new(output: Output) -> Self {
        Self { output, bars: output.bars(), has_warned: Arc::default() }
    }

    /// As [`Output::talk`].
    pub(crate) fn message(&self, text: impl fmt::Display) {
        self.suspend_bars(|| self.output.message(text));
    }

    /// As [`Output::result`].
    pub(crate) fn result(&self, text: impl fmt::Display, json: &Value) -> Result<(), StdoutError> {
        self.suspend_bars(|| self.output.result(text, json))
    }

    /// As [`Output::report`], with one warning for all results.
    pub(crate) fn report(&self, text: impl fmt::Display, json: &Value) {
        if let Err(error) = self.result(text, json)
            && !error.is_closed()
            && !self.has_warned.swap(true, Ordering::Relaxed)
        {
            self.suspend_bars(|| warn_unwritten(&error));
        }
    }

    /// As [`Output::failure`].
    pub(crate) fn failure(&self, failure: &Failure) {
        self.suspend_bars(|| self.output.failure(failure));
    }

    fn suspend_bars<T>(&self, act: impl FnOnce() -> T) -> T {
        match &self.bars {
            Some(bars) => bars.suspend(act),
            None => act(),
        }
    }
}

/// Bytes as a person reads them.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        let Self(bytes) = *self;
        if bytes < 1024 {
            return write!(f, "{bytes} B");
        }
        let mut unit = 0;
        while unit + 1 < UNITS.len() && bytes >> (10 * (unit + 2)) > 0 {
            unit += 1;
        }
        let shift = 10 * (unit + 1);
        let tenths = ((bytes & ((1 << shift) - 1)) >> (shift - 10)) * 10 / 1024;
        write!(f, "{}.{tenths} {}", bytes >> shift, UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_readable() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1 << 20, "1.0 MiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16383.9 PiB"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Bytes(bytes).to_string(), expected);
        }
    }
}
