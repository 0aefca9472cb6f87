//! Cases as they are written in `conformance/`: what is there before, what is sent, what comes back, what is left.
//!
//! Owns the format, which conformance/README.md explains. Unknown keys are errors, so that a misspelt expectation does
//! not pass for want of being looked at.

mod expect;
mod request;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::version::{CorpusDialect, Range, Version};
use super::wire::Transport;
use super::{ServerLimits, ServerSettings};

pub(crate) use expect::{
    AnswerExpectation, Expect, Expected, ExpectedInterim, ExpectedProblem, StateAfter, Status,
};
pub(crate) use request::{
    ContentSpec, FieldLines, Framing, OffsetSpec, RequestEnd, RequestSpec, RequestTarget,
};

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) dialect: CorpusDialect,
    #[serde(default)]
    pub(crate) case: Vec<Case>,
    #[serde(default)]
    pub(crate) always: Vec<AlwaysRule>,
}

/// What holds for every exchange of every case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AlwaysRule {
    pub(crate) name: String,
    /// Ids of requirements.
    pub(crate) proves: Vec<String>,
    /// True if it expects more than the requirements say, so that its level is [`Level::Own`](super::Level::Own).
    #[serde(default)]
    pub(crate) own: bool,
    #[serde(default)]
    pub(crate) interop: Option<Range>,
    pub(crate) rule: Rule,
}

/// A rule that is looked at in every exchange.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Rule {
    /// Fields are spelled canonically.
    Canonical,
    /// An upload's offset never decreases.
    OffsetsGrow,
    /// Interim responses repeat the request's number, and there are none without one.
    InterimNumber,
    /// Interim responses declare no content.
    InterimWithoutContent,
    /// `Location` is in the first 104 of a creation at most, and not in that of an append.
    InterimLocationOnce,
    /// Messages about one upload name the same URL.
    OneLocation,
    /// A creation names an upload that was not there before.
    FreshLocation,
    /// URLs of uploads are absolute and show nothing but letters, digits and hyphens behind the target.
    OpaqueLocation,
    /// The protocol's own answers are no redirects that change methods; those of a target may be.
    NoRedirect,
    /// Answers to creations and appends say whether the target speaks.
    SaysCompleteness,
    /// Every response names the version of tus.
    NamesTus,
    /// There is no 104, and nothing of the other dialects.
    NothingOfOthers,
    /// No response is a redirect.
    NeverRedirect,
    /// What is successfully asked for by `HEAD` declares no content.
    HeadWithoutContent,
    /// Content is never guessed at by browsers.
    NoSniff,
    /// Pages of other origins may read what they asked for, and errors too.
    ReadableByPages,
    /// Refusals are a short line of text.
    PlainRefusals,
}

/// One case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// Ids of requirements, told in reports of failures.
    pub(crate) proves: Vec<String>,
    /// True if it expects more than the requirements say, so that its level is [`Level::Own`](super::Level::Own).
    #[serde(default)]
    pub(crate) own: bool,
    #[serde(default)]
    interop: Option<Range>,
    #[serde(default)]
    forms: Option<Range>,
    #[serde(default)]
    transport: Option<Transport>,
    #[serde(default)]
    pub(crate) given: Given,
    pub(crate) send: RequestSpec,
    #[serde(default)]
    pub(crate) expect: Expect,
    #[serde(default)]
    pub(crate) after: Option<StateAfter>,
    #[serde(default)]
    pub(crate) then: Vec<Step>,
}

/// What is there before: a server, and an upload if it has content.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Given {
    #[serde(default)]
    limits: ServerLimits,
    /// Extensions the server lacks.
    #[serde(default)]
    lacks: BTreeSet<String>,
    /// What the server does besides.
    #[serde(default)]
    offers: BTreeSet<String>,
    /// Uploads with names, made before the one without.
    #[serde(default)]
    pub(crate) uploads: BTreeMap<String, GivenUpload>,
    #[serde(default)]
    content: Option<ContentSpec>,
    #[serde(default)]
    length: Option<u64>,
    #[serde(default)]
    complete: bool,
    #[serde(default)]
    fields: BTreeMap<String, FieldLines>,
}

/// An upload that is there before.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GivenUpload {
    #[serde(default)]
    pub(crate) content: Option<ContentSpec>,
    #[serde(default)]
    pub(crate) length: Option<u64>,
    #[serde(default)]
    pub(crate) complete: bool,
    #[serde(default)]
    pub(crate) fields: BTreeMap<String, FieldLines>,
}

/// A further request, or the end of one that was left pending.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    #[serde(default)]
    pub(crate) send: Option<RequestSpec>,
    /// Looks at the end of the request that was left pending.
    #[serde(default)]
    pub(crate) stalled: bool,
    /// The rest of its content, which is sent first.
    #[serde(default)]
    pub(crate) rest: Option<ContentSpec>,
    #[serde(default)]
    pub(crate) expect: Expect,
    #[serde(default)]
    pub(crate) after: Option<StateAfter>,
}

impl Case {
    /// The versions of a dialect it holds in: all of them where it does not say.
    pub(crate) fn versions(&self, dialect: CorpusDialect) -> Vec<Version> {
        let range = match dialect {
            CorpusDialect::Ietf => self.interop.as_ref(),
            CorpusDialect::Token => self.forms.as_ref(),
            CorpusDialect::Tus1 => None,
        };
        range.map_or_else(|| dialect.versions().to_vec(), |range| range.versions(dialect))
    }

    /// Whether it can be said over a transport.
    pub(crate) fn holds_over(&self, transport: Transport) -> bool {
        self.transport.is_none_or(|only| only == transport)
    }

    /// The server it needs.
    pub(crate) fn server(&self) -> ServerSettings {
        let Given { limits, lacks, offers, .. } = &self.given;
        ServerSettings { limits: limits.clone(), lacks: lacks.clone(), offers: offers.clone() }
    }
}

impl AlwaysRule {
    /// Whether it holds in a version.
    pub(crate) fn holds_in(&self, version: Version) -> bool {
        let dialect = version.dialect();
        self.interop.as_ref().is_none_or(|range| range.versions(dialect).contains(&version))
    }
}

impl Given {
    /// The upload without a name, if there is one.
    pub(crate) fn upload(&self) -> Option<GivenUpload> {
        let Self { content, length, complete, fields, .. } = self;
        let is_there = content.is_some() || length.is_some() || *complete;
        is_there.then(|| GivenUpload {
            content: content.clone(),
            length: *length,
            complete: *complete,
            fields: fields.clone(),
        })
    }
}
