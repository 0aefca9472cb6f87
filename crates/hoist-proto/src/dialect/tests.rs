//! Detection of the dialect, in the order of the tests D0 to D10, and responses without a dialect.

use std::time::Duration;

use http::{HeaderName, Request};
use proptest::prelude::*;

use super::ietf::IetfCodec;
use super::interop::Interop;
use super::token::{Draft, Form};
use super::*;
use crate::operation::{Content, Finish, Subject};
use crate::types::{Durable, Length, Offset};
use crate::upload::{
    Completion, Composition, Excess, Family, Interruption, Origin, Phase, Semantics, State, TargetResponse,
};

mod ordinary;

pub(super) const ID: UploadId = UploadId::from_bits([5; 16]);
const ON_UPLOAD: Resource = Resource::Upload(ID);

/// A head with fields in the notation `Name: value|Name: value`.
pub(super) fn head(method: &str, fields: &str) -> Parts {
    let mut request = Request::builder().method(method).uri("/uploads");
    for line in fields.split('|').filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").expect("a field");
        request = request.header(name, value);
    }
    request.body(()).expect("a request").into_parts().0
}

/// A response context without limits.
pub(super) fn context(base: &str) -> Context<'_> {
    const NONE: Limits = Limits { size_max: None, size_min: 0, append_max: None, append_min: 0 };
    Context { base, alias: None, limits: &NONE, now: Timestamp::from_millis(0), lifetime: None }
}

/// A new upload.
pub(super) fn upload() -> Upload {
    Upload {
        id: ID,
        family: Family::Ietf,
        semantics: Semantics {
            completion: Completion::Explicit,
            excess: Excess::Invalidates,
            interruption: Interruption::Resumes,
        },
        owner: None,
        composition: Composition::Direct,
        alias: None,
        file: None,
        origin: Origin { method: Method::POST, target: "/uploads".into(), fields: HeaderMap::new() },
        created: Timestamp::from_millis(0),
        touched: Timestamp::from_millis(0),
        lifetime: None,
        resumes: 0,
        events: Vec::new(),
        length: None,
        offset: Durable::ZERO,
        phase: Phase::Open,
    }
}

/// The result of `detect` as one word. A version of the draft is its number, with a star if its clients get interim responses.
fn found(resource: Resource, method: &str, fields: &str) -> String {
    found_where(resource, method, fields, false)
}

fn found_where(resource: Resource, method: &str, fields: &str, rfc_interim: bool) -> String {
    match detect(&head(method, fields), resource, DialectOptions { rfc_interim, ..DialectOptions::default() })
    {
        Detected::Discover => "discover".into(),
        Detected::ByUpload => "stored".into(),
        Detected::Dialect(Dialect::Conventional) => "ordinary".into(),
        Detected::Dialect(Dialect::Ietf(IetfCodec { version, sends_interim, .. })) => {
            let number = version.number().map_or("rfc".to_owned(), |number| number.to_string());
            format!("{number}{}", if sends_interim { "*" } else { "" })
        }
        Detected::Dialect(Dialect::Token(Form::Seed)) => "seed".into(),
        Detected::Dialect(Dialect::Token(Form::Draft(draft))) => match draft {
            Draft::Unnumbered => "draft".into(),
            Draft::First => "first".into(),
            Draft::Interop1 => "v1".into(),
            Draft::Interop2 => "v2".into(),
        },
        Detected::Dialect(Dialect::Tus1(_)) => "tus".into(),
        Detected::Refuse(refusal) => refusal.status(None).as_u16().to_string(),
    }
}

