//! "Resumable Uploads for HTTP": the server names the upload by a URL, and says so in a 104.
//!
//! Owns the wire spelling of interop versions 3 to 10 and of the text without a version, both ways; what differs between
//! them is in [`interop`](super::interop). The client's side is in [`client`]. Source: docs/ietf.md.

pub mod client;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use super::conventional;
use super::interop::{Interop, LimitKeys, Properties};
use super::{
    Context, DialectOptions, INTEROP_VERSION, UPLOAD_COMPLETE, UPLOAD_INCOMPLETE, UPLOAD_LENGTH,
    UPLOAD_LIMIT, UPLOAD_OFFSET, has_media_type, is_content_method, refused, status,
};
use crate::field::{self, Field};
use crate::operation::{
    Append, BelowMinSize, Content, Create, Decoded, Finish, OnExisting, Operation, Reply, Subject,
};
use crate::refusal::Refusal;
use crate::types::{Durable, Length, Offset, UploadId};
use crate::upload::{Completion, Composition, Excess, Family, Interruption, Semantics, State, Upload};

/// The media type of appends.
pub const PARTIAL_UPLOAD: &str = "application/partial-upload";

pub(crate) const SEMANTICS: Semantics = Semantics {
    completion: Completion::Explicit,
    excess: Excess::Invalidates,
    interruption: Interruption::Resumes,
};

/// A peer that speaks an iteration of the draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IetfCodec {
    /// Which iteration its requests are read by and its answers written in.
    pub version: Interop,
    /// Whether it understands interim responses of this iteration.
    pub sends_interim: bool,
    /// Whether its uploads are complete, too, when their length is reached, in the versions whose clients need that.
    pub completes_at_length: bool,
}

/// What a request to a target says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Creation {
    /// It creates an upload.
    By(IetfCodec),
    /// It is an ordinary request.
    Ordinary,
}

/// Tells a creation from an ordinary request to a target.
//= IETF-CRE-02, IETF-CRE-06, IETF-VER-06, IETF-VER-07, IETF-VER-10, IETF-SF-04
pub(super) fn creation(head: &Parts, options: DialectOptions) -> Creation {
    let fields = &head.headers;
    if !is_content_method(&head.method) {
        return Creation::Ordinary;
    }
    let number = field::integer(fields, &INTEROP_VERSION);
    let speaker = |version, sends_interim| {
        Creation::By(IetfCodec { version, sends_interim, ..IetfCodec::unversioned() })
    };
    let complete = field::boolean(fields, &UPLOAD_COMPLETE);
    match &number {
        Field::Is(number) if *number < 3 => Creation::Ordinary,
        Field::Is(number) => match (options.versions.find(*number), complete) {
            (Some(version), _) if said_completeness(version, fields).is_some() => speaker(version, true),
            (None, Field::Is(false)) => speaker(options.versions.newest(), false),
            (Some(_) | None, _) => Creation::Ordinary,
        },
        Field::Malformed => match complete {
            Field::Is(false) => speaker(options.versions.newest(), false),
            _ => Creation::Ordinary,
        },
        Field::Absent => match (complete, field::boolean(fields, &UPLOAD_INCOMPLETE)) {
            (Field::Is(_), _) => speaker(Interop::Rfc, options.rfc_interim),
            // Apple's printed example, of before there were numbers.
            (_, Field::Is(true)) => speaker(Interop::V3, false),
            _ => Creation::Ordinary,
        },
    }
}

