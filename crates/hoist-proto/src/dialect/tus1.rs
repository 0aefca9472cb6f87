//! tus 1.0: the server names the upload by a URL, and its length decides when it is complete.
//!
//! Owns the wire spelling of the core protocol and of its extensions. Their names are in [`extension`], `Upload-Metadata`
//! in [`metadata`], `Upload-Checksum` in [`checksum`]. Source: docs/tus1.md.

pub mod checksum;
pub mod client;
pub mod extension;
pub mod metadata;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

pub use self::extension::{Extension, Extensions};
use super::{
    Context, METHOD_OVERRIDE, METHODS, Resource, TUS_RESUMABLE, TUS_VERSION, UPLOAD_LENGTH, UPLOAD_OFFSET,
    conventional, has_media_type, refused, status,
};
use crate::field::{self, Field};
use crate::operation::{
    Append, AppendToComplete, BelowMinSize, Content, Create, Decoded, Finish, OnExisting, Operation, Reply,
    Subject,
};
use crate::refusal::{Interrupted, Refusal};
use crate::types::{Length, Offset, UploadId};
use crate::upload::{
    Completion, Composition, Excess, Family, Interruption, Origin, Semantics, State, TargetResponse,
};

/// The only version there is.
pub const VERSION: &str = "1.0.0";
/// The media type of appends.
pub const OFFSET_OCTET_STREAM: &str = "application/offset+octet-stream";
/// `Upload-Metadata`: what the client says of the representation.
pub const UPLOAD_METADATA: HeaderName = HeaderName::from_static("upload-metadata");
/// `Upload-Concat`: that an upload is a part, or of which parts it is made.
pub const UPLOAD_CONCAT: HeaderName = HeaderName::from_static("upload-concat");
/// `Upload-Defer-Length`: that the length will be told later.
pub const UPLOAD_DEFER_LENGTH: HeaderName = HeaderName::from_static("upload-defer-length");
/// `Upload-Expires`: when an unfinished upload ends by itself.
pub const UPLOAD_EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
/// `Tus-Extension`: what a server does beyond the core.
pub const TUS_EXTENSION: HeaderName = HeaderName::from_static("tus-extension");
/// `Tus-Max-Size`: the largest upload.
pub const TUS_MAX_SIZE: HeaderName = HeaderName::from_static("tus-max-size");
/// `Tus-Checksum-Algorithm`: the functions of `Upload-Checksum`.
pub const TUS_CHECKSUM_ALGORITHM: HeaderName = HeaderName::from_static("tus-checksum-algorithm");

/// The methods of an upload, for `Allow`.
pub const METHODS_OF_UPLOAD: &str = "HEAD, PATCH, DELETE, OPTIONS";

//= TUS1-PATCH-09
pub(crate) const SEMANTICS: Semantics = Semantics {
    completion: Completion::AtLength,
    excess: Excess::Keeps,
    interruption: Interruption::Resumes,
};

/// One request's way of speaking the dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tus1Codec {
    /// What the server does beyond the core.
    pub extensions: Extensions,
    /// Whether the request brings content to be stored, so that its answer says how much was.
    pub brings_content: bool,
}

/// Lets a client whose environment has no `PATCH` or `DELETE` mean them all the same: the method it names instead becomes
/// the request's own. Some clients name the method on every request, and then `POST` means itself.
///
/// # Errors
/// A refusal when it names any other method, or several.
//= TUS1-HDR-09, TUS1-HDR-12, TUS1-DF-07
pub fn override_method(head: &mut Parts, resource: Resource) -> Result<(), Refusal> {
    let concerns = head.headers.contains_key(TUS_RESUMABLE) || matches!(resource, Resource::Upload(_));
    if head.method != Method::POST || !concerns {
        return Ok(());
    }
    let meant = match field::agreed(&head.headers, &METHOD_OVERRIDE) {
        Field::Is(meant) => meant,
        Field::Absent => return Ok(()),
        Field::Malformed => return Err(Refusal::Method { allow: METHODS }),
    };
    let known = [Method::POST, Method::PATCH, Method::DELETE, Method::HEAD];
    let is_meant = |method: &Method| meant.eq_ignore_ascii_case(method.as_str().as_bytes());
    match known.into_iter().find(is_meant) {
        Some(method) => head.method = method,
        None => return Err(Refusal::Method { allow: METHODS }),
    }
    Ok(())
}

