//! The client's half of the dialects: requests written from intents, responses read into values.
//!
//! The one place where a client tells the dialects apart. Each dialect's wire spelling is in its own module; the
//! machine in [`client`](crate::client) decides by a row of properties and never by the name of a dialect.

use std::time::Duration;

use http::{HeaderMap, Method, Request, StatusCode, header};

use super::interop::{CompletionSignal, Interop};
use super::status::{self, StatusClass};
use super::token::Form;
use super::tus1::client::{Capabilities, Checksum, Concat};
use super::{conventional, ietf, token, tus1};
use crate::operation::{Content, Finish};
use crate::types::{Length, Offset, Token};
use crate::upload::{Completion, Origin, Part};

/// A dialect as a client speaks it.
#[derive(Clone, Debug)]
pub enum ClientDialect {
    /// `Upload-Token`: the client names the upload.
    Token {
        /// The name.
        token: Token,
        /// The wire form of the dialect.
        form: Form,
        /// The numbered part of the upload that is sent; `None` for the whole.
        part: Option<Part>,
    },
    /// "Resumable Uploads for HTTP", in one of its iterations.
    Ietf(Interop),
    /// tus 1.0.
    Tus1 {
        /// The extensions of the server.
        capabilities: Capabilities,
        /// The upload's part in a concatenation.
        concat: Concat,
    },
    /// One ordinary request, which cannot be resumed.
    Conventional,
}

/// A request that a client wants to make.
#[derive(Clone, Copy, Debug)]
pub enum Intent<'a> {
    /// Creates an upload.
    Create {
        /// Method and fields of the ordinary request that the upload stands for.
        origin: &'a Origin,
        /// The length of the representation, if known.
        length: Option<Length>,
        /// The content that goes with the creation.
        content: Content,
    },
    /// Appends content to an upload.
    Append {
        /// The offset of the content.
        at: Offset,
        /// The length of the representation, if the server has to be told.
        length: Option<Length>,
        /// True if the content is the last of the representation.
        finish: Finish,
    },
    /// Asks for the offset.
    Query,
    /// Cancels an upload.
    Cancel,
}

/// The state of an upload, as far as a response carries it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UploadState {
    /// Bytes that the server has.
    pub offset: Option<Offset>,
    /// The length that the server knows.
    pub length: Option<Length>,
    /// True if the upload is complete, `None` if the response does not say.
    pub complete: Option<bool>,
    /// The time until the upload expires, by the server's own clock.
    pub expires_in: Option<Duration>,
}

/// The limits of `Upload-Limit`, as far as a response carries them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UploadLimits {
    /// `max-size`: bytes of the largest representation.
    pub size_max: Option<u64>,
    /// `min-size`: bytes of the smallest representation that can be resumed.
    pub size_min: Option<u64>,
    /// `max-append-size`: the most bytes in one request.
    pub append_max: Option<u64>,
    /// `min-append-size`: the fewest bytes in one request that is not the last.
    pub append_min: Option<u64>,
    /// `max-age`: seconds until the upload expires.
    pub age_max: Option<u64>,
}

/// A response, read once.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: StatusCode,
    /// Its meaning, for the request that it answers.
    pub class: StatusClass,
    /// The state of the upload.
    pub state: UploadState,
    /// The server's limits.
    pub limits: Option<UploadLimits>,
    /// `Location`, as the server wrote it.
    pub location: Option<String>,
    /// The pause that the server asks for.
    pub retry_after: Option<Duration>,
    /// True if a field shows that the server supports resumable uploads.
    pub shows_support: bool,
}

impl Response {
    /// Reads the status and the fields that mean the same in every dialect.
    pub(super) fn of(status: StatusCode, fields: &HeaderMap) -> Self {
        let location = fields.get(header::LOCATION).and_then(|value| value.to_str().ok());
        Self {
            status,
            class: StatusClass::of(status),
            state: UploadState::default(),
            limits: None,
            location: location.map(ToOwned::to_owned),
            retry_after: status::retry_after(fields),
            shows_support: ietf::client::has_own_field(fields),
        }
    }

    pub(crate) fn is_bad_request(&self) -> bool {
        self.status == StatusCode::BAD_REQUEST
    }

    /// Returns whether the server may not support the version of the request.
    pub(crate) fn refuses_version(&self) -> bool {
        self.is_bad_request() && !self.shows_support
    }

    pub(crate) fn is_too_large(&self) -> bool {
        self.status == StatusCode::PAYLOAD_TOO_LARGE
    }

    /// Returns whether the request needs other credentials or another URL, so that repeating it cannot help.
    pub(crate) fn is_final(&self) -> bool {
        let needs_credentials = matches!(
            self.status,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED
        );
        needs_credentials || self.status.is_redirection()
    }
}

