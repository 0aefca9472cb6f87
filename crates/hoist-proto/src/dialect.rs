//! The dialects: the wire formats in which clients upload.
//!
//! [`detect`] finds the dialect of a request; [`Dialect::decode`] turns the request into an operation, and
//! [`Dialect::encode`] and [`Dialect::refuse`] turn the outcome into a response. No code outside this module names a header
//! field of a dialect, a media type or a version number.

pub mod client;
pub mod conventional;
mod detect;
pub mod ietf;
pub mod interop;
mod refusal_table;
pub mod status;
pub mod token;
pub mod tus1;

use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

pub use self::detect::{Detected, detect};
pub use self::refusal_table::{Problem, ProblemType};
use crate::digest::{self, Digest};
use crate::operation::{Decoded, Operation, Reply};
use crate::policy::Limits;
use crate::refusal::{Reason, Refusal};
use crate::types::{Durable, Timestamp, UploadId};
use crate::upload::{Family, Upload};

/// `Upload-Token`: the client's name for an upload.
pub const UPLOAD_TOKEN: HeaderName = HeaderName::from_static("upload-token");
/// `Upload-Index`: the number of a part.
pub const UPLOAD_INDEX: HeaderName = HeaderName::from_static("upload-index");
/// `Upload-Offset`: the offset at which content begins, or up to which it is stored.
pub const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
/// `Upload-Length`: the length of the representation in bytes.
pub const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
/// `Upload-Complete`: the completeness of the upload.
pub const UPLOAD_COMPLETE: HeaderName = HeaderName::from_static("upload-complete");
/// `Upload-Incomplete`: the inverse of `Upload-Complete` in old drafts.
pub const UPLOAD_INCOMPLETE: HeaderName = HeaderName::from_static("upload-incomplete");
/// `Upload-Draft-Interop-Version`: the interop version of the drafts that a client or server implements.
pub const INTEROP_VERSION: HeaderName = HeaderName::from_static("upload-draft-interop-version");
/// `Upload-Draft-Version`: the first name of `Upload-Draft-Interop-Version`.
pub const DRAFT_VERSION: HeaderName = HeaderName::from_static("upload-draft-version");
/// `Client-Upload-Token`: the name of `Upload-Token` for a few months in 2020.
pub const CLIENT_UPLOAD_TOKEN: HeaderName = HeaderName::from_static("client-upload-token");
/// `Tus-Resumable`: the tus version of a request or response.
pub const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
/// `Tus-Version`: the tus versions that a server supports.
pub const TUS_VERSION: HeaderName = HeaderName::from_static("tus-version");
/// `X-HTTP-Method-Override`: the method that a client means but cannot send.
pub const METHOD_OVERRIDE: HeaderName = HeaderName::from_static("x-http-method-override");
/// `Upload-Limit`: the limits of the server.
pub const UPLOAD_LIMIT: HeaderName = HeaderName::from_static("upload-limit");
/// `Accept-Patch`: the media types of appends.
pub const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// The methods of the URL that creates uploads, for `Allow`.
pub const METHODS: &str = "POST, PUT, PATCH, HEAD, DELETE, OPTIONS";

/// The resource to which a request is addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// The endpoint: the URL that creates uploads and serves all uploads with tokens.
    Endpoint,
    /// The URL of an upload.
    Upload(UploadId),
    /// A URL below the endpoint whose last segment names the content and is no upload id, as `curl -T` makes it.
    Named,
}

/// A dialect, with the version and the options that apply to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `Upload-Token`, in one of its forms.
    Token(token::Form),
    /// "Resumable Uploads for HTTP", in one of its versions.
    Ietf(ietf::IetfCodec),
    /// tus 1.0.
    Tus1(tus1::Tus1Codec),
    /// None: an ordinary request whose content is stored.
    Conventional,
}

/// The digests that the content of a request must have.
#[derive(Clone, Debug, Default)]
pub struct ExpectedDigests {
    /// The digests in the header section.
    pub header: Vec<Digest>,
    /// True if the trailer section will contain more digests.
    pub in_trailer: bool,
    /// The treatment of content that could not be verified.
    pub strictness: Strictness,
}

/// The treatment of content whose digest could not be verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// Keep it. Interrupted content can be resumed, and a missing digest is ignored.
    #[default]
    Lenient,
    /// Discard it.
    Strict,
}