impl Tus1Codec {
    /// How a request speaks.
    pub(super) fn of(head: &Parts, extensions: Extensions) -> Self {
        let is_append = has_media_type(&head.headers, OFFSET_OCTET_STREAM);
        let brings_content = match head.method {
            Method::POST => is_append && extensions.has(Extension::CreationWithUpload),
            _ => is_append,
        };
        Self { extensions, brings_content }
    }

    /// A peer that asks about an upload and says no version.
    pub fn unversioned(extensions: Extensions) -> Self {
        Self { extensions, brings_content: false }
    }

    /// Understands a request. `bytes` is the size of its content, where the transport knows it.
    pub(super) fn decode(
        self,
        head: &Parts,
        resource: Resource,
        bytes: Option<u64>,
    ) -> Result<Decoded, Refusal> {
        match resource {
            Resource::Upload(id) => Ok(self.decode_on_upload(id, head, bytes)),
            // The URL of an upload, and none that this server could have made.
            //= TUS1-HEAD-05
            Resource::Named if super::means_an_upload(&head.method) => Err(Refusal::NotFound),
            Resource::Endpoint | Resource::Named => {
                if head.method != Method::POST || !self.extensions.has(Extension::Creation) {
                    return Err(Refusal::Method { allow: METHODS });
                }
                self.decode_creation(head, bytes)
            }
        }
    }

    //= TUS1-CRE-02, TUS1-CRE-08, TUS1-CWU-05, TUS1-CWU-06, TUS1-DF-08
    fn decode_creation(self, head: &Parts, bytes: Option<u64>) -> Result<Decoded, Refusal> {
        let fields = &head.headers;
        let composition = self.composition(head)?;
        let length = self.length_of_creation(fields, &composition)?;
        // Content that is of no type to be stored is somebody's habit, and read by nobody.
        let bytes = if self.brings_content { bytes } else { Some(0) };
        if composition.is_composed() && bytes != Some(0) {
            return Err(Refusal::field(
                "Upload-Concat",
                "an upload made of others has no content of its own",
            ));
        }
        if let (Some(length), Some(bytes)) = (length, bytes)
            && bytes > length.get()
        {
            return Err(Refusal::Excess(Some(length)));
        }
        self.require_checkable(fields)?;
        let create = Create {
            semantics: SEMANTICS,
            length,
            content: Content { bytes, finish: Finish::Here },
            on_existing: OnExisting::Refuse,
            below_min_size: BelowMinSize::Resumes,
            composition,
            waits_for_parts: self.extensions.has(Extension::ConcatenationUnfinished),
            origin: origin(head)?,
        };
        Ok(Decoded { subject: Subject::Fresh, family: Family::Tus1, operation: Operation::Create(create) })
    }

    /// A length, the word that it will be told later, or (for an upload made of others) neither.
    //= TUS1-CDL-01, TUS1-CDL-04, TUS1-CAT-06
    fn length_of_creation(
        self,
        fields: &HeaderMap,
        composition: &Composition,
    ) -> Result<Option<Length>, Refusal> {
        let length = number(fields, &UPLOAD_LENGTH, "Upload-Length")?;
        let is_deferred = match one(fields, &UPLOAD_DEFER_LENGTH, "Upload-Defer-Length")? {
            None => false,
            Some(b"1") if self.extensions.has(Extension::CreationDeferLength) => true,
            Some(b"1") => {
                return Err(Refusal::field("Upload-Defer-Length", "the length must be told at once here"));
            }
            Some(_) => return Err(Refusal::field("Upload-Defer-Length", "must be 1")),
        };
        match (length, is_deferred) {
            (None, false) if composition.is_composed() => Ok(None),
            (Some(_), _) | (_, true) if composition.is_composed() => {
                Err(Refusal::field("Upload-Length", "an upload made of others is as long as they are"))
            }
            (Some(length), false) => Ok(Some(Length::new(length))),
            (None, true) => Ok(None),
            (Some(_), true) => Err(Refusal::field("Upload-Length", "is told now or deferred, not both")),
            (None, false) => {
                Err(Refusal::field("Upload-Length", "must be told, or deferred by `Upload-Defer-Length: 1`"))
            }
        }
    }