/// Row, resources, method, fields, and the result. The rows are in the order of the tests: a request also has fields that a later
/// test would match.
const ROWS: &[(&str, &[Resource], &str, &str, &str)] = &[
    ("D0", ALL, "OPTIONS", "", "discover"),
    ("D0", ALL, "OPTIONS", "Tus-Resumable: 0.1|Upload-Token: a|Upload-Complete: ?0", "discover"),
    ("D0", ALL, "OPTIONS", "Upload-Draft-Interop-Version: 8|Upload-Complete: ?1", "discover"),
    // D1: the override has no effect without tus.
    ("D1", ALL, "POST", "X-HTTP-Method-Override: PATCH|Tus-Resumable: 1.0.0", "tus"),
    ("D1", ON_TARGET, "POST", "X-HTTP-Method-Override: PATCH", "ordinary"),
    ("D1", ENDPOINT, "POST", "X-HTTP-Method-Override: DELETE|Upload-Token: a", "seed"),
    ("D1", ENDPOINT, "POST", "X-HTTP-Method-Override: HEAD|Upload-Complete: ?0", "rfc"),
    ("D2", ALL, "POST", "Tus-Resumable: 1.0.0", "tus"),
    ("D2", ALL, "HEAD", "Tus-Resumable: 0.2.2", "412"),
    ("D2", ALL, "PATCH", "Tus-Resumable: ", "412"),
    (
        "D2",
        ENDPOINT,
        "POST",
        "Tus-Resumable: 1.0.0|Upload-Token: a|Upload-Draft-Interop-Version: 6|Upload-Complete: ?0",
        "tus",
    ),
    (
        "D2",
        UPLOAD,
        "PATCH",
        "Tus-Resumable: 1.0.0|Upload-Draft-Interop-Version: 6|Content-Type: application/partial-upload",
        "tus",
    ),
    ("D3", ENDPOINT, "POST", "Client-Upload-Token: abcdef", "501"),
    ("D3", ENDPOINT, "HEAD", "Client-Upload-Token: a|Upload-Token: a|Upload-Draft-Interop-Version: 2", "501"),
    ("D3", UPLOAD, "HEAD", "Client-Upload-Token: abcdef", "stored"),
    ("D4", ON_TARGET, "POST", "Upload-Token: abcdef", "seed"),
    ("D4", ON_TARGET, "HEAD", "Upload-Token: abcdef", "seed"),
    ("D4", ON_TARGET, "GET", "Upload-Token: abcdef", "seed"),
    ("D4", ENDPOINT, "POST", "Upload-Token: ", "seed"),
    ("D4", ENDPOINT, "POST", "Upload-Token: a|Upload-Draft-Interop-Version: 6|Upload-Complete: ?0", "seed"),
    (
        "D4",
        ENDPOINT,
        "PATCH",
        "Upload-Token: a|Content-Type: application/offset+octet-stream|Upload-Metadata: x",
        "seed",
    ),
    ("D4", ENDPOINT, "PATCH", "Upload-Token: a|Content-Type: application/partial-upload", "seed"),
    ("D4", UPLOAD, "HEAD", "Upload-Token: abcdef", "stored"),
    ("D4", UPLOAD, "HEAD", "Upload-Token: abcdef|Upload-Draft-Interop-Version: 6", "6*"),
    // D5, on the endpoint: the number decides which field marks a creation.
    ("D5", ON_TARGET, "POST", "Upload-Draft-Interop-Version: 3|Upload-Incomplete: ?1", "3*"),
    ("D5", ON_TARGET, "PUT", "Upload-Draft-Interop-Version: 3|Upload-Incomplete: ?0", "3*"),
    ("D5", ENDPOINT, "POST", "Upload-Draft-Interop-Version: 3|Upload-Complete: ?0", "ordinary"),
    ("D5", ENDPOINT, "POST", "Upload-Draft-Interop-Version: 4|Upload-Incomplete: ?1", "ordinary"),
    (
        "D5",
        ENDPOINT,
        "POST",
        "Upload-Draft-Interop-Version: 3|Upload-Incomplete: ?1|Upload-Complete: ?1",
        "3*",
    ),
    ("D5", ON_TARGET, "POST", "Upload-Draft-Interop-Version: 4|Upload-Complete: ?0", "4*"),
    ("D5", ON_TARGET, "POST", "Upload-Draft-Interop-Version: 5|Upload-Complete: ?1", "5*"),
    ("D5", ALL, "PATCH", "Upload-Draft-Interop-Version: 6|Upload-Complete: ?1", "6*"),
    ("D5", ON_TARGET, "BREW", "Upload-Draft-Interop-Version: 7|Upload-Complete: ?1", "7*"),
    ("D5", ON_TARGET, "POST", "Upload-Draft-Interop-Version: 8;a=1|Upload-Complete: ?1;b", "8*"),
    ("D5", ON_TARGET, "POST", "Upload-Draft-Interop-Version: 009|Upload-Complete: ?1", "9*"),
    ("D5", ON_TARGET, "POST", "Upload-Draft-Interop-Version: 8", "ordinary"),
    ("D5", ON_TARGET, "POST", "Upload-Draft-Interop-Version: 8|Upload-Complete: true", "ordinary"),
    (
        "D5",
        ON_TARGET,
        "POST",
        "Upload-Draft-Interop-Version: 8|Upload-Complete: ?1|Upload-Complete: ?1",
        "ordinary",
    ),
    (
        "D5",
        ENDPOINT,
        "POST",
        "Upload-Draft-Interop-Version: 6|Upload-Complete: ?0|Upload-Metadata: x|Upload-Defer-Length: 1",
        "6*",
    ),
    ("D5", ENDPOINT, "POST", "Upload-Draft-Interop-Version: 6|Upload-Metadata: x", "ordinary"),
    ("D5", ENDPOINT, "GET", "Upload-Draft-Interop-Version: 8|Upload-Complete: ?1", "ordinary"),
    ("D5", ENDPOINT, "HEAD", "Upload-Draft-Interop-Version: 8|Upload-Complete: ?1", "ordinary"),
    ("D5", ENDPOINT, "DELETE", "Upload-Draft-Interop-Version: 8|Upload-Complete: ?1", "ordinary"),
    // A creation with all content and an unknown number can be served as an ordinary request; one that will be resumed cannot.
    ("D5", ENDPOINT, "POST", "Upload-Draft-Interop-Version: 10|Upload-Complete: ?1", "10*"),
    ("D5", ENDPOINT, "POST", "Upload-Draft-Interop-Version: 11|Upload-Complete: ?1", "ordinary"),
    ("D5", ENDPOINT, "POST", "Upload-Draft-Interop-Version: 11|Upload-Complete: ?0", "10"),
    ("D5", ENDPOINT, "POST", "Upload-Draft-Interop-Version: 11|Upload-Incomplete: ?1", "ordinary"),
    ("D5", ENDPOINT, "POST", "Upload-Draft-Interop-Version: six|Upload-Complete: ?0", "10"),
    ("D5", ENDPOINT, "POST", "Upload-Draft-Interop-Version: six|Upload-Complete: ?1", "ordinary"),
    (
        "D5",
        ENDPOINT,
        "POST",
        "Upload-Draft-Interop-Version: 8|Upload-Draft-Interop-Version: 8|Upload-Complete: ?0",
        "10",
    ),
    ("D5", ENDPOINT, "POST", "Upload-Draft-Interop-Version: 1", "ordinary"),
    ("D5", ENDPOINT, "POST", "Upload-Draft-Interop-Version: 2|Upload-Incomplete: ?1", "ordinary"),
    ("D5", ENDPOINT, "POST", "Upload-Draft-Interop-Version: 2|Upload-Complete: ?0", "ordinary"),
    // D5, on an upload: any method.
    ("D5", UPLOAD, "HEAD", "Upload-Draft-Interop-Version: 6", "6*"),
    ("D5", UPLOAD, "GET", "Upload-Draft-Interop-Version: 8", "8*"),
    ("D5", UPLOAD, "DELETE", "Upload-Draft-Interop-Version: 3", "3*"),
    ("D5", UPLOAD, "PATCH", "Upload-Draft-Interop-Version: 5", "5*"),
    ("D5", UPLOAD, "PATCH", "Upload-Draft-Interop-Version: 9|Content-Type: text/plain", "9*"),
    ("D5", UPLOAD, "POST", "Upload-Draft-Interop-Version: 9|Upload-Complete: ?1", "9*"),
    ("D5", UPLOAD, "HEAD", "Upload-Draft-Interop-Version: 6|Upload-Metadata: x", "6*"),
    ("D5", UPLOAD, "HEAD", "Upload-Draft-Interop-Version: 2", "stored"),
    ("D5", UPLOAD, "HEAD", "Upload-Draft-Interop-Version: 10", "10*"),
    ("D5", UPLOAD, "HEAD", "Upload-Draft-Interop-Version: 11", "stored"),
    ("D5", UPLOAD, "DELETE", "Upload-Draft-Interop-Version: six", "stored"),
    ("D6", ON_TARGET, "POST", "Upload-Complete: ?0", "rfc"),
    ("D6", ON_TARGET, "POST", "Upload-Complete: ?1", "rfc"),
    ("D6", ON_TARGET, "POST", "Upload-Complete: ?1|Upload-Metadata: x", "rfc"),
    ("D6", ENDPOINT, "POST", "Upload-Complete: 0", "ordinary"),
    ("D6", ENDPOINT, "GET", "Upload-Complete: ?1", "ordinary"),
    ("D6", UPLOAD, "PATCH", "Content-Type: application/partial-upload", "rfc"),
    ("D6", UPLOAD, "PATCH", "Content-Type: Application/Partial-Upload; a=b", "rfc"),
    (
        "D6",
        UPLOAD,
        "PATCH",
        "Upload-Draft-Interop-Version: 11|Content-Type: application/partial-upload",
        "rfc",
    ),
    ("D7", UPLOAD, "HEAD", "", "stored"),
    ("D7", UPLOAD, "GET", "", "stored"),
    ("D7", UPLOAD, "DELETE", "", "stored"),
    ("D8", ALL, "PATCH", "Content-Type: application/offset+octet-stream", "412"),
    ("D8", ALL, "POST", "Upload-Metadata: filename eA==", "412"),
    ("D8", ENDPOINT, "POST", "Upload-Defer-Length: 1", "412"),
    ("D8", ENDPOINT, "POST", "Upload-Concat: partial", "412"),
    ("D8", UPLOAD, "HEAD", "Upload-Checksum: sha1 eA==", "412"),
    ("D8", ENDPOINT, "POST", "Upload-Length: 5", "ordinary"),
    ("D8", ENDPOINT, "POST", "Content-Type: application/offset+octet-stream", "ordinary"),
    (
        "D8",
        ENDPOINT,
        "PATCH",
        "Content-Type: application/offset+octet-stream|Upload-Draft-Interop-Version: 8",
        "ordinary",
    ),
    ("D9", UPLOAD, "POST", "", "405"),
    ("D9", UPLOAD, "PUT", "Upload-Complete: ?1", "405"),
    ("D9", UPLOAD, "PATCH", "Content-Type: text/plain", "415"),
    ("D9", UPLOAD, "PATCH", "Upload-Complete: ?1|Upload-Offset: 0", "415"),
    // Below the endpoint, with a name that is no upload id.
    ("D5", NAMED, "HEAD", "Upload-Draft-Interop-Version: 8", "8*"),
    ("D5", NAMED, "GET", "Upload-Draft-Interop-Version: 3", "3*"),
    ("D5", NAMED, "DELETE", "Upload-Draft-Interop-Version: 9", "9*"),
    ("D6", NAMED, "PATCH", "Content-Type: application/partial-upload", "rfc"),
    ("D7", NAMED, "HEAD", "", "404"),
    ("D7", NAMED, "GET", "", "404"),
    ("D7", NAMED, "DELETE", "Upload-Draft-Interop-Version: 99", "404"),
    ("D9", NAMED, "PATCH", "Upload-Complete: ?1|Upload-Offset: 0", "404"),
    ("D10", ON_TARGET, "PUT", "", "ordinary"),
    ("D10", ENDPOINT, "GET", "", "ordinary"),
    ("D10", ENDPOINT, "POST", "Upload-Incomplete: ?0|Upload-Offset: 5", "ordinary"),
    // The example in Apple's documentation.
    ("D10", ENDPOINT, "POST", "Upload-Incomplete: ?1", "3"),
];

