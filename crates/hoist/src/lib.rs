//! The `hoist` command as a library: server, client and conformance checker for resumable uploads.
//!
//! Each subcommand is a module in `cmd/`. It gets its settings from `config.rs`, prints through `output.rs` and ends with
//! an exit code of `exit.rs`. [`check`] runs the conformance corpus against any server.

pub mod check;
mod cli;
mod clock;
mod cmd;
mod config;
mod exit;
mod output;

use std::ffi::OsString;
use std::process::ExitCode;

use exit::{Exit, Failure};
use output::{Output, StdoutError};

/// Runs the command with these arguments, the first of which is the program's name, and returns its exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match cli::parse(arguments.iter().cloned()) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output and are a success; clap knows which case it is.
            let printed = error.print().map_err(StdoutError::from);
            return match printed {
                _ if error.use_stderr() => Exit::Usage.into(),
                Ok(()) => Exit::Success.into(),
                Err(error) => report(Output::new(false, false), &error.into()),
            };
        }
    };
    let output = Output::new(cli.json(), cli.quiet());
    match cmd::run(cli, &arguments, output) {
        Ok(exit) => exit.into(),
        Err(failure) => report(output, &failure),
    }
}

fn report(output: Output, failure: &Failure) -> ExitCode {
    // The reader has what it needs.
    if failure.error.downcast_ref::<StdoutError>().is_some_and(StdoutError::is_closed) {
        return Exit::Success.into();
    }
    output.failure(failure);
    failure.exit.into()
}
