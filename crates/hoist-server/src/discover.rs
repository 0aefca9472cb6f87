//! The description of the server: `OPTIONS`, the well-known document, and health.

use hoist_proto::dialect::ietf::PARTIAL_UPLOAD;
use hoist_proto::dialect::interop::Interop;
use hoist_proto::dialect::{ACCEPT_PATCH, METHODS, UPLOAD_LIMIT, tus1};
use hoist_proto::field;
use hoist_proto::policy::Policy;
use http::{HeaderValue, Response, header};

use crate::answer::{self, Answer, Body};
use crate::shared::Shared;

/// Answers `OPTIONS`, preflight or not. With status 200, the only one that Apple's uploader takes as support.
//= TOK-DISC-03, IETF-OPT-01, IETF-OPT-04, IETF-OPT-06
pub(crate) fn options(policy: &Policy, tus: tus1::Extensions) -> Answer {
    let mut head = Response::new(());
    let fields = head.headers_mut();
    fields.insert(header::ALLOW, HeaderValue::from_static(METHODS));
    fields.insert(UPLOAD_LIMIT, field::dictionary_value(&limits(policy)));
    let types = format!("{PARTIAL_UPLOAD}, {}", tus1::OFFSET_OCTET_STREAM);
    fields.insert(ACCEPT_PATCH, HeaderValue::try_from(types).expect("media types are ASCII"));
    tus1::discover(fields, tus, policy.limits.size_max);
    head.map(|()| Body::default())
}

/// Returns the limits under their names in `Upload-Limit`, with the lifetime of a new upload.
fn limits(policy: &Policy) -> Vec<(&'static str, u64)> {
    let mut limits = policy.limits.members();
    limits.extend(policy.lifetime.map(|lifetime| ("max-age", lifetime.as_secs())));
    limits
}

/// Answers `/.well-known/resumable-uploads`.
//= TOK-DISC-03
pub(crate) fn well_known(shared: &Shared) -> Answer {
    let limits: serde_json::Map<_, _> =
        limits(&shared.policy).into_iter().map(|(name, number)| (name.to_owned(), number.into())).collect();
    let numbers = shared.settings.ietf_versions.numbers().map(|number| number.to_string());
    let versions: Vec<String> = numbers.chain([Interop::Rfc.to_string()]).collect();
    let document = serde_json::json!({
        "url": shared.endpoint,
        "dialects": [
            { "name": "upload-token", "versions": ["seed", "1", "2"] },
            { "name": "resumable-upload", "versions": versions },
            { "name": "tus", "versions": [tus1::VERSION] },
        ],
        "limits": limits,
        "transports": ["http/1.1", "h2"],
    });
    answer::document("application/json", document.to_string())
}

pub(crate) fn health() -> Answer {
    answer::document("text/plain; charset=utf-8", "ok\n")
}
