//! Which wire spelling a request is in, and the way from its head to an operation and back.
//!
//! One endpoint serves every dialect; [`detect`] tells them apart by the header section, in a fixed order of tests D0 to
//! D10 whose first match decides. Everything that names a field, a media type or a version number lives below here.

pub mod client;
pub mod conventional;
pub mod ietf;
pub mod interop;
pub mod status;
pub mod token;
pub mod tus1;

use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use crate::digest::{self, Digest};
use crate::field::{self, Field};
use crate::operation::{Decoded, Operation, Reply};
use crate::policy::Limits;
use crate::refusal::Refusal;
use crate::types::{Durable, Timestamp, UploadId};
use crate::upload::Upload;

/// `Upload-Token`: the client's name for an upload.
pub const UPLOAD_TOKEN: HeaderName = HeaderName::from_static("upload-token");
/// `Upload-Index`: the number of a part.
pub const UPLOAD_INDEX: HeaderName = HeaderName::from_static("upload-index");
/// `Upload-Offset`: where content begins, or how much is stored.
pub const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
/// `Upload-Length`: bytes of the whole.
pub const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
/// `Upload-Complete`: whether the whole is there.
pub const UPLOAD_COMPLETE: HeaderName = HeaderName::from_static("upload-complete");
/// `Upload-Incomplete`: its older inverse.
pub const UPLOAD_INCOMPLETE: HeaderName = HeaderName::from_static("upload-incomplete");
/// `Upload-Draft-Interop-Version`: which iteration of the drafts a peer speaks.
pub const INTEROP_VERSION: HeaderName = HeaderName::from_static("upload-draft-interop-version");
/// `Upload-Draft-Version`: its first name.
pub const DRAFT_VERSION: HeaderName = HeaderName::from_static("upload-draft-version");
/// `Client-Upload-Token`: a name `Upload-Token` had for a while in 2020.
pub const CLIENT_UPLOAD_TOKEN: HeaderName = HeaderName::from_static("client-upload-token");
/// `Tus-Resumable`: the version of tus 1 a peer speaks.
pub const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
/// `Tus-Version`: the versions of tus 1 a server speaks.
pub const TUS_VERSION: HeaderName = HeaderName::from_static("tus-version");
/// `X-HTTP-Method-Override`: the method a client meant and could not send.
pub const METHOD_OVERRIDE: HeaderName = HeaderName::from_static("x-http-method-override");
/// `Upload-Limit`: what the server takes.
pub const UPLOAD_LIMIT: HeaderName = HeaderName::from_static("upload-limit");

/// `Accept-Patch`: the media types of appends.
pub const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// The methods of the upload URL, for `Allow`.
pub const METHODS: &str = "POST, PUT, PATCH, HEAD, DELETE, OPTIONS";

/// Where below the endpoint a request is addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// The upload URL itself, where uploads are created and tokens are used.
    Endpoint,
    /// A URL this server could have minted for one upload.
    Upload(UploadId),
    /// Some other name below the endpoint: the upload URL with a name for the content, as `curl -T` makes it.
    Named,
}

/// What [`detect`] finds.
#[derive(Clone, Debug, PartialEq)]
pub enum Detected {
    /// A question about the endpoint itself: `OPTIONS`.
    Discover,
    /// A request in this dialect.
    Dialect(Dialect),
    /// A request no dialect claims, on the URL of one upload: the dialect of that upload decides.
    ByUpload,
    /// A request of a dialect this server does not speak, and what to say to it.
    Refuse(Refusal),
}

/// One wire spelling of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `Upload-Token`, in one of its forms.
    Token(token::Form),
    /// "Resumable Uploads for HTTP", in one of its iterations.
    Ietf(ietf::IetfCodec),
    /// tus 1.0.
    Tus1(tus1::Tus1Codec),
    /// No dialect at all: an ordinary request whose content is kept.
    Conventional,
}

