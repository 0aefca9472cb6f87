//! "Resumable Uploads for HTTP", the IETF draft: the server assigns each upload a URL and announces it by 104.
//!
//! The server's half for all versions, whose differences are properties in [`interop`](super::interop). Source:
//! docs/ietf.md.

pub mod client;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use super::conventional;
use super::interop::{Interop, LimitKeys, Properties};
use super::{
    Context, DialectOptions, INTEROP_VERSION, UPLOAD_COMPLETE, UPLOAD_INCOMPLETE, UPLOAD_LENGTH,
    UPLOAD_LIMIT, UPLOAD_OFFSET, has_content, has_media_type, status,
};
use crate::field::{self, Field};
use crate::operation::{Append, BelowMinSize, Content, Create, Decoded, Finish, Operation, Reply, Subject};
use crate::refusal::{Reason, Refusal};
use crate::types::{Durable, Length, Offset, UploadId};
use crate::upload::{Completion, Excess, Family, Interruption, Semantics, State, Upload};

/// The media type of appends.
pub const PARTIAL_UPLOAD: &str = "application/partial-upload";

/// The methods of the URL of an upload, for `Allow`.
pub const METHODS_OF_UPLOAD: &str = "HEAD, GET, PATCH, DELETE, OPTIONS";

pub(crate) const SEMANTICS: Semantics = Semantics {
    completion: Completion::Explicit,
    excess: Excess::Invalidates,
    interruption: Interruption::Resumes,
};

/// The dialect in one version, as it applies to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IetfCodec {
    /// The version in which the request is decoded and the response encoded.
    pub version: Interop,
    /// True if the client understands interim responses.
    pub sends_interim: bool,
    /// True if uploads are also complete when they reach their length, in the versions whose clients need it.
    pub completes_at_length: bool,
}

/// Returns the codec of a request that creates an upload; `None` for an ordinary request.
//= IETF-CRE-02, IETF-CRE-06, IETF-VER-06, IETF-VER-07, IETF-VER-10, IETF-SF-04
pub(super) fn codec_of_creation(head: &Parts, options: DialectOptions) -> Option<IetfCodec> {
    let fields = &head.headers;
    if !has_content(&head.method) {
        return None;
    }
    let codec =
        |version, sends_interim| Some(IetfCodec { version, sends_interim, ..IetfCodec::unversioned() });
    let complete = field::boolean(fields, &UPLOAD_COMPLETE);
    match field::integer(fields, &INTEROP_VERSION) {
        Field::Is(number) if Some(number) < Interop::OLDEST.number() => None,
        Field::Is(number) => match (options.versions.find(number), complete) {
            (Some(version), _) if read_completeness(version, fields).is_some() => codec(version, true),
            (None, Field::Is(false)) => codec(options.versions.newest(), false),
            (Some(_) | None, _) => None,
        },
        Field::Malformed => match complete {
            Field::Is(false) => codec(options.versions.newest(), false),
            _ => None,
        },
        Field::Absent => match (complete, field::boolean(fields, &UPLOAD_INCOMPLETE)) {
            (Field::Is(_), _) => codec(Interop::Rfc, options.rfc_interim),
            // An example in Apple's documentation that predates the version numbers.
            (_, Field::Is(true)) => codec(Interop::V3, false),
            _ => None,
        },
    }
}

/// Returns the codec of a request to the URL of an upload, if the request is in this dialect.
//= IETF-VER-02, IETF-VER-07, IETF-VER-10
pub(super) fn codec_on_upload(head: &Parts, options: DialectOptions) -> Option<IetfCodec> {
    let number = field::integer(&head.headers, &INTEROP_VERSION);
    let sends_interim = options.rfc_interim && !number.is_present();
    let version = number.ignoring_malformed().and_then(|number| options.versions.find(number));
    let is_append = head.method == Method::PATCH && has_media_type(&head.headers, PARTIAL_UPLOAD);
    match version {
        Some(version) => Some(IetfCodec { version, sends_interim: true, ..IetfCodec::unversioned() }),
        None if is_append => Some(IetfCodec { sends_interim, ..IetfCodec::unversioned() }),
        None => None,
    }
}

