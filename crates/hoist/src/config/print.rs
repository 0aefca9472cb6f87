//! The output of `config print`: the effective configuration as TOML, with the source of each value.
//!
//! The output is itself a valid configuration file with the same meaning. The admin API gets the same settings without secrets.

use std::fmt;

use hoist_server::admin::SettingInForce;

use super::settings::SETTINGS;
use super::{Config, SettingValue};

/// Formats the configuration as TOML.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut heading = "";
        for setting in SETTINGS {
            if heading != setting.heading {
                let gap = if heading.is_empty() { "" } else { "\n" };
                heading = setting.heading;
                writeln!(f, "{gap}# {heading}")?;
            }
            match self.layers.get(setting.name) {
                Some(SettingValue { texts, source }) => {
                    let texts: Vec<_> =
                        texts.iter().map(|text| toml::Value::from(text.as_str()).to_string()).collect();
                    let value =
                        if setting.many() { format!("[{}]", texts.join(", ")) } else { texts.join(", ") };
                    let source = source.to_string();
                    writeln!(f, "{:<44} # {}", format!("{} = {value}", setting.name), source.escape_debug())?;
                }
                None => writeln!(f, "{:<44} # not set", format!("# {} =", setting.name))?,
            }
        }
        Ok(())
    }
}

impl Config {
    /// Returns each setting with its value and its source, without secrets.
    pub(crate) fn in_force(&self) -> Vec<SettingInForce> {
        let setting = |name: &str| {
            let value = self.layers.get(name);
            SettingInForce {
                name: name.to_owned(),
                values: value
                    .map(|value| value.texts.iter().map(|text| without_secrets(name, text)).collect()),
                source: value.map(|value| value.source.to_string()),
            }
        };
        SETTINGS.iter().map(|row| setting(row.name)).collect()
    }
}

/// Leaves out the parts of a setting that may be secret: the arguments of programs, and the user information of URLs. All
/// other secrets are in files, which settings only name.
fn without_secrets(name: &str, text: &str) -> String {
    let (scheme, rest) = text.split_once("://").map_or((None, text), |(scheme, rest)| (Some(scheme), rest));
    if let Some(scheme) = scheme {
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let host = authority.rsplit_once('@').map(|(_, host)| host);
        let path = match path.split_once('?') {
            Some((path, _)) => format!("{path}?..."),
            None => path.to_owned(),
        };
        let hidden = if host.is_some() { "...@" } else { "" };
        return format!("{scheme}://{hidden}{}{path}", host.unwrap_or(authority));
    }
    if name == "hook-command" || text.starts_with("exec:") {
        return match text.split_once(char::is_whitespace) {
            Some((program, _)) => format!("{program} ..."),
            None => text.to_owned(),
        };
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_left_out() {
        for (name, text, expected) in [
            ("listen", "127.0.0.1:8080", "127.0.0.1:8080"),
            ("hook-command", "/bin/ask --key 'a b'", "/bin/ask ..."),
            ("hook-command", "/bin/ask", "/bin/ask"),
            ("events", "exec:/bin/tell secret", "exec:/bin/tell ..."),
            ("events", "https://anna:secret@h.example/in?key=secret", "https://...@h.example/in?..."),
            ("events", "https://h.example/a@b", "https://h.example/a@b"),
            ("public-url", "https://h.example", "https://h.example"),
        ] {
            assert_eq!(without_secrets(name, text), expected);
        }
    }
}
