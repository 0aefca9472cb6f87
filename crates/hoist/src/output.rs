//! What the command prints: data on standard output, talk on standard error.
//!
//! Owns both streams, and that a closed one is nobody's panic. Bars are in `output/bars.rs`.

mod bars;

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};

use serde_json::{Value, json};

pub(crate) use self::bars::{Bar, Bars};
use crate::exit::Failure;

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

    /// One result: a line of text, or the same as one line of JSON. Flushed, so that who waits for it gets it.
    pub(crate) fn result(self, text: impl fmt::Display, json: &Value) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        if self.json {
            writeln!(stdout, "{json}")?;
        } else {
            writeln!(stdout, "{text}")?;
        }
        stdout.flush()
    }

    /// Text that is data by itself.
    pub(crate) fn data(text: impl fmt::Display) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        write!(stdout, "{text}")?;
        stdout.flush()
    }

    /// Whether text on standard output may have colors: on a terminal, unless `NO_COLOR` is set
    /// (<https://no-color.org>).
    pub(crate) fn is_colored(self) -> bool {
        !self.json && io::stdout().is_terminal() && !is_plain()
    }

    /// Something for a person who is watching; nobody minds if it is lost.
    pub(crate) fn talk(self, text: impl fmt::Display) {
        if !self.quiet {
            let _ = writeln!(io::stderr().lock(), "hoist: {text}");
        }
    }

    /// Why it did not work. Said even when quiet.
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

    /// One of many things that happen, for programs; nobody minds if it is lost.
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

/// The two streams with bars between their lines, where there are bars.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) output: Output,
    pub(crate) bars: Option<Bars>,
}

impl Stage {
    pub(crate) fn new(output: Output) -> Self {
        Self { output, bars: output.bars() }
    }

    /// As [`Output::talk`].
    pub(crate) fn talk(&self, text: impl fmt::Display) {
        self.aside(|| self.output.talk(text));
    }

    /// As [`Output::result`].
    pub(crate) fn result(&self, text: impl fmt::Display, json: &Value) -> io::Result<()> {
        self.aside(|| self.output.result(text, json))
    }

    /// As [`Output::failure`].
    pub(crate) fn failure(&self, failure: &Failure) {
        self.aside(|| self.output.failure(failure));
    }

    fn aside<T>(&self, act: impl FnOnce() -> T) -> T {
        match &self.bars {
            Some(bars) => bars.aside(act),
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