/// Reads the completeness field of a version. A malformed field counts as absent.
//= IETF-VER-05
fn read_completeness(version: Interop, fields: &HeaderMap) -> Option<Finish> {
    let Properties { completeness, complete_is, .. } = version.properties();
    let value = field::boolean(fields, &completeness).ignoring_malformed()?;
    Some(if value == complete_is { Finish::Here } else { Finish::Later })
}

impl IetfCodec {
    /// The codec for a client that sends no version number and understands no interim responses.
    pub fn unversioned() -> Self {
        Self { version: Interop::Rfc, sends_interim: false, completes_at_length: false }
    }

    fn properties(self) -> Properties {
        if self.completes_at_length { self.version.properties_at_length() } else { self.version.properties() }
    }

    /// Decodes a creation, for which [`codec_of_creation`] returned this codec.
    //= IETF-CRE-01, IETF-CRE-05, IETF-CRE-13, IETF-CRE-16, IETF-CRE-17
    pub(super) fn decode_creation(self, head: &Parts, bytes: Option<u64>) -> Result<Decoded, Refusal> {
        let fields = &head.headers;
        let mut origin = conventional::full_origin(head)?;
        if has_media_type(fields, PARTIAL_UPLOAD) {
            if head.method == Method::PATCH {
                return Err(Reason::AppendToEndpoint.into());
            }
            // No representation has this type: the client sends it with every request, not only with appends.
            origin.fields.remove(header::CONTENT_TYPE);
        }
        if field::integer(fields, &UPLOAD_OFFSET).ignoring_malformed().is_some_and(|offset| offset > 0) {
            return Err(Refusal::field("Upload-Offset", "a creation begins at 0"));
        }
        let finish = read_completeness(self.version, fields).unwrap_or(Finish::Later);
        let content = Content { bytes, finish };
        let length = length_of_creation(fields, content)?;
        let semantics = Semantics { completion: self.properties().completion, ..SEMANTICS };
        let below_min_size = BelowMinSize::Ordinary;
        let create = Create { below_min_size, ..Create::new(semantics, length, content, origin) };
        Ok(Decoded { subject: Subject::Fresh, family: Family::Ietf, operation: Operation::Create(create) })
    }

    pub(super) fn decode_on_upload(self, id: UploadId, head: &Parts, bytes: Option<u64>) -> Decoded {
        let properties = self.properties();
        let operation = match head.method {
            Method::HEAD | Method::GET => without_content(&properties, head, Operation::Retrieve),
            Method::DELETE => without_content(&properties, head, Operation::Cancel),
            Method::PATCH => match self.append(&properties, head, bytes) {
                Ok(append) => Operation::Append(append),
                Err(refusal) => Operation::Reject(refusal),
            },
            _ => Operation::Reject(Reason::MethodNotAllowed { allow: METHODS_OF_UPLOAD }.into()),
        };
        Decoded { subject: Subject::Id(id), family: Family::Ietf, operation }
    }

    //= IETF-APP-04, IETF-APP-05, IETF-APP-06, IETF-APP-16, IETF-COD-02
    fn append(self, properties: &Properties, head: &Parts, bytes: Option<u64>) -> Result<Append, Refusal> {
        let fields = &head.headers;
        if properties.append_type && !has_media_type(fields, PARTIAL_UPLOAD) {
            return Err(Reason::NotAppendMediaType { accept: PARTIAL_UPLOAD }.into());
        }
        let Some(at) = field::integer(fields, &UPLOAD_OFFSET).ignoring_malformed().map(Offset::new) else {
            return Err(Refusal::field("Upload-Offset", "must be one integer from 0 to 999999999999999"));
        };
        let Some(finish) = read_completeness(self.version, fields).or(properties.append_default) else {
            return Err(Refusal::field(canonical_name(&properties.completeness), "must be ?0 or ?1"));
        };
        let content = Content { bytes, finish };
        let length = declared_length(fields);
        Ok(Append { like: None, at, length, content, when_complete: properties.when_complete })
    }

