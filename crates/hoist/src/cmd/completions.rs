//! `hoist completions`: a completion script generated from the definition of the command line.
//!
//! Owns the values that the words of a command line may have, by the names of their placeholders. `clap_complete` writes
//! the scripts; this module adds to them what its generators for bash and fish leave out.

use std::fmt::Write as _;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Arg, ArgAction, Command, ValueHint};
use clap_complete::Shell;
use hoist_client::Dialect;

use crate::check::CorpusDialect;
use crate::cli;
use crate::config::{SETTINGS, Values};
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Prints the completion script for a shell.
pub(crate) fn run(shell: Shell) -> Result<Exit, Failure> {
    Output::data(script(shell))?;
    Ok(Exit::Success)
}

/// Returns the completion script for a shell.
fn script(shell: Shell) -> String {
    let mut command = completed(cli::command());
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "hoist", &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    match shell {
        Shell::Bash => add_to_bash(&mut script, &command),
        Shell::Fish => add_to_fish(&mut script, &command),
        _ => {}
    }
    script
}

/// Returns `command` with the values of its arguments described for the generators, in its subcommands too.
fn completed(command: Command) -> Command {
    let command = command.mut_args(|argument| {
        // The flags of `serve` are hidden in the help of other commands, which accept them as well.
        let argument = argument.hide(false);
        if is_switch(&argument) {
            return argument.action(ArgAction::SetTrue).num_args(0).require_equals(false);
        }
        if let Some(words) = closed_set(&argument) {
            return argument.value_parser(PossibleValuesParser::new(words));
        }
        let values = argument.get_possible_values();
        if !values.is_empty() {
            return argument.value_parser(PossibleValuesParser::new(values.into_iter().map(without_quotes)));
        }
        if !argument.get_action().takes_values() {
            return argument;
        }
        let hint = hint(&argument);
        argument.value_hint(hint)
    });
    let names: Vec<String> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, name| command.mut_subcommand(name, completed))
}

/// Returns whether the argument is a setting that is `on` if given without a value.
fn is_switch(argument: &Arg) -> bool {
    let name = argument.get_id().as_str();
    argument.is_require_equals_set()
        && SETTINGS.iter().any(|setting| setting.name == name && setting.values == Values::Switch)
}

/// Returns the words that the argument accepts, if these are a closed set that its parser does not know.
fn closed_set(argument: &Arg) -> Option<Vec<String>> {
    let name = argument.get_id().as_str();
    if let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) {
        let words = setting.words.iter().map(ToString::to_string);
        return (!setting.words.is_empty()).then(|| words.collect());
    }
    match name {
        "dialect" => Some(Dialect::names().map(str::to_owned).collect()),
        "interop" => {
            let versions = CorpusDialect::Ietf.versions().iter().map(|version| version.label());
            Some(versions.chain(["all".to_owned()]).collect())
        }
        _ => None,
    }
}

/// Returns the hint for a value outside of closed sets, by its placeholder.
fn hint(argument: &Arg) -> ValueHint {
    let is_named = |text: &str| {
        argument.get_value_names().is_some_and(|names| names.iter().any(|name| name.contains(text)))
    };
    let is_path = |text: &str| is_named(text) || argument.get_id().as_str().eq_ignore_ascii_case(text);
    if is_path("FILE") {
        ValueHint::FilePath
    } else if is_path("DIR") || is_path("DIRECTORY") {
        ValueHint::DirPath
    } else if is_named("CMD") {
        ValueHint::CommandName
    } else {
        ValueHint::Other
    }
}

/// Returns a value whose help has no double quotes, which the generator for fish does not escape.
fn without_quotes(value: PossibleValue) -> PossibleValue {
    match value.get_help().map(|help| help.to_string().replace('"', "'")) {
        Some(help) => value.help(help),
        None => value,
    }
}

/// The hint of the positional arguments of a subcommand: a file, a directory, or `Other` without any.
fn positional_hint(verb: &Command) -> ValueHint {
    verb.get_positionals().next().map_or(ValueHint::Other, Arg::get_value_hint)
}