const ALL: &[Resource] = &[Resource::Endpoint, Resource::Named, ON_UPLOAD];
const ON_TARGET: &[Resource] = &[Resource::Endpoint, Resource::Named];
const ENDPOINT: &[Resource] = &[Resource::Endpoint];
const NAMED: &[Resource] = &[Resource::Named];
const UPLOAD: &[Resource] = &[ON_UPLOAD];

// proves: IETF-VER-02, IETF-VER-05, IETF-VER-06, IETF-VER-07, IETF-SF-02, IETF-SF-04, IETF-SF-07, IETF-SF-08, IETF-CRE-02, IETF-OPT-06
#[test]
fn the_first_test_that_matches_decides() {
    for (row, resources, method, fields, expected) in ROWS {
        for resource in *resources {
            assert_eq!(
                found(*resource, method, fields),
                *expected,
                "{row}: {method} {fields:?} at {resource:?}"
            );
        }
    }
}

// proves: IETF-RET-10, IETF-DEL-02, TUS1-HEAD-05
#[test]
fn a_url_that_no_upload_can_have_is_not_found_in_any_dialect() {
    for fields in
        ["Upload-Draft-Interop-Version: 3", "Upload-Draft-Interop-Version: 9", "Tus-Resumable: 1.0.0"]
    {
        for method in ["HEAD", "GET", "PATCH", "DELETE"] {
            let head =
                head(method, &format!("{fields}|Upload-Offset: 0|Upload-Complete: ?1|Upload-Incomplete: ?0"));
            let Detected::Dialect(dialect) = detect(&head, Resource::Named, DialectOptions::default()) else {
                panic!("{method} {fields} is in a dialect")
            };
            assert_eq!(
                dialect.decode(&head, Resource::Named, Some(5)),
                Err(Reason::NotFound.into()),
                "{method} {fields}"
            );
        }
    }
}