/// What a request's content should hash to.
#[derive(Clone, Debug, Default)]
pub struct ExpectedDigests {
    /// By what its header section says.
    pub header: Vec<Digest>,
    /// Whether more is said behind the content.
    pub in_trailer: bool,
    /// What becomes of content of which that is not known in the end.
    pub strictness: Strictness,
}

/// What becomes of content of which it is not known whether it hashes to what it should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// It stays: what arrived of it may be resumed, and a promise that was not kept is none.
    #[default]
    Lenient,
    /// None of it ever counts.
    Strict,
}

/// What an answer depends on besides what it says.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The upload URL as the peer sees it, absolute where the server knows how.
    pub base: &'a str,
    /// The limits that are told.
    pub limits: &'a Limits,
    /// The moment of the answer.
    pub now: Timestamp,
    /// The time that a new upload is kept without receiving a byte; unlimited if `None`.
    pub lifetime: Option<Duration>,
}

/// What this server options beyond what every server of a dialect does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DialectOptions {
    /// Whether a peer of the IETF dialect that names no version is sent interim responses.
    pub rfc_interim: bool,
    /// The interop versions of the IETF dialect that are spoken.
    pub versions: interop::Versions,
    /// The extensions of tus 1.0.
    pub tus: tus1::Extensions,
}

/// The dialect of a request, its [method already overridden](tus1::override_method).
pub fn detect(head: &Parts, resource: Resource, options: DialectOptions) -> Detected {
    let fields = &head.headers;
    // D0: a preflight must work whatever it carries.
    if head.method == Method::OPTIONS {
        return Detected::Discover;
    }
    // D2: before the IETF dialect, whose fields Apple's upload tasks add to any request.
    //= TUS1-DF-13, TUS1-HDR-10, TUS1-HDR-11
    //= TUS1-HDR-02, TUS1-HDR-12
    match field::agreed(fields, &TUS_RESUMABLE) {
        Field::Absent => {}
        Field::Is(version) if version == tus1::VERSION.as_bytes() => {
            return Detected::Dialect(Dialect::Tus1(tus1::Tus1Codec::of(head, options.tus)));
        }
        Field::Is(_) | Field::Malformed => return Detected::Refuse(Refusal::TusVersion),
    }
    if !matches!(resource, Resource::Upload(_)) {
        // D3: the names of November 2020 are not offered.
        if fields.contains_key(CLIENT_UPLOAD_TOKEN) {
            return Detected::Refuse(Refusal::NotImplemented(
                "Client-Upload-Token: send Upload-Token instead",
            ));
        }
        // D4
        if fields.contains_key(UPLOAD_TOKEN) {
            return Detected::Dialect(Dialect::Token(token::Form::of(fields)));
        }
    }
    // D5 and D6
    let means_an_upload = means_an_upload(&head.method);
    let speaker = match resource {
        Resource::Upload(_) => ietf::on_upload(head, options),
        Resource::Named if means_an_upload => ietf::on_upload(head, options),
        Resource::Endpoint | Resource::Named => match ietf::creation(head, options) {
            ietf::Creation::By(speaker) => Some(speaker),
            ietf::Creation::Ordinary => None,
        },
    };
    if let Some(speaker) = speaker {
        return Detected::Dialect(Dialect::Ietf(speaker));
    }
    match resource {
        Resource::Upload(_) => detect_on_upload(head),
        //= TUS1-HDR-03
        // D8
        Resource::Endpoint | Resource::Named if looks_like_tus(head) => Detected::Refuse(Refusal::TusVersion),
        //= IETF-RET-10
        Resource::Named if means_an_upload => Detected::Refuse(Refusal::NotFound),
        // D10
        Resource::Endpoint | Resource::Named => Detected::Dialect(Dialect::Conventional),
    }
}

