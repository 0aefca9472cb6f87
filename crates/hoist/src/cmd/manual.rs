//! `hoist man`: manual pages generated from the definition of the command line.
//!
//! `clap_mangen` renders names, synopses and options. This module adds the sections that readers of manual pages expect:
//! examples, exit status, environment, files and related pages.

use std::fs;
use std::io;
use std::path::Path;

use clap::builder::PossibleValue;
use clap::{Arg, Command};
use clap_mangen::Man;
use hoist_client::Quoted;
use roff::{Roff, bold, roman};
use serde_json::json;

use crate::cli::examples::Example;
use crate::cli::{self, examples};
use crate::exit::{Exit, Failure};
use crate::output::{Output, quoted};

/// Prints the manual page of the command, or writes it and one page per subcommand into a directory.
pub(crate) fn run(directory: Option<&Path>, output: Output) -> Result<Exit, Failure> {
    let mut command = cli::command().disable_help_subcommand(true);
    command.build();
    let Some(directory) = directory else {
        Output::data(String::from_utf8_lossy(&page(&command)?))?;
        return Ok(Exit::Success);
    };
    let written = fs::create_dir_all(directory).and_then(|()| write(&command, directory));
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

/// Writes the pages of a command and its subcommands.
fn write(command: &Command, directory: &Path) -> io::Result<()> {
    fs::write(directory.join(format!("{}.1", page_name(command))), page(command)?)?;
    command.get_subcommands().try_for_each(|verb| write(verb, directory))
}

/// Returns the name of a command's page, like `hoist-config-check`.
fn page_name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

/// Returns the page of a command.
fn page(command: &Command) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone().mut_args(with_values_in_its_help));
    let title = page_name(command).to_uppercase();
    let version = env!("CARGO_PKG_VERSION");
    // Written by hand, since `clap_mangen` drops the empty date and shifts the other arguments.
    let mut text = format!(".TH \"{title}\" \"1\" \"\" \"hoist {version}\" \"Hoist Manual\"\n").into_bytes();
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    let is_root = command.get_name() == page_name(command);
    // The table of exit codes at the end of the help has a section of its own.
    if let Some(notes) = command.get_after_long_help().or(command.get_after_help()).filter(|_| !is_root) {
        // The examples are rendered below.
        let notes = notes.to_string();
        let notes = notes.split("Examples:").next().unwrap_or_default().trim();
        paragraphs(notes).to_writer(&mut text)?;
    }
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut text)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    let name = page_name(command);
    for section in
        [exit_status(name), environment(name), files(name), example_section(name), see_also(command)]
    {
        section.to_writer(&mut text)?;
    }
    Ok(text)
}

/// Returns an argument that lists its values at the end of its help, as `--help` does. The list of `clap_mangen` has
/// surplus empty lines.
fn with_values_in_its_help(argument: Arg) -> Arg {
    let values = argument.get_possible_values();
    if values.is_empty() || argument.is_hide_possible_values_set() {
        return argument;
    }
    let names: Vec<_> = values.iter().map(PossibleValue::get_name).collect();
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let help = format!("{help} [possible values: {}]", names.join(", "));
    argument.hide_possible_values(true).help(help.clone()).long_help(help)
}

/// Returns paragraphs that continue the description.
fn paragraphs(text: &str) -> Roff {
    let mut page = Roff::new();
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        page.control("PP", []);
        page.text([roman(paragraph.replace('\n', " "))]);
    }
    page
}

/// Returns a section of terms, each with its meaning; an empty one without terms.
fn terms<T: AsRef<str>, M: AsRef<str>>(
    heading: &str,
    before: &str,
    terms: impl IntoIterator<Item = (T, M)>,
) -> Roff {
    let mut section = Roff::new();
    for (term, meaning) in terms {
        section.control("TP", []);
        section.text([bold(term.as_ref())]);
        section.text([roman(meaning.as_ref())]);
    }
    let mut page = Roff::new();
    if section != Roff::new() || !before.is_empty() {
        page.control("SH", [heading]);
        if !before.is_empty() {
            page.text([roman(before)]);
        }
        page.extend([section]);
    }
    page
}

