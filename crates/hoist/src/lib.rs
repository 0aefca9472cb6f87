//! The `hoist` command as a function: resumable uploads to serve, to make and to ask about.
//!
//! The verbs are in `cmd/`, one each. They get their settings from `config.rs`, say what they have to say through
//! `output.rs`, and end with one of the codes in `exit.rs`. [`check`] judges any server by the conformance corpus.

pub mod check;
mod cli;
mod cmd;
mod config;
mod exit;
mod output;

use std::ffi::OsString;
use std::process::ExitCode;

use exit::{Exit, Failure};
use output::Output;

/// Runs the command with these words, the first of which is its own name, and says how it ended.
pub fn run(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.into_iter().collect();
    let cli = match cli::parse(words.iter().cloned()) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are asked for, so they are data and end well; clap knows which stream.
            let printed = error.print().map_err(output::StdoutError::from);
            return match printed {
                _ if error.use_stderr() => Exit::Usage.into(),
                Ok(()) => Exit::Success.into(),
                Err(error) => report(Output::new(false, false), &error.into()),
            };
        }
    };
    let output = Output::new(cli.json(), cli.quiet());
    match cmd::run(cli, &words, output) {
        Ok(exit) => exit.into(),
        Err(failure) => report(output, &failure),
    }
}

fn report(output: Output, failure: &Failure) -> ExitCode {
    if failure.is_closed_pipe() {
        return Exit::Success.into();
    }
    output.failure(failure);
    failure.exit.into()
}