    /// What `Upload-Concat` says.
    //= TUS1-CAT-06, TUS1-CAT-07, TUS1-DF-09
    fn composition(self, head: &Parts) -> Result<Composition, Refusal> {
        let wrong = |wrong| Err(Refusal::field("Upload-Concat", wrong));
        let Some(value) = one(&head.headers, &UPLOAD_CONCAT, "Upload-Concat")? else {
            return Ok(Composition::Direct);
        };
        if !self.extensions.has(Extension::Concatenation) {
            return wrong("this server does not concatenate uploads");
        }
        let Ok(text) = std::str::from_utf8(value) else { return wrong("holds no URLs") };
        if text.trim() == "partial" {
            return Ok(Composition::Part);
        }
        let Some(urls) = text.trim().strip_prefix("final;") else {
            return wrong("must be `partial`, or `final;` and the URLs of parts with blanks between them");
        };
        let mut parts = Vec::new();
        let endpoints = Endpoints::of(head.uri.path());
        for url in urls.split_ascii_whitespace() {
            match endpoints.part_of(url) {
                Some(id) => parts.push(id),
                None => return wrong("names a URL that is none of an upload here"),
            }
        }
        if parts.is_empty() { wrong("names no part") } else { Ok(Composition::Concatenated(parts)) }
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
            _ => Operation::Reject(Refusal::Method { allow: METHODS_OF_UPLOAD }),
        };
        Decoded { subject: Subject::Id(id), family: Family::Tus1, operation }
    }

    //= TUS1-PATCH-01, TUS1-PATCH-03, TUS1-PATCH-05, TUS1-DF-10
    fn append(self, head: &Parts, bytes: Option<u64>) -> Result<Append, Refusal> {
        let fields = &head.headers;
        if !has_media_type(fields, OFFSET_OCTET_STREAM) {
            return Err(Refusal::MediaType { accept: OFFSET_OCTET_STREAM });
        }
        let Some(at) = number(fields, &UPLOAD_OFFSET, "Upload-Offset")?.map(Offset::new) else {
            return Err(Refusal::field("Upload-Offset", "must say where the content begins"));
        };
        let length = number(fields, &UPLOAD_LENGTH, "Upload-Length")?.map(Length::new);
        self.require_checkable(fields)?;
        let content = Content { bytes, finish: Finish::Here };
        Ok(Append { like: None, at, length, content, when_complete: AppendToComplete::Admits })
    }

    /// Refuses a checksum that could not be compared, before any content is read.
    //= TUS1-CHK-05
    fn require_checkable(self, fields: &HeaderMap) -> Result<(), Refusal> {
        if self.extensions.has(Extension::Checksum) { checksum::parse(fields).map(drop) } else { Ok(()) }
    }

    /// The head of the answer to a request that was carried out.
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
            fields.insert(header::LOCATION, conventional::location(context.base, id));
        }
        if self.brings_content || !created {
            fields.insert(UPLOAD_OFFSET, field::offset_value(state.offset));
        }
        self.expiry(fields, state);
        head
    }

    /// The last answer: the protocol's own, unless the target has more to say than that it went well.
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
        let goes_well = answer.status.is_success();
        if !goes_well || !created && !answer.content.is_empty() {
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

    /// The head of the answer to a request that was refused.
    //= TUS1-CON-01, TUS1-CRE-10, TUS1-DF-04, TUS1-DF-05, TUS1-DF-06
    //= TUS1-HDR-01, TUS1-HDR-02, TUS1-PATCH-04, TUS1-PATCH-11, TUS1-CON-02, TUS1-CON-03, TUS1-CHK-02, TUS1-DF-18
    pub(super) fn refuse(refusal: &Refusal) -> Response<()> {
        let mut head = refused(refusal);
        let inner = match refusal {
            Refusal::Beside(inner, _) => inner,
            other => other,
        };
        let own = match inner {
            Refusal::Excess(_) => Some(StatusCode::PAYLOAD_TOO_LARGE),
            Refusal::Busy => Some(StatusCode::LOCKED),
            Refusal::Digest(_) => Some(checksum_mismatch()),
            // Clients try again what is no 4xx.
            Refusal::Interrupted { cause: Interrupted::TooSlow, .. } => Some(StatusCode::SERVICE_UNAVAILABLE),
            _ => None,
        };
        if let Some(code) = own {
            *head.status_mut() = code;
        }
        let fields = head.headers_mut();
        if let Some(state) = refusal.state().filter(|state| !state.awaits_parts) {
            fields.insert(UPLOAD_OFFSET, field::offset_value(state.offset));
        }
        sign(fields);
        head
    }
}