/// The class of a page, which decides on its exit codes, variables and files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Root,
    Server,
    Configuration,
    Client,
    Check,
    Demo,
    Admin,
    Offline,
}

fn class(name: &str) -> Class {
    match name {
        "hoist" => Class::Root,
        "hoist-serve" => Class::Server,
        "hoist-put" | "hoist-status" | "hoist-cancel" | "hoist-ls" => Class::Client,
        "hoist-check" => Class::Check,
        "hoist-demo" => Class::Demo,
        _ if name.starts_with("hoist-admin") => Class::Admin,
        _ if name.starts_with("hoist-config") || name == "hoist-dns-record" => Class::Configuration,
        _ => Class::Offline,
    }
}

/// Returns the exit codes of a command.
fn exit_status(name: &str) -> Roff {
    let codes = Exit::ALL.into_iter().filter(|exit| match class(name) {
        Class::Root => true,
        Class::Server => {
            matches!(
                exit,
                Exit::Success | Exit::Failed | Exit::Usage | Exit::Config | Exit::Start | Exit::Forced
            )
        }
        Class::Configuration => matches!(exit, Exit::Success | Exit::Failed | Exit::Usage | Exit::Config),
        Class::Admin => {
            matches!(
                exit,
                Exit::Success
                    | Exit::Failed
                    | Exit::Usage
                    | Exit::Refused
                    | Exit::NotFound
                    | Exit::Unreachable
                    | Exit::File
            )
        }
        Class::Client if name == "hoist-put" => {
            !matches!(exit, Exit::Config | Exit::Start | Exit::Forced | Exit::Nonconforming)
        }
        Class::Client => {
            let others = [Exit::Partial, Exit::Busy, Exit::Corrupt, Exit::Unresumable];
            !matches!(exit, Exit::Config | Exit::Start | Exit::Forced | Exit::Nonconforming)
                && !others.contains(exit)
        }
        Class::Check => matches!(
            exit,
            Exit::Success
                | Exit::Failed
                | Exit::Usage
                | Exit::Unreachable
                | Exit::File
                | Exit::Nonconforming
                | Exit::Tls
                | Exit::Interrupted
                | Exit::Terminated
        ),
        Class::Demo => {
            matches!(exit, Exit::Success | Exit::Failed | Exit::Usage | Exit::File | Exit::Corrupt)
        }
        Class::Offline => matches!(exit, Exit::Success | Exit::Failed | Exit::Usage | Exit::File),
    });
    terms("EXIT STATUS", "", codes.map(|exit| (exit.code().to_string(), exit.meaning())))
}

const STATE: (&str, &str) = (
    "XDG_STATE_HOME, HOME",
    "The directory of the journal: hoist in XDG_STATE_HOME, otherwise .local/state/hoist in HOME.",
);

/// Returns the environment variables that a command reads.
fn environment(name: &str) -> Roff {
    let settings = [
        ("HOIST_CONFIG", "The configuration file, as --config."),
        (
            "HOIST_...",
            "Any setting of hoist serve: HOIST_MAX_SIZE for --max-size. Several values are separated by commas.",
        ),
    ];
    let proxies = (
        "http_proxy, https_proxy, all_proxy, no_proxy",
        "The proxies to use, and the hosts that are reached without one, as in curl(1). Upper case is read as well.",
    );
    let bearer = ("HOIST_BEARER", "The bearer token to authenticate with, unless a flag gives one.");
    let color = ("NO_COLOR", "Without colors, if set to any value.");
    let found: Vec<(&str, &str)> = match class(name) {
        Class::Root => [settings.as_slice(), &[bearer, proxies, color, STATE]].concat(),
        Class::Server | Class::Configuration => settings.to_vec(),
        Class::Client if name == "hoist-ls" => vec![STATE],
        Class::Client => vec![bearer, proxies, color, STATE],
        Class::Check => vec![bearer, color],
        Class::Admin => vec![
            ("HOIST_ADMIN", "The admin listener of the server, unless --admin gives it."),
            (
                "HOIST_ADMIN_TOKEN_FILE",
                "The file of the operator's token, unless --admin-token-file gives it.",
            ),
        ],
        Class::Demo => vec![("TMPDIR", "The directory for the files of the demonstration.")],
        Class::Offline => Vec::new(),
    };
    terms("ENVIRONMENT", "", found)
}

