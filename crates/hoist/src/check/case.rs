//! Cases as they are written in `conformance/`: what is there before, what is sent, what comes back, what is left.
//!
//! Owns the format, which conformance/README.md explains. Unknown keys are errors, so that a misspelt expectation does
//! not pass for want of being looked at.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::version::{Dialect, Range, Version};
use super::wire::Transport;
use super::{Server, ServerLimits};

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) dialect: Dialect,
    #[serde(default)]
    pub(crate) case: Vec<Case>,
    #[serde(default)]
    pub(crate) always: Vec<Always>,
}

/// What holds for every exchange of every case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Always {
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
    pub(crate) send: Send,
    #[serde(default)]
    pub(crate) expect: Expect,
    #[serde(default)]
    pub(crate) after: Option<After>,
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
    content: Option<Content>,
    #[serde(default)]
    length: Option<u64>,
    #[serde(default)]
    complete: bool,
    #[serde(default)]
    fields: BTreeMap<String, Lines>,
}

/// An upload that is there before.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GivenUpload {
    #[serde(default)]
    pub(crate) content: Option<Content>,
    #[serde(default)]
    pub(crate) length: Option<u64>,
    #[serde(default)]
    pub(crate) complete: bool,
    #[serde(default)]
    pub(crate) fields: BTreeMap<String, Lines>,
}

/// A further request, or the end of one that was left standing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    #[serde(default)]
    pub(crate) send: Option<Send>,
    /// Looks at the end of the request that was left standing.
    #[serde(default)]
    pub(crate) stalled: bool,
    /// The rest of its content, which is sent first.
    #[serde(default)]
    pub(crate) rest: Option<Content>,
    #[serde(default)]
    pub(crate) expect: Expect,
    #[serde(default)]
    pub(crate) after: Option<After>,
}

/// A request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Send {
    pub(crate) method: String,
    #[serde(default)]
    pub(crate) to: To,
    /// The name of the upload it goes to, where that is not the last one.
    #[serde(default)]
    pub(crate) of: Option<String>,
    /// A name for the upload it creates.
    #[serde(default)]
    pub(crate) names: Option<String>,
    /// Written behind the target's path.
    #[serde(default)]
    pub(crate) below: String,
    #[serde(default)]
    pub(crate) complete: Option<bool>,
    #[serde(default)]
    pub(crate) offset: Option<Number>,
    #[serde(default)]
    pub(crate) length: Option<u64>,
    /// As they are, before those the version adds.
    #[serde(default)]
    pub(crate) fields: BTreeMap<String, Lines>,
    /// Fields the version would add and this request lacks.
    #[serde(default)]
    pub(crate) without: Vec<String>,
    #[serde(default)]
    pub(crate) content: Option<Content>,
    /// `Content-Length`, where it is not the content's.
    #[serde(default)]
    pub(crate) declares: Option<u64>,
    #[serde(default)]
    pub(crate) framing: Framing,
    #[serde(default)]
    pub(crate) trailers: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) ends: Ends,
    /// Seconds of silence between equal parts of its content.
    #[serde(default)]
    pub(crate) paused: Vec<f64>,
    /// Waits for `100 (Continue)` before its content.
    #[serde(default)]
    pub(crate) waits: bool,
    /// HTTP/1.0.
    #[serde(default)]
    pub(crate) ancient: bool,
    /// How many of it are sent side by side.
    #[serde(default)]
    pub(crate) race: Option<usize>,
    /// Sent again and again until what is expected comes back, for what takes its time.
    #[serde(default)]
    pub(crate) patiently: bool,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum To {
    #[default]
    Target,
    Upload,
    /// `*`, the server as a whole.
    Server,
}

/// A number, or the one that was told last.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Number {
    Is(u64),
    /// `"told"`.
    Word(String),
}

/// The lines of a field.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Lines {
    One(String),
    Many(Vec<String>),
    Repeated { repeat: String, times: usize },
}

/// Bytes.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Content {
    Text(String),
    Repeated { repeat: String, times: usize },
}

/// How a size is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Framing {
    #[default]
    Sized,
    Chunked,
}

/// How a request ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Ends {
    /// With the end of its content.
    #[default]
    Whole,
    /// Before.
    Cut,
    /// Not at all: it is left standing behind the content given.
    Stall,
}

/// What comes back.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    #[serde(default)]
    pub(crate) status: Option<Status>,
    /// The completeness field: `true`, `false`, or `"absent"`.
    #[serde(default)]
    pub(crate) complete: Option<Told<bool>>,
    #[serde(default)]
    pub(crate) offset: Option<Told<u64>>,
    #[serde(default)]
    pub(crate) length: Option<Told<u64>>,
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
    pub(crate) interims: Option<Vec<InterimHead>>,
    /// Whether `100 (Continue)` comes.
    #[serde(default)]
    pub(crate) continues: Option<bool>,
    #[serde(default)]
    pub(crate) problem: Option<Problem>,
    #[serde(default)]
    pub(crate) content: Option<String>,
    #[serde(default)]
    pub(crate) answer: Answered,
    /// In a race: what all but one get.
    #[serde(default)]
    pub(crate) others: Option<Box<Expect>>,
}

/// Whether there is a final response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answered {
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
pub(crate) enum Told<T> {
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
pub(crate) struct InterimHead {
    #[serde(default)]
    pub(crate) fields: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) absent: Vec<String>,
}

/// A problem document.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Problem {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) members: BTreeMap<String, serde_json::Value>,
}

/// What the upload is like afterwards, as `HEAD` says it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct After {
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
    pub(crate) length: Option<Told<u64>>,
}

impl Case {
    /// The versions of a dialect it holds in: all of them where it does not say.
    pub(crate) fn versions(&self, dialect: Dialect) -> Vec<Version> {
        let range = match dialect {
            Dialect::Ietf => self.interop.as_ref(),
            Dialect::Token => self.forms.as_ref(),
            Dialect::Tus1 => None,
        };
        range.map_or_else(|| dialect.versions().to_vec(), |range| range.versions(dialect))
    }

    /// Whether it can be said over a transport.
    pub(crate) fn holds_over(&self, transport: Transport) -> bool {
        self.transport.is_none_or(|only| only == transport)
    }

    /// The server it needs.
    pub(crate) fn server(&self) -> Server {
        let Given { limits, lacks, offers, .. } = &self.given;
        Server { limits: limits.clone(), lacks: lacks.clone(), offers: offers.clone() }
    }
}

impl Always {
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

impl Send {
    /// A request with this method and nothing else.
    pub(crate) fn of(method: &str) -> Self {
        Self {
            method: method.to_owned(),
            to: To::Target,
            of: None,
            names: None,
            below: String::new(),
            complete: None,
            offset: None,
            length: None,
            fields: BTreeMap::new(),
            without: Vec::new(),
            content: None,
            declares: None,
            framing: Framing::Sized,
            trailers: BTreeMap::new(),
            paused: Vec::new(),
            ends: Ends::Whole,
            waits: false,
            ancient: false,
            race: None,
            patiently: false,
        }
    }
}

impl Content {
    /// The bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::Repeated { repeat, times } => repeat.repeat(*times).into_bytes(),
        }
    }
}

impl Lines {
    /// One after the other.
    pub(crate) fn each(&self) -> Vec<String> {
        match self {
            Self::One(line) => vec![line.clone()],
            Self::Many(lines) => lines.clone(),
            Self::Repeated { repeat, times } => vec![repeat.repeat(*times)],
        }
    }
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
