//! The Upload-Token dialect: the client names the upload, and one URL serves all of them.
//!
//! Two forms on the wire, told apart per request: the *seed form* of the first draft, and the *draft form* of interop
//! versions 1 and 2 that followed it. Source: docs/upload-token.md.

pub mod client;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use super::{
    DRAFT_VERSION, INTEROP_VERSION, METHODS, UPLOAD_COMPLETE, UPLOAD_INCOMPLETE, UPLOAD_INDEX, UPLOAD_LENGTH,
    UPLOAD_OFFSET, UPLOAD_TOKEN, conventional, refused, status,
};
use crate::field::{self, Field};
use crate::operation::{
    Append, AppendToComplete, BelowMinSize, Content, Create, Decoded, Finish, OnExisting, Operation, Reply,
    Subject,
};
use crate::refusal::Refusal;
use crate::types::{Length, Offset};
use crate::upload::{
    Completion, Composition, Excess, Family, Interruption, Semantics, State, TargetResponse,
};

pub(crate) const SEMANTICS: Semantics = Semantics {
    completion: Completion::AtLengthOrEnd,
    excess: Excess::Invalidates,
    interruption: Interruption::Resumes,
};

/// How a peer spells the dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The first draft: 204 for everything, no interim responses.
    Seed,
    /// A later token draft.
    Draft(Draft),
}

/// Which later token draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draft {
    /// Before the drafts had numbers; known by `Upload-Incomplete`.
    Unnumbered,
    /// Number 1, in the field `Upload-Draft-Version`.
    First,
    /// Interop version 1.
    Interop1,
    /// Interop version 2.
    Interop2,
}

/// What differs between the drafts, one row each.
struct Properties {
    /// The field and number a peer identifies itself with, repeated in every answer.
    number: Option<(HeaderName, u64)>,
    /// The meaning of content at offset zero.
    at_zero: AtZero,
    /// Whether 104 is kept for clients that do not know yet that the server resumes.
    announces_to_strangers_only: bool,
}

/// The meaning of content whose request says that it begins at offset zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtZero {
    /// An append, as at any other offset.
    Appends,
    /// A creation, except by `PATCH`, which appends. A token in use refuses it.
    Creates,
    /// A creation by any method, or the content of an upload that holds nothing yet.
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
        let row = |number, at_zero, announces_to_strangers_only| Properties {
            number,
            at_zero,
            announces_to_strangers_only,
        };
        match self {
            // Clients that know of the server's support create with `POST` at offset 0. To let `PATCH` create too would
            // bring a cancelled upload back, by the append of a client that has not heard of its end.
            Self::Unnumbered => row(None, AtZero::Creates, true),
            Self::First => row(Some((DRAFT_VERSION, 1)), AtZero::CreatesOrResumes, true),
            Self::Interop1 => row(Some((INTEROP_VERSION, 1)), AtZero::CreatesOrResumes, true),
            Self::Interop2 => row(Some((INTEROP_VERSION, 2)), AtZero::Appends, false),
        }
    }
}

impl Form {
    /// The form of a request that carries a token. Other numbers beside a token are decoration by clients that put theirs
    /// on every request.
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

    /// Understands a request. Checks in order: method, token, fields.
    pub(super) fn decode(self, head: &Parts, content_bytes: Option<u64>) -> Result<Decoded, Refusal> {
        let fields = &head.headers;
        if matches!(head.method, Method::GET | Method::TRACE | Method::CONNECT) {
            return Err(Refusal::Method { allow: METHODS });
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
            Method::HEAD => {
                alone(fields)?;
                Operation::Retrieve
            }
            Method::DELETE => {
                alone(fields)?;
                Operation::Cancel
            }
            _ => self.decode_transfer(head, content_bytes)?,
        };
        Ok(Decoded { subject, family: Family::Token, operation })
    }