/// Returns the files that a command reads or writes.
fn files(name: &str) -> Roff {
    let data = [
        ("DATA/open/, DATA/done/", "Unfinished and complete uploads, in the directory of --data."),
        ("DATA/key", "The key that is hashed into the ids of token uploads. Back it up with the uploads."),
        ("DATA/lock", "Locked by the one server that uses the directory."),
    ];
    let journal = [
        (
            "~/.local/state/hoist/uploads/",
            "The journal of unfinished uploads: one file for each pair of source and URL, readable by the user only.",
        ),
        (
            "~/.local/state/hoist/batches/",
            "The files that interrupted runs over several files have uploaded.",
        ),
    ];
    let found: Vec<(&str, &str)> = match class(name) {
        Class::Root => [data.as_slice(), &journal].concat(),
        Class::Server => data.to_vec(),
        Class::Client if name == "hoist-put" => journal.to_vec(),
        Class::Client => journal[..1].to_vec(),
        _ => Vec::new(),
    };
    terms("FILES", "", found)
}

/// Returns the examples of the help.
fn example_section(name: &str) -> Roff {
    let verb =
        name.trim_start_matches("hoist-").replacen("config-", "config ", 1).replacen("admin-", "admin ", 1);
    let found = match verb.as_str() {
        "hoist" => ["serve", "put"].iter().flat_map(|verb| examples::of(verb)).collect(),
        verb => examples::of(verb).iter().collect::<Vec<_>>(),
    };
    let mut page = Roff::new();
    if !found.is_empty() {
        page.control("SH", ["EXAMPLES"]);
    }
    for (at, Example { does, command }) in found.into_iter().enumerate() {
        if at > 0 {
            page.control("PP", []);
        }
        page.text([roman(format!("{does}:"))]);
        page.control("PP", []);
        page.control("RS", ["4"]);
        page.control("nf", []);
        page.text([roman(*command)]);
        page.control("fi", []);
        page.control("RE", []);
    }
    page
}

/// Returns the related pages.
fn see_also(command: &Command) -> Roff {
    let name = page_name(command);
    let mut pages: Vec<String> = match name {
        "hoist" => vec!["curl".to_owned()],
        "hoist-put" => {
            ["hoist", "hoist-ls", "hoist-status", "hoist-cancel", "curl"].map(str::to_owned).to_vec()
        }
        "hoist-ls" | "hoist-status" | "hoist-cancel" => vec!["hoist".to_owned(), "hoist-put".to_owned()],
        "hoist-serve" => {
            ["hoist", "hoist-config", "hoist-check", "hoist-dns-record"].map(str::to_owned).to_vec()
        }
        _ if matches!(class(name), Class::Configuration | Class::Admin) => {
            vec!["hoist".to_owned(), "hoist-serve".to_owned()]
        }
        _ => vec!["hoist".to_owned()],
    };
    let verbs = command.get_subcommands().map(|verb| page_name(verb).to_owned());
    pages.splice(0..0, verbs);
    let mut page = Roff::new();
    page.control("SH", ["SEE ALSO"]);
    let mut line = Vec::new();
    for (at, name) in pages.iter().enumerate() {
        let end = if at + 1 == pages.len() { "(1)" } else { "(1), " };
        line.extend([bold(name.as_str()), roman(end)]);
    }
    page.text(line);
    page.control("PP", []);
    page.text([roman(concat!("Documentation: ", env!("CARGO_PKG_REPOSITORY")))]);
    page
}
