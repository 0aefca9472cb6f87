//! How the command can end: the exit codes, and the error that carries one.
//!
//! Scripts rely on the numbers, so none is ever given another meaning.

use std::fmt;
use std::process::ExitCode;

use crate::output::StdoutError;

/// The end of the command.
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

    /// A word for it, in JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Config => "config",
            Self::Start => "start",
            Self::Refused => "refused",
            Self::NotFound => "not-found",
            Self::Unreachable => "unreachable",
            Self::File => "file",
            Self::Forced => "forced",
            Self::Partial => "partial",
            Self::Busy => "busy",
            Self::Corrupt => "corrupt",
            Self::Nonconforming => "nonconforming",
            Self::Tls => "tls",
            Self::Unresumable => "unresumable",
            Self::Interrupted => "interrupted",
            Self::Terminated => "terminated",
        }
    }

    const fn meaning(self) -> &'static str {
        match self {
            Self::Success => "done; a server was told to stop and every byte it acknowledged is stored",
            Self::Failed => "something else went wrong; the message says what",
            Self::Usage => "the command line makes no sense",
            Self::Config => "the configuration has problems; each is listed",
            Self::Start => "the server cannot start: address, data directory, certificate, credentials",
            Self::Refused => "the server refused for good",
            Self::NotFound => "the server has no such upload",
            Self::Unreachable => {
                "no connection, or none that lasted, for as long as --retry-for; run it again"
            }
            Self::File => "a local file cannot be read or written, or changed while it was uploaded",
            Self::Forced => "a second signal ended the server before it had drained",
            Self::Partial => "some files were uploaded and others not; run it again for those",
            Self::Busy => "another process is uploading the same file to the same place",
            Self::Corrupt => "the server has other bytes than those that were sent",
            Self::Nonconforming => "the server does not do what a protocol says; each difference is printed",
            Self::Tls => {
                "TLS with the server failed: a certificate that is not trusted, or a URL with the wrong scheme"
            }
            Self::Unresumable => "the server speaks no upload protocol, and --require-resumable was given",
            Self::Interrupted => {
                "Ctrl-C; what the server has stays there, and the command to go on is printed"
            }
            Self::Terminated => "SIGTERM; likewise",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The table at the end of `--help`.
pub(crate) fn table() -> String {
    use fmt::Write as _;
    let mut text = String::from("Exit codes:\n");
    for exit in Exit::ALL {
        let _ = writeln!(text, "  {:3}  {:12} {}", exit.code(), exit.name(), exit.meaning());
    }
    text
}

/// The reason why the command failed: one line for a person, one code for a script.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) error: anyhow::Error,
}

impl Failure {
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }

    pub(crate) fn message(exit: Exit, words: impl fmt::Display) -> Self {
        Self { exit, error: anyhow::anyhow!("{words}") }
    }
}

/// The message and its causes in one line.
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

impl Failure {
    /// Returns `true` if the command failed only because the reader of its output has closed the pipe.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        self.error.downcast_ref::<StdoutError>().is_some_and(StdoutError::is_closed)
    }
}

impl From<StdoutError> for Failure {
    fn from(error: StdoutError) -> Self {
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
    fn codes_and_names_are_one_each_and_in_the_help() {
        let table = table();
        for (at, exit) in Exit::ALL.iter().enumerate() {
            let others = &Exit::ALL[at + 1..];
            assert!(others.iter().all(|other| other.code() != exit.code() && other.name() != exit.name()));
            assert!(table.contains(&format!("{:3}  {}", exit.code(), exit.name())), "{table}");
        }
    }
}
