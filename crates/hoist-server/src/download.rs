//! Downloads of complete uploads: `GET` on the URL of one, if the operator allows it.
//!
//! Owns the head of the response, which is ordinary HTTP (RFC 9110) in no dialect. Access is decided as for every other
//! request; preconditions and ranges are in `select.rs`. The content is untrusted, so browsers are told to save it, not to
//! sniff its type, and not to run it.

mod select;

use std::fmt::Write as _;

use hoist_http::Direct;
use hoist_proto::dialect;
use hoist_proto::digest::{self, REPR_DIGEST};
use hoist_proto::refusal::{Reason, Refusal};
use hoist_proto::types::Offset;
use hoist_proto::upload::{TargetResponse, Upload};
use hoist_store::store::Error;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use crate::answer::{self, Answer, Body};
use crate::claim::Claim;
use crate::shared::Shared;
use crate::{error, filename};
use select::{Selected, select};

/// The representation fields that are sent as the creation request had them.
const DESCRIBED_BY: [HeaderName; 3] =
    [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LANGUAGE];

//= TUS1-DF-16
pub(crate) async fn download(
    shared: &Shared,
    claim: Claim,
    upload: &Upload,
    delivered: &TargetResponse,
    head: &Parts,
) -> Answer {
    let length = upload.offset.offset().get();
    let digest = digest_of(upload, delivered);
    let tag = tag(upload, digest.as_ref());
    let (first, bytes, part) = match select(&head.headers, &tag, length) {
        Selected::Whole => (0, length, None),
        Selected::Part(range) => (*range.start(), range.end() - range.start() + 1, Some(range)),
        nothing => return without_content(&nothing, &tag, length),
    };
    // Opened under the claim. If the content is removed later, the reader still has it.
    let reader = match shared.store.read(upload.id, Offset::new(first)).await {
        Ok(reader) => reader,
        Err(Error::Missing) => {
            return refused(Reason::ContentNotStored);
        }
        Err(failure) => return refused(error::refusal("read", upload.id, &failure)),
    };
    drop(claim);
    let mut answer = Response::new(Body::stored(reader, bytes));
    let direct = Direct::to(answer.body());
    answer.extensions_mut().insert(direct);
    if let Some(part) = part {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        let range = format!("bytes {}-{}/{length}", part.start(), part.end());
        let range = HeaderValue::try_from(range).expect("numbers are visible ASCII");
        answer.headers_mut().insert(header::CONTENT_RANGE, range);
    }
    validated(answer.headers_mut(), &tag);
    describe(answer.headers_mut(), upload, digest, &shared.endpoint);
    answer
}

/// Returns the digest of the content if one is known: sent with the final response, or given at the creation and
/// verified.
fn digest_of(upload: &Upload, delivered: &TargetResponse) -> Option<HeaderValue> {
    let told = delivered.fields.get(&REPR_DIGEST).cloned();
    told.or_else(|| digest::parse(&upload.origin.fields, &REPR_DIGEST).first().map(digest::value))
}

/// Returns the entity tag, which is strong, because complete content never changes. It is the digest if one is known, so
/// that equal content has equal tags; otherwise the id and length.
fn tag(upload: &Upload, digest: Option<&HeaderValue>) -> String {
    let is_opaque = |text: &&str| text.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'"');
    match digest.and_then(|digest| digest.to_str().ok()).filter(is_opaque) {
        Some(digest) => format!("\"{digest}\""),
        None => format!("\"{}-{}\"", upload.id, upload.offset),
    }
}

fn validated(fields: &mut HeaderMap, tag: &str) {
    fields.insert(header::ETAG, HeaderValue::try_from(tag).expect("checked, or an id and a number"));
    fields.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // Private, because the response may depend on credentials and the URL may be a secret. Revalidated before each use,
    // because an upload can be removed.
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
}

fn describe(fields: &mut HeaderMap, upload: &Upload, digest: Option<HeaderValue>, endpoint: &str) {
    for name in DESCRIBED_BY {
        // Encodings and languages are lists and may have several lines; there is one type.
        let lines_max = if name == header::CONTENT_TYPE { 1 } else { usize::MAX };
        for value in upload.origin.fields.get_all(&name).iter().take(lines_max) {
            fields.append(&name, value.clone());
        }
    }
    let untyped = || HeaderValue::from_static("application/octet-stream");
    fields.entry(header::CONTENT_TYPE).or_insert_with(untyped);
    fields.extend(digest.map(|digest| (REPR_DIGEST, digest)));
    let name = filename::of(&upload.origin, endpoint);
    fields.insert(header::CONTENT_DISPOSITION, attachment(name.as_deref()));
    fields.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
}

/// Returns the `Content-Disposition` for saving the content under `name`, which may have any characters (RFC 6266, RFC
/// 8187). The plain form comes first for clients that do not support the extended one, such as curl (RFC 6266, Advice on
/// Generating Content-Disposition Header Fields).
fn attachment(name: Option<&str>) -> HeaderValue {
    let Some(name) = name else { return HeaderValue::from_static("attachment") };
    let is_plain = |char: char| char == ' ' || char.is_ascii_graphic() && !r#""%/\"#.contains(char);
    let plain: String = name.chars().map(|char| if is_plain(char) { char } else { '_' }).collect();
    let mut value = format!("attachment; filename=\"{plain}\"; filename*=UTF-8''");
    for octet in name.bytes() {
        if octet.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&octet) {
            value.push(char::from(octet));
        } else {
            write!(value, "%{octet:02X}").expect("a string takes all");
        }
    }
    HeaderValue::try_from(value).expect("visible ASCII alone is left")
}

fn without_content(selected: &Selected, tag: &str, length: u64) -> Answer {
    match selected {
        Selected::Unsatisfiable => {
            let mut answer = refused(Reason::RangeNotSatisfiable);
            let range = HeaderValue::try_from(format!("bytes */{length}")).expect("visible ASCII");
            answer.headers_mut().insert(header::CONTENT_RANGE, range);
            answer
        }
        Selected::Failed => refused(Reason::PreconditionFailed),
        Selected::Unmodified | Selected::Whole | Selected::Part(_) => {
            let mut answer = Answer::default();
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            validated(answer.headers_mut(), tag);
            answer
        }
    }
}

fn refused(refusal: impl Into<Refusal>) -> Answer {
    let refusal = refusal.into();
    answer::problem(dialect::refused(None, &refusal), None, &refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disposition_carries_any_name() {
        let cases = [
            (None, "attachment"),
            (Some("report.pdf"), "attachment; filename=\"report.pdf\"; filename*=UTF-8''report.pdf"),
            (
                Some("a b;\"c\"\\.txt"),
                "attachment; filename=\"a b;_c__.txt\"; filename*=UTF-8''a%20b%3B%22c%22%5C.txt",
            ),
            (
                Some("\u{20ac}'%\r\n*"),
                "attachment; filename=\"_'___*\"; filename*=UTF-8''%E2%82%AC%27%25%0D%0A%2A",
            ),
        ];
        for (name, expected) in cases {
            assert_eq!(attachment(name), expected);
        }
    }
}