    /// Encodes the 104 response that announces the URL of a new upload, before its content is read.
    //= IETF-CRE-07, IETF-INT-01, IETF-INT-07, IETF-INT-14
    pub(super) fn announcement(self, upload: &Upload, context: &Context<'_>) -> Option<Response<()>> {
        let resumes = upload.semantics.interruption == Interruption::Resumes;
        if !self.sends_interim || !resumes {
            return None;
        }
        let mut head = status(super::resumption_supported());
        let fields = head.headers_mut();
        fields.insert(header::LOCATION, conventional::location(context, upload.id));
        self.limits(fields, &State::from(upload), context);
        self.sign(fields);
        Some(head)
    }

    /// Encodes a 104 response that reports the offset.
    //= IETF-INT-02, IETF-INT-03, IETF-INT-04, IETF-INT-05
    pub(super) fn progress(self, offset: Durable) -> Option<Response<()>> {
        if !self.sends_interim || !self.properties().progress {
            return None;
        }
        let mut head = status(super::resumption_supported());
        head.headers_mut().insert(UPLOAD_OFFSET, field::offset_value(offset));
        self.sign(head.headers_mut());
        Some(head)
    }

    pub(super) fn encode(self, reply: &Reply, context: &Context<'_>) -> Response<()> {
        let properties = self.properties();
        let mut head = match reply {
            Reply::Stored { id, created: true, state } => {
                //= IETF-CRE-08, IETF-CRE-11
                let mut head = self.stated(StatusCode::CREATED, state, state.complete);
                head.headers_mut().insert(header::LOCATION, conventional::location(context, *id));
                self.limits(head.headers_mut(), state, context);
                head
            }
            //= IETF-APP-10, IETF-APP-13
            Reply::Stored { created: false, state, .. } => {
                self.stated(properties.appended, state, state.complete)
            }
            //= IETF-APP-11, IETF-APP-12, IETF-CRE-09, IETF-CRE-10
            Reply::Complete { id, created, state, answer } => {
                let mut head = self.stated(answer.status, state, true);
                // Fields of this dialect in the target's response are about uploads of the target's own.
                for (name, value) in answer.fields.iter().filter(|(name, _)| !is_dialect_field(name)) {
                    head.headers_mut().append(name, value.clone());
                }
                let locates = answer.status == StatusCode::CREATED || *created && properties.locates_whole;
                if locates && !answer.fields.contains_key(header::LOCATION) {
                    head.headers_mut().insert(header::LOCATION, conventional::location(context, *id));
                }
                head
            }
            //= IETF-RET-01, IETF-RET-07, IETF-RET-08, IETF-RET-02, IETF-RET-03, IETF-RET-04, IETF-RET-05, IETF-RET-06
            Reply::State { state, .. } => {
                let mut head = self.stated(StatusCode::NO_CONTENT, state, state.complete);
                head.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
                self.limits(head.headers_mut(), state, context);
                head
            }
            //= IETF-DEL-04, IETF-DEL-05
            Reply::Cancelled => status(StatusCode::NO_CONTENT),
        };
        self.sign(head.headers_mut());
        head
    }

    /// Adds the fields of this dialect. `Upload-Complete: ?0` shows that the response is not the target's.
    //= IETF-APP-07, IETF-CMP-06, IETF-CRE-22, IETF-LIM-06, IETF-RET-10
    pub(super) fn refuse(self, refusal: &Refusal, context: &Context<'_>, fields: &mut HeaderMap) {
        match &refusal.state {
            Some(state) => self.state(fields, state, false),
            None => self.completeness(fields, false),
        }
        if is_limit_exceeded(refusal) {
            if let Some(state) = &refusal.state {
                self.limits(fields, state, context);
            } else {
                let left = context.lifetime.map(|lifetime| lifetime.as_secs());
                self.write_limits(fields, left, context);
            }
        }
        self.sign(fields);
    }

    fn stated(self, code: StatusCode, state: &State, complete: bool) -> Response<()> {
        let mut head = status(code);
        self.state(head.headers_mut(), state, complete);
        head
    }

    fn state(self, fields: &mut HeaderMap, state: &State, complete: bool) {
        fields.insert(UPLOAD_OFFSET, field::offset_value(state.offset));
        self.completeness(fields, complete);
        //= IETF-LEN-08
        if let Some(length) = state.length {
            fields.insert(UPLOAD_LENGTH, field::length_value(length));
        }
    }

