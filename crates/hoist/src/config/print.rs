//! The output of `config print`: the effective configuration as TOML, with the source of each value.
//!
//! The output is itself a valid configuration file with the same meaning.

use std::fmt;

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
