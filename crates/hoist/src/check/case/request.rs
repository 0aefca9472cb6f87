//! The request of a step: its method, target, fields, content and framing.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestSpec {
    pub(crate) method: String,
    #[serde(default)]
    pub(crate) to: RequestTarget,
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
    pub(crate) offset: Option<OffsetSpec>,
    #[serde(default)]
    pub(crate) length: Option<u64>,
    /// As they are, before those the version adds.
    #[serde(default)]
    pub(crate) fields: BTreeMap<String, FieldLines>,
    /// Fields the version would add and this request lacks.
    #[serde(default)]
    pub(crate) without: Vec<String>,
    #[serde(default)]
    pub(crate) content: Option<ContentSpec>,
    /// `Content-Length`, where it is not the content's.
    #[serde(default)]
    pub(crate) declares: Option<u64>,
    #[serde(default)]
    pub(crate) framing: Framing,
    #[serde(default)]
    pub(crate) trailers: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) ends: RequestEnd,
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
pub(crate) enum RequestTarget {
    #[default]
    Target,
    Upload,
    /// `*`, the server as a whole.
    Server,
}

/// A number, or the one that was told last.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum OffsetSpec {
    Is(u64),
    /// `"told"`.
    Word(String),
}

/// The lines of a field.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum FieldLines {
    One(String),
    Many(Vec<String>),
    Repeated { repeat: String, times: usize },
}

/// Bytes.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum ContentSpec {
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
pub(crate) enum RequestEnd {
    /// With the end of its content.
    #[default]
    Whole,
    /// Before.
    Cut,
    /// Not at all: it is left standing behind the content given.
    Stall,
}

impl RequestSpec {
    /// A request with this method and nothing else.
    pub(crate) fn of(method: &str) -> Self {
        Self {
            method: method.to_owned(),
            to: RequestTarget::Target,
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
            ends: RequestEnd::Whole,
            waits: false,
            ancient: false,
            race: None,
            patiently: false,
        }
    }
}

impl ContentSpec {
    /// The bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::Repeated { repeat, times } => repeat.repeat(*times).into_bytes(),
        }
    }
}

impl FieldLines {
    /// One after the other.
    pub(crate) fn each(&self) -> Vec<String> {
        match self {
            Self::One(line) => vec![line.clone()],
            Self::Many(lines) => lines.clone(),
            Self::Repeated { repeat, times } => vec![repeat.repeat(*times)],
        }
    }
}
