//! The differences between two configurations, and the part of them that a running server can apply.

use std::fmt;

use super::settings::{Reload, SETTINGS, Setting};
use super::{Config, ConfigError, Layers, SettingsReader};

/// A setting whose value differs in a new configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) name: &'static str,
    from: Option<Vec<String>>,
    to: Option<Vec<String>>,
}

/// The result of reading a configuration again.
#[derive(Debug)]
pub(crate) struct Changes {
    /// The new configuration, with the old values of the settings that need a restart.
    pub(crate) config: Config,
    pub(crate) applied: Vec<Change>,
    /// The changes that need a restart.
    pub(crate) postponed: Vec<Change>,
}

impl Config {
    /// Compares this configuration, which a server runs with, to a new one.
    ///
    /// # Errors
    /// Returns the contradictions between the changed settings and the old values of those that need a restart.
    pub(crate) fn changes(&self, new: &Self) -> Result<Changes, Vec<ConfigError>> {
        let changes = SETTINGS.iter().filter_map(|setting| {
            let texts = |layers: &Layers| layers.get(setting.name).map(|written| written.texts.clone());
            let change = Change { name: setting.name, from: texts(&self.layers), to: texts(&new.layers) };
            (change.from != change.to).then(|| (change.can_be_applied(setting), change))
        });
        let (applied, postponed): (Vec<_>, Vec<_>) = changes.partition(|(can_be_applied, _)| *can_be_applied);
        let only = |changes: Vec<(bool, Change)>| changes.into_iter().map(|(_, change)| change).collect();
        let (applied, postponed): (Vec<Change>, Vec<Change>) = (only(applied), only(postponed));
        let mut layers = new.layers.clone();
        for change in &postponed {
            layers.set(change.name, self.layers.get(change.name).cloned());
        }
        let mut read = SettingsReader { layers: &layers, errors: Vec::new() };
        let config = read.config(new.notes.clone());
        if !read.errors.is_empty() {
            return Err(read.errors);
        }
        Ok(Changes { config: Config { layers, ..config }, applied, postponed })
    }
}

impl Change {
    fn can_be_applied(&self, setting: &Setting) -> bool {
        let is_set = |texts: &Option<Vec<String>>| texts.as_ref().is_some_and(|texts| texts != &["none"]);
        match setting.reload {
            Reload::Live => true,
            Reload::IfSet => is_set(&self.from) && is_set(&self.to),
            Reload::Restart => false,
        }
    }
}

/// Formats the change as `max-size 1GiB -> 2GiB`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |texts: &Option<Vec<String>>| {
            let joined = texts.as_ref().map(|texts| texts.join(","));
            joined.map_or_else(|| "unset".to_owned(), |text| text.escape_debug().to_string())
        };
        // The arguments of a command may be secret, and so may a URL.
        if matches!(self.name, "hook-command" | "hooks-http" | "events") {
            return write!(f, "{} (changed)", self.name);
        }
        write!(f, "{} {} -> {}", self.name, text(&self.from), text(&self.to))
    }
}
