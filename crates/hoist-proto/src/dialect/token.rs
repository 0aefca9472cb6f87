//! The `Upload-Token` dialect: the client names each upload by a token, and one URL serves all uploads.
//!
//! It has two forms, detected per request: the *seed form* of the first draft, and the *draft form* of the later drafts up to
//! interop version 2. Source: docs/upload-token.md.

pub mod client;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use super::{
    DRAFT_VERSION, INTEROP_VERSION, METHODS, UPLOAD_COMPLETE, UPLOAD_INCOMPLETE, UPLOAD_INDEX, UPLOAD_LENGTH,
    UPLOAD_OFFSET, UPLOAD_TOKEN, conventional, status,
};
use crate::field::{self, Field};
use crate::operation::{
    Append, AppendToComplete, Content, Create, Decoded, Finish, OnExisting, Operation, Reply, Subject,
};
use crate::refusal::{Reason, Refusal};
use crate::types::{Length, Offset};
use crate::upload::{Completion, Excess, Family, Interruption, Semantics, State, TargetResponse};

pub(crate) const SEMANTICS: Semantics = Semantics {
    completion: Completion::AtLengthOrEnd,
    excess: Excess::Invalidates,
    interruption: Interruption::Resumes,
};

/// A form of the dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The first draft: success is always 204, and there are no interim responses.
    Seed,
    /// A later token draft.
    Draft(Draft),
}

/// A later token draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draft {
    /// The draft before version numbers, detected by `Upload-Incomplete`.
    Unnumbered,
    /// Version 1, in the field `Upload-Draft-Version`.
    First,
    /// Interop version 1.
    Interop1,
    /// Interop version 2.
    Interop2,
}

/// The differences between the drafts.
struct Properties {
    /// The field and the number with which a client identifies the draft; every response repeats them.
    number: Option<(HeaderName, u64)>,
    /// The meaning of content at offset zero.
    at_zero: AtZero,
    /// True if 104 is only for clients that do not know yet that the server supports resumption.
    announces_support_only_once: bool,
}

/// The meaning of content whose request says that it begins at offset zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtZero {
    /// An append, as at any other offset.
    Appends,
    /// A creation, except by `PATCH`, which appends. It is refused if the token is in use.
    Creates,
    /// A creation by any method, or an append to an upload that has no content yet.
    CreatesOrResumes,
}

impl AtZero {
    fn creates(self, method: &Method) -> bool {
        match self {
            Self::Appends => false,
            Self::Creates => *method != Method::PATCH,
            Self::CreatesOrResumes => true,
        }
    }
}

impl Draft {
    fn properties(self) -> Properties {
        let row = |number, at_zero, announces_support_only_once| Properties {
            number,
            at_zero,
            announces_support_only_once,
        };
        match self {
            // If `PATCH` created uploads too, an append after a cancellation would create the upload again.
            Self::Unnumbered => row(None, AtZero::Creates, true),
            Self::First => row(Some((DRAFT_VERSION, 1)), AtZero::CreatesOrResumes, true),
            Self::Interop1 => row(Some((INTEROP_VERSION, 1)), AtZero::CreatesOrResumes, true),
            Self::Interop2 => row(Some((INTEROP_VERSION, 2)), AtZero::Appends, false),
        }
    }
}

impl Form {
    /// The form of a request with a token. Other version numbers are ignored, because some clients send theirs with every
    /// request.
    pub fn of(fields: &HeaderMap) -> Self {
        let number = field::integer(fields, &INTEROP_VERSION).ignoring_malformed();
        let first = field::integer(fields, &DRAFT_VERSION).ignoring_malformed();
        match (number, first) {
            (Some(2), _) => Self::Draft(Draft::Interop2),
            (Some(1), _) => Self::Draft(Draft::Interop1),
            (_, Some(1)) => Self::Draft(Draft::First),
            _ if fields.contains_key(UPLOAD_INCOMPLETE) => Self::Draft(Draft::Unnumbered),
            _ => Self::Seed,
        }
    }

