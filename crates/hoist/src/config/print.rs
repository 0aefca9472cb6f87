//! The effective configuration as a TOML file, each value with the place it comes from.
//!
//! What is printed can be used as a configuration file and means the same.

use std::fmt;

use super::settings::SETTINGS;
use super::{Config, SettingValue};

/// A configuration, to be displayed.
pub(crate) struct Effective<'a>(&'a Config);

impl Config {
    /// As TOML.
    pub(crate) fn effective(&self) -> Effective<'_> {
        Effective(self)
    }
}

impl fmt::Display for Effective<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut heading = "";
        for setting in SETTINGS {
            if heading != setting.heading {
                let gap = if heading.is_empty() { "" } else { "\n" };
                heading = setting.heading;
                writeln!(f, "{gap}# {heading}")?;
            }
            match self.0.layers.get(setting.name) {
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
