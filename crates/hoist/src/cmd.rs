//! The subcommands, one module each, and their dispatch.

mod admin;
mod cancel;
mod check;
mod client;
mod completions;
mod config;
mod demo;
mod dns_record;
mod events;
mod lookup;
mod ls;
mod manual;
mod put;
mod serve;
mod status;
mod stop_signal;

use std::ffi::OsString;

use serde_json::json;

use crate::cli::{Cli, ConfigVerb, Verb};
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Runs a subcommand. `words` is the whole command line, from which `put` builds the command to resume with.
pub(crate) fn run(cli: Cli, words: &[OsString], output: Output) -> Result<Exit, Failure> {
    match cli.verb {
        Verb::Serve(settings) => serve::run(&settings, output),
        Verb::Config(ConfigVerb::Check { settings, .. }) => Ok(config::check(&settings.0, output)),
        Verb::Config(ConfigVerb::Print { settings }) => config::print(&settings.0, output),
        Verb::Config(ConfigVerb::Sample) => config::print_sample(),
        Verb::Put(put) => Ok(put::run(put, words, output)),
        Verb::Status(ask) => status::run(ask, output),
        Verb::Cancel(ask) => cancel::run(ask, output),
        Verb::Check(args) => check::run(&args, output),
        Verb::Ls(_) => ls::run(output),
        Verb::Admin(args) => admin::run(args, output),
        Verb::Demo(args) => demo::run(&args, output),
        Verb::Events(verb) => events::run(&verb, output),
        Verb::DnsRecord(args) => dns_record::run(&args, output),
        Verb::Completions { shell } => completions::run(shell),
        Verb::Man { directory } => manual::run(directory.as_deref(), output),
        Verb::Version => {
            let version = env!("CARGO_PKG_VERSION");
            output.result(format_args!("hoist {version}"), &json!({ "version": version }))?;
            Ok(Exit::Success)
        }
    }
}