// proves: IETF-VER-10, IETF-VER-06
#[test]
fn only_the_versions_that_the_operator_allows_are_detected() {
    let options = DialectOptions { versions: "6-8,11".parse().expect("a set"), ..DialectOptions::default() };
    let spoken = |resource, method, number: u64| {
        let fields = format!("Upload-Draft-Interop-Version: {number}|Upload-Complete: ?0");
        match detect(&head(method, &fields), resource, options) {
            Detected::Dialect(Dialect::Ietf(speaker)) => Some((speaker.version, speaker.sends_interim)),
            _ => None,
        }
    };
    for (number, version) in [(6, Interop::V6), (8, Interop::V8), (11, Interop::Later(11))] {
        assert_eq!(spoken(Resource::Endpoint, "POST", number), Some((version, true)));
        assert_eq!(spoken(ON_UPLOAD, "HEAD", number), Some((version, true)));
    }
    for number in [3, 5, 9, 10, 12, 99] {
        assert_eq!(spoken(Resource::Endpoint, "POST", number), Some((Interop::Later(11), false)), "{number}");
        assert_eq!(spoken(ON_UPLOAD, "HEAD", number), None, "{number}");
    }
}

// proves: IETF-VER-07
#[test]
fn clients_without_a_version_get_interim_responses_only_if_enabled() {
    let table = [
        (Resource::Endpoint, "POST", "Upload-Complete: ?1", "rfc*"),
        (ON_UPLOAD, "PATCH", "Content-Type: application/partial-upload", "rfc*"),
        // An unknown number is not an absent number.
        (Resource::Endpoint, "POST", "Upload-Draft-Interop-Version: 11|Upload-Complete: ?0", "10"),
        (
            ON_UPLOAD,
            "PATCH",
            "Upload-Draft-Interop-Version: 11|Content-Type: application/partial-upload",
            "rfc",
        ),
        (Resource::Endpoint, "POST", "Upload-Incomplete: ?1", "3"),
        (Resource::Endpoint, "POST", "Upload-Draft-Interop-Version: 8|Upload-Complete: ?1", "8*"),
    ];
    for (resource, method, fields, expected) in table {
        assert_eq!(found_where(resource, method, fields, true), expected, "{method} {fields}");
    }
}

