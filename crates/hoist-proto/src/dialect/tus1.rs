//! tus 1.0: the server assigns each upload a URL, and an upload is complete when it reaches its length.
//!
//! The server's half of the core protocol and of the extensions. Source: docs/tus1.md.

pub mod checksum;
pub mod client;
mod concat;
pub mod extension;
pub mod metadata;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

pub use self::extension::{Extension, Extensions};
use super::{
    Context, METHOD_OVERRIDE, METHODS, Resource, TUS_RESUMABLE, TUS_VERSION, UPLOAD_LENGTH, UPLOAD_OFFSET,
    conventional, has_media_type, status,
};
use crate::field::{self, Field};
use crate::operation::{
    Append, AppendToComplete, Content, Create, Decoded, Finish, Operation, Reply, Subject,
};
use crate::refusal::{Reason, Refusal};
use crate::types::{Length, Offset, UploadId};
use crate::upload::{
    Completion, Composition, Excess, Family, Interruption, Origin, Semantics, State, TargetResponse,
};

/// The supported version.
pub const VERSION: &str = "1.0.0";
/// The media type of appends.
pub const OFFSET_OCTET_STREAM: &str = "application/offset+octet-stream";
/// `Upload-Metadata`: keys and values that describe the representation.
pub const UPLOAD_METADATA: HeaderName = HeaderName::from_static("upload-metadata");
/// `Upload-Concat`: partial and final uploads.
pub const UPLOAD_CONCAT: HeaderName = HeaderName::from_static("upload-concat");
/// `Upload-Defer-Length`: the length will be declared later.
pub const UPLOAD_DEFER_LENGTH: HeaderName = HeaderName::from_static("upload-defer-length");
/// `Upload-Expires`: the time at which an incomplete upload expires.
pub const UPLOAD_EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
/// `Tus-Extension`: the extensions of a server.
pub const TUS_EXTENSION: HeaderName = HeaderName::from_static("tus-extension");
/// `Tus-Max-Size`: the size limit of uploads.
pub const TUS_MAX_SIZE: HeaderName = HeaderName::from_static("tus-max-size");
/// `Tus-Checksum-Algorithm`: the hash functions of `Upload-Checksum`.
pub const TUS_CHECKSUM_ALGORITHM: HeaderName = HeaderName::from_static("tus-checksum-algorithm");

/// The methods of the URL of an upload, for `Allow`.
pub const METHODS_OF_UPLOAD: &str = "HEAD, PATCH, DELETE, OPTIONS";

//= TUS1-PATCH-09
pub(crate) const SEMANTICS: Semantics = Semantics {
    completion: Completion::AtLength,
    excess: Excess::Keeps,
    interruption: Interruption::Resumes,
};

/// The dialect as it applies to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tus1Codec {
    /// The extensions of the server.
    pub extensions: Extensions,
    /// True if the request carries content to store, so that the response reports the offset.
    pub carries_content: bool,
}

/// Replaces the method of a `POST` by that in `X-HTTP-Method-Override`, for clients that cannot send `PATCH` or `DELETE`. Some
/// clients send the field with every request; then it may also name `POST`.
///
/// # Errors
/// Returns [`Reason::MethodNotAllowed`] if the field names another method, or several.
//= TUS1-HDR-09, TUS1-HDR-12, TUS1-DF-07
pub fn override_method(head: &mut Parts, resource: Resource) -> Result<(), Refusal> {
    let applies = head.headers.contains_key(TUS_RESUMABLE) || matches!(resource, Resource::Upload(_));
    if head.method != Method::POST || !applies {
        return Ok(());
    }
    let name = match field::agreed(&head.headers, &METHOD_OVERRIDE) {
        Field::Is(name) => name,
        Field::Absent => return Ok(()),
        Field::Malformed => return Err(Reason::MethodNotAllowed { allow: METHODS }.into()),
    };
    let known = [Method::POST, Method::PATCH, Method::DELETE, Method::HEAD];
    let is_named = |method: &Method| name.eq_ignore_ascii_case(method.as_str().as_bytes());
    match known.into_iter().find(is_named) {
        Some(method) => head.method = method,
        None => return Err(Reason::MethodNotAllowed { allow: METHODS }.into()),
    }
    Ok(())
}

impl Tus1Codec {
    pub(super) fn of(head: &Parts, extensions: Extensions) -> Self {
        let is_append = has_media_type(&head.headers, OFFSET_OCTET_STREAM);
        let carries_content = match head.method {
            Method::POST => is_append && extensions.has(Extension::CreationWithUpload),
            _ => is_append,
        };
        Self { extensions, carries_content }
    }

