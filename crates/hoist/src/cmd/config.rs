//! `hoist config`: what is wrong with the configuration, and what is in effect.

use serde_json::json;

use super::serve::components;
use crate::cli::ServeArgs;
use crate::config::{Config, ConfigError};
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Lists the problems, on standard output because they are what was asked for.
pub(crate) fn check(settings: &ServeArgs, output: Output) -> Exit {
    let (problems, warnings) = match Config::load(&settings.flags, settings.file.clone()) {
        Ok(config) => {
            let warnings = [config.warnings(), config.advice()].concat();
            (components::Components::of(&config).err().unwrap_or_default(), warnings)
        }
        Err(problems) => (problems, Vec::new()),
    };
    for warning in &warnings {
        output.message(format_args!("warning: {warning}"));
    }
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let text = if problems.is_empty() { "no problems".to_owned() } else { problems.join("\n") };
    output.report(text, &json!({ "ok": problems.is_empty(), "problems": problems, "warnings": warnings }));
    if problems.is_empty() { Exit::Success } else { Exit::Config }
}

/// Prints the effective configuration.
pub(crate) fn print(settings: &ServeArgs, output: Output) -> Result<Exit, Failure> {
    let config = load(settings, output)?;
    Output::data(config.effective())?;
    Ok(Exit::Success)
}

/// The configuration, for verbs that can do nothing without a sound one.
pub(crate) fn load(settings: &ServeArgs, output: Output) -> Result<Config, Failure> {
    Config::load(&settings.flags, settings.file.clone()).map_err(|problems| config_failure(&problems, output))
}

/// All problems as talk but the last, which is the failure.
pub(crate) fn config_failure(problems: &[ConfigError], output: Output) -> Failure {
    let (last, others) = problems.split_last().expect("something was wrong");
    for problem in others {
        output.message(problem);
    }
    Failure::message(Exit::Config, last)
}
