//! The requirements that cases prove, with the level and section of the document that states each.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The list of requirements of the repository.
const LIST: &str = include_str!("../../../../spec/requirements.toml");

/// The level of a requirement in its document, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, clap::ValueEnum)]
#[serde(from = "String")]
pub enum Level {
    /// A decision of hoist's own, where the documents are silent or leave a choice.
    #[value(alias = "all")]
    Own,
    /// `MAY`, and requirements that follow from using it.
    May,
    /// `SHOULD` and `SHOULD NOT`.
    Should,
    /// `MUST` and `MUST NOT`.
    Must,
}

/// A requirement in `spec/requirements.toml`. Keys that only `xtask tidy` reads are ignored.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Requirement {
    id: String,
    pub(crate) level: Level,
    pub(crate) section: String,
}

/// All requirements, by id.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requirements(BTreeMap<String, Requirement>);

#[derive(Deserialize)]
struct File {
    requirement: Vec<Requirement>,
}

impl Level {
    /// Returns the keyword of RFC 2119, or `OWN`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Own => "OWN",
            Self::May => "MAY",
            Self::Should => "SHOULD",
            Self::Must => "MUST",
        }
    }
}

impl From<String> for Level {
    fn from(word: String) -> Self {
        match word.split(' ').next() {
            Some("MUST") => Self::Must,
            Some("SHOULD") => Self::Should,
            Some("MAY") => Self::May,
            _ => Self::Own,
        }
    }
}

impl Requirements {
    /// Returns the built-in list.
    pub(crate) fn built_in() -> Result<Self, toml::de::Error> {
        let File { requirement } = toml::from_str(LIST)?;
        Ok(Self(requirement.into_iter().map(|requirement| (requirement.id.clone(), requirement)).collect()))
    }

    /// Returns the strongest of the requirements with these ids. Unknown ids are ignored.
    pub(crate) fn strongest(&self, ids: &[String]) -> Option<&Requirement> {
        let mut strongest: Option<&Requirement> = None;
        for requirement in ids.iter().filter_map(|id| self.0.get(id)) {
            if strongest.is_none_or(|other| requirement.level > other.level) {
                strongest = Some(requirement);
            }
        }
        strongest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_requirement_gives_the_level() {
        let requirements = Requirements::built_in().unwrap_or_else(|error| panic!("{error}"));
        let level = |ids: &[&str]| {
            let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
            requirements.strongest(&ids).map(|requirement| requirement.level)
        };
        assert_eq!(level(&["TOK-TOKEN-05", "TOK-TOKEN-01"]), Some(Level::Must));
        assert_eq!(level(&["TOK-TOKEN-05"]), Some(Level::Should));
        assert_eq!(level(&["NO-SUCH-ID"]), None);
        assert_eq!(Level::from("MUST NOT".to_owned()), Level::Must);
    }
}
