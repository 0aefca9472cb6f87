//! The protocol versions, and the way each spells completeness, version numbers and media types.
//!
//! Written from the specifications and independent of the dialects in `hoist-proto`.

use std::sync::LazyLock;

use hoist_proto::dialect::interop::Interop;
use serde::Deserialize;

/// A dialect: a family of versions that share a corpus.
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

/// A version of a dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    /// An interop version of the IETF draft.
    Interop(u8),
    /// The IETF draft without a version number.
    Rfc,
    /// The first token draft.
    Seed,
    /// A token draft without a number, recognized by `Upload-Incomplete`.
    Unnumbered,
    /// A token draft with a number, in the field with this name.
    Draft(&'static str, u8),
    /// tus 1.0.0.
    Tus1,
}

/// The versions of the IETF dialect, oldest first.
static INTEROP: LazyLock<Vec<Version>> = LazyLock::new(|| {
    let number = |version: Interop| version.number().and_then(|number| u8::try_from(number).ok());
    Interop::ALL.into_iter().map(|version| number(version).map_or(Version::Rfc, Version::Interop)).collect()
});

/// The forms of the token dialect, oldest first.
const FORMS: [Version; 5] = [
    Version::Seed,
    Version::Unnumbered,
    Version::Draft(DRAFT, 1),
    Version::Draft(INTEROP_FIELD, 1),
    Version::Draft(INTEROP_FIELD, 2),
];

/// The field with the interop version.
pub(crate) const INTEROP_FIELD: &str = "Upload-Draft-Interop-Version";
const DRAFT: &str = "Upload-Draft-Version";

/// A range of versions: `"6.."`, `"3..5"`, `"8"`, `"rfc"`, `"seed"`, `"draft"`, or a list of these.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum VersionRange {
    /// A single range.
    One(String),
    /// A list of ranges.
    Many(Vec<String>),
}

impl VersionRange {
    /// Returns the versions of a dialect in the range.
    pub(crate) fn versions(&self, dialect: CorpusDialect) -> Vec<Version> {
        let ranges = match self {
            Self::One(range) => std::slice::from_ref(range),
            Self::Many(ranges) => ranges,
        };
        let contained = |version: &Version| ranges.iter().any(|range| version.is_in(range));
        dialect.versions().iter().copied().filter(contained).collect()
    }
}

impl CorpusDialect {
    /// All dialects.
    pub(crate) const ALL: [Self; 3] = [Self::Ietf, Self::Token, Self::Tus1];

    /// Returns the versions of the dialect, oldest first.
    pub(crate) fn versions(self) -> &'static [Version] {
        match self {
            Self::Ietf => &INTEROP,
            Self::Token => &FORMS,
            Self::Tus1 => &[Version::Tus1],
        }
    }

    /// Returns the name used in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ietf => "ietf",
            Self::Token => "token",
            Self::Tus1 => "tus1",
        }
    }
}

impl Version {
    /// Returns whether a range like `"6.."` contains the version. An open end includes the unnumbered form.
    pub(crate) fn is_in(self, range: &str) -> bool {
        if range == self.label() {
            return true;
        }
        let place = match self {
            Self::Interop(number) => number,
            Self::Rfc => u8::MAX,
            Self::Unnumbered | Self::Draft(..) => return range == "draft",
            Self::Seed | Self::Tus1 => return false,
        };
        if range == "numbered" {
            return self != Self::Rfc;
        }
        let Some((from, to)) = range.split_once("..") else { return false };
        let from = if from.is_empty() { 0 } else { from.parse().unwrap_or(u8::MAX) };
        let to = match to {
            "" => u8::MAX,
            "numbered" => u8::MAX - 1,
            to => to.parse().unwrap_or(0),
        };
        (from..=to).contains(&place)
    }

    /// Returns the label used in reports and ranges.
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