/// The values that a response needs besides the reply or refusal.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The URL of the endpoint as the client sees it; absolute where the server knows its origin.
    pub base: &'a str,
    /// The path of the upload below the endpoint, if it is not its id.
    pub alias: Option<&'a str>,
    /// The limits that responses report.
    pub limits: &'a Limits,
    /// The time of the response.
    pub now: Timestamp,
    /// The time after which a new upload without content expires; unlimited if `None`.
    pub lifetime: Option<Duration>,
}

/// The optional parts of the dialects that a server supports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DialectOptions {
    /// True if clients of the IETF dialect that send no version get interim responses.
    pub rfc_interim: bool,
    /// The interop versions of the IETF dialect.
    pub versions: interop::Versions,
    /// The extensions of tus 1.0.
    pub tus: tus1::Extensions,
}

impl Dialect {
    /// Returns the family of the uploads that requests in this dialect create.
    pub const fn family(&self) -> Family {
        match self {
            Self::Token(_) => Family::Token,
            Self::Ietf(_) => Family::Ietf,
            Self::Tus1(_) => Family::Tus1,
            Self::Conventional => Family::Conventional,
        }
    }

    /// Decodes the header section of a request. `content_bytes` is the size of its content, if the transport knows it.
    ///
    /// # Errors
    /// Returns a refusal if the header section is invalid in this dialect. Such a request interrupts no transfer.
    pub fn decode(
        &self,
        head: &Parts,
        resource: Resource,
        content_bytes: Option<u64>,
    ) -> Result<Decoded, Refusal> {
        refuse_partial_content(head)?;
        match (self, resource) {
            (Self::Token(form), _) => form.decode(head, content_bytes),
            (Self::Ietf(speaker), Resource::Upload(id)) => {
                Ok(speaker.decode_on_upload(id, head, content_bytes))
            }
            (Self::Ietf(_), Resource::Named) if requires_upload(&head.method) => Err(Reason::NotFound.into()),
            (Self::Ietf(speaker), _) => speaker.decode_creation(head, content_bytes),
            (Self::Tus1(speaker), _) => speaker.decode(head, resource, content_bytes),
            (Self::Conventional, _) => conventional::decode(head, content_bytes),
        }
    }

    /// Returns the interim response that announces that the upload can be resumed, before the content is read.
    pub fn announcement(
        &self,
        operation: &Operation,
        head: &Parts,
        upload: &Upload,
        context: &Context<'_>,
    ) -> Option<Response<()>> {
        match self {
            Self::Token(form) => form.announcement(operation, head),
            Self::Ietf(speaker) => {
                matches!(operation, Operation::Create(_)).then(|| speaker.announcement(upload, context))?
            }
            Self::Tus1(_) | Self::Conventional => None,
        }
    }

    /// Returns the interim response that reports the offset while content is received.
    pub fn progress(&self, offset: Durable) -> Option<Response<()>> {
        match self {
            Self::Ietf(speaker) => speaker.progress(offset),
            Self::Token(_) | Self::Tus1(_) | Self::Conventional => None,
        }
    }

    /// Returns the dialect with uploads that are also complete when they reach their length, in the versions whose clients do
    /// not reliably mark the last request.
    pub fn completing_at_length(self) -> Self {
        match self {
            Self::Ietf(speaker) => Self::Ietf(ietf::IetfCodec { completes_at_length: true, ..speaker }),
            Self::Token(_) | Self::Tus1(_) | Self::Conventional => self,
        }
    }

    /// Returns the digests that the content must have. The header section must be valid for [`decode`](Self::decode).
    pub fn expected_digests(&self, fields: &HeaderMap) -> ExpectedDigests {
        match self {
            Self::Ietf(_) => ExpectedDigests {
                header: digest::parse(fields, &digest::CONTENT_DIGEST),
                in_trailer: digest::is_in_trailer(fields, &digest::CONTENT_DIGEST),
                strictness: Strictness::Lenient,
            },
            Self::Tus1(speaker) if speaker.extensions.has(tus1::Extension::Checksum) => ExpectedDigests {
                header: tus1::checksum::parse(fields).ok().flatten().into_iter().collect(),
                //= TUS1-CHK-07
                in_trailer: digest::is_in_trailer(fields, &tus1::checksum::UPLOAD_CHECKSUM),
                strictness: Strictness::Strict,
            },
            Self::Token(_) | Self::Tus1(_) | Self::Conventional => ExpectedDigests::default(),
        }
    }