impl ClientDialect {
    /// Writes the head of a request to `target`, without the fields of the connection and of the content's size.
    ///
    /// # Errors
    /// Returns an error if `target` is not the target of a request.
    pub fn request(&self, target: &str, intent: &Intent<'_>) -> Result<Request<()>, http::Error> {
        match self {
            Self::Token { token, form, part } => token::client::request(*form, target, token, *part, intent),
            Self::Ietf(version) => ietf::client::request(*version, target, intent),
            Self::Tus1 { concat, .. } => tus1::client::request(concat, target, intent),
            Self::Conventional => conventional::request(target, intent),
        }
    }

    /// Reads the final response to a request; `is_query` tells whether that asked for the offset.
    pub fn response(&self, is_query: bool, status: StatusCode, fields: &HeaderMap) -> Response {
        match self {
            Self::Token { .. } => token::client::response(status, fields),
            Self::Ietf(version) => ietf::client::response(*version, status, fields),
            Self::Tus1 { .. } => tus1::client::response(is_query, status, fields),
            Self::Conventional => Response::of(status, fields),
        }
    }

    /// Reads an interim response, if it is about the upload.
    pub fn interim(&self, status: StatusCode, fields: &HeaderMap) -> Option<Response> {
        match self {
            Self::Ietf(version) if ietf::client::is_own_interim(*version, status, fields) => {
                Some(ietf::client::response(*version, status, fields))
            }
            Self::Token { .. } | Self::Ietf(_) | Self::Tus1 { .. } | Self::Conventional => None,
        }
    }

    pub(crate) fn properties(&self) -> ClientProperties {
        match self {
            Self::Token { part, .. } => token::client::properties(part.is_some()),
            Self::Ietf(version) => ietf::client::properties(*version),
            Self::Tus1 { capabilities, concat } => tus1::client::properties(capabilities, concat),
            Self::Conventional => ClientProperties::CONVENTIONAL,
        }
    }
}

/// The properties of a dialect that decide what a client does.
#[expect(clippy::struct_excessive_bools, reason = "a row of independent properties")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientProperties {
    pub(crate) naming: Naming,
    pub(crate) completion: Completion,
    pub(crate) completion_signal: CompletionSignal,
    pub(crate) offsets: OffsetTrust,
    pub(crate) conflicts: ConflictRule,
    /// Queries in a row that may fail to return an offset.
    pub(crate) queries_max: u8,
    /// True if a server that does not know the dialect accepts a creation as an ordinary request.
    pub(crate) degrades: bool,
    /// True if the server repeats an answer that was lost.
    pub(crate) replays: bool,
    /// True if an upload that cannot be completed is cancelled.
    pub(crate) cancels: bool,
    /// True if an incomplete upload that is gone is created again although bytes were acknowledged.
    pub(crate) restarts: bool,
    /// True if a server may answer 400 to an append at a stale offset.
    pub(crate) stale_append_is_bad_request: bool,
    pub(crate) creation_content: CreationContent,
    pub(crate) size_max: Option<u64>,
    /// The digest that goes with the content of a request. An interruption then loses all of that content.
    pub(crate) checksum: Option<Checksum>,
    /// True if the upload is one of several parts, whose completeness is not that of the whole.
    pub(crate) is_part: bool,
    /// True if the upload is complete when it is created, because it is joined from others.
    pub(crate) is_joined: bool,
}

/// The name by which requests refer to an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// The client's token, from the first request on. A second creation with it creates no second upload.
    Token,
    /// The URL that the server gives it.
    Url,
    /// None: no later request can refer to the upload.
    Unnamed,
}

/// The offsets in responses that are credible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OffsetTrust {
    /// Those that this client has sent; a success acknowledges all of its request.
    Exact,
    /// In a success those that this client has sent, otherwise all up to the length.
    Sent,
    /// All up to the length.
    Length,
}

/// The use of the offset that comes with a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConflictRule {
    /// The next append begins there.
    Follow,
    /// The next append begins there, unless this is the given number of conflicts in a row.
    FollowFewer(u8),
    /// The next append begins there if it is further than any offset before.
    FollowForward,
}

/// The content that goes with a creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CreationContent {
    /// As much as one request may carry.
    Full,
    /// As much as one request may carry if that is at most this many bytes, otherwise none.
    Small(u64),
    /// None.
    None,
}

impl ClientProperties {
    /// The row of an ordinary request, from which the rows of the dialects differ.
    pub(crate) const CONVENTIONAL: Self = Self {
        naming: Naming::Unnamed,
        completion: Completion::AtLengthOrEnd,
        completion_signal: CompletionSignal::Offset,
        offsets: OffsetTrust::Exact,
        conflicts: ConflictRule::Follow,
        queries_max: 1,
        degrades: false,
        replays: false,
        cancels: false,
        restarts: false,
        stale_append_is_bad_request: false,
        creation_content: CreationContent::Full,
        size_max: None,
        checksum: None,
        is_part: false,
        is_joined: false,
    };
}

/// Returns the method of a request in the dialects that create with the method of the target.
pub(super) fn method(intent: &Intent<'_>) -> Method {
    match intent {
        Intent::Create { origin, .. } => origin.method.clone(),
        Intent::Append { .. } => Method::PATCH,
        Intent::Query => Method::HEAD,
        Intent::Cancel => Method::DELETE,
    }
}
