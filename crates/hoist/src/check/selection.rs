//! Selects the cases, versions and transports to run.

use std::collections::BTreeSet;

use super::ServerSettings;
use super::case::Case;
use super::extension;
use super::probe::Capabilities;
use super::requirement::Level;
use super::version::{CorpusDialect, Version};
use super::wire::Transport;

/// The number of bytes that cases without limits of their own may send. Larger limits do not matter.
const ROOM: u64 = 16 << 20;

/// The part of a corpus to run.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The weakest level of requirements to check.
    pub level: Level,
    /// A text that the names of the cases must contain.
    pub only: Option<String>,
    transports: Vec<Transport>,
    /// `None` for all versions.
    versions: Option<Vec<Version>>,
    settings: SettingsSource,
}

/// The server's settings, as far as cases depend on them.
#[derive(Clone, Debug)]
enum SettingsSource {
    /// The settings that the server was started with.
    Known(ServerSettings),
    /// The settings that a probe has detected.
    Capabilities(Capabilities),
}

/// The versions of the IETF dialect to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InteropSelection {
    /// The highest number that the server accepts, and the unnumbered form.
    Newest,
    /// All versions that the server accepts.
    All,
    /// The versions with these labels, whether the server accepts them or not.
    These(Vec<String>),
}

impl Selection {
    /// Selects all cases for a server with exactly these settings, in every version and over every transport.
    pub fn exactly(server: ServerSettings) -> Self {
        Self {
            level: Level::Own,
            only: None,
            transports: Transport::ALL.to_vec(),
            versions: None,
            settings: SettingsSource::Known(server),
        }
    }

    /// Selects the cases that apply to a probed server, in the newest version it accepts of each dialect.
    pub(crate) fn found(
        found: Capabilities,
        interop: &InteropSelection,
        dialects: &[CorpusDialect],
        transports: &[Transport],
    ) -> Self {
        let is_wanted = |dialect: CorpusDialect| dialects.is_empty() || dialects.contains(&dialect);
        let mut versions = Vec::new();
        for dialect in CorpusDialect::ALL.into_iter().filter(|dialect| is_wanted(*dialect)) {
            let accepted = || found.versions.iter().copied().filter(|version| version.dialect() == dialect);
            match interop {
                InteropSelection::All => versions.extend(accepted()),
                InteropSelection::These(labels) if dialect == CorpusDialect::Ietf => {
                    let all = dialect.versions().iter().copied();
                    versions.extend(all.filter(|version| labels.contains(&version.label())));
                }
                InteropSelection::Newest | InteropSelection::These(_) => {
                    versions.extend(accepted().rfind(|version| *version != Version::Rfc));
                    versions.extend(accepted().filter(|version| *version == Version::Rfc));
                }
            }
        }
        let is_over = |transport: &Transport| transports.is_empty() || transports.contains(transport);
        Self {
            level: Level::Should,
            only: None,
            transports: found.transports.iter().copied().filter(is_over).collect(),
            versions: Some(versions),
            settings: SettingsSource::Capabilities(found),
        }
    }

    /// Returns whether nothing is selected.
    pub(crate) fn is_empty(&self) -> bool {
        self.transports.is_empty() || self.versions.as_ref().is_some_and(Vec::is_empty)
    }

    /// Returns the versions in which to run a case.
    pub(crate) fn versions(&self, case: &Case, dialect: CorpusDialect) -> Vec<Version> {
        let is_wanted =
            |version: &Version| self.versions.as_ref().is_none_or(|wanted| wanted.contains(version));
        case.versions(dialect).into_iter().filter(is_wanted).collect()
    }

    /// Returns the transports over which to run a case.
    pub(crate) fn transports(&self, case: &Case) -> impl Iterator<Item = Transport> {
        self.transports.iter().copied().filter(|transport| case.holds_over(*transport))
    }

    /// Returns the selected versions; empty if all are.
    pub(crate) fn chosen(&self) -> &[Version] {
        self.versions.as_deref().unwrap_or_default()
    }

    /// Returns the reason to skip a case, if it cannot be run on this server.
    pub(crate) fn obstacle(&self, case: &Case, dialect: CorpusDialect) -> Option<String> {
        match &self.settings {
            SettingsSource::Known(server) if *server == case.server() => None,
            SettingsSource::Known(_) => Some("needs a server with other settings".into()),
            SettingsSource::Capabilities(found) => found.obstacle(case, dialect),
        }
    }
}

impl Capabilities {
    fn obstacle(&self, case: &Case, dialect: CorpusDialect) -> Option<String> {
        let needed = case.server();
        if let Some(missing) = needed.offers.difference(&self.offers).next() {
            return Some(format!("needs a server with {missing}"));
        }
        for (key, number) in &needed.limits {
            if self.limits.get(key) != Some(number) {
                return Some(format!("needs a server with {key}={number}"));
            }
        }
        for (key, number) in self.limits.iter().filter(|(key, _)| !needed.limits.contains_key(*key)) {
            let is_narrow = match key.as_str() {
                "max-size" | "max-append-size" => *number < ROOM,
                "min-size" | "min-append-size" => *number > 0,
                _ => false,
            };
            if is_narrow {
                return Some(format!("the server's limit {key}={number} does not allow it"));
            }
        }
        (dialect == CorpusDialect::Tus1).then(|| self.lacks(case, &needed.lacks)).flatten()
    }

    fn lacks(&self, case: &Case, needed: &BTreeSet<String>) -> Option<String> {
        if let Some(there) = needed.iter().find(|name| self.extensions.contains(*name)) {
            return Some(format!("needs a server without the extension {there}"));
        }
        let used = extension::used(case);
        let missing = used.iter().find(|name| !self.extensions.contains(**name) && !needed.contains(**name));
        if let Some(missing) = missing {
            return Some(format!("the server does not offer the extension {missing}"));
        }
        let algorithm = extension::algorithms(case).into_iter().find(|name| !self.algorithms.contains(*name));
        algorithm.map(|name| format!("the server does not offer the checksum algorithm {name}"))
    }
}
