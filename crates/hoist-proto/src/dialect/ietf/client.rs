//! The client's half of "Resumable Uploads for HTTP".

use http::{HeaderMap, HeaderValue, Request, StatusCode, header};

use super::super::client::{
    ClientProperties, ConflictRule, Intent, Naming, OffsetTrust, Response, UploadLimits, UploadState, method,
};
use super::super::interop::{Interop, LimitKeys};
use super::super::{INTEROP_VERSION, UPLOAD_LENGTH, UPLOAD_LIMIT, UPLOAD_OFFSET, resumption_supported};
use super::{IetfCodec, PARTIAL_UPLOAD, SEMANTICS, read_completeness};
use crate::field;
use crate::operation::{AppendToComplete, Finish};
use crate::types::{Length, Offset};

pub(crate) fn properties(version: Interop) -> ClientProperties {
    let row = version.properties();
    ClientProperties {
        naming: Naming::Url,
        completion: SEMANTICS.completion,
        completion_signal: row.completion_signal,
        offsets: OffsetTrust::Length,
        conflicts: ConflictRule::FollowFewer(3),
        queries_max: 3,
        degrades: true,
        replays: row.when_complete == AppendToComplete::Replays,
        cancels: true,
        stale_append_is_bad_request: true,
        ..ClientProperties::CONVENTIONAL
    }
}

/// Writes the head of a request: to the target for a creation, to the upload's URL otherwise.
///
/// # Errors
/// Returns an error if `target` is not the target of a request.
//= IETF-VER-01, IETF-CLI-19, IETF-APP-01, IETF-CRE-03, IETF-CRE-04
pub fn request(version: Interop, target: &str, intent: &Intent<'_>) -> Result<Request<()>, http::Error> {
    let codec = IetfCodec { version, ..IetfCodec::unversioned() };
    let mut head = Request::builder().method(method(intent)).uri(target).body(())?;
    let fields = head.headers_mut();
    let transfer = match intent {
        Intent::Create { origin, length, content } => {
            fields.extend(origin.fields.clone());
            Some((content.finish, length))
        }
        Intent::Append { at, length, finish } => {
            fields.insert(UPLOAD_OFFSET, field::position_value(*at));
            if version.properties().append_type {
                fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(PARTIAL_UPLOAD));
            }
            Some((*finish, length))
        }
        Intent::Query | Intent::Cancel => None,
    };
    if let Some((finish, length)) = transfer {
        codec.completeness(fields, finish == Finish::Here);
        if let Some(length) = *length {
            fields.insert(UPLOAD_LENGTH, field::length_value(length));
        }
    }
    codec.sign(fields);
    Ok(head)
}

/// Returns whether a response is a 104 that repeats the version of the request.
//= IETF-INT-08, IETF-VER-04
pub fn is_own_interim(version: Interop, status: StatusCode, fields: &HeaderMap) -> bool {
    status == resumption_supported()
        && field::integer(fields, &INTEROP_VERSION).ignoring_malformed() == version.number()
}

/// Reads a response in a version. A malformed field counts as absent.
//= IETF-SF-04
pub fn response(version: Interop, status: StatusCode, fields: &HeaderMap) -> Response {
    let integer = |name| field::integer(fields, name).ignoring_malformed();
    let state = UploadState {
        offset: integer(&UPLOAD_OFFSET).map(Offset::new),
        length: integer(&UPLOAD_LENGTH).map(Length::new),
        complete: read_completeness(version, fields).map(|finish| finish == Finish::Here),
        expires_in: None,
    };
    let has_limits = version.properties().limits != LimitKeys::None;
    Response { state, limits: limits(fields).filter(|_| has_limits), ..Response::of(status, fields) }
}

/// Returns whether a response has a field of the protocol, and so comes from a server that supports it.
pub fn has_own_field(fields: &HeaderMap) -> bool {
    fields.keys().any(|name| name.as_str().starts_with("upload-"))
}

/// Returns whether a response refuses the version number of its request: a server that does not know the number answers
/// 400 without any field of the protocol.
pub fn refuses_version(status: StatusCode, fields: &HeaderMap) -> bool {
    status == StatusCode::BAD_REQUEST && !has_own_field(fields)
}

/// Reads `Upload-Limit`. A malformed one counts as absent.
//= IETF-SF-03, IETF-SF-05, IETF-SF-06, IETF-SF-10
pub fn limits(fields: &HeaderMap) -> Option<UploadLimits> {
    let known = ["max-size", "min-size", "max-append-size", "min-append-size", "max-age", "expires"];
    let [size_max, size_min, append_max, append_min, max_age, expires] =
        field::integers(fields, &UPLOAD_LIMIT, known).ignoring_malformed()?;
    Some(UploadLimits { size_max, size_min, append_max, append_min, age_max: max_age.or(expires) })
}
