//! The program around the endpoint: what an operator asks of it through the admin API.

use hoist_store::store::BoxFuture;

/// A program that has a configuration, and can read it again.
pub trait Host: Send + Sync + 'static {
    /// Returns the configuration in force, without secrets.
    fn config(&self) -> Vec<SettingInForce>;

    /// Reads the configuration again, and takes over what can change while the program runs.
    ///
    /// # Errors
    /// Returns the problems of the configuration. Nothing has changed then.
    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, Vec<String>>>;
}

/// A setting in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingInForce {
    /// The name.
    pub name: String,
    /// The values; `None` if it is not set. Most settings take one.
    pub values: Option<Vec<String>>,
    /// The source of the value, such as a flag or a line of a file; `None` if it is not set.
    pub source: Option<String>,
}

/// The effect of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// The changes that are in force now.
    pub applied: Vec<String>,
    /// The changes that need a restart.
    pub postponed: Vec<String>,
    /// Warnings about the configuration in force.
    pub warnings: Vec<String>,
}
