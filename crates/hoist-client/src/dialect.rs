//! The dialects of resumable uploads, and their names.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use hoist_proto::dialect::client::ClientDialect;
use hoist_proto::dialect::interop::Interop;
use hoist_proto::dialect::token::{Draft, Form};

/// The dialect of an upload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dialect {
    /// The one that the server supports. The [`Client`](crate::Client) asks once and remembers the answer.
    #[default]
    Auto,
    /// "Resumable Uploads for HTTP", the IETF draft, in one of its versions.
    Ietf(Interop),
    /// `Upload-Token`, in one of its forms.
    Token(Form),
    /// tus 1.0.
    Tus1,
    /// One ordinary request, which cannot be resumed.
    Conventional,
}

/// The names of all dialects. Of several names for one dialect, the last is the exact one.
static NAMES: LazyLock<Vec<(String, Dialect)>> = LazyLock::new(|| {
    let first = [("auto", Dialect::Auto), ("ietf", Dialect::Ietf(Interop::NEWEST))];
    let versions = Interop::ALL.map(|version| (format!("ietf-{version}"), Dialect::Ietf(version)));
    let others = [
        ("token", Dialect::Token(Form::Seed)),
        ("token-draft", Dialect::Token(Form::Draft(Draft::Unnumbered))),
        ("token-0", Dialect::Token(Form::Draft(Draft::First))),
        ("token-1", Dialect::Token(Form::Draft(Draft::Interop1))),
        ("token-2", Dialect::Token(Form::Draft(Draft::Interop2))),
        ("tus1", Dialect::Tus1),
        ("conventional", Dialect::Conventional),
    ];
    let owned = |(name, dialect): (&str, Dialect)| (name.to_owned(), dialect);
    first.map(owned).into_iter().chain(versions).chain(others.map(owned)).collect()
});

impl Dialect {
    /// Returns the names that [`FromStr`] parses, for error messages.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| name.as_str())
    }

    /// Returns whether uploads have a URL of their own in this dialect.
    pub(crate) fn has_urls(self) -> bool {
        matches!(self, Self::Ietf(_) | Self::Tus1)
    }

    pub(crate) fn of(dialect: &ClientDialect) -> Self {
        match dialect {
            ClientDialect::Ietf(version) => Self::Ietf(*version),
            ClientDialect::Token { form, .. } => Self::Token(*form),
            ClientDialect::Tus1 { .. } => Self::Tus1,
            ClientDialect::Conventional => Self::Conventional,
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Ietf(Interop::Later(number)) = self {
            return write!(f, "ietf-{number}");
        }
        let name = NAMES.iter().rev().find(|(_, dialect)| dialect == self);
        f.write_str(name.map_or("unknown", |(name, _)| name.as_str()))
    }
}

/// An error for a text that is not the name of a dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no such dialect: use one of auto, ietf, ietf-{} to ietf-{}, ietf-rfc, token, token-draft, token-0 to token-2, tus1 or conventional",
    Interop::OLDEST,
    Interop::NEWEST
)]
pub struct UnknownDialect;

impl FromStr for Dialect {
    type Err = UnknownDialect;

    fn from_str(text: &str) -> Result<Self, UnknownDialect> {
        NAMES.iter().find(|(name, _)| *name == text).map(|(_, dialect)| *dialect).ok_or(UnknownDialect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_and_displayed() {
        for (name, dialect) in NAMES.iter() {
            assert_eq!(name.parse(), Ok(*dialect));
            assert_eq!(dialect.to_string().parse(), Ok(*dialect));
        }
        assert_eq!(Dialect::Ietf(Interop::V10).to_string(), "ietf-10");
        for wrong in ["", "IETF", "ietf-2", "tus"] {
            assert_eq!(wrong.parse::<Dialect>(), Err(UnknownDialect));
        }
        assert_eq!(Dialect::names().count(), NAMES.len());
    }
}