    /// Returns the dialect.
    pub(crate) fn dialect(self) -> CorpusDialect {
        match self {
            Self::Interop(_) | Self::Rfc => CorpusDialect::Ietf,
            Self::Seed | Self::Unnumbered | Self::Draft(..) => CorpusDialect::Token,
            Self::Tus1 => CorpusDialect::Tus1,
        }
    }

    /// Returns the field with the version number, and the number, for requests and responses.
    pub(crate) fn number_field(self) -> Option<(&'static str, u8)> {
        match self {
            Self::Interop(number) => Some((INTEROP_FIELD, number)),
            Self::Draft(field, number) => Some((field, number)),
            Self::Rfc | Self::Seed | Self::Unnumbered | Self::Tus1 => None,
        }
    }

    /// Returns the field that states in a request whether the content is the last of the upload.
    pub(crate) fn request_completeness_field(self, complete: bool) -> Option<(&'static str, &'static str)> {
        match self {
            // A request without the field is complete.
            Self::Seed | Self::Unnumbered | Self::Draft(..) if complete => None,
            Self::Seed => Some(("Upload-Complete", "?0")),
            Self::Unnumbered => Some(("Upload-Incomplete", "?1")),
            Self::Interop(_) | Self::Rfc | Self::Draft(..) | Self::Tus1 => self.completeness_field(complete),
        }
    }

    /// Returns the field that states in a response whether the upload is complete. tus has none.
    pub(crate) fn completeness_field(self, complete: bool) -> Option<(&'static str, &'static str)> {
        if self == Self::Tus1 {
            return None;
        }
        // Token drafts send both fields, except in responses to requests that do not show their form.
        let inverted = matches!(self, Self::Interop(..4) | Self::Draft(..));
        let name = if inverted { "Upload-Incomplete" } else { "Upload-Complete" };
        Some((name, if complete == inverted { "?0" } else { "?1" }))
    }

    /// Returns the media type of appends.
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
        let cases: [(&str, &[&str]); 8] = [
            ("6..", &["6", "7", "8", "9", "10", "rfc"]),
            ("..4", &["3", "4"]),
            ("5..6", &["5", "6"]),
            ("numbered", &["3", "4", "5", "6", "7", "8", "9", "10"]),
            ("6..numbered", &["6", "7", "8", "9", "10"]),
            ("8", &["8"]),
            ("rfc", &["rfc"]),
            ("draft", &[]),
        ];
        for (range, expected) in cases {
            let versions = VersionRange::One(range.into()).versions(CorpusDialect::Ietf);
            let labels: Vec<_> = versions.into_iter().map(Version::label).collect();
            assert_eq!(labels, expected, "{range}");
        }
        let forms = VersionRange::Many(vec!["seed".into(), "2".into()]).versions(CorpusDialect::Token);
        assert_eq!(forms, [Version::Seed, Version::Draft(INTEROP_FIELD, 2)]);
        assert_eq!(VersionRange::One("draft".into()).versions(CorpusDialect::Token).len(), 4);
    }

    #[test]
    fn completeness_has_the_field_of_the_version() {
        assert_eq!(Version::Interop(3).completeness_field(true), Some(("Upload-Incomplete", "?0")));
        assert_eq!(Version::Interop(4).completeness_field(true), Some(("Upload-Complete", "?1")));
        assert_eq!(Version::Rfc.completeness_field(false), Some(("Upload-Complete", "?0")));
        assert_eq!(Version::Tus1.completeness_field(true), None);
        assert_eq!(Version::Tus1.request_completeness_field(false), None);
        assert_eq!(Version::Seed.request_completeness_field(true), None);
        assert_eq!(Version::Seed.request_completeness_field(false), Some(("Upload-Complete", "?0")));
        assert_eq!(
            Version::Draft(DRAFT, 1).request_completeness_field(false),
            Some(("Upload-Incomplete", "?1"))
        );
        assert_eq!(Version::Unnumbered.completeness_field(true), Some(("Upload-Complete", "?1")));
        assert_eq!(Version::Unnumbered.request_completeness_field(false), Some(("Upload-Incomplete", "?1")));
    }
}
