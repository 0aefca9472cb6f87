//! The layers of the configuration: flags, environment variables, TOML file, defaults, in order of precedence.
//!
//! Owns the parsing of the file into texts; `config/reader.rs` parses the texts into values.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::settings::{self, SETTINGS, Setting, Values};

/// The layer that a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SettingSource {
    Flag(&'static str),
    Variable(String),
    File { path: String, line: usize },
    Default,
}

impl fmt::Display for SettingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Variable(name) => f.write_str(name),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The texts of a setting, with their source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SettingValue {
    pub(crate) texts: Vec<String>,
    pub(crate) source: SettingSource,
}

/// The flags given on the command line, by setting name.
pub(crate) type Flags = BTreeMap<&'static str, Vec<String>>;

/// The environment variables that start with `HOIST_`.
pub(crate) type Variables = BTreeMap<String, String>;

/// The merged layers: each setting that has a value, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layers(BTreeMap<&'static str, SettingValue>);

impl Layers {
    /// Merges flags, variables, file and defaults. Flags take precedence, defaults come last.
    pub(crate) fn new(flags: &Flags, variables: &Variables, file: &Layers) -> Self {
        let mut layers = BTreeMap::new();
        for setting in SETTINGS {
            let is_set = |variable: &String| variables.get(variable).is_some_and(|text| !text.is_empty());
            let former = setting.former_variable().filter(is_set);
            let variable = Some(setting.variable()).filter(is_set).or(former).unwrap_or_default();
            let written = if let Some(texts) = flags.get(setting.name) {
                Some(SettingValue { texts: texts.clone(), source: SettingSource::Flag(setting.name) })
            } else if let Some(text) = variables.get(&variable) {
                let texts = if setting.many() {
                    text.split(',').map(|text| text.trim().to_owned()).collect()
                } else {
                    vec![text.clone()]
                };
                Some(SettingValue { texts, source: SettingSource::Variable(variable) })
            } else if let Some(written) = file.0.get(setting.name) {
                Some(written.clone())
            } else {
                setting
                    .default
                    .map(|text| SettingValue { texts: vec![text.to_owned()], source: SettingSource::Default })
            };
            layers.extend(written.map(|written| (setting.name, written)));
        }
        Self(layers)
    }

    /// Parses `text`, the TOML file at `path`. Invalid entries are skipped and added to `errors`.
    pub(crate) fn of_file(path: &Path, text: &str, errors: &mut Vec<ConfigError>) -> Self {
        let path = path.display().to_string();
        let source_at = |at: usize| SettingSource::File { path: path.clone(), line: line_of(text, at) };
        let table = match DeTable::parse(text) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                let source = source_at(error.span().map_or(0, |span| span.start));
                errors.push(ConfigError::new(&source, format!("not TOML: {}", one_line(error.message()))));
                return Self::default();
            }
        };
        let mut layers = BTreeMap::new();
        for (key, value) in &table {
            let source = source_at(key.span().start);
            let name = key.get_ref().as_ref();
            match settings::find(name) {
                None => errors.push(ConfigError::new(&source, unknown(name, settings::nearest(name)))),
                Some(setting) => match texts(value.get_ref(), setting) {
                    Ok(texts) => drop(layers.insert(setting.name, SettingValue { texts, source })),
                    Err(wrong) => errors.push(ConfigError::in_setting(&source, name, wrong)),
                },
            }
        }
        Self(layers)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&SettingValue> {
        self.0.get(name)
    }

    /// Replaces a setting. `None` removes it.
    pub(crate) fn set(&mut self, name: &'static str, value: Option<SettingValue>) {
        match value {
            Some(value) => drop(self.0.insert(name, value)),
            None => drop(self.0.remove(name)),
        }
    }

    /// Sets the default of a setting whose default depends on other settings.
    pub(crate) fn assume(&mut self, name: &'static str, text: impl Into<String>) {
        let written = || SettingValue { texts: vec![text.into()], source: SettingSource::Default };
        self.0.entry(name).or_insert_with(written);
    }
}

