//! The corpus of cases: the files of `conformance/` built into the binary, or the files of a directory.

use std::path::Path;
use std::sync::Arc;

use toml::{Table, Value};

use super::ServerSettings;
use super::case::{AlwaysRule, Case, File, Rule};
use super::requirement::{Level, Requirements};
use super::version::{CorpusDialect, Version};

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../../../conformance/", $name)))),*]
    };
}

const FILES: [(&str, &str); 29] = built_in![
    "ietf/always.toml",
    "ietf/append.toml",
    "ietf/cancellation.toml",
    "ietf/concurrency.toml",
    "ietf/creation.toml",
    "ietf/digests.toml",
    "ietf/fields.toml",
    "ietf/interim.toml",
    "ietf/limits.toml",
    "ietf/options.toml",
    "ietf/retrieval.toml",
    "ietf/versions.toml",
    "token/always.toml",
    "token/creation.toml",
    "token/index.toml",
    "token/procedures.toml",
    "token/tokens.toml",
    "tus1/always.toml",
    "tus1/append.toml",
    "tus1/checksum.toml",
    "tus1/concatenation.toml",
    "tus1/concurrency.toml",
    "tus1/creation.toml",
    "tus1/expiration.toml",
    "tus1/head.toml",
    "tus1/metadata.toml",
    "tus1/options.toml",
    "tus1/termination.toml",
    "tus1/versions.toml",
];

/// A set of cases, with the rules for all of their exchanges.
#[derive(Debug, Default)]
pub struct Corpus {
    cases: Vec<(CorpusDialect, Arc<Case>)>,
    always: Vec<(CorpusDialect, AlwaysRule)>,
    requirements: Requirements,
}

/// A case as shown by `check --list`.
pub(crate) struct CaseSummary<'a> {
    pub(crate) dialect: CorpusDialect,
    pub(crate) name: &'a str,
    pub(crate) proves: &'a [String],
    pub(crate) level: Level,
    pub(crate) section: String,
}

/// An error in a file of the corpus.
#[derive(Debug)]
pub struct CorpusError {
    file: String,
    wrong: String,
}

impl std::fmt::Display for CorpusError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.file, self.wrong)
    }
}

impl std::error::Error for CorpusError {}

impl Corpus {
    /// Returns the built-in corpus.
    ///
    /// # Errors
    /// Returns an error if a file is malformed. The tests make sure that none is.
    pub fn built_in() -> Result<Self, CorpusError> {
        let mut corpus = Self::empty()?;
        for (name, text) in FILES {
            corpus.add(name, text)?;
        }
        Ok(corpus)
    }

    /// Reads all `.toml` files of a directory.
    ///
    /// # Errors
    /// Returns an error if the directory or a file cannot be read, or if a file is malformed.
    pub fn from_directory(directory: &Path) -> Result<Self, CorpusError> {
        let bad = |file: &Path, wrong: std::io::Error| CorpusError {
            file: file.display().to_string(),
            wrong: wrong.to_string(),
        };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(|error| bad(directory, error))? {
            let path = entry.map_err(|error| bad(directory, error))?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                paths.push(path);
            }
        }
        paths.sort();
        let mut corpus = Self::empty()?;
        for path in paths {
            let text = std::fs::read_to_string(&path).map_err(|error| bad(&path, error))?;
            corpus.add(&path.display().to_string(), &text)?;
        }
        Ok(corpus)
    }

    /// Returns a corpus without cases.
    fn empty() -> Result<Self, CorpusError> {
        let bad = |error: toml::de::Error| CorpusError {
            file: "spec/requirements.toml".to_owned(),
            wrong: error.to_string(),
        };
        Ok(Self { requirements: Requirements::built_in().map_err(bad)?, ..Self::default() })
    }

    fn add(&mut self, name: &str, text: &str) -> Result<(), CorpusError> {
        let bad = |error: toml::de::Error| CorpusError { file: name.to_owned(), wrong: error.to_string() };
        let File { dialect, case, always } = expand(text).and_then(toml::Table::try_into).map_err(bad)?;
        self.cases.extend(case.into_iter().map(|case| (dialect, Arc::new(case))));
        self.always.extend(always.into_iter().map(|rule| (dialect, rule)));
        Ok(())
    }

    /// Returns the number of cases.
    pub fn len(&self) -> usize {
        self.cases.len()
    }

    /// Returns whether there are no cases.
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    /// Returns the server settings that the cases need, without duplicates.
    pub fn servers(&self) -> Vec<ServerSettings> {
        let mut servers: Vec<_> = self.cases.iter().map(|(_, case)| case.server()).collect();
        servers.sort();
        servers.dedup();
        servers
    }

    /// Returns the level of a case: that of its strongest requirement, unless the case exceeds the requirements.
    pub(super) fn level(&self, case: &Case) -> Level {
        if case.own { Level::Own } else { self.strongest(&case.proves) }
    }

    /// Returns the level of the strongest requirement.
    fn strongest(&self, proves: &[String]) -> Level {
        self.requirements.strongest(proves).map_or(Level::Own, |requirement| requirement.level)
    }

    /// Returns the section of the strongest requirement.
    pub(super) fn section(&self, proves: &[String]) -> String {
        self.requirements.strongest(proves).map(|requirement| requirement.section.clone()).unwrap_or_default()
    }

    /// Returns a summary of each case.
    pub(crate) fn listed(&self) -> impl Iterator<Item = CaseSummary<'_>> {
        self.cases.iter().map(|(dialect, case)| CaseSummary {
            dialect: *dialect,
            name: &case.name,
            proves: &case.proves,
            level: self.level(case),
            section: self.section(&case.proves),
        })
    }

    pub(super) fn cases(&self) -> impl Iterator<Item = (CorpusDialect, &Arc<Case>)> {
        self.cases.iter().map(|(dialect, case)| (*dialect, case))
    }

    /// Returns the rules of at least this level that apply in a version, with their names.
    pub(super) fn rules(&self, version: Version, level: Level) -> Vec<(String, Rule)> {
        let holds = |(dialect, always): &&(CorpusDialect, AlwaysRule)| {
            let own = if always.own { Level::Own } else { self.strongest(&always.proves) };
            *dialect == version.dialect() && always.holds_in(version) && own >= level
        };
        self.always.iter().filter(holds).map(|(_, always)| (always.name.clone(), always.rule)).collect()
    }
}

