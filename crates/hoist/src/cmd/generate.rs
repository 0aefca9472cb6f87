//! `hoist completions` and `hoist man`: output generated from the definition of the command line.

use std::fs;
use std::path::Path;

use hoist_client::Quoted;
use serde_json::json;

use crate::cli;
use crate::exit::{Exit, Failure};
use crate::output::{Output, quoted};

/// Prints a completion script for a shell.
pub(crate) fn completions(shell: clap_complete::Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::command(), "hoist", &mut script);
    Output::data(String::from_utf8_lossy(&script))?;
    Ok(Exit::Success)
}

/// Prints the manual page of the command, or writes it and one page per subcommand into a directory.
pub(crate) fn manual(directory: Option<&Path>, output: Output) -> Result<Exit, Failure> {
    let command = cli::command().disable_help_subcommand(true);
    let Some(directory) = directory else {
        let mut text = Vec::new();
        clap_mangen::Man::new(command).render(&mut text)?;
        Output::data(String::from_utf8_lossy(&text))?;
        return Ok(Exit::Success);
    };
    let written = fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(command, directory));
    written.map_err(|error| {
        Failure::message(
            Exit::File,
            format_args!("cannot write manual pages to {}: {error}", Quoted::new(directory)),
        )
    })?;
    let shown = quoted(directory);
    output.report(format_args!("manual pages written to {shown}"), &json!({ "directory": shown }));
    Ok(Exit::Success)
}