    fn completeness(self, fields: &mut HeaderMap, complete: bool) {
        let Properties { completeness, complete_is, .. } = self.properties();
        fields.insert(completeness, field::boolean_value(complete == complete_is));
    }

    /// Writes `Upload-Limit` with the remaining lifetime of the upload.
    //= IETF-LIM-02, IETF-OPT-02
    fn limits(self, fields: &mut HeaderMap, state: &State, context: &Context<'_>) {
        self.write_limits(fields, state.expires.map(|end| end.until(context.now).as_secs()), context);
    }

    /// Writes `Upload-Limit` with the remaining lifetime in seconds.
    fn write_limits(self, fields: &mut HeaderMap, left: Option<u64>, context: &Context<'_>) {
        let keys = match self.properties().limits {
            LimitKeys::None => return,
            LimitKeys::Both => &["expires", "max-age"][..],
            LimitKeys::MaxAge => &["max-age"],
        };
        let mut limits = context.limits.members();
        limits.extend(keys.iter().filter_map(|key| left.map(|left| (*key, left))));
        fields.insert(UPLOAD_LIMIT, field::dictionary_value(&limits));
    }

    //= IETF-VER-03
    fn sign(self, fields: &mut HeaderMap) {
        if let Some(number) = self.properties().number {
            fields.insert(INTEROP_VERSION, field::integer_value(number));
        }
    }
}

/// Returns the value of `Upload-Length`. Versions 3 to 5 do not define the field, but tus-js-client sends it in version
/// 5; if it were ignored, an upload could become complete before it reaches that length.
fn declared_length(fields: &HeaderMap) -> Option<Length> {
    field::integer(fields, &UPLOAD_LENGTH).ignoring_malformed().map(Length::new)
}

/// Returns the length on which both indicators of a creation agree, or refuses the creation if they differ.
//= IETF-LEN-02, IETF-LEN-03, IETF-LEN-04, IETF-COD-03
fn length_of_creation(fields: &HeaderMap, content: Content) -> Result<Option<Length>, Refusal> {
    let (declared, end) = (declared_length(fields), content.whole_length());
    match (declared, end) {
        (Some(declared), Some(end)) if declared != end => Err(Reason::InconsistentLength.into()),
        _ => Ok(declared.or(end)),
    }
}

/// Returns the operation of a request without content, or its rejection if it has a field that is an error there.
//= IETF-RET-11
fn without_content(properties: &Properties, head: &Parts, operation: Operation) -> Operation {
    let extra = [
        ("Upload-Offset", &UPLOAD_OFFSET),
        (canonical_name(&properties.completeness), &properties.completeness),
        ("Upload-Length", &UPLOAD_LENGTH),
    ];
    let found = extra.into_iter().find(|(_, name)| head.headers.contains_key(*name));
    match found {
        Some((name, _)) if properties.rejects_upload_fields => {
            Operation::Reject(Refusal::field(name, "has no meaning in HEAD and DELETE"))
        }
        _ => operation,
    }
}

/// The name of the completeness field in its usual letter case, for refusals.
fn canonical_name(completeness: &HeaderName) -> &'static str {
    if *completeness == UPLOAD_INCOMPLETE { "Upload-Incomplete" } else { "Upload-Complete" }
}

fn is_dialect_field(name: &HeaderName) -> bool {
    let own =
        [UPLOAD_OFFSET, UPLOAD_LENGTH, UPLOAD_COMPLETE, UPLOAD_INCOMPLETE, UPLOAD_LIMIT, INTEROP_VERSION];
    own.contains(name)
}

/// Returns whether the request exceeds a limit of the server. Such a refusal reports all limits.
fn is_limit_exceeded(refusal: &Refusal) -> bool {
    matches!(
        refusal.reason,
        Reason::TooLarge { .. }
            | Reason::TooSmall { .. }
            | Reason::TooManyUploads { .. }
            | Reason::QuotaExceeded { .. }
    )
}

#[cfg(test)]
mod tests;