    /// Returns the digests of the content in a trailer section.
    ///
    /// # Errors
    /// Returns a refusal if a digest cannot be compared in a dialect that requires it.
    pub fn trailer_digests(&self, trailers: &HeaderMap) -> Result<Vec<Digest>, Refusal> {
        match self {
            Self::Ietf(_) => Ok(digest::parse(trailers, &digest::CONTENT_DIGEST)),
            Self::Tus1(speaker) if speaker.extensions.has(tus1::Extension::ChecksumTrailer) => {
                tus1::checksum::parse(trailers).map(|said| said.into_iter().collect())
            }
            Self::Token(_) | Self::Tus1(_) | Self::Conventional => Ok(Vec::new()),
        }
    }

    /// Returns the digests of the whole representation in a trailer section.
    //= IETF-DIG-08
    pub fn trailer_repr_digest(&self, trailers: &HeaderMap) -> Vec<HeaderValue> {
        match self {
            Self::Ietf(_) => trailers.get_all(digest::REPR_DIGEST).iter().cloned().collect(),
            Self::Token(_) | Self::Tus1(_) | Self::Conventional => Vec::new(),
        }
    }

    /// Returns whether refusals are described by plain text, not by a problem document.
    pub fn uses_plain_text_errors(&self) -> bool {
        matches!(self, Self::Tus1(_))
    }

    /// Encodes the head of the response to a request that was carried out.
    pub fn encode(&self, reply: &Reply, context: &Context<'_>) -> Response<()> {
        match self {
            Self::Token(form) => form.encode(reply),
            Self::Ietf(speaker) => speaker.encode(reply, context),
            Self::Tus1(speaker) => speaker.encode(reply, context),
            Self::Conventional => conventional::encode(reply, context),
        }
    }

    /// Encodes the head of the response to a refused request.
    pub fn refuse(&self, refusal: &Refusal, context: &Context<'_>) -> Response<()> {
        let mut head = refused(Some(*self), refusal);
        match self {
            Self::Token(form) => form.refuse(refusal, head.headers_mut()),
            Self::Ietf(codec) => codec.refuse(refusal, context, head.headers_mut()),
            Self::Tus1(_) => tus1::Tus1Codec::refuse(refusal, head.headers_mut()),
            Self::Conventional => {}
        }
        head
    }
}

/// Encodes the head of the response to a refused request, without the fields of a dialect; `None` stands for a request in no
/// dialect.
pub fn refused(dialect: Option<Dialect>, refusal: &Refusal) -> Response<()> {
    let mut head = status(refusal.status(dialect));
    let fields = head.headers_mut();
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(after) = refusal.retry_after() {
        fields.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    match refusal.reason {
        Reason::MethodNotAllowed { allow } => {
            fields.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        Reason::Unauthorized { challenge } => {
            fields.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        Reason::NotAppendMediaType { accept } => {
            fields.insert(ACCEPT_PATCH, HeaderValue::from_static(accept));
        }
        Reason::UnsupportedTusVersion => {
            fields.insert(TUS_VERSION, HeaderValue::from_static(tus1::VERSION));
            tus1::sign(fields);
        }
        _ => {}
    }
    head
}

/// Refuses content with `Content-Range`, as `curl -C 100 -T` sends it: a part would pass for the whole representation.
/// On `PATCH` the field has no meaning (RFC 9110, Content-Range).
//= TOK-CRE-10, IETF-CRE-19, TUS1-CRE-11
fn refuse_partial_content(head: &Parts) -> Result<(), Refusal> {
    if matches!(head.method, Method::POST | Method::PUT) && head.headers.contains_key(header::CONTENT_RANGE) {
        return Err(Refusal::field(
            "Content-Range",
            "a part of a representation cannot create an upload: send all content without this field, or append with PATCH and \
             Upload-Offset",
        ));
    }
    Ok(())
}

/// Returns whether the content has a media type. Parameters and letter case do not matter.
fn has_media_type(fields: &HeaderMap, expected: &str) -> bool {
    let essence = |value: &HeaderValue| {
        value
            .to_str()
            .ok()
            .and_then(|text| text.split(';').next())
            .is_some_and(|essence| essence.trim().eq_ignore_ascii_case(expected))
    };
    fields.get(header::CONTENT_TYPE).is_some_and(essence)
}

fn resumption_supported() -> StatusCode {
    StatusCode::from_u16(104).expect("in the range of status codes")
}

/// Returns whether a request below the endpoint needs an existing upload. Other methods create one there.
fn requires_upload(method: &Method) -> bool {
    matches!(*method, Method::HEAD | Method::GET | Method::PATCH | Method::DELETE)
}

fn has_content(method: &Method) -> bool {
    !matches!(
        *method,
        Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS | Method::TRACE | Method::CONNECT
    )
}

fn status(status: StatusCode) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = status;
    head
}

#[cfg(test)]
mod tests;