    /// A creation or an append, by the presence of an offset.
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
                Err(Refusal::field("Upload-Offset", "an append must say where its content begins"))
            }
            Some(_) | None => {
                let on_existing = match at_zero {
                    AtZero::CreatesOrResumes => OnExisting::ResumeAtZero,
                    AtZero::Creates | AtZero::Appends => OnExisting::Refuse,
                };
                //= TOK-CRE-06
                let length = length.or_else(|| length_of(content));
                let origin = conventional::origin(head)?;
                let below_min_size = BelowMinSize::Resumes;
                Ok(Operation::Create(Create {
                    semantics: SEMANTICS,
                    length,
                    content,
                    on_existing,
                    below_min_size,
                    composition: Composition::Direct,
                    waits_for_parts: false,
                    origin,
                }))
            }
        }
    }

    fn at_zero(self) -> AtZero {
        match self {
            Self::Seed => AtZero::Appends,
            Self::Draft(draft) => draft.properties().at_zero,
        }
    }

    /// Whether more will follow. `Upload-Complete: ?1` says nothing here, because Apple's upload tasks add it to anything.
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

    /// A 104 that repeats the client's number, for a creation in a numbered draft.
    //= TOK-CRE-08, TDR-104-02, TDR-104-03
    pub(super) fn announcement(self, operation: &Operation, head: &Parts) -> Option<Response<()>> {
        let (Self::Draft(draft), Operation::Create(_)) = (self, operation) else { return None };
        let properties = draft.properties();
        let (name, number) = properties.number?;
        let knows = head.headers.contains_key(UPLOAD_OFFSET) || head.headers.contains_key(UPLOAD_INCOMPLETE);
        //= TDR-104-01
        if properties.announces_to_strangers_only && knows {
            return None;
        }
        let mut interim = status(super::resumption_supported());
        interim.headers_mut().insert(name, field::integer_value(number));
        Some(interim)
    }

    /// The head of the answer to a request that was carried out.
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

    /// The head of the answer to a request that was refused.
    pub(super) fn refuse(self, refusal: &Refusal) -> Response<()> {
        let mut head = refused(refusal);
        //= TDR-RSP-01
        if let Some(state) = refusal.state() {
            self.state(head.headers_mut(), &state);
        }
        self.sign(head.headers_mut());
        head
    }

    /// The status of content that was stored.
    //= TOK-CRE-02, TOK-APP-01, TDR-CRE-06, TDR-CRE-07
    fn success(self) -> StatusCode {
        match self {
            Self::Seed => StatusCode::NO_CONTENT,
            Self::Draft(_) => StatusCode::CREATED,
        }
    }

    /// The last answer: the dialect's own, unless the target has more to say than that it went well.
    fn completed(self, state: &State, answer: &TargetResponse) -> Response<()> {
        let said_nothing = answer.status.is_success() && answer.content.is_empty();
        let status = if said_nothing { self.success() } else { answer.status };
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

    /// Repeats the client's number.
    fn sign(self, fields: &mut HeaderMap) {
        if let Self::Draft(draft) = self
            && let Some((name, number)) = draft.properties().number
        {
            fields.insert(name, field::integer_value(number));
        }
    }
}

/// The length that a whole representation's declared content size amounts to.
//= TOK-CRE-03
fn length_of(content: Content) -> Option<Length> {
    content.bytes.filter(|_| content.finish == Finish::Here).map(Length::new)
}

/// Refuses the fields that have no meaning where there is no content.
//= TOK-OFF-05, TDR-OFF-02, TDR-CAN-02
fn alone(fields: &HeaderMap) -> Result<(), Refusal> {
    for (name, field) in [("Upload-Offset", &UPLOAD_OFFSET), ("Upload-Incomplete", &UPLOAD_INCOMPLETE)] {
        if fields.contains_key(field) {
            return Err(Refusal::field(name, "has no meaning in HEAD and DELETE; append with PATCH"));
        }
    }
    Ok(())
}

fn optional_integer(
    fields: &HeaderMap,
    name: &HeaderName,
    spelled: &'static str,
) -> Result<Option<u64>, Refusal> {
    match field::integer(fields, name) {
        Field::Is(number) => Ok(Some(number)),
        Field::Absent => Ok(None),
        Field::Malformed => Err(Refusal::field(spelled, "must be one integer from 0 to 999999999999999")),
    }
}

#[cfg(test)]
mod tests;