    /// The codec of a request about an upload that does not name the version.
    pub fn unversioned(extensions: Extensions) -> Self {
        Self { extensions, carries_content: false }
    }

    /// Decodes a request. `bytes` is the size of its content, if the transport knows it.
    pub(super) fn decode(
        self,
        head: &Parts,
        resource: Resource,
        bytes: Option<u64>,
    ) -> Result<Decoded, Refusal> {
        match resource {
            Resource::Upload(id) => Ok(self.decode_on_upload(id, head, bytes)),
            // A URL that this server cannot have assigned to an upload.
            //= TUS1-HEAD-05
            Resource::Named if super::requires_upload(&head.method) => Err(Reason::NotFound.into()),
            Resource::Endpoint | Resource::Named => {
                if head.method != Method::POST || !self.extensions.has(Extension::Creation) {
                    return Err(Reason::MethodNotAllowed { allow: METHODS }.into());
                }
                self.decode_creation(head, bytes)
            }
        }
    }

    //= TUS1-CRE-02, TUS1-CRE-08, TUS1-CWU-05, TUS1-CWU-06, TUS1-DF-08
    fn decode_creation(self, head: &Parts, bytes: Option<u64>) -> Result<Decoded, Refusal> {
        let fields = &head.headers;
        let composition = concat::read(head, self.extensions.has(Extension::Concatenation))?;
        let length = self.length_of_creation(fields, &composition)?;
        // Ignores bodies without the append media type; some clients send one with every POST.
        let bytes = if self.carries_content { bytes } else { Some(0) };
        if composition.is_composed() && bytes != Some(0) {
            return Err(Refusal::field("Upload-Concat", "a final upload has no content of its own"));
        }
        if let (Some(length), Some(bytes)) = (length, bytes)
            && bytes > length.get()
        {
            return Err(Reason::LengthExceeded(Some(length)).into());
        }
        self.require_checkable(fields)?;
        let content = Content { bytes, finish: Finish::Here };
        let create = Create {
            composition,
            waits_for_parts: self.extensions.has(Extension::ConcatenationUnfinished),
            ..Create::new(SEMANTICS, length, content, origin(head)?)
        };
        Ok(Decoded { subject: Subject::Fresh, family: Family::Tus1, operation: Operation::Create(create) })
    }

    /// Reads the length of a creation: declared, deferred, or neither for a final upload.
    //= TUS1-CDL-01, TUS1-CDL-04, TUS1-CAT-06
    fn length_of_creation(
        self,
        fields: &HeaderMap,
        composition: &Composition,
    ) -> Result<Option<Length>, Refusal> {
        let length = number(fields, &UPLOAD_LENGTH, "Upload-Length")?;
        let name = "Upload-Defer-Length";
        let is_deferred = match single_line(fields, &UPLOAD_DEFER_LENGTH, name)? {
            None => false,
            Some(b"1") if self.extensions.has(Extension::CreationDeferLength) => true,
            Some(b"1") => return Err(Refusal::field(name, "this server requires the length at creation")),
            Some(_) => return Err(Refusal::field(name, "must be 1")),
        };
        let refuse = |problem| Err(Refusal::field("Upload-Length", problem));
        match (length, is_deferred) {
            (None, false) if composition.is_composed() => Ok(None),
            _ if composition.is_composed() => refuse("a final upload has the length of its parts"),
            (Some(length), false) => Ok(Some(Length::new(length))),
            (None, true) => Ok(None),
            (Some(_), true) => refuse("must be declared or deferred, not both"),
            (None, false) => refuse("must be declared, or deferred by `Upload-Defer-Length: 1`"),
        }
    }

    fn decode_on_upload(self, id: UploadId, head: &Parts, bytes: Option<u64>) -> Decoded {
        let operation = match head.method {
            Method::HEAD => Operation::Retrieve,
            Method::DELETE if self.extensions.has(Extension::Termination) => Operation::Cancel,
            Method::PATCH => match self.append(head, bytes) {
                Ok(append) => Operation::Append(append),
                Err(refusal) => Operation::Reject(refusal),
            },
            //= TUS1-TRM-04
            _ => Operation::Reject(Reason::MethodNotAllowed { allow: METHODS_OF_UPLOAD }.into()),
        };
        Decoded { subject: Subject::Id(id), family: Family::Tus1, operation }
    }

