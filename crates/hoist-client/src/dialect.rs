//! Which dialect to speak: what a caller wishes, and what is remembered of the origins talked to.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use hoist_proto::client::Offers;
use hoist_proto::dialect::interop::Interop;
use hoist_proto::dialect::token::{Draft, Form};

use crate::origin::Origin;

/// Origins remembered at a time.
const ORIGINS_MAX: usize = 64;

/// The dialect of an upload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dialect {
    /// The one the server speaks: it is asked once, and the answer is remembered by the [`Client`](crate::Client).
    #[default]
    Auto,
    /// "Resumable Uploads for HTTP", in one of its iterations.
    Ietf(Interop),
    /// `Upload-Token`, in one of its forms.
    Token(Form),
    /// tus 1.0.
    Tus1,
    /// One ordinary request, which cannot be resumed.
    Conventional,
}

/// The names of all dialects.
const NAMES: [(&str, Dialect); 18] = [
    ("auto", Dialect::Auto),
    ("ietf", Dialect::Ietf(Interop::NEWEST)),
    ("ietf-3", Dialect::Ietf(Interop::V3)),
    ("ietf-4", Dialect::Ietf(Interop::V4)),
    ("ietf-5", Dialect::Ietf(Interop::V5)),
    ("ietf-6", Dialect::Ietf(Interop::V6)),
    ("ietf-7", Dialect::Ietf(Interop::V7)),
    ("ietf-8", Dialect::Ietf(Interop::V8)),
    ("ietf-9", Dialect::Ietf(Interop::V9)),
    ("ietf-10", Dialect::Ietf(Interop::V10)),
    ("ietf-rfc", Dialect::Ietf(Interop::Rfc)),
    ("token", Dialect::Token(Form::Seed)),
    ("token-draft", Dialect::Token(Form::Draft(Draft::Unnumbered))),
    ("token-0", Dialect::Token(Form::Draft(Draft::First))),
    ("token-1", Dialect::Token(Form::Draft(Draft::Interop1))),
    ("token-2", Dialect::Token(Form::Draft(Draft::Interop2))),
    ("tus1", Dialect::Tus1),
    ("conventional", Dialect::Conventional),
];

impl Dialect {
    /// The names that [`FromStr`] understands, for error messages.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Ietf(Interop::Later(number)) = self {
            return write!(f, "ietf-{number}");
        }
        // The last of its names is the exact one.
        let name = NAMES.iter().rev().find(|(_, dialect)| dialect == self);
        f.write_str(name.map_or("unknown", |(name, _)| name))
    }
}

/// The text names no dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no such dialect: it is auto, ietf, ietf-3 to ietf-10, ietf-rfc, token, token-draft, token-0 to token-2, tus1 or conventional"
)]
pub struct UnknownDialect;

impl FromStr for Dialect {
    type Err = UnknownDialect;

    fn from_str(text: &str) -> Result<Self, UnknownDialect> {
        NAMES.iter().find(|(name, _)| *name == text).map(|(_, dialect)| *dialect).ok_or(UnknownDialect)
    }
}

/// The dialect an origin was found to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerSupport {
    Ietf(Interop),
    Tus1(Offers),
    /// It did not say that it resumes anything. The version is one that it did not refuse.
    Unknown(Interop),
}

/// Habits of an origin.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OriginFacts {
    pub(crate) support: Option<ServerSupport>,
    /// Its offers to clients of tus 1.0, also where another dialect is spoken with it.
    pub(crate) tus: Option<Offers>,
    /// True if it was asked for a sign before content and gave none.
    pub(crate) ignores_expect: bool,
}

/// Habits of the origins in use.
#[derive(Debug, Default)]
pub(crate) struct OriginCache(Mutex<HashMap<Origin, OriginFacts>>);

impl OriginCache {
    pub(crate) fn of(&self, origin: &Origin) -> OriginFacts {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(origin).copied().unwrap_or_default()
    }

    pub(crate) fn learn(&self, origin: &Origin, change: impl FnOnce(&mut OriginFacts)) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < ORIGINS_MAX || known.contains_key(origin) {
            change(known.entry(origin.clone()).or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for (name, dialect) in NAMES {
            assert_eq!(name.parse(), Ok(dialect));
            assert_eq!(dialect.to_string().parse(), Ok(dialect));
        }
        assert_eq!(Dialect::Ietf(Interop::V10).to_string(), "ietf-10");
        for wrong in ["", "IETF", "ietf-2", "tus"] {
            assert_eq!(wrong.parse::<Dialect>(), Err(UnknownDialect));
        }
        assert_eq!(Dialect::names().count(), NAMES.len());
    }

    #[test]
    fn origins_are_remembered_up_to_a_bound() {
        let origins = OriginCache::default();
        let origin =
            |number: u8| Origin::of(&format!("http://{number}").parse().expect("a URL")).expect("one");
        for number in 0..100 {
            origins.learn(&origin(number), |facts| facts.ignores_expect = true);
        }
        assert!(origins.of(&origin(0)).ignores_expect && !origins.of(&origin(99)).ignores_expect);
        origins.learn(&origin(0), |facts| facts.support = Some(ServerSupport::Unknown(Interop::V6)));
        let known = origins.of(&origin(0));
        assert_eq!((known.support, known.ignores_expect), (Some(ServerSupport::Unknown(Interop::V6)), true));
    }
}
