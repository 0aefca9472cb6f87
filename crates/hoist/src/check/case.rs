//! The format of a case in `conformance/`: preconditions, request, expected responses and final state.
//!
//! conformance/README.md explains the format. Unknown keys are errors, so that a misspelt expectation is not ignored.
//! Requests are in `case/request.rs`, expectations in `case/expect.rs`.

mod expect;
mod request;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::version::{CorpusDialect, Version, VersionRange};
use super::wire::Transport;
use super::{ServerLimits, ServerSettings};

pub(crate) use expect::{
    AnswerExpectation, Expect, Expected, ExpectedInterim, ExpectedProblem, StateAfter, Status,
};
pub(crate) use request::{
    ContentSpec, FieldLines, Framing, OffsetSpec, RequestEnd, RequestSpec, RequestTarget,
};

/// A file of cases for one dialect.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) dialect: CorpusDialect,
    #[serde(default)]
    pub(crate) case: Vec<Case>,
    #[serde(default)]
    pub(crate) always: Vec<AlwaysRule>,
}

/// A rule that applies to every exchange of every case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AlwaysRule {
    pub(crate) name: String,
    /// The ids of the requirements that the rule proves.
    pub(crate) proves: Vec<String>,
    /// True if the expectation exceeds the requirements, so that its level is [`Level::Own`](super::Level::Own).
    #[serde(default)]
    pub(crate) own: bool,
    pub(crate) interop: Option<VersionRange>,
    pub(crate) rule: Rule,
}

/// A rule that is checked in every exchange.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Rule {
    /// Header fields have their canonical form.
    Canonical,
    /// An upload's offset never decreases.
    OffsetsGrow,
    /// Interim responses repeat the version number of the request; without one there are none.
    InterimNumber,
    /// Interim responses declare no content.
    InterimWithoutContent,
    /// `Location` appears at most in the first 104 response to a creation, and never in one to an append.
    InterimLocationOnce,
    /// All responses about one upload name the same URL.
    OneLocation,
    /// A creation names a new upload.
    FreshLocation,
    /// Upload URLs are absolute and end in letters, digits and hyphens after the target's path.
    OpaqueLocation,
    /// Responses of the protocol itself, other than those of a target, are not redirects that change the method.
    NoRedirect,
    /// Responses to creations and appends state whether the upload is complete.
    SaysCompleteness,
    /// Every response has `Tus-Resumable`.
    NamesTus,
    /// There are no 104 responses and no fields of other dialects.
    NothingOfOthers,
    /// No response is a redirect.
    NeverRedirect,
    /// A successful response to `HEAD` declares no content.
    HeadWithoutContent,
    /// Responses have `X-Content-Type-Options: nosniff`.
    NoSniff,
    /// Pages of other origins may read all responses, including errors.
    ReadableByPages,
    /// Refusals contain a short plain text.
    PlainRefusals,
}

/// A case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// The ids of the requirements that the case proves.
    pub(crate) proves: Vec<String>,
    /// True if the expectation exceeds the requirements, so that its level is [`Level::Own`](super::Level::Own).
    #[serde(default)]
    pub(crate) own: bool,
    interop: Option<VersionRange>,
    forms: Option<VersionRange>,
    transport: Option<Transport>,
    #[serde(default)]
    pub(crate) given: Given,
    pub(crate) send: RequestSpec,
    #[serde(default)]
    pub(crate) expect: Expect,
    pub(crate) after: Option<StateAfter>,
    #[serde(default)]
    pub(crate) then: Vec<Step>,
}

/// The preconditions of a case: settings of the server, and existing uploads.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Given {
    limits: ServerLimits,
    /// tus extensions that the server does not offer.
    lacks: BTreeSet<String>,
    /// Optional features that the server offers.
    offers: BTreeSet<String>,
    /// Named uploads, created before the unnamed one.
    pub(crate) uploads: BTreeMap<String, GivenUpload>,
    content: Option<ContentSpec>,
    length: Option<u64>,
    complete: bool,
    fields: BTreeMap<String, FieldLines>,
}

/// An upload that exists before the case starts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct GivenUpload {
    pub(crate) content: Option<ContentSpec>,
    pub(crate) length: Option<u64>,
    pub(crate) complete: bool,
    pub(crate) fields: BTreeMap<String, FieldLines>,
}

/// A further step of a case: a request, or the end of a pending one.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Step {
    pub(crate) send: Option<RequestSpec>,
    /// Waits for the end of the pending request.
    pub(crate) stalled: bool,
    /// The rest of the pending request's content, which is sent first.
    pub(crate) rest: Option<ContentSpec>,
    pub(crate) expect: Expect,
    pub(crate) after: Option<StateAfter>,
}

impl Case {
    /// Returns the versions in which the case is run: all of the dialect, unless the case restricts them.
    pub(crate) fn versions(&self, dialect: CorpusDialect) -> Vec<Version> {
        let range = match dialect {
            CorpusDialect::Ietf => self.interop.as_ref(),
            CorpusDialect::Token => self.forms.as_ref(),
            CorpusDialect::Tus1 => None,
        };
        range.map_or_else(|| dialect.versions().to_vec(), |range| range.versions(dialect))
    }

    /// Returns whether the case can be run over a transport.
    pub(crate) fn holds_over(&self, transport: Transport) -> bool {
        self.transport.is_none_or(|only| only == transport)
    }

    /// Returns the server settings that the case needs.
    pub(crate) fn server(&self) -> ServerSettings {
        let Given { limits, lacks, offers, .. } = &self.given;
        ServerSettings { limits: limits.clone(), lacks: lacks.clone(), offers: offers.clone() }
    }
}

impl AlwaysRule {
    /// Returns whether the rule applies in a version.
    pub(crate) fn holds_in(&self, version: Version) -> bool {
        let dialect = version.dialect();
        self.interop.as_ref().is_none_or(|range| range.versions(dialect).contains(&version))
    }
}

impl Given {
    /// Returns the unnamed upload, if there is one.
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
