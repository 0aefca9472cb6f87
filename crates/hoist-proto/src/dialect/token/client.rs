//! The client's half of the `Upload-Token` dialect.

use http::{HeaderMap, HeaderName, Request, StatusCode};

use super::super::client::{ClientProperties, Intent, Naming, Response, UploadLimits, UploadState, method};
use super::super::{
    UPLOAD_COMPLETE, UPLOAD_INCOMPLETE, UPLOAD_INDEX, UPLOAD_LENGTH, UPLOAD_OFFSET, UPLOAD_TOKEN,
};
use super::{Form, SEMANTICS};
use crate::dialect::ietf;
use crate::field;
use crate::operation::Finish;
use crate::types::{Length, Offset, Token};
use crate::upload::Part;

/// The properties of the dialect: no other client knows the token, so offsets have to be this client's own.
pub(crate) fn properties(is_part: bool) -> ClientProperties {
    ClientProperties {
        naming: Naming::Token,
        completion: SEMANTICS.completion,
        is_part,
        ..ClientProperties::CONVENTIONAL
    }
}

/// Writes the head of a request.
///
/// # Errors
/// Returns an error if `target` is not the target of a request.
//= TDR-HDR-08, TDR-CRE-01, TDR-CRE-02, TDR-CRE-04, TDR-APP-01, TOK-IDX-01
pub fn request(
    form: Form,
    target: &str,
    token: &Token,
    part: Option<Part>,
    intent: &Intent<'_>,
) -> Result<Request<()>, http::Error> {
    let mut head = Request::builder().method(method(intent)).uri(target).body(())?;
    let fields = head.headers_mut();
    form.sign(fields);
    let (length, finish) = match intent {
        Intent::Create { origin, length, content } => {
            fields.extend(origin.fields.clone());
            // Left out where the size of the content says the same.
            (length.filter(|_| *length != content.whole_length()), content.finish)
        }
        Intent::Append { at, length, finish } => {
            fields.insert(UPLOAD_OFFSET, field::position_value(*at));
            (*length, *finish)
        }
        Intent::Query | Intent::Cancel => (None, Finish::Here),
    };
    fields.insert(UPLOAD_TOKEN, field::token_value(token));
    if let Some(length) = length {
        fields.insert(UPLOAD_LENGTH, field::length_value(length));
    }
    if finish == Finish::Later {
        match form {
            Form::Seed => fields.insert(UPLOAD_COMPLETE, field::boolean_value(false)),
            Form::Draft(_) => fields.insert(UPLOAD_INCOMPLETE, field::boolean_value(true)),
        };
    }
    if let Some(part) = part {
        fields.insert(UPLOAD_INDEX, field::part_value(part));
    }
    Ok(head)
}

pub(crate) fn response(status: StatusCode, fields: &HeaderMap) -> Response {
    // The drafts have no limits. A server that knows `Upload-Limit` may explain a 413 with it.
    let explains = status == StatusCode::PAYLOAD_TOO_LARGE;
    let limits = ietf::client::limits(fields).filter(|_| explains);
    let append_max = |UploadLimits { append_max, .. }| UploadLimits { append_max, ..UploadLimits::default() };
    Response { state: state(fields), limits: limits.map(append_max), ..Response::of(status, fields) }
}

/// Reads the state of an upload from a response in any form. A malformed field counts as absent.
pub fn state(fields: &HeaderMap) -> UploadState {
    let integer = |name: &HeaderName| field::integer(fields, name).ignoring_malformed();
    let boolean = |name: &HeaderName| field::boolean(fields, name).ignoring_malformed();
    UploadState {
        offset: integer(&UPLOAD_OFFSET).map(Offset::new),
        length: integer(&UPLOAD_LENGTH).map(Length::new),
        complete: boolean(&UPLOAD_COMPLETE)
            .or_else(|| boolean(&UPLOAD_INCOMPLETE).map(|incomplete| !incomplete)),
        expires_in: None,
    }
}