    //= TUS1-PATCH-01, TUS1-PATCH-03, TUS1-PATCH-05, TUS1-DF-10
    fn append(self, head: &Parts, bytes: Option<u64>) -> Result<Append, Refusal> {
        let fields = &head.headers;
        if !has_media_type(fields, OFFSET_OCTET_STREAM) {
            return Err(Reason::NotAppendMediaType { accept: OFFSET_OCTET_STREAM }.into());
        }
        let Some(at) = number(fields, &UPLOAD_OFFSET, "Upload-Offset")?.map(Offset::new) else {
            return Err(Refusal::field("Upload-Offset", "must be the offset at which the content begins"));
        };
        let length = number(fields, &UPLOAD_LENGTH, "Upload-Length")?.map(Length::new);
        self.require_checkable(fields)?;
        let content = Content { bytes, finish: Finish::Here };
        Ok(Append { like: None, at, length, content, when_complete: AppendToComplete::Admits })
    }

    /// Refuses a checksum that cannot be compared, before any content is read.
    //= TUS1-CHK-05
    fn require_checkable(self, fields: &HeaderMap) -> Result<(), Refusal> {
        if self.extensions.has(Extension::Checksum) { checksum::parse(fields).map(drop) } else { Ok(()) }
    }

    pub(super) fn encode(self, reply: &Reply, context: &Context<'_>) -> Response<()> {
        let mut head = match reply {
            Reply::Stored { id, created, state } => self.stored(*id, *created, state, context),
            Reply::Complete { id, created, state, answer } => {
                self.completed(*id, *created, state, answer, context)
            }
            Reply::State { state, described, .. } => self.retrieved(state, described),
            //= TUS1-TRM-01, TUS1-TRM-03, TUS1-DF-01
            Reply::Cancelled => status(StatusCode::NO_CONTENT),
        };
        sign(head.headers_mut());
        head
    }

    //= TUS1-DF-01, TUS1-DF-02, TUS1-DF-03, TUS1-DF-08, TUS1-DF-12
    //= TUS1-CRE-03, TUS1-CRE-09, TUS1-CWU-03, TUS1-PATCH-06, TUS1-PATCH-16, TUS1-CAT-14
    fn stored(self, id: UploadId, created: bool, state: &State, context: &Context<'_>) -> Response<()> {
        let code = if created { StatusCode::CREATED } else { StatusCode::NO_CONTENT };
        let mut head = status(code);
        let fields = head.headers_mut();
        if created {
            fields.insert(header::LOCATION, conventional::location(context, id));
        }
        if self.carries_content || !created {
            fields.insert(UPLOAD_OFFSET, field::offset_value(state.offset));
        }
        self.expiry(fields, state);
        head
    }

    /// The target's status replaces the protocol's if the target failed, or if it has content to return.
    //= TUS1-PATCH-15, TUS1-CRE-05, TUS1-DF-02
    fn completed(
        self,
        id: UploadId,
        created: bool,
        state: &State,
        answer: &TargetResponse,
        context: &Context<'_>,
    ) -> Response<()> {
        let mut head = self.stored(id, created, state, context);
        if !answer.status.is_success() || !created && !answer.content.is_empty() {
            *head.status_mut() = answer.status;
        }
        let fields = head.headers_mut();
        for (name, value) in &answer.fields {
            if !fields.contains_key(name) && *name != header::LOCATION {
                fields.insert(name, value.clone());
            }
        }
        head
    }

    //= TUS1-HEAD-01, TUS1-HEAD-02, TUS1-HEAD-03, TUS1-HEAD-04, TUS1-HEAD-06, TUS1-HEAD-07, TUS1-HEAD-08, TUS1-HEAD-09
    //= TUS1-HEAD-10, TUS1-CAT-10, TUS1-CAT-11, TUS1-EXP-05
    fn retrieved(self, state: &State, described: &HeaderMap) -> Response<()> {
        let mut head = status(StatusCode::OK);
        let fields = head.headers_mut();
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if !state.awaits_parts {
            fields.insert(UPLOAD_OFFSET, field::offset_value(state.offset));
        }
        match state.length {
            Some(length) => drop(fields.insert(UPLOAD_LENGTH, field::length_value(length))),
            None if state.awaits_parts => {}
            None => drop(fields.insert(UPLOAD_DEFER_LENGTH, HeaderValue::from_static("1"))),
        }
        for name in [UPLOAD_METADATA, UPLOAD_CONCAT] {
            if let Some(value) = described.get(&name) {
                fields.insert(name, value.clone());
            }
        }
        self.expiry(fields, state);
        head
    }

