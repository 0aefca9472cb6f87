//! The client's side of "Resumable Uploads for HTTP": heads of requests, and what responses say.
//!
//! Owns the spelling alone; what to do about it is [`client`](crate::client)'s to decide.

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};

use super::super::interop::LimitKeys;
use super::super::{INTEROP_VERSION, UPLOAD_LENGTH, UPLOAD_LIMIT, UPLOAD_OFFSET};
use super::{IetfCodec, PARTIAL_UPLOAD, said_completeness};
use crate::field;
use crate::operation::{AppendToComplete, Finish, Operation};
use crate::types::{Length, Offset};

/// What a response says of the upload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// How much the server has, if it says so.
    pub offset: Option<Offset>,
    /// The length it knows, if it says so.
    pub length: Option<Length>,
    /// Whether the upload is complete, if it says so.
    pub complete: Option<bool>,
    /// What it takes, if it says so.
    pub limits: Option<Takes>,
}

/// `Upload-Limit`, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Takes {
    /// `max-size`: bytes of the largest representation.
    pub size_max: Option<u64>,
    /// `min-size`: bytes of the smallest that can be resumed.
    pub size_min: Option<u64>,
    /// `max-append-size`: the most bytes in one request.
    pub append_max: Option<u64>,
    /// `min-append-size`: the fewest bytes in one request that is not the last.
    pub append_min: Option<u64>,
    /// `max-age`: seconds the upload still lives.
    pub age_max: Option<u64>,
}

impl IetfCodec {
    /// The head of a request, for a client: to `target` for a creation, to the upload's URL for all else.
    //= IETF-VER-01, IETF-CLI-19, IETF-APP-01, IETF-CRE-03, IETF-CRE-04
    pub fn request(self, target: &str, operation: &Operation) -> Result<Request<()>, http::Error> {
        let properties = self.version.properties();
        let method = match operation {
            Operation::Create(create) => create.origin.method.clone(),
            Operation::Append(_) => Method::PATCH,
            Operation::Retrieve | Operation::Reject(_) => Method::HEAD,
            Operation::Cancel => Method::DELETE,
        };
        let mut head = Request::builder().method(method).uri(target).body(())?;
        let fields = head.headers_mut();
        let said = match operation {
            Operation::Create(create) => {
                fields.extend(create.origin.fields.clone());
                Some((create.content.finish, create.length))
            }
            Operation::Append(append) => {
                fields.insert(UPLOAD_OFFSET, field::position_value(append.at));
                if properties.append_type {
                    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(PARTIAL_UPLOAD));
                }
                Some((append.content.finish, append.length))
            }
            Operation::Retrieve | Operation::Cancel | Operation::Reject(_) => None,
        };
        if let Some((finish, length)) = said {
            self.completeness(fields, finish == Finish::Here);
            if let Some(length) = length {
                fields.insert(UPLOAD_LENGTH, field::length_value(length));
            }
        }
        self.sign(fields);
        Ok(head)
    }

    /// Whether a 104 is for this client: it repeats the number the client sent.
    //= IETF-INT-08, IETF-VER-04
    pub fn heeds(self, fields: &HeaderMap) -> bool {
        field::integer(fields, &INTEROP_VERSION).ignoring_malformed() == self.version.number()
    }

    /// Reads the fields of a response in this version. A field that does not parse counts as absent.
    //= IETF-SF-04
    pub fn told(self, fields: &HeaderMap) -> Told {
        let properties = self.version.properties();
        let integer = |name| field::integer(fields, name).ignoring_malformed();
        Told {
            offset: integer(&UPLOAD_OFFSET).map(Offset::new),
            length: integer(&UPLOAD_LENGTH).map(Length::new),
            complete: said_completeness(self.version, fields).map(|finish| finish == Finish::Here),
            limits: if properties.limits == LimitKeys::None { None } else { takes(fields) },
        }
    }

    /// Returns `true` if a server of this version may repeat an answer that was lost.
    pub(crate) fn is_replayed(self) -> bool {
        self.version.properties().when_complete == AppendToComplete::Replays
    }

    /// Returns `true` if only a success that says so completes an upload. In earlier versions the success of a whole
    /// creation completes it in any case.
    pub(crate) fn completes_in_words(self) -> bool {
        self.version >= super::Interop::V9
    }

    /// Returns `true` if a success without a statement on completeness may answer the last request of an upload.
    pub(crate) fn completes_silently(self) -> bool {
        self.version < super::Interop::V7
    }
}

/// Returns `true` if a response has a field of the protocol, and so comes from a server that speaks it.
pub fn has_own_field(fields: &HeaderMap) -> bool {
    fields.keys().any(|name| name.as_str().starts_with("upload-"))
}

/// Returns `true` if an answer refuses the version number of a request. A server that does not know the number
/// answers 400 without any field of the protocol.
pub fn refuses_version(status: StatusCode, fields: &HeaderMap) -> bool {
    status == StatusCode::BAD_REQUEST && !has_own_field(fields)
}

/// Reads `Upload-Limit`. One that does not parse counts as absent.
//= IETF-SF-03, IETF-SF-05, IETF-SF-06, IETF-SF-10
pub fn takes(fields: &HeaderMap) -> Option<Takes> {
    let known = ["max-size", "min-size", "max-append-size", "min-append-size", "max-age", "expires"];
    let [size_max, size_min, append_max, append_min, max_age, expires] =
        field::integers(fields, &UPLOAD_LIMIT, known).ignoring_malformed()?;
    Some(Takes { size_max, size_min, append_max, append_min, age_max: max_age.or(expires) })
}