    /// Decodes a request. The checks are made in this order: method, token, other fields.
    pub(super) fn decode(self, head: &Parts, content_bytes: Option<u64>) -> Result<Decoded, Refusal> {
        let fields = &head.headers;
        if matches!(head.method, Method::GET | Method::TRACE | Method::CONNECT) {
            return Err(Reason::MethodNotAllowed { allow: METHODS }.into());
        }
        //= TDR-HDR-02, TDR-HDR-04
        let token = match field::token(fields, &UPLOAD_TOKEN) {
            Field::Is(token) => token,
            Field::Absent | Field::Malformed => {
                let wrong = "must be one byte sequence, string, or run of visible ASCII without comma and space, of 1 to \
                             256 octets";
                return Err(Refusal::field("Upload-Token", wrong));
            }
        };
        //= TOK-IDX-01
        let subject = match field::part(fields, &UPLOAD_INDEX) {
            Field::Absent => Subject::Token(token),
            Field::Is(part) => Subject::Part(token, part),
            Field::Malformed => {
                let wrong = "must be one integer from 0 to 9999, with the parameter `last` or without";
                return Err(Refusal::field("Upload-Index", wrong));
            }
        };
        let operation = match head.method {
            Method::HEAD => without_content(fields, Operation::Retrieve)?,
            Method::DELETE => without_content(fields, Operation::Cancel)?,
            _ => self.decode_transfer(head, content_bytes)?,
        };
        Ok(Decoded { subject, family: Family::Token, operation })
    }

    /// Decodes a creation or an append, which has an offset.
    //= TDR-CRE-03
    fn decode_transfer(self, head: &Parts, bytes: Option<u64>) -> Result<Operation, Refusal> {
        let fields = &head.headers;
        let content = Content { bytes, finish: Self::finish(fields)? };
        let length = optional_integer(fields, &UPLOAD_LENGTH, "Upload-Length")?.map(Length::new);
        let offset = optional_integer(fields, &UPLOAD_OFFSET, "Upload-Offset")?.map(Offset::new);
        let at_zero = self.at_zero();
        match offset {
            //= TDR-APP-05
            Some(at) if at > Offset::ZERO || !at_zero.creates(&head.method) => {
                let like = (head.method != Method::PATCH).then(|| head.method.clone());
                let when_complete = AppendToComplete::Conflicts;
                Ok(Operation::Append(Append { like, at, length, content, when_complete }))
            }
            //= TOK-APP-03
            None if self == Self::Seed && head.method == Method::PATCH => {
                Err(Refusal::field("Upload-Offset", "must be the offset at which the content begins"))
            }
            Some(_) | None => {
                let on_existing = match at_zero {
                    AtZero::CreatesOrResumes => OnExisting::ResumeAtZero,
                    AtZero::Creates | AtZero::Appends => OnExisting::Refuse,
                };
                //= TOK-CRE-03, TOK-CRE-06
                let length = length.or_else(|| content.whole_length());
                let create = Create::new(SEMANTICS, length, content, conventional::origin(head)?);
                Ok(Operation::Create(Create { on_existing, ..create }))
            }
        }
    }

    fn at_zero(self) -> AtZero {
        match self {
            Self::Seed => AtZero::Appends,
            Self::Draft(draft) => draft.properties().at_zero,
        }
    }

    /// Reads whether more content follows. `Upload-Complete: ?1` is ignored, because Apple's upload tasks add it to any request.
    //= TOK-CRE-03a
    fn finish(fields: &HeaderMap) -> Result<Finish, Refusal> {
        let incomplete = match field::boolean(fields, &UPLOAD_INCOMPLETE) {
            Field::Is(value) => value,
            Field::Absent => false,
            //= TDR-HDR-07
            Field::Malformed => return Err(Refusal::field("Upload-Incomplete", "must be ?0 or ?1")),
        };
        let unfinished = field::boolean(fields, &UPLOAD_COMPLETE) == Field::Is(false);
        Ok(if incomplete || unfinished { Finish::Later } else { Finish::Here })
    }