    //= TUS1-EXP-02, TUS1-EXP-03, TUS1-EXP-05
    fn expiry(self, fields: &mut HeaderMap, state: &State) {
        if let Some(end) = state.expires
            && !state.complete
            && self.extensions.has(Extension::Expiration)
        {
            fields.insert(UPLOAD_EXPIRES, field::date_value(end));
        }
    }

    //= TUS1-CON-01, TUS1-CRE-10, TUS1-DF-04, TUS1-DF-05, TUS1-DF-06
    //= TUS1-HDR-01, TUS1-HDR-02, TUS1-PATCH-04, TUS1-PATCH-11, TUS1-CON-02, TUS1-CON-03, TUS1-CHK-02, TUS1-DF-18
    pub(super) fn refuse(refusal: &Refusal, fields: &mut HeaderMap) {
        if let Some(state) = refusal.state.filter(|state| !state.awaits_parts) {
            fields.insert(UPLOAD_OFFSET, field::offset_value(state.offset));
        }
        sign(fields);
    }
}

/// Writes the field that every response to a client of tus 1.0 has.
pub(super) fn sign(fields: &mut HeaderMap) {
    fields.insert(TUS_RESUMABLE, HeaderValue::from_static(VERSION));
}

/// Writes the fields with which the server describes itself in the response to `OPTIONS`.
//= TUS1-OPT-01, TUS1-OPT-02, TUS1-OPT-03, TUS1-HDR-04, TUS1-HDR-05, TUS1-HDR-06, TUS1-CHK-04, TUS1-CRE-07, TUS1-CWU-02
//= TUS1-CAT-01, TUS1-CAT-05, TUS1-EXP-01
pub fn discover(fields: &mut HeaderMap, extensions: Extensions, size_max: Option<u64>) {
    sign(fields);
    fields.insert(TUS_VERSION, HeaderValue::from_static(VERSION));
    if let Some(names) = extensions.names() {
        fields.insert(TUS_EXTENSION, names);
    }
    if let Some(bytes) = size_max {
        fields.insert(TUS_MAX_SIZE, field::integer_value(bytes));
    }
    if extensions.has(Extension::Checksum) {
        fields.insert(TUS_CHECKSUM_ALGORITHM, checksum::names());
    }
}

pub(crate) fn checksum_mismatch() -> StatusCode {
    StatusCode::from_u16(460).expect("in the range of status codes")
}

/// Returns the creation as the target will see it, with the media type and the file name of the metadata as fields.
//= TUS1-MET-08
fn origin(head: &Parts) -> Result<Origin, Refusal> {
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let mut fields = HeaderMap::new();
    if let Some(value) = field::list(&head.headers, &UPLOAD_METADATA) {
        let metadata = metadata::read(value.as_bytes().trim_ascii())?;
        metadata::describe(&mut fields, &metadata, value);
    }
    if let Some(value) = head.headers.get(&UPLOAD_CONCAT).filter(|value| !value.is_empty()) {
        fields.insert(UPLOAD_CONCAT, value.clone());
    }
    Ok(Origin { method: head.method.clone(), target, fields })
}

/// Returns the value of a field that must be a single line.
//= TUS1-HDR-10
fn single_line<'a>(
    fields: &'a HeaderMap,
    name: &HeaderName,
    canonical_name: &'static str,
) -> Result<Option<&'a [u8]>, Refusal> {
    let mut lines = fields.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (first, None) => Ok(first.map(|value| value.as_bytes().trim_ascii())),
        (_, Some(_)) => Err(Refusal::field(canonical_name, "must be a single line")),
    }
}

/// Reads a decimal number.
//= TUS1-HDR-07, TUS1-HDR-08
fn number(
    fields: &HeaderMap,
    name: &HeaderName,
    canonical_name: &'static str,
) -> Result<Option<u64>, Refusal> {
    let Some(text) = single_line(fields, name, canonical_name)? else { return Ok(None) };
    match decimal(text).filter(|number| *number <= i64::MAX.unsigned_abs()) {
        Some(number) => Ok(Some(number)),
        None => Err(Refusal::field(canonical_name, "must be a number of 1 to 19 digits, up to 2^63 - 1")),
    }
}

/// Parses 1 to 19 decimal digits.
fn decimal(text: &[u8]) -> Option<u64> {
    let is_digits = (1..=19).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_digits)?.parse().ok()
}

#[cfg(test)]
mod tests;
