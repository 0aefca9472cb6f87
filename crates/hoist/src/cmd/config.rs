//! `hoist config`: checks the configuration, or prints the effective one.

mod environment;

use hoist_http::tls::Acceptor;
use serde_json::json;

use super::serve::{certificate, components};
use crate::cli::ServeArgs;
use crate::config::{Config, ConfigError, sample};
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Reports all problems of the configuration on standard output, as the result of the command.
pub(crate) fn check(settings: &ServeArgs, output: Output) -> Exit {
    let (problems, warnings) = match Config::load(&settings.flags, settings.file.clone()) {
        Ok(config) => examine(&config),
        Err(problems) => (problems, Vec::new()),
    };
    for warning in &warnings {
        output.message(format_args!("warning: {warning}"));
    }
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let text = if problems.is_empty() { "no problems".to_owned() } else { problems.join("\n") };
    let json = json!({
        "event": "config", "ok": problems.is_empty(), "problems": problems, "warnings": warnings,
    });
    output.report(text, &json);
    if problems.is_empty() { Exit::Success } else { Exit::Config }
}

/// Returns the problems and the warnings of a configuration that was read without errors.
fn examine(config: &Config) -> (Vec<ConfigError>, Vec<String>) {
    let mut warnings = [config.warnings(), config.advice()].concat();
    let mut problems = match components::Components::of(config) {
        Ok(parts) => {
            let validity = parts.tls.as_ref().and_then(Acceptor::validity);
            warnings.extend(
                validity.and_then(|validity| certificate::expires_soon(validity, certificate::now())),
            );
            parts.lockouts.into_iter().map(|(_, problem)| problem).collect()
        }
        Err(problems) => problems,
    };
    let found = environment::check(config);
    problems.extend(found.problems);
    warnings.extend(found.warnings);
    (problems, warnings)
}

/// Prints the effective configuration as TOML.
pub(crate) fn print(settings: &ServeArgs, output: Output) -> Result<Exit, Failure> {
    let config = load(settings, output)?;
    Output::data(config)?;
    Ok(Exit::Success)
}

/// Prints a configuration file with every key commented out.
pub(crate) fn print_sample() -> Result<Exit, Failure> {
    Output::data(sample())?;
    Ok(Exit::Success)
}

/// Loads the configuration for a command that needs a valid one.
pub(crate) fn load(settings: &ServeArgs, output: Output) -> Result<Config, Failure> {
    Config::load(&settings.flags, settings.file.clone()).map_err(|problems| config_failure(&problems, output))
}

/// Prints all errors but the last, and returns the last as the failure.
pub(crate) fn config_failure(problems: &[ConfigError], output: Output) -> Failure {
    let (last, others) = problems.split_last().expect("at least one error");
    for problem in others {
        output.message(problem);
    }
    Failure::message(Exit::Config, last)
}