    /// Encodes the 104 response to a creation in a numbered draft. It repeats the client's number.
    //= TOK-CRE-08, TDR-104-02, TDR-104-03
    pub(super) fn announcement(self, operation: &Operation, head: &Parts) -> Option<Response<()>> {
        let (Self::Draft(draft), Operation::Create(_)) = (self, operation) else { return None };
        let properties = draft.properties();
        let (name, number) = properties.number?;
        let knows_support =
            head.headers.contains_key(UPLOAD_OFFSET) || head.headers.contains_key(UPLOAD_INCOMPLETE);
        //= TDR-104-01
        if properties.announces_support_only_once && knows_support {
            return None;
        }
        let mut interim = status(super::resumption_supported());
        interim.headers_mut().insert(name, field::integer_value(number));
        Some(interim)
    }

    pub(super) fn encode(self, reply: &Reply) -> Response<()> {
        let mut head = match reply {
            Reply::Stored { state, .. } => self.stated(self.success(), state),
            Reply::Complete { state, answer, .. } => self.completed(state, answer),
            //= TOK-OFF-01, TDR-OFF-03, TDR-OFF-04, TDR-RED-01
            Reply::State { state, .. } => {
                let mut head = self.stated(StatusCode::NO_CONTENT, state);
                head.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
                head
            }
            //= TOK-CAN-01
            Reply::Cancelled => status(StatusCode::NO_CONTENT),
        };
        self.sign(head.headers_mut());
        head
    }

    pub(super) fn refuse(self, refusal: &Refusal, fields: &mut HeaderMap) {
        //= TDR-RSP-01
        if let Some(state) = &refusal.state {
            self.state(fields, state);
        }
        self.sign(fields);
    }

    //= TOK-CRE-02, TOK-APP-01, TDR-CRE-06, TDR-CRE-07
    fn success(self) -> StatusCode {
        match self {
            Self::Seed => StatusCode::NO_CONTENT,
            Self::Draft(_) => StatusCode::CREATED,
        }
    }

    /// The target's status replaces the dialect's if the target failed, or if it has content to return.
    fn completed(self, state: &State, answer: &TargetResponse) -> Response<()> {
        let is_plain_success = answer.status.is_success() && answer.content.is_empty();
        let status = if is_plain_success { self.success() } else { answer.status };
        let mut head = self.stated(status, state);
        for (name, value) in &answer.fields {
            if *name != header::LOCATION && !head.headers().contains_key(name) {
                head.headers_mut().insert(name, value.clone());
            }
        }
        head
    }

    fn stated(self, code: StatusCode, state: &State) -> Response<()> {
        let mut head = status(code);
        self.state(head.headers_mut(), state);
        head
    }

    fn state(self, fields: &mut HeaderMap, state: &State) {
        fields.insert(UPLOAD_OFFSET, field::offset_value(state.offset));
        fields.insert(UPLOAD_COMPLETE, field::boolean_value(state.complete));
        if let Some(length) = state.length {
            fields.insert(UPLOAD_LENGTH, field::length_value(length));
        }
        if let Some(part) = state.part {
            fields.insert(UPLOAD_INDEX, field::part_value(part));
        }
        if let Self::Draft(_) = self {
            fields.insert(UPLOAD_INCOMPLETE, field::boolean_value(!state.complete));
        }
    }

    fn sign(self, fields: &mut HeaderMap) {
        if let Self::Draft(draft) = self
            && let Some((name, number)) = draft.properties().number
        {
            fields.insert(name, field::integer_value(number));
        }
    }
}

/// Returns the operation of a request without content, or refuses the fields that have no meaning in it.
//= TOK-OFF-05, TDR-OFF-02, TDR-CAN-02
fn without_content(fields: &HeaderMap, operation: Operation) -> Result<Operation, Refusal> {
    for (name, field) in [("Upload-Offset", &UPLOAD_OFFSET), ("Upload-Incomplete", &UPLOAD_INCOMPLETE)] {
        if fields.contains_key(field) {
            return Err(Refusal::field(name, "has no meaning in HEAD and DELETE; append with PATCH"));
        }
    }
    Ok(operation)
}

fn optional_integer(
    fields: &HeaderMap,
    name: &HeaderName,
    canonical_name: &'static str,
) -> Result<Option<u64>, Refusal> {
    match field::integer(fields, name) {
        Field::Is(number) => Ok(Some(number)),
        Field::Absent => Ok(None),
        Field::Malformed => {
            Err(Refusal::field(canonical_name, "must be one integer from 0 to 999999999999999"))
        }
    }
}

#[cfg(test)]
mod tests;