/// The speaker of a request on the URL of an upload, if the request is in this dialect.
//= IETF-VER-02, IETF-VER-07, IETF-VER-10
pub(super) fn on_upload(head: &Parts, options: DialectOptions) -> Option<IetfCodec> {
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

//= IETF-VER-05
fn said_completeness(version: Interop, fields: &HeaderMap) -> Option<Finish> {
    let Properties { completeness, complete_is, .. } = version.properties();
    let said = field::boolean(fields, &completeness).ignoring_malformed()?;
    Some(if said == complete_is { Finish::Here } else { Finish::Later })
}

impl IetfCodec {
    /// A peer that names no version.
    pub fn unversioned() -> Self {
        Self { version: Interop::Rfc, sends_interim: false, completes_at_length: false }
    }

    fn properties(self) -> Properties {
        if self.completes_at_length { self.version.properties_at_length() } else { self.version.properties() }
    }

    /// Understands a request to a target that [`creation`] found to be one.
    //= IETF-CRE-01, IETF-CRE-05, IETF-CRE-13, IETF-CRE-16, IETF-CRE-17
    pub(super) fn decode_creation(self, head: &Parts, bytes: Option<u64>) -> Result<Decoded, Refusal> {
        let fields = &head.headers;
        let mut origin = conventional::whole_origin(head)?;
        if has_media_type(fields, PARTIAL_UPLOAD) {
            if head.method == Method::PATCH {
                let detail = "an append goes to the URL of its upload".into();
                return Err(Refusal::Rejected { status: StatusCode::UNSUPPORTED_MEDIA_TYPE, detail });
            }
            // No representation is of this type: a client that appends with it has put it here too.
            origin.fields.remove(header::CONTENT_TYPE);
        }
        if field::integer(fields, &UPLOAD_OFFSET).ignoring_malformed().is_some_and(|offset| offset > 0) {
            return Err(Refusal::field("Upload-Offset", "a creation begins at 0"));
        }
        let finish = said_completeness(self.version, fields).unwrap_or(Finish::Later);
        let content = Content { bytes, finish };
        let length = length_of_creation(fields, content)?;
        let create = Create {
            semantics: Semantics { completion: self.properties().completion, ..SEMANTICS },
            length,
            content,
            on_existing: OnExisting::Refuse,
            below_min_size: BelowMinSize::Ordinary,
            composition: Composition::Direct,
            waits_for_parts: false,
            origin,
        };
        Ok(Decoded { subject: Subject::Fresh, family: Family::Ietf, operation: Operation::Create(create) })
    }

    /// Understands a request to the URL of an upload.
    pub(super) fn decode_on_upload(self, id: UploadId, head: &Parts, bytes: Option<u64>) -> Decoded {
        let properties = self.properties();
        let operation = match head.method {
            Method::HEAD | Method::GET => question(&properties, head, Operation::Retrieve),
            Method::DELETE => question(&properties, head, Operation::Cancel),
            Method::PATCH => match self.append(&properties, head, bytes) {
                Ok(append) => Operation::Append(append),
                Err(refusal) => Operation::Reject(refusal),
            },
            _ => Operation::Reject(Refusal::Method { allow: "HEAD, GET, PATCH, DELETE, OPTIONS" }),
        };
        Decoded { subject: Subject::Id(id), family: Family::Ietf, operation }
    }

    //= IETF-APP-04, IETF-APP-05, IETF-APP-06, IETF-APP-16, IETF-COD-02
    fn append(self, properties: &Properties, head: &Parts, bytes: Option<u64>) -> Result<Append, Refusal> {
        let fields = &head.headers;
        if properties.append_type && !has_media_type(fields, PARTIAL_UPLOAD) {
            return Err(Refusal::MediaType { accept: PARTIAL_UPLOAD });
        }
        let Some(at) = field::integer(fields, &UPLOAD_OFFSET).ignoring_malformed().map(Offset::new) else {
            return Err(Refusal::field("Upload-Offset", "must be one integer from 0 to 999999999999999"));
        };
        let Some(finish) = said_completeness(self.version, fields).or(properties.append_default) else {
            return Err(Refusal::field(spelled(&properties.completeness), "must be ?0 or ?1"));
        };
        let content = Content { bytes, finish };
        let length = length_said(fields);
        Ok(Append { like: None, at, length, content, when_complete: properties.when_complete })
    }

    /// The 104 that tells a creation's URL, before its content is read.
    //= IETF-CRE-07, IETF-INT-01, IETF-INT-07, IETF-INT-14
    pub(super) fn announcement(self, upload: &Upload, context: &Context<'_>) -> Option<Response<()>> {
        let resumes = upload.semantics.interruption == Interruption::Resumes;
        if !self.sends_interim || !resumes {
            return None;
        }
        let mut head = status(super::resumption_supported());
        let fields = head.headers_mut();
        fields.insert(header::LOCATION, conventional::location(context.base, upload.id));
        self.limits(fields, &State::from(upload), context);
        self.sign(fields);
        Some(head)
    }

    /// A 104 that tells how much is stored.
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

    /// The head of the answer to a request that was carried out.
    pub(super) fn encode(self, reply: &Reply, context: &Context<'_>) -> Response<()> {
        let properties = self.properties();
        let mut head = match reply {
            Reply::Stored { id, created: true, state } => {
                //= IETF-CRE-08, IETF-CRE-11
                let mut head = self.stated(StatusCode::CREATED, state, state.complete);
                head.headers_mut().insert(header::LOCATION, conventional::location(context.base, *id));
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
                // What the target says of uploads is of its own, not of this one.
                for (name, value) in answer.fields.iter().filter(|(name, _)| !is_own(name)) {
                    head.headers_mut().append(name, value.clone());
                }
                let locates = answer.status == StatusCode::CREATED || *created && properties.locates_whole;
                if locates && !answer.fields.contains_key(header::LOCATION) {
                    head.headers_mut().insert(header::LOCATION, conventional::location(context.base, *id));
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

    /// The head of the answer to a request that was refused. The completeness field says who speaks: not the target.
    //= IETF-APP-07, IETF-CMP-06, IETF-CRE-22, IETF-LIM-06, IETF-RET-10
    pub(super) fn refuse(self, refusal: &Refusal, context: &Context<'_>) -> Response<()> {
        let mut head = refused(refusal);
        let fields = head.headers_mut();
        let state = refusal.state();
        match &state {
            Some(state) => self.state(fields, state, false),
            None => self.completeness(fields, false),
        }
        if is_for_a_limit(refusal) {
            if let Some(state) = &state {
                self.limits(fields, state, context);
            } else {
                let left = context.lifetime.map(|lifetime| lifetime.as_secs());
                self.write_limits(fields, left, context);
            }
        }
        self.sign(fields);
        head
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

    /// `Upload-Limit`, with the life time counted down to the moment of the answer.
    //= IETF-LIM-02, IETF-OPT-02
    fn limits(self, fields: &mut HeaderMap, state: &State, context: &Context<'_>) {
        self.write_limits(fields, state.expires.map(|end| end.until(context.now).as_secs()), context);
    }

    /// `Upload-Limit`, with the seconds that are `left` of a life time.
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

/// The value of `Upload-Length`. The other indicator, a last request's own size, is the engine's to compare.
///
/// Versions 3 to 5 have no such field, but tus-js-client sends it in version 5, and a length that is passed over there lets
/// an upload end short of it.
fn length_said(fields: &HeaderMap) -> Option<Length> {
    field::integer(fields, &UPLOAD_LENGTH).ignoring_malformed().map(Length::new)
}

/// The length both indicators of a creation agree on. Where they do not, there is no upload to begin.
//= IETF-LEN-02, IETF-LEN-03, IETF-LEN-04, IETF-COD-03
fn length_of_creation(fields: &HeaderMap, content: Content) -> Result<Option<Length>, Refusal> {
    let ends = content.bytes.filter(|_| content.finish == Finish::Here).map(Length::new);
    let said = length_said(fields);
    match (said, ends) {
        (Some(said), Some(ends)) if said != ends => Err(Refusal::Inconsistent(None)),
        _ => Ok(said.or(ends)),
    }
}

/// A request without content, unless it carries fields that are errors there.
//= IETF-RET-11
fn question(properties: &Properties, head: &Parts, asked: Operation) -> Operation {
    let extra = [
        ("Upload-Offset", &UPLOAD_OFFSET),
        (spelled(&properties.completeness), &properties.completeness),
        ("Upload-Length", &UPLOAD_LENGTH),
    ];
    let found = extra.into_iter().find(|(_, name)| head.headers.contains_key(*name));
    match found {
        Some((name, _)) if properties.strict_questions => {
            Operation::Reject(Refusal::field(name, "has no meaning in HEAD and DELETE"))
        }
        _ => asked,
    }
}

/// The name of the completeness field, as a refusal spells it.
fn spelled(completeness: &HeaderName) -> &'static str {
    if *completeness == UPLOAD_INCOMPLETE { "Upload-Incomplete" } else { "Upload-Complete" }
}

/// Whether a field of a response is this dialect's.
fn is_own(name: &HeaderName) -> bool {
    let own =
        [UPLOAD_OFFSET, UPLOAD_LENGTH, UPLOAD_COMPLETE, UPLOAD_INCOMPLETE, UPLOAD_LIMIT, INTEROP_VERSION];
    own.contains(name)
}

/// Returns `true` if the request violates a limit of the server. The answer then states all limits.
fn is_for_a_limit(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::TooLarge { .. }
        | Refusal::TooSmall { .. }
        | Refusal::TooMany { .. }
        | Refusal::Quota { .. } => true,
        Refusal::Beside(refusal, _) => is_for_a_limit(refusal),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
