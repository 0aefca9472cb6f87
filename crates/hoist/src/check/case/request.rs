//! The request of a step: its method, target, fields, content and framing.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A request of a case. Fields that depend on the version are added by `request_builder.rs`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestSpec {
    pub(crate) method: String,
    #[serde(default)]
    pub(crate) to: RequestTarget,
    /// The name of the upload it is sent to. Defaults to the last one.
    pub(crate) of: Option<String>,
    /// The name given to the upload it creates.
    pub(crate) names: Option<String>,
    /// A suffix of the target's path.
    #[serde(default)]
    pub(crate) below: String,
    pub(crate) complete: Option<bool>,
    pub(crate) offset: Option<OffsetSpec>,
    pub(crate) length: Option<u64>,
    /// Header fields, sent before those that the version adds.
    #[serde(default)]
    pub(crate) fields: BTreeMap<String, FieldLines>,
    /// Header fields that the version would add and that are left out.
    #[serde(default)]
    pub(crate) without: Vec<String>,
    pub(crate) content: Option<ContentSpec>,
    /// The `Content-Length`, if it differs from the length of the content.
    pub(crate) declares: Option<u64>,
    #[serde(default)]
    pub(crate) framing: Framing,
    #[serde(default)]
    pub(crate) trailers: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) ends: RequestEnd,
    /// Pauses in seconds between equal parts of the content.
    #[serde(default)]
    pub(crate) paused: Vec<f64>,
    /// Waits for `100 (Continue)` before sending the content.
    #[serde(default)]
    pub(crate) waits: bool,
    /// Sends the request as HTTP/1.0.
    #[serde(default)]
    pub(crate) ancient: bool,
    /// The number of copies that are sent concurrently.
    pub(crate) race: Option<usize>,
    /// Repeats the request until the expectation is met.
    #[serde(default)]
    pub(crate) patiently: bool,
}

/// The target of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RequestTarget {
    #[default]
    Target,
    Upload,
    /// `*`: the server as a whole.
    Server,
}

/// An offset, or `"told"` for the last one that the server reported.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum OffsetSpec {
    Is(u64),
    /// `"told"`.
    Word(String),
}

/// The lines of a header field.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum FieldLines {
    One(String),
    Many(Vec<String>),
    Repeated { repeat: String, times: usize },
}

/// The content of a request.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum ContentSpec {
    Text(String),
    Repeated { repeat: String, times: usize },
}

/// The framing of the content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Framing {
    #[default]
    Sized,
    Chunked,
}

/// The end of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RequestEnd {
    /// The whole content is sent.
    #[default]
    Whole,
    /// The connection or stream is cut before the end.
    Cut,
    /// Nothing is sent after the given content, and the request stays pending.
    Stall,
}

impl RequestSpec {
    /// Returns a request to the target with this method and nothing else.
    pub(crate) fn of(method: &str) -> Self {
        Self { method: method.to_owned(), ..Self::default() }
    }
}

impl ContentSpec {
    /// Returns the bytes of the content.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::Repeated { repeat, times } => repeat.repeat(*times).into_bytes(),
        }
    }
}

impl FieldLines {
    /// Returns each line.
    pub(crate) fn each(&self) -> Vec<String> {
        match self {
            Self::One(line) => vec![line.clone()],
            Self::Many(lines) => lines.clone(),
            Self::Repeated { repeat, times } => vec![repeat.repeat(*times)],
        }
    }
}