/// D7 to D9.
fn detect_on_upload(head: &Parts) -> Detected {
    if looks_like_tus(head) {
        return Detected::Refuse(Refusal::TusVersion);
    }
    match head.method {
        Method::HEAD | Method::GET | Method::DELETE => Detected::ByUpload,
        Method::PATCH => Detected::Refuse(Refusal::MediaType { accept: ietf::PARTIAL_UPLOAD }),
        _ => Detected::Refuse(Refusal::Method { allow: "HEAD, GET, PATCH, DELETE, OPTIONS" }),
    }
}

fn looks_like_tus(head: &Parts) -> bool {
    let is_append = head.method == Method::PATCH && has_media_type(&head.headers, tus1::OFFSET_OCTET_STREAM);
    let own = [
        tus1::UPLOAD_METADATA,
        tus1::UPLOAD_DEFER_LENGTH,
        tus1::UPLOAD_CONCAT,
        tus1::checksum::UPLOAD_CHECKSUM,
    ];
    !head.headers.contains_key(INTEROP_VERSION)
        && (is_append || own.iter().any(|name| head.headers.contains_key(name)))
}

/// Whether the content is of a media type, parameters and case apart.
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

impl Dialect {
    /// Understands a request to `place`. `content_bytes` is the size of its content, where the transport knows it.
    ///
    /// # Errors
    /// A refusal when the header section does not make sense in this dialect. It ends no running transfer.
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
            (Self::Ietf(_), Resource::Named) if means_an_upload(&head.method) => Err(Refusal::NotFound),
            (Self::Ietf(speaker), _) => speaker.decode_creation(head, content_bytes),
            (Self::Tus1(speaker), _) => speaker.decode(head, resource, content_bytes),
            (Self::Conventional, _) => conventional::decode(head, content_bytes),
        }
    }

    /// The interim response that tells a client its upload can be resumed, to be sent when the upload exists and before
    /// its content is read.
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

    /// The interim response that tells a client how much is stored while its content is received.
    pub fn progress(&self, offset: Durable) -> Option<Response<()>> {
        match self {
            Self::Ietf(speaker) => speaker.progress(offset),
            Self::Token(_) | Self::Tus1(_) | Self::Conventional => None,
        }
    }

    /// The same for an operator who goes along with clients that never say that an upload is complete: where a text has
    /// such clients, reaching the length is enough.
    pub fn completing_at_length(self) -> Self {
        match self {
            Self::Ietf(speaker) => Self::Ietf(ietf::IetfCodec { completes_at_length: true, ..speaker }),
            Self::Token(_) | Self::Tus1(_) | Self::Conventional => self,
        }
    }

    /// What a request says its content hashes to, of a header section that [`decode`](Self::decode) found well-formed.
    pub fn expected_digests(&self, fields: &HeaderMap) -> ExpectedDigests {
        match self {
            Self::Ietf(_) => ExpectedDigests {
                header: digest::parse(fields, &digest::CONTENT_DIGEST),
                in_trailer: digest::is_in_trailer(fields),
                strictness: Strictness::Lenient,
            },
            Self::Tus1(speaker) if speaker.extensions.has(tus1::Extension::Checksum) => ExpectedDigests {
                header: tus1::checksum::parse(fields).ok().flatten().into_iter().collect(),
                in_trailer: tus1::checksum::is_in_trailer(fields),
                strictness: Strictness::Strict,
            },
            Self::Token(_) | Self::Tus1(_) | Self::Conventional => ExpectedDigests::default(),
        }
    }

    /// What the trailer section behind content says it hashes to.
    ///
    /// # Errors
    /// A refusal where that cannot be compared and must be.
    pub fn trailer_digests(&self, trailers: &HeaderMap) -> Result<Vec<Digest>, Refusal> {
        match self {
            Self::Ietf(_) => Ok(digest::parse(trailers, &digest::CONTENT_DIGEST)),
            Self::Tus1(speaker) if speaker.extensions.has(tus1::Extension::ChecksumTrailer) => {
                tus1::checksum::parse(trailers).map(|said| said.into_iter().collect())
            }
            Self::Token(_) | Self::Tus1(_) | Self::Conventional => Ok(Vec::new()),
        }
    }

    /// What the trailer section behind content says the whole representation hashes to.
    //= IETF-DIG-08
    pub fn trailer_repr_digest(&self, trailers: &HeaderMap) -> Vec<HeaderValue> {
        match self {
            Self::Ietf(_) => trailers.get_all(digest::REPR_DIGEST).iter().cloned().collect(),
            Self::Token(_) | Self::Tus1(_) | Self::Conventional => Vec::new(),
        }
    }

    /// Whether what is wrong is said in plain words, and not in a problem document.
    pub fn uses_plain_text_errors(&self) -> bool {
        matches!(self, Self::Tus1(_))
    }

    /// The head of the answer to a request that was carried out.
    pub fn encode(&self, reply: &Reply, context: &Context<'_>) -> Response<()> {
        match self {
            Self::Token(form) => form.encode(reply),
            Self::Ietf(speaker) => speaker.encode(reply, context),
            Self::Tus1(speaker) => speaker.encode(reply, context),
            Self::Conventional => conventional::encode(reply, context.base),
        }
    }

    /// The head of the answer to a request that was refused.
    pub fn refuse(&self, refusal: &Refusal, context: &Context<'_>) -> Response<()> {
        let refusal = match (self, refusal) {
            // Where the text knows but one answer for what is not there, what was there once gets that too.
            (Self::Token(_) | Self::Ietf(_) | Self::Conventional, Refusal::Gone) => &Refusal::NotFound,
            (_, refusal) => refusal,
        };
        match self {
            Self::Token(form) => form.refuse(refusal),
            Self::Ietf(speaker) => speaker.refuse(refusal, context),
            Self::Tus1(_) => tus1::Tus1Codec::refuse(refusal),
            Self::Conventional => refused(refusal),
        }
    }
}

