//! How an upload is found again, and what is asked about it.

use hoist_proto::client::Offers;
use hoist_proto::dialect::ietf::IetfCodec;
use hoist_proto::dialect::interop::Interop;
use hoist_proto::dialect::token::{self, Form};
use hoist_proto::operation::Operation;
use hoist_proto::types::{Length, Token};
use http::{Request, Uri};

use crate::dialect::Dialect;
use crate::http::FinalResponse;

/// The name of an upload, by which a later run finds it again. It is a capability: its holder can go on with the upload, or
/// end it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Handle {
    /// A token, at an upload URL.
    Token {
        /// The upload URL.
        url: Uri,
        /// The token.
        token: Token,
    },
    /// The upload's own URL.
    Url {
        /// The URL that the caller gave: the upload's own, or the upload URL of a server that then named the other. What
        /// the client sends with every request goes to its origin alone.
        target: Uri,
        /// The upload's own URL.
        url: Uri,
        /// The dialect it is spoken to in. [`Dialect::Auto`] finds out.
        dialect: Dialect,
    },
    /// A token whose upload goes in this many numbered parts of about the same size.
    Numbered {
        /// The upload URL.
        url: Uri,
        /// The token.
        token: Token,
        /// The number of parts.
        parts: usize,
    },
    /// An upload in parts of about the same size, which are yet to be joined: tus 1.0.
    Parts {
        /// The upload URL.
        url: Uri,
        /// The URLs of the parts that have one.
        parts: Vec<Option<Uri>>,
    },
}

/// The state of an upload on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Bytes the server has.
    pub offset: u64,
    /// Bytes it is going to have, if the server knows.
    pub length: Option<u64>,
    /// True if it is complete; none if the server does not say.
    pub complete: Option<bool>,
}

/// A way to ask about an upload.
pub(crate) enum Query<'a> {
    Token(&'a Uri, &'a Token),
    Ietf(&'a Uri, Interop),
    Tus1(&'a Uri),
}

impl Handle {
    /// Names the upload at this URL. The caller vouches for the URL.
    pub fn at(url: Uri, dialect: Dialect) -> Self {
        Self::Url { target: url.clone(), url, dialect }
    }

    /// The URL that the caller gave.
    pub(crate) fn target(&self) -> &Uri {
        match self {
            Self::Url { target, .. } => target,
            Self::Token { url, .. } | Self::Numbered { url, .. } | Self::Parts { url, .. } => url,
        }
    }

    /// The URL that is asked; of parts, the upload URL.
    pub fn url(&self) -> &Uri {
        match self {
            Self::Token { url, .. }
            | Self::Numbered { url, .. }
            | Self::Url { url, .. }
            | Self::Parts { url, .. } => url,
        }
    }

    /// The handles of its parts, when it is in parts.
    pub(crate) fn parts(&self) -> Option<Vec<Self>> {
        let Self::Parts { url: target, parts } = self else { return None };
        let urls = parts.iter().flatten().cloned();
        Some(urls.map(|url| Self::Url { target: target.clone(), url, dialect: Dialect::Tus1 }).collect())
    }

    /// The ways to ask about it, the likeliest first.
    pub(crate) fn queries(&self) -> Vec<Query<'_>> {
        match self {
            Self::Token { url, token } | Self::Numbered { url, token, .. } => {
                vec![Query::Token(url, token)]
            }
            Self::Url { url, dialect: Dialect::Ietf(version), .. } => vec![Query::Ietf(url, *version)],
            Self::Url { url, dialect: Dialect::Tus1, .. } => vec![Query::Tus1(url)],
            Self::Parts { .. } => Vec::new(),
            Self::Url { url, dialect: Dialect::Auto | Dialect::Token(_) | Dialect::Conventional, .. } => {
                // Some servers accept the sixth version of the draft alone.
                let versions = [Interop::NEWEST, Interop::V6].map(|version| Query::Ietf(url, version));
                versions.into_iter().chain([Query::Tus1(url)]).collect()
            }
        }
    }
}

fn speaker(version: Interop) -> IetfCodec {
    IetfCodec { version, sends_interim: true, completes_at_length: false }
}

impl Query<'_> {
    pub(crate) fn head(&self, operation: &Operation) -> Request<()> {
        let target = |url: &Uri| url.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let head = match self {
            Self::Token(url, token) => Form::Seed.request(&target(url), token, operation),
            Self::Ietf(url, version) => speaker(*version).request(&target(url), operation),
            Self::Tus1(url) => Offers::ask(&target(url), operation),
        };
        head.expect("a URL's path is a URI")
    }

    pub(crate) fn status(&self, answer: &FinalResponse) -> Option<Status> {
        let fields = &answer.fields;
        let (offset, length, complete) = match self {
            Self::Token(..) => {
                let told = token::told(fields);
                (told.offset, told.length, told.complete)
            }
            Self::Ietf(_, version) => {
                let told = speaker(*version).told(fields);
                (told.offset, told.length, told.complete)
            }
            Self::Tus1(_) => {
                let (offset, length) = Offers::told(fields);
                let complete = offset.zip(length).map(|(offset, length)| length.is_reached(offset));
                (offset, length, complete)
            }
        };
        Some(Status { offset: offset?.get(), length: length.map(Length::get), complete })
    }
}
