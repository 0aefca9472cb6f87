//! The settings of the sinks of events.

use std::path::PathBuf;

use hoist_proto::upload::EventKind;
use hoist_server::outbox::{Format, Sink};
use serde::Deserialize;

use super::SettingsReader;
use crate::config::value::CommandLine;
use crate::config::{EventsConfig, SinkConfig};

/// A section `[[events]]` of the file, which [`layers`](crate::config::layers) passes on as JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Section {
    url: String,
    format: Option<String>,
    secret_file: Option<PathBuf>,
    types: Option<Vec<String>>,
}

impl SettingsReader<'_> {
    pub(super) fn events(&mut self) -> EventsConfig {
        let format = self.named("events-format").unwrap_or_default();
        let secret_file = self.path("events-secret-file");
        let sinks = self.each("events", |text| sink(text, format, secret_file.clone()));
        if self.layers.get("events").is_none() {
            self.reject_without("events-secret-file", "--events");
        }
        let timeout = self.positive_span("hook-timeout");
        EventsConfig { sinks, timeout }
    }
}

/// Reads a sink: its URL, or a section with it. The section overrides the defaults.
fn sink(text: &str, format: Format, secret_file: Option<PathBuf>) -> Result<SinkConfig, String> {
    if !text.starts_with('{') {
        let sink = at_url(text)?.format(format);
        return Ok(SinkConfig { sink, secret_file });
    }
    let section: Section = serde_json::from_str(text)
        .map_err(|error| format!("is no section with `url`, `format`, `secret-file` and `types`: {error}"))?;
    let format = match section.format {
        None => format,
        Some(text) => text.parse().map_err(|wrong| format!("has the format `{text}`, {wrong}"))?,
    };
    let mut sink = at_url(&section.url)?.format(format);
    if let Some(types) = section.types {
        let kind = |text: &String| {
            text.parse::<EventKind>().map_err(|wrong| format!("has the type `{text}`, {wrong}"))
        };
        sink = sink.kinds(&types.iter().map(kind).collect::<Result<Vec<_>, _>>()?);
    }
    Ok(SinkConfig { sink, secret_file: section.secret_file.or(secret_file) })
}

fn at_url(text: &str) -> Result<Sink, String> {
    let Some(command) = text.strip_prefix("exec:") else {
        return text.parse().map_err(|wrong| format!("is {wrong}"));
    };
    let mut words = command.parse::<CommandLine>()?.0;
    let arguments = words.split_off(1);
    Ok(Sink::exec(&words.concat(), arguments))
}