/// What every dialect says about a refusal.
pub fn refused(refusal: &Refusal) -> Response<()> {
    let mut head = status(refusal.status());
    let fields = head.headers_mut();
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(after) = refusal.retry_after() {
        fields.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    let refusal = match refusal {
        Refusal::Beside(refusal, _) => refusal,
        other => other,
    };
    match refusal {
        Refusal::Method { allow } => {
            fields.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        Refusal::Unauthorized { challenge } => {
            fields.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        Refusal::MediaType { accept } => {
            fields.insert(ACCEPT_PATCH, HeaderValue::from_static(accept));
        }
        Refusal::TusVersion => {
            fields.insert(TUS_VERSION, HeaderValue::from_static(tus1::VERSION));
            tus1::sign(fields);
        }
        _ => {}
    }
    head
}

/// Refuses content that is a part of a representation and says so by `Content-Range`, as `curl -C 100 -T` sends it. Kept as
/// an upload of its own it would be taken for the whole.
///
/// On `PATCH` the field has no meaning (RFC 9110, Content-Range), and `Upload-Offset` says where the content belongs.
//= TOK-CRE-10, IETF-CRE-19, TUS1-CRE-11
fn refuse_partial_content(head: &Parts) -> Result<(), Refusal> {
    if matches!(head.method, Method::POST | Method::PUT) && head.headers.contains_key(header::CONTENT_RANGE) {
        return Err(Refusal::field(
            "Content-Range",
            "a part is not stored as a whole: send all of the content without it, or resume by PATCH with Upload-Offset",
        ));
    }
    Ok(())
}

/// `104 (Upload Resumption Supported)`.
fn resumption_supported() -> StatusCode {
    StatusCode::from_u16(104).expect("in the range of status codes")
}

/// Returns `true` if a request below the endpoint refers to an existing upload, so that a name no upload can have is
/// answered with 404. Other methods, such as `PUT` and `POST`, create an upload there.
fn means_an_upload(method: &Method) -> bool {
    matches!(*method, Method::HEAD | Method::GET | Method::PATCH | Method::DELETE)
}

/// Whether requests of a method carry content that could be an upload.
fn is_content_method(method: &Method) -> bool {
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
