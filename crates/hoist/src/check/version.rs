//! The versions a case is run in, and how each spells what cases leave open.
//!
//! Owns the corpus' own knowledge of the wire: it is written from the documents, not from the dialects' code.

use serde::Deserialize;

/// A family of versions that share a corpus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CorpusDialect {
    /// "Resumable Uploads for HTTP".
    Ietf,
    /// Upload-Token.
    Token,
    /// The tus resumable upload protocol 1.0.
    Tus1,
}

/// One spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    /// An interop version of the IETF draft.
    Interop(u8),
    /// The IETF text without version numbers.
    Rfc,
    /// The first token draft.
    Seed,
    /// A token draft known by `Upload-Incomplete` alone.
    Unnumbered,
    /// A token draft with a number, in the field of this name.
    Draft(&'static str, u8),
    /// tus 1.0.0, which has no spellings.
    Tus1,
}

/// The versions of the IETF dialect, oldest first.
const INTEROP: [Version; 9] = [
    Version::Interop(3),
    Version::Interop(4),
    Version::Interop(5),
    Version::Interop(6),
    Version::Interop(7),
    Version::Interop(8),
    Version::Interop(9),
    Version::Interop(10),
    Version::Rfc,
];

/// The forms of the token dialect.
const FORMS: [Version; 5] = [
    Version::Seed,
    Version::Unnumbered,
    Version::Draft(DRAFT, 1),
    Version::Draft(INTEROP_FIELD, 1),
    Version::Draft(INTEROP_FIELD, 2),
];

/// The field of interop versions.
pub(crate) const INTEROP_FIELD: &str = "Upload-Draft-Interop-Version";
const DRAFT: &str = "Upload-Draft-Version";

/// The versions a case holds for: `"6.."`, `"3..5"`, `"8"`, `"rfc"`, `"seed"`, `"draft"`, or a list of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Range {
    /// One stretch.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Range {
    /// Those of a dialect it contains.
    pub(crate) fn versions(&self, dialect: CorpusDialect) -> Vec<Version> {
        let stretches = match self {
            Self::One(stretch) => std::slice::from_ref(stretch),
            Self::Many(stretches) => stretches,
        };
        let contained = |version: &Version| stretches.iter().any(|stretch| version.is_in(stretch));
        dialect.versions().iter().copied().filter(contained).collect()
    }
}

impl CorpusDialect {
    /// Every dialect there is a corpus for.
    pub(crate) const ALL: [Self; 3] = [Self::Ietf, Self::Token, Self::Tus1];

    /// All of it.
    pub(crate) fn versions(self) -> &'static [Version] {
        match self {
            Self::Ietf => &INTEROP,
            Self::Token => &FORMS,
            Self::Tus1 => &[Version::Tus1],
        }
    }

    /// Its name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ietf => "ietf",
            Self::Token => "token",
            Self::Tus1 => "tus1",
        }
    }
}

impl Version {
    /// Whether a stretch like `"6.."` contains it. An open end contains the text without versions too.
    pub(crate) fn is_in(self, stretch: &str) -> bool {
        if stretch == self.label() {
            return true;
        }
        let place = match self {
            Self::Interop(number) => number,
            Self::Rfc => u8::MAX,
            Self::Unnumbered | Self::Draft(..) => return stretch == "draft",
            Self::Seed | Self::Tus1 => return false,
        };
        let Some((from, to)) = stretch.split_once("..") else { return false };
        let from = if from.is_empty() { 0 } else { from.parse().unwrap_or(u8::MAX) };
        let to = if to.is_empty() { u8::MAX } else { to.parse().unwrap_or(0) };
        (from..=to).contains(&place)
    }

    /// Its name in reports and ranges.
    pub(crate) fn label(self) -> String {
        match self {
            Self::Rfc => "rfc".into(),
            Self::Seed => "seed".into(),
            Self::Tus1 => "1.0.0".into(),
            Self::Unnumbered => "unnumbered".into(),
            Self::Draft(DRAFT, number) => format!("v{number}"),
            Self::Interop(number) | Self::Draft(_, number) => number.to_string(),
        }
    }