/// Returns the names of the subcommands whose positional arguments have this hint.
fn verbs_with(command: &Command, hint: ValueHint) -> Vec<&str> {
    command.get_subcommands().filter(|verb| positional_hint(verb) == hint).map(Command::get_name).collect()
}

/// Adds to the script for bash: files and directories as positional arguments, where the generator offers only flags,
/// and the value of `--flag=value`, which bash splits into three words.
fn add_to_bash(script: &mut String, command: &Command) {
    let has_values =
        |verb: &&Command| verb.get_positionals().any(|word| !word.get_possible_values().is_empty());
    let values = command.get_subcommands().filter(has_values).map(Command::get_name);
    let files = verbs_with(command, ValueHint::FilePath);
    let directories = verbs_with(command, ValueHint::DirPath);
    let words =
        files.into_iter().chain(values).chain(directories.iter().copied()).collect::<Vec<_>>().join("|");
    let directories = directories.join("|");
    let _ = write!(
        script,
        r#"
_hoist_words() {{
    local previous=$3 at
    if [[ $previous == = ]]; then
        previous=${{COMP_WORDS[COMP_CWORD-2]}}
    fi
    _hoist "$1" "$2" "$previous"
    case ${{COMP_WORDS[1]}} in
        {words})
            # Without a reply bash completes file names.
            if [[ COMP_CWORD -gt 1 && $2 != -* ]]; then
                for at in "${{!COMPREPLY[@]}}"; do
                    if [[ ${{COMPREPLY[at]}} == -* ]]; then
                        unset "COMPREPLY[at]"
                    fi
                done
            fi
            ;;
    esac
    case ${{COMP_WORDS[1]}},$previous in
        {directories},-*) ;;
        {directories},*)
            compopt -o plusdirs 2>/dev/null
            ;;
    esac
}}
complete -F _hoist_words -o bashdefault -o default hoist
"#
    );
}

/// Adds to the script for fish the values of positional arguments, which the generator ignores.
fn add_to_fish(script: &mut String, command: &Command) {
    for verb in command.get_subcommands().filter(|verb| !verb.has_subcommands()) {
        let values = verb.get_positionals().next().map(Arg::get_possible_values).unwrap_or_default();
        let values: Vec<_> = values.iter().map(PossibleValue::get_name).collect();
        let offered = match positional_hint(verb) {
            _ if !values.is_empty() => format!(" -f -a \"{}\"", values.join(" ")),
            ValueHint::FilePath => continue,
            ValueHint::DirPath => " -f -a \"(__fish_complete_directories)\"".to_owned(),
            _ => " -f".to_owned(),
        };
        let name = verb.get_name();
        let _ = writeln!(script, "complete -c hoist -n \"__fish_hoist_using_subcommand {name}\"{offered}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_a_closed_set_is_accepted() {
        for name in Dialect::names() {
            assert!(name.parse::<Dialect>().is_ok(), "{name}");
        }
        for setting in SETTINGS {
            for word in setting.words {
                let words = ["hoist", "serve", &format!("--{}={word}", setting.name)].map(Into::into);
                assert!(cli::parse(words).is_ok(), "{} {word}", setting.name);
            }
        }
    }

    #[test]
    fn every_file_and_directory_has_its_hint() {
        let command = completed(cli::command());
        let serve = command.find_subcommand("serve").expect("a verb");
        for (name, expected) in [
            ("tls-cert", ValueHint::FilePath),
            ("data", ValueHint::DirPath),
            ("files-dir", ValueHint::DirPath),
            ("hook-command", ValueHint::CommandName),
            ("max-size", ValueHint::Other),
        ] {
            let found = serve.get_arguments().find(|argument| argument.get_id().as_str() == name);
            assert_eq!(found.map(Arg::get_value_hint), Some(expected), "{name}");
        }
        assert_eq!(verbs_with(&command, ValueHint::FilePath), ["put", "status", "cancel", "demo"]);
        assert_eq!(verbs_with(&command, ValueHint::DirPath), ["man"]);
    }
}
