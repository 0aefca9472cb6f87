//! The command's output: results on standard output, messages on standard error.
//!
//! Owns both streams. `Output::report` prints the result of finished work and only warns if that fails;
//! `Output::result` and `Output::data` return an error, for commands whose only purpose is to print. Progress bars are in
//! `output/bars.rs`.

mod bars;
mod request_log;

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hoist_client::Quoted;
use serde_json::{Value, json};

pub(crate) use self::bars::{Bar, Bars};
pub(crate) use self::request_log::start_request_log;
use crate::exit::{Exit, Failure};

/// An error while writing to standard output.
#[derive(Debug)]
pub(crate) struct StdoutError(pub(crate) io::Error);

impl StdoutError {
    /// Returns whether the reader has closed the pipe, as `head` does once it has read enough.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

impl From<io::Error> for StdoutError {
    fn from(error: io::Error) -> Self {
        Self(error)
    }
}

impl From<StdoutError> for Failure {
    fn from(error: StdoutError) -> Self {
        Self::new(Exit::Failed, error)
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

/// The output streams, with the format and verbosity chosen on the command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
}

impl Output {
    pub(crate) const fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// Returns whether the output is JSON.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// Prints one result as a line of text or of JSON, and flushes. The JSON is an object with an `event`, as the schema in
    /// `docs/schema/output.json` describes it.
    pub(crate) fn result(self, text: impl fmt::Display, json: &Value) -> Result<(), StdoutError> {
        let mut stdout = io::stdout().lock();
        if self.json {
            writeln!(stdout, "{}", versioned(json))?;
        } else {
            writeln!(stdout, "{text}")?;
        }
        Ok(stdout.flush()?)
    }

    /// Prints the result of finished work. A closed pipe is ignored; any other error causes a warning on standard error,
    /// also when quiet.
    pub(crate) fn report(self, text: impl fmt::Display, json: &Value) {
        if let Err(error) = self.result(text, json)
            && !error.is_closed()
        {
            warn_unwritten(&error);
        }
    }

    /// Prints text to standard output as it is, and flushes.
    pub(crate) fn data(text: impl fmt::Display) -> Result<(), StdoutError> {
        let mut stdout = io::stdout().lock();
        write!(stdout, "{text}")?;
        Ok(stdout.flush()?)
    }

    /// Returns whether text on standard output may be colored: on a terminal, unless `NO_COLOR` is set
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

    /// Prints a failure to standard error, also when quiet, and as an event in JSON mode.
    pub(crate) fn failure(self, failure: &Failure) {
        let exit = failure.exit;
        let error = failure.to_string();
        self.event(&json!({ "event": "error", "error": error, "exit": exit.code(), "kind": exit.name() }));
        Self::failure_line(failure);
    }

    /// Prints a failure to standard error only.
    fn failure_line(failure: &Failure) {
        let _ = writeln!(io::stderr().lock(), "hoist: {failure} (exit {})", failure.exit.code());
    }

    /// Returns progress bars if standard error is a terminal and neither `--quiet` nor `--json` is given.
    pub(crate) fn bars(self) -> Option<Bars> {
        let is_seen = !self.quiet && !self.json && io::stderr().is_terminal();
        is_seen.then(|| Bars::new(!is_plain()))
    }

    /// Prints an event in JSON mode. Write errors are ignored.
    pub(crate) fn event(self, json: &Value) {
        if self.json {
            let mut stdout = io::stdout().lock();
            let _ = writeln!(stdout, "{}", versioned(json)).and_then(|()| stdout.flush());
        }
    }
}

/// The version of the JSON output. It changes only if a key is removed or gets another meaning.
const JSON_VERSION: u32 = 1;

fn versioned(json: &Value) -> Value {
    let mut json = json.clone();
    json["v"] = JSON_VERSION.into();
    json
}

fn is_plain() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

fn warn_unwritten(error: &StdoutError) {
    let why = &error.0;
    let _ = writeln!(io::stderr().lock(), "hoist: warning: {error}: {why}; some results were not printed");
}

/// The output streams together with progress bars, which are cleared while a line is printed.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    pub(crate) output: Output,
    pub(crate) bars: Option<Bars>,
    /// Set once a warning about an unwritten result has been printed.
    has_warned: Arc<AtomicBool>,
}

impl Console {
    pub(crate) fn new(output: Output) -> Self {
        Self { output, bars: output.bars(), has_warned: Arc::default() }
    }

    /// Like [`Output::message`].
    pub(crate) fn message(&self, text: impl fmt::Display) {
        self.suspend_bars(|| self.output.message(text));
    }

    /// Prints a line of the request log to standard error, also when quiet. Ignores write errors.
    fn verbose(&self, line: impl fmt::Display) {
        self.suspend_bars(|| {
            let _ = writeln!(io::stderr().lock(), "{line}");
        });
    }

    /// Like [`Output::result`].
    pub(crate) fn result(&self, text: impl fmt::Display, json: &Value) -> Result<(), StdoutError> {
        self.suspend_bars(|| self.output.result(text, json))
    }

    /// Like [`Output::report`], with a single warning for all results.
    pub(crate) fn report(&self, text: impl fmt::Display, json: &Value) {
        if let Err(error) = self.result(text, json)
            && !error.is_closed()
            && !self.has_warned.swap(true, Ordering::Relaxed)
        {
            self.suspend_bars(|| warn_unwritten(&error));
        }
    }

    /// Prints a failure to standard error, also when quiet. It has an event of its own.
    pub(crate) fn failure(&self, failure: &Failure) {
        self.suspend_bars(|| Output::failure_line(failure));
    }

    /// Removes the progress bars for good.
    pub(crate) fn end_bars(&self) {
        if let Some(bars) = &self.bars {
            bars.end();
        }
    }

    fn suspend_bars<T>(&self, act: impl FnOnce() -> T) -> T {
        match &self.bars {
            Some(bars) => bars.suspend(act),
            None => act(),
        }
    }
}

/// Returns a file name or another word as [`Quoted`] displays it.
pub(crate) fn quoted(name: &(impl AsRef<OsStr> + ?Sized)) -> String {
    Quoted::new(name).to_string()
}

/// The name of a file in output: raw in JSON, and quoted where it is displayed.
#[derive(Clone, Debug)]
pub(crate) struct FileLabel {
    pub(crate) raw: String,
    quoted: String,
}

impl FileLabel {
    pub(crate) fn new(path: &Path) -> Self {
        Self { raw: path.to_string_lossy().into_owned(), quoted: quoted(path) }
    }
}

impl fmt::Display for FileLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.quoted)
    }
}

/// A number of bytes, displayed with a binary unit.
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