    /// Its dialect.
    pub(crate) fn dialect(self) -> CorpusDialect {
        match self {
            Self::Interop(_) | Self::Rfc => CorpusDialect::Ietf,
            Self::Seed | Self::Unnumbered | Self::Draft(..) => CorpusDialect::Token,
            Self::Tus1 => CorpusDialect::Tus1,
        }
    }

    /// The field a peer names it with, in requests, answers and interim responses.
    pub(crate) fn number(self) -> Option<(&'static str, u8)> {
        match self {
            Self::Interop(number) => Some((INTEROP_FIELD, number)),
            Self::Draft(field, number) => Some((field, number)),
            Self::Rfc | Self::Seed | Self::Unnumbered | Self::Tus1 => None,
        }
    }

    /// The field that says in a request whether the representation ends with its content, if the version says that.
    pub(crate) fn says_in_request(self, complete: bool) -> Option<(&'static str, &'static str)> {
        match self {
            // What is not said to be incomplete ends here.
            Self::Seed | Self::Unnumbered | Self::Draft(..) if complete => None,
            Self::Seed => Some(("Upload-Complete", "?0")),
            Self::Unnumbered => Some(("Upload-Incomplete", "?1")),
            Self::Interop(_) | Self::Rfc | Self::Draft(..) | Self::Tus1 => self.says(complete),
        }
    }

    /// The field that says in a response whether the upload is complete. tus has none: offset and length say it.
    pub(crate) fn says(self, complete: bool) -> Option<(&'static str, &'static str)> {
        if self == Self::Tus1 {
            return None;
        }
        // Token drafts say both, but for answers to requests that do not show their form.
        let inverted = matches!(self, Self::Interop(..4) | Self::Draft(..));
        let name = if inverted { "Upload-Incomplete" } else { "Upload-Complete" };
        Some((name, if complete == inverted { "?0" } else { "?1" }))
    }

    /// The media type of appends.
    pub(crate) fn append_type(self) -> Option<&'static str> {
        match self {
            Self::Interop(6..) | Self::Rfc => Some("application/partial-upload"),
            Self::Tus1 => Some("application/offset+octet-stream"),
            Self::Interop(_) | Self::Seed | Self::Unnumbered | Self::Draft(..) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_contain_versions() {
        let cases: [(&str, &[&str]); 6] = [
            ("6..", &["6", "7", "8", "9", "10", "rfc"]),
            ("..4", &["3", "4"]),
            ("5..6", &["5", "6"]),
            ("8", &["8"]),
            ("rfc", &["rfc"]),
            ("draft", &[]),
        ];
        for (range, expected) in cases {
            let versions = Range::One(range.into()).versions(CorpusDialect::Ietf);
            let labels: Vec<_> = versions.into_iter().map(Version::label).collect();
            assert_eq!(labels, expected, "{range}");
        }
        let forms = Range::Many(vec!["seed".into(), "2".into()]).versions(CorpusDialect::Token);
        assert_eq!(forms, [Version::Seed, Version::Draft(INTEROP_FIELD, 2)]);
        assert_eq!(Range::One("draft".into()).versions(CorpusDialect::Token).len(), 4);
    }

    #[test]
    fn completeness_is_spelled_as_the_version_has_it() {
        assert_eq!(Version::Interop(3).says(true), Some(("Upload-Incomplete", "?0")));
        assert_eq!(Version::Interop(4).says(true), Some(("Upload-Complete", "?1")));
        assert_eq!(Version::Rfc.says(false), Some(("Upload-Complete", "?0")));
        assert_eq!(Version::Tus1.says(true), None);
        assert_eq!(Version::Tus1.says_in_request(false), None);
        assert_eq!(Version::Seed.says_in_request(true), None);
        assert_eq!(Version::Seed.says_in_request(false), Some(("Upload-Complete", "?0")));
        assert_eq!(Version::Draft(DRAFT, 1).says_in_request(false), Some(("Upload-Incomplete", "?1")));
        assert_eq!(Version::Unnumbered.says(true), Some(("Upload-Complete", "?1")));
        assert_eq!(Version::Unnumbered.says_in_request(false), Some(("Upload-Incomplete", "?1")));
    }
}
