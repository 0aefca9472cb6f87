//! Exit codes, and the error type that carries one.
//!
//! Scripts rely on the numbers: the meaning of a code never changes.

use std::fmt;
use std::process::ExitCode;

/// An exit code of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Success = 0,
    Failed = 1,
    Usage = 2,
    Config = 3,
    Start = 4,
    Refused = 5,
    NotFound = 6,
    Unreachable = 7,
    File = 8,
    Forced = 9,
    Partial = 10,
    Busy = 11,
    Corrupt = 12,
    Nonconforming = 13,
    Tls = 14,
    Unresumable = 15,
    Interrupted = 130,
    Terminated = 143,
}

impl Exit {
    pub(crate) const ALL: [Self; 18] = [
        Self::Success,
        Self::Failed,
        Self::Usage,
        Self::Config,
        Self::Start,
        Self::Refused,
        Self::NotFound,
        Self::Unreachable,
        Self::File,
        Self::Forced,
        Self::Partial,
        Self::Busy,
        Self::Corrupt,
        Self::Nonconforming,
        Self::Tls,
        Self::Unresumable,
        Self::Interrupted,
        Self::Terminated,
    ];

    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    /// Returns the name used in JSON.
    pub(crate) const fn name(self) -> &'static str {
        self.description().0
    }

    /// Returns the meaning shown by `--help`.
    pub(crate) const fn meaning(self) -> &'static str {
        self.description().1
    }

    /// Returns the name used in JSON, and the meaning shown by `--help`.
    const fn description(self) -> (&'static str, &'static str) {
        match self {
            Self::Success => ("success", "success; a stopped server has stored every byte it acknowledged"),
            Self::Failed => ("failed", "another error; see the message"),
            Self::Usage => ("usage", "invalid command line"),
            Self::Config => ("config", "invalid configuration; each problem is listed"),
            Self::Start => {
                ("start", "the server cannot start: address, data directory, certificate or credentials")
            }
            Self::Refused => {
                ("refused", "the server refused permanently, or the URL is wrong (host, port or path)")
            }
            Self::NotFound => ("not-found", "the server has no such upload"),
            Self::Unreachable => {
                ("unreachable", "no connection, or none that lasted, for --retry-for; run the command again")
            }
            Self::File => ("file", "a local file could not be read or written, or changed during its upload"),
            Self::Forced => ("forced", "a second signal stopped the server before it had drained"),
            Self::Partial => ("partial", "some files were not uploaded; run the command again"),
            Self::Busy => ("busy", "another process is uploading the same file to the same URL"),
            Self::Corrupt => ("corrupt", "the server's content differs from what was sent"),
            Self::Nonconforming => {
                ("nonconforming", "the server violates a protocol; each difference is printed")
            }
            Self::Tls => {
                ("tls", "TLS failed: a certificate that is not accepted, or the wrong scheme in the URL")
            }
            Self::Unresumable => {
                ("unresumable", "the server supports no resumable uploads, and --require-resumable was given")
            }
            Self::Interrupted => ("interrupted", "interrupted (Ctrl-C); the command to resume is printed"),
            Self::Terminated => ("terminated", "terminated (SIGTERM); the command to resume is printed"),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Returns the table of exit codes at the end of `--help`.
pub(crate) fn table() -> String {
    use fmt::Write as _;
    let mut text = String::from("Exit codes:\n");
    for exit in Exit::ALL {
        let (name, meaning) = exit.description();
        let _ = writeln!(text, "  {:3}  {name:12} {meaning}", exit.code());
    }
    text
}

/// A failure of the command: a message for people and an exit code for scripts.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) error: anyhow::Error,
}

impl Failure {
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }

    pub(crate) fn message(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, error: anyhow::anyhow!("{message}") }
    }
}

/// Formats the message and its causes in one line.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Failed, error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Failed, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_unique_and_listed_in_the_help() {
        let table = table();
        for (at, exit) in Exit::ALL.iter().enumerate() {
            let others = &Exit::ALL[at + 1..];
            assert!(others.iter().all(|other| other.code() != exit.code() && other.name() != exit.name()));
            assert!(table.contains(&format!("{:3}  {}", exit.code(), exit.name())), "{table}");
        }
    }
}