/// Returns a message for each `HOIST_` variable that is not a setting, since it is probably misspelt.
pub(crate) fn unknown_variables(variables: &Variables) -> Vec<String> {
    let is_of = |setting: &settings::Setting, name: &str| {
        setting.variable() == name || setting.former_variable().is_some_and(|former| former == name)
    };
    let known = |name: &str| {
        matches!(name, "HOIST_CONFIG" | super::CLIENT_BEARER)
            || SETTINGS.iter().any(|setting| is_of(setting, name))
    };
    let unknown_variables =
        variables.iter().filter(|(name, value)| !known(name) && !is_container_link(name, value));
    unknown_variables
        .map(|(name, _)| {
            let nearest = settings::nearest(name.trim_start_matches("HOIST_"));
            let nearest = nearest.and_then(settings::find).map(settings::Setting::variable);
            format!("the environment variable {name} is not a setting{}", hint(nearest.as_deref()))
        })
        .collect()
}

/// Returns whether a variable is one that Kubernetes or Docker sets in every container for a service named `hoist` or
/// `hoist-...`: `HOIST_SERVICE_HOST`, `HOIST_PORT=tcp://10.0.0.1:80`, `HOIST_PORT_80_TCP_ADDR` and the like.
fn is_container_link(name: &str, value: &str) -> bool {
    const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];
    if name.ends_with("_SERVICE_HOST") || name.ends_with("_SERVICE_PORT") || name.contains("_SERVICE_PORT_") {
        return true;
    }
    if name.ends_with("_PORT") {
        let protocol = value.split_once("://").map(|(protocol, _)| protocol);
        if protocol.is_some_and(|protocol| PROTOCOLS.contains(&protocol)) {
            return true;
        }
    }
    let Some((_, link)) = name.rsplit_once("_PORT_") else { return false };
    let mut words = link.split('_');
    let is_port = words.next().is_some_and(|port| port.parse::<u16>().is_ok());
    let is_protocol = words.next().is_some_and(|word| PROTOCOLS.contains(&word.to_lowercase().as_str()));
    let is_end = matches!((words.next(), words.next()), (None | Some("ADDR" | "PORT" | "PROTO"), None));
    is_port && is_protocol && is_end
}

fn unknown(name: &str, nearest: Option<&str>) -> String {
    format!("unknown key `{}`{}", one_line(name), hint(nearest))
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(
        || "; `hoist serve --help` lists all settings".into(),
        |name| format!("; did you mean `{name}`?"),
    )
}

fn texts(value: &DeValue<'_>, setting: &Setting) -> Result<Vec<String>, String> {
    let many = setting.values == Values::Many;
    match value {
        DeValue::Array(values) if setting.has_sections && !values.is_empty() => {
            values.iter().map(|value| section_or_text(value.get_ref())).collect()
        }
        DeValue::Boolean(on) if setting.values == Values::Switch => {
            Ok(vec![if *on { "on" } else { "off" }.into()])
        }
        DeValue::Array(values) if many && values.is_empty() => {
            Err("is an empty list; leave the key out".into())
        }
        DeValue::Array(values) if many => values.iter().map(|value| text(value.get_ref())).collect(),
        DeValue::Array(_) => Err("takes one value, not a list".into()),
        DeValue::Table(_) => {
            Err("is not a section; write all keys at the top level, like `max-size = \"64MiB\"`".into())
        }
        value => text(value).map(|text| vec![text]),
    }
}

/// Returns a section as JSON, for a setting that may have several.
fn section_or_text(value: &DeValue<'_>) -> Result<String, String> {
    let DeValue::Table(section) = value else { return text(value) };
    let value = |value: &DeValue<'_>| match value {
        DeValue::Array(values) => {
            let texts = values.iter().map(|value| text(value.get_ref())).collect::<Result<Vec<_>, _>>()?;
            Ok::<_, String>(serde_json::Value::from(texts))
        }
        value => text(value).map(serde_json::Value::from),
    };
    let members =
        section.iter().map(|(key, member)| Ok((key.get_ref().to_string(), value(member.get_ref())?)));
    let members = members.collect::<Result<serde_json::Map<_, _>, String>>()?;
    Ok(serde_json::Value::Object(members).to_string())
}

fn text(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.as_ref().to_owned()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().replace('_', "")),
        value => {
            Err(format!("takes text or a whole number, not a {}; put the value in quotes", value.type_str()))
        }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|octet| **octet == b'\n').count() + 1
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
