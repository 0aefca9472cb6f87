//! The expectations of a step: the responses to its request, and the state of the upload afterwards.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::super::ServerLimits;
use super::super::version::Version;

/// What comes back.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    #[serde(default)]
    pub(crate) status: Option<Status>,
    /// The completeness field: `true`, `false`, or `"absent"`.
    #[serde(default)]
    pub(crate) complete: Option<Expected<bool>>,
    #[serde(default)]
    pub(crate) offset: Option<Expected<u64>>,
    #[serde(default)]
    pub(crate) length: Option<Expected<u64>>,
    /// Members of `Upload-Limit`.
    #[serde(default)]
    pub(crate) limits: ServerLimits,
    /// Values, in which `*` stands for anything.
    #[serde(default)]
    pub(crate) fields: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) absent: Vec<String>,
    /// Fields that are lists, and all their members in any order.
    #[serde(default)]
    pub(crate) members: BTreeMap<String, BTreeSet<String>>,
    /// The reason phrase, over HTTP/1.1.
    #[serde(default)]
    pub(crate) reason: Option<String>,
    /// 104 responses that come in this order; an empty list means that none comes.
    #[serde(default)]
    pub(crate) interims: Option<Vec<ExpectedInterim>>,
    /// Whether `100 (Continue)` comes.
    #[serde(default)]
    pub(crate) continues: Option<bool>,
    #[serde(default)]
    pub(crate) problem: Option<ExpectedProblem>,
    #[serde(default)]
    pub(crate) content: Option<String>,
    #[serde(default)]
    pub(crate) answer: AnswerExpectation,
    /// In a race: what all but one get.
    #[serde(default)]
    pub(crate) others: Option<Box<Expect>>,
}

/// Whether there is a final response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AnswerExpectation {
    #[default]
    Yes,
    /// The connection or stream is ended, with a response that is no success or without one.
    Terminated,
    /// Either.
    Maybe,
}

/// What a field says.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Expected<T> {
    Is(T),
    /// `"absent"`, or `"told"`: as it was told last.
    Word(String),
}

/// A status code, or several, or a class like `"2xx"`, or one for each range of versions.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Status {
    Is(u16),
    OneOf(Vec<u16>),
    Class(String),
    ByVersion(BTreeMap<String, Status>),
}

/// A 104.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectedInterim {
    #[serde(default)]
    pub(crate) fields: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) absent: Vec<String>,
}

/// A problem document.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectedProblem {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) members: BTreeMap<String, serde_json::Value>,
}

/// What the upload is like afterwards, as `HEAD` says it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StateAfter {
    /// The name of the upload, where it is not the last one.
    #[serde(default)]
    pub(crate) of: Option<String>,
    #[serde(default)]
    pub(crate) gone: bool,
    #[serde(default)]
    pub(crate) offset: Option<u64>,
    #[serde(default)]
    pub(crate) offset_max: Option<u64>,
    #[serde(default)]
    pub(crate) complete: Option<bool>,
    #[serde(default)]
    pub(crate) length: Option<Expected<u64>>,
}

impl Status {
    /// Whether a code is meant, in a version.
    pub(crate) fn admits(&self, code: u16, version: Version) -> bool {
        match self {
            Self::Is(is) => *is == code,
            Self::OneOf(codes) => codes.contains(&code),
            Self::Class(class) => class.strip_suffix("xx") == Some(&(code / 100).to_string()),
            Self::ByVersion(rows) => {
                rows.iter().any(|(stretch, status)| version.is_in(stretch) && status.admits(code, version))
            }
        }
    }
}