/// What every answer to a client of tus 1.0 carries.
pub(super) fn sign(fields: &mut HeaderMap) {
    fields.insert(TUS_RESUMABLE, HeaderValue::from_static(VERSION));
}

/// What the server says of itself to clients of tus 1.0.
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

/// `460 (Checksum Mismatch)`.
fn checksum_mismatch() -> StatusCode {
    StatusCode::from_u16(460).expect("in the range of status codes")
}

/// The request as its target will see it: what the metadata say of the representation, in the fields that say so.
//= TUS1-MET-06, TUS1-MET-08
fn origin(head: &Parts) -> Result<Origin, Refusal> {
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let mut fields = HeaderMap::new();
    if let Some(value) = field::list(&head.headers, &UPLOAD_METADATA) {
        let metadata = metadata::read(value.as_bytes().trim_ascii())?;
        if let Some(media_type) = metadata::media_type(&metadata) {
            fields.insert(header::CONTENT_TYPE, media_type);
        }
        if let Some(disposition) = metadata::disposition(&metadata) {
            fields.insert(header::CONTENT_DISPOSITION, disposition);
        }
        if !value.is_empty() {
            fields.insert(UPLOAD_METADATA, value);
        }
    }
    if let Some(value) = head.headers.get(&UPLOAD_CONCAT).filter(|value| !value.is_empty()) {
        fields.insert(UPLOAD_CONCAT, value.clone());
    }
    Ok(Origin { method: head.method.clone(), target, fields })
}

/// The paths that URLs of uploads may be below, as the target of a creation tells them: the target itself, and its parent,
/// because the target may have a name below the endpoint, as `curl -T` makes it.
struct Endpoints<'a> {
    target: &'a str,
    parent: Option<&'a str>,
}

impl<'a> Endpoints<'a> {
    fn of(target: &'a str) -> Self {
        let target = target.trim_end_matches('/');
        Self { target, parent: target.rsplit_once('/').map(|(parent, _)| parent) }
    }

    /// The upload a URL in `Upload-Concat` names. Behind proxies scheme and host are whatever they are, so the path decides.
    fn part_of(&self, url: &str) -> Option<UploadId> {
        let path = match url.split_once("://") {
            Some((_, rest)) => &rest[rest.find('/')?..],
            None => url,
        };
        let path = path.split(['?', '#']).next()?;
        //= TUS1-DF-15
        let path = path.strip_suffix('/').unwrap_or(path);
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let is_below = above == self.target || Some(above) == self.parent || !path.contains('/');
        name.parse().ok().filter(|_| is_below)
    }
}

/// The one line of a field.
//= TUS1-HDR-10
fn one<'a>(
    fields: &'a HeaderMap,
    name: &HeaderName,
    spelled: &'static str,
) -> Result<Option<&'a [u8]>, Refusal> {
    let mut lines = fields.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (first, None) => Ok(first.map(|value| value.as_bytes().trim_ascii())),
        (_, Some(_)) => Err(Refusal::field(spelled, "must be one line")),
    }
}

/// A plain decimal number.
//= TUS1-HDR-07, TUS1-HDR-08
fn number(fields: &HeaderMap, name: &HeaderName, spelled: &'static str) -> Result<Option<u64>, Refusal> {
    let Some(text) = one(fields, name, spelled)? else { return Ok(None) };
    let is_digits = (1..=19).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    let parsed = std::str::from_utf8(text).ok().filter(|_| is_digits).and_then(|text| text.parse().ok());
    match parsed.filter(|number| *number <= i64::MAX.unsigned_abs()) {
        Some(number) => Ok(Some(number)),
        None => Err(Refusal::field(spelled, "must be a number of 1 to 19 digits, up to 2^63 - 1")),
    }
}

#[cfg(test)]
mod tests;