// proves: TOK-CRE-03a, TDR-104-02
#[test]
fn the_forms_of_the_token_dialect_are_detected() {
    let table = [
        ("", "seed"),
        ("Upload-Draft-Interop-Version: 2", "v2"),
        ("Upload-Draft-Interop-Version: 1", "v1"),
        ("Upload-Draft-Version: 1", "first"),
        ("Upload-Draft-Version: 2", "seed"),
        ("Upload-Incomplete: ?1", "draft"),
        ("Upload-Incomplete: ?0", "draft"),
        ("Upload-Incomplete: perhaps", "draft"),
        ("Upload-Draft-Interop-Version: 2|Upload-Incomplete: ?1", "v2"),
        ("Upload-Draft-Interop-Version: 2|Upload-Draft-Version: 1", "v2"),
        ("Upload-Draft-Interop-Version: 1|Upload-Draft-Version: 1", "v1"),
        // Some clients send their number with any request.
        ("Upload-Draft-Interop-Version: 3|Upload-Complete: ?1", "seed"),
        ("Upload-Draft-Interop-Version: 6", "seed"),
        ("Upload-Draft-Interop-Version: 0", "seed"),
        ("Upload-Draft-Interop-Version: 6|Upload-Incomplete: ?1", "draft"),
        ("Upload-Draft-Interop-Version: two", "seed"),
        ("Upload-Draft-Interop-Version: 2|Upload-Draft-Interop-Version: 2", "seed"),
        ("Upload-Complete: ?0", "seed"),
        ("Upload-Complete: ?1", "seed"),
    ];
    for (fields, expected) in table {
        let fields = format!("Upload-Token: abcdef|{fields}");
        assert_eq!(found(Resource::Endpoint, "POST", &fields), expected, "{fields}");
    }
}

