//! The expectations of a step: the responses to its request, and the state of the upload afterwards.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::super::ServerLimits;
use super::super::version::Version;

/// The expected responses. Fields that are not given are not checked.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Expect {
    pub(crate) status: Option<Status>,
    /// The completeness field: `true`, `false`, or `"absent"`.
    pub(crate) complete: Option<Expected<bool>>,
    pub(crate) offset: Option<Expected<u64>>,
    pub(crate) length: Option<Expected<u64>>,
    /// Expected members of `Upload-Limit`.
    pub(crate) limits: ServerLimits,
    /// Expected header fields; `*` matches any text.
    pub(crate) fields: BTreeMap<String, String>,
    pub(crate) absent: Vec<String>,
    /// Header fields that are lists, with all their members in any order.
    pub(crate) members: BTreeMap<String, BTreeSet<String>>,
    /// The expected reason phrase, over HTTP/1.1.
    pub(crate) reason: Option<String>,
    /// The 104 responses in order; an empty list means that there are none.
    pub(crate) interims: Option<Vec<ExpectedInterim>>,
    /// True if `100 (Continue)` is expected, false if it must not be sent.
    pub(crate) continues: Option<bool>,
    pub(crate) problem: Option<ExpectedProblem>,
    pub(crate) content: Option<String>,
    pub(crate) answer: AnswerExpectation,
    /// In a race, the expectation of all requests but one.
    pub(crate) others: Option<Box<Expect>>,
}

/// The expectation of a final response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AnswerExpectation {
    #[default]
    Yes,
    /// The connection or stream ends, without a response or with an error.
    Terminated,
    /// With or without a response.
    Maybe,
}

/// An expected value of a field.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Expected<T> {
    Is(T),
    /// `"absent"`, or `"told"` for the value that the server reported last.
    Word(String),
}

/// A status code, a list of codes, a class like `"2xx"`, or one of these for each range of versions.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Status {
    Is(u16),
    OneOf(Vec<u16>),
    Class(String),
    ByVersion(BTreeMap<String, Status>),
}

/// An expected 104 response.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ExpectedInterim {
    pub(crate) fields: BTreeMap<String, String>,
    pub(crate) absent: Vec<String>,
}

/// An expected problem document (RFC 9457).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectedProblem {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) members: BTreeMap<String, serde_json::Value>,
}

/// The expected state of the upload afterwards, as reported by `HEAD`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StateAfter {
    /// The name of the upload. Defaults to the last one.
    pub(crate) of: Option<String>,
    pub(crate) gone: bool,
    pub(crate) offset: Option<u64>,
    pub(crate) offset_max: Option<u64>,
    pub(crate) complete: Option<bool>,
    pub(crate) length: Option<Expected<u64>>,
}

impl Status {
    /// Returns whether a status code is allowed in a version.
    pub(crate) fn admits(&self, code: u16, version: Version) -> bool {
        match self {
            Self::Is(is) => *is == code,
            Self::OneOf(codes) => codes.contains(&code),
            Self::Class(class) => class.strip_suffix("xx") == Some(&(code / 100).to_string()),
            Self::ByVersion(rows) => {
                rows.iter().any(|(range, status)| version.is_in(range) && status.admits(code, version))
            }
        }
    }
}