/// Parses a file and repeats each case that has a list `each`, once per text in the list.
fn expand(text: &str) -> Result<Table, toml::de::Error> {
    let mut file: Table = text.parse()?;
    if let Some(Value::Array(cases)) = file.get_mut("case") {
        let written_out = std::mem::take(cases).into_iter().flat_map(|mut case| {
            match case.as_table_mut().and_then(|case| case.remove("each")) {
                Some(Value::Array(each)) => {
                    let texts = each.iter().filter_map(Value::as_str);
                    texts.map(|text| with(&case, text)).collect()
                }
                _ => vec![case],
            }
        });
        let written_out = written_out.collect();
        *cases = written_out;
    }
    Ok(file)
}

/// Returns a value with `{each}` replaced by `text`.
fn with(value: &Value, text: &str) -> Value {
    match value {
        Value::String(string) => Value::String(string.replace("{each}", text)),
        Value::Array(values) => Value::Array(values.iter().map(|value| with(value, text)).collect()),
        Value::Table(table) => {
            let members = table.iter().map(|(key, value)| (key.replace("{each}", text), with(value, text)));
            Value::Table(members.collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_corpus_is_well_formed_and_has_unique_names() {
        let corpus = Corpus::built_in().unwrap_or_else(|bad| panic!("{bad}"));
        let mut names: Vec<_> = corpus.cases().map(|(dialect, case)| (dialect, case.name.as_str())).collect();
        names.sort_unstable();
        for pair in names.windows(2) {
            assert_ne!(pair[0], pair[1]);
        }
        for (dialect, case) in corpus.cases() {
            assert!(!case.proves.is_empty(), "{} proves nothing", case.name);
            assert!(!case.versions(dialect).is_empty(), "{} holds nowhere", case.name);
        }
    }

    #[test]
    fn every_corpus_file_is_built_in() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance");
        for dialect in ["ietf", "token", "tus1"] {
            let there = Corpus::from_directory(&root.join(dialect)).unwrap_or_else(|bad| panic!("{bad}"));
            let corpus = Corpus::built_in().unwrap_or_else(|bad| panic!("{bad}"));
            let built_in = corpus.cases().filter(|(of, _)| of.name() == dialect).count();
            assert_eq!(built_in, there.len(), "{dialect}: list new files in FILES");
        }
    }

    #[test]
    fn a_case_that_exceeds_its_requirement_has_level_own() {
        let corpus = Corpus::built_in().unwrap_or_else(|bad| panic!("{bad}"));
        let level = |name: &str| {
            let mut listed = corpus.listed().filter(|case| case.dialect == CorpusDialect::Tus1);
            listed.find(|case| case.name == name).map(|case| case.level)
        };
        assert_eq!(level("OPTIONS tells the extensions"), Some(Level::Own));
        assert_eq!(level("PATCH finds no upload of the other dialects"), Some(Level::Own));
        assert_eq!(level("content is appended at the offset"), Some(Level::Must));
        let rules = |level| corpus.rules(Version::Tus1, level).into_iter().map(|(name, _)| name);
        let name = "the URL of an upload is absolute, long and says nothing";
        assert!(rules(Level::Own).any(|rule| rule == name) && !rules(Level::Must).any(|rule| rule == name));
    }

    #[test]
    fn a_misspelt_key_is_an_error() {
        let mut corpus = Corpus::default();
        let text = "dialect = \"ietf\"\n[[case]]\nname = \"a\"\nproves = []\nsend = { method = \"PUT\" }\nexpekt = {}\n";
        let bad = corpus.add("x.toml", text).expect_err("misspelt").to_string();
        assert!(bad.starts_with("x.toml: ") && bad.contains("expekt"), "{bad}");
    }
}