#[test]
fn refusals_have_the_fields_that_their_statuses_require() {
    let table = [
        (Reason::NotFound, 404, ""),
        (Reason::MethodNotAllowed { allow: "HEAD" }, 405, "allow: HEAD"),
        (Reason::Unauthorized { challenge: "Bearer" }, 401, "www-authenticate: Bearer"),
        (Reason::Busy, 503, "retry-after: 1"),
        (Reason::Unavailable(Duration::from_millis(10)), 503, "retry-after: 1"),
        (Reason::Unavailable(Duration::from_secs(9)), 503, "retry-after: 9"),
        (Reason::StorageFull, 507, "retry-after: 60"),
        (Reason::TooManyUploads { uploads_max: 3 }, 429, "retry-after: 60"),
        (Reason::UnsupportedTusVersion, 412, "tus-resumable: 1.0.0|tus-version: 1.0.0"),
        (Reason::NotImplemented("x"), 501, ""),
        (Reason::Forbidden("no".into()), 403, ""),
    ];
    for (reason, status, field) in table {
        let answer = refused(None, &Refusal::new(reason.clone()));
        assert_eq!(answer.status().as_u16(), status, "{reason:?}");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let mut others = answer.headers().clone();
        others.remove("cache-control");
        let written: Vec<_> = others
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("ASCII")))
            .collect();
        assert_eq!(written.join("|"), field, "{reason:?}");
    }
}

/// The names of known fields, and an unknown one.
const NAMES: [&str; 17] = [
    "upload-token",
    "upload-index",
    "upload-offset",
    "upload-length",
    "upload-complete",
    "upload-incomplete",
    "upload-draft-interop-version",
    "upload-draft-version",
    "client-upload-token",
    "tus-resumable",
    "x-http-method-override",
    "upload-metadata",
    "content-type",
    "content-disposition",
    "content-length",
    "location",
    "x-other",
];

const VALUES: [&str; 18] = [
    "0",
    "1",
    "2",
    "3",
    "5",
    "6",
    "8",
    "9",
    "application/partial-upload",
    "999999999999999",
    "?0",
    "?1",
    "abcdef",
    ":YWJj:",
    "1.0.0",
    "PATCH",
    "-1",
    "",
];

fn any_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::sample::select(&VALUES[..]).prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(prop_oneof![Just(9_u8), 0x20..=0x7e_u8, 0x80..=0xff_u8], 0..40),
    ]
}

proptest! {
    #[test]
    fn no_head_panics(
        method in prop::sample::select(&["POST", "PUT", "PATCH", "HEAD", "DELETE", "GET", "OPTIONS", "TRACE", "BREW"][..]),
        fields in prop::collection::vec((prop::sample::select(&NAMES[..]), any_value()), 0..8),
        resource in prop::sample::select(&[Resource::Endpoint, Resource::Named, ON_UPLOAD][..]),
        bytes in prop::option::of(any::<u64>()),
    ) {
        let mut head = head(method, "");
        for (name, value) in fields {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                head.headers.append(HeaderName::from_static(name), value);
            }
        }
        let context = context("/uploads");
        if let Detected::Dialect(dialect) = detect(&head, resource, DialectOptions { rfc_interim: true, ..DialectOptions::default() }) {
            match dialect.decode(&head, resource, bytes) {
                Ok(decoded) => {
                    dialect.announcement(&decoded.operation, &head, &upload(), &context);
                    if let Operation::Reject(refusal) = decoded.operation {
                        let status = dialect.refuse(&refusal, &context).status();
                        prop_assert!(status.is_client_error(), "{refusal:?}");
                    }
                }
                Err(refusal) => {
                    let status = dialect.refuse(&refusal, &context).status();
                    prop_assert!(status.is_client_error() || status.as_u16() == 501, "{refusal:?}");
                    prop_assert!(!refusal.detail().is_empty());
                }
            }
        }
        token::client::state(&head.headers);
    }
}
