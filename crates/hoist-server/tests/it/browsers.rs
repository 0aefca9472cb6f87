//! Cross-origin requests: the fields that let a page send requests and read every response.

use std::sync::Arc;

use hoist_server::Hoist;
use hoist_server::cors::Cors;
use hoist_store::memory::MemoryStore;
use hoist_store::store::Store;
use http::HeaderValue;

use crate::harness::{Content, Got, request_to, send};

const PAGE: (&str, &str) = ("origin", "https://app.example");
const STRANGER: (&str, &str) = ("origin", "https://evil.example");
const TOKEN: (&str, &str) = ("upload-token", "abcdef");

fn hoist(cors: Cors) -> Hoist {
    Hoist::builder(Arc::new(MemoryStore::new()) as Arc<dyn Store>).cors(cors).build()
}

fn origins() -> Vec<HeaderValue> {
    ["https://app.example", "http://localhost:3000"].map(HeaderValue::from_static).to_vec()
}

fn names(got: &Got, field: &str) -> Vec<String> {
    let list = got.field(field).unwrap_or_else(|| panic!("no {field}: {got:?}"));
    list.split(", ").map(str::to_lowercase).collect()
}

/// Method, path and fields of a request, and the status of its response.
type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)], u16);

/// Requests with every kind of response.
const REQUESTS: [Case; 12] = [
    ("POST", "/uploads", &[TOKEN], 204),
    ("HEAD", "/uploads", &[TOKEN], 204),
    ("POST", "/uploads", &[TOKEN], 409),
    ("PUT", "/uploads", &[], 201),
    ("HEAD", "/uploads", &[("upload-token", "unknown")], 404),
    ("HEAD", "/uploads", &[TOKEN, ("upload-offset", "0")], 400),
    ("GET", "/uploads", &[], 405),
    ("PATCH", "/uploads/00000000000000000000000000", &[], 415),
    ("DELETE", "/uploads/00000000000000000000000000", &[], 404),
    ("GET", "/nowhere", &[], 404),
    ("GET", "/healthz", &[], 200),
    ("GET", "/.well-known/resumable-uploads", &[], 200),
];

#[tokio::test]
async fn a_preflight_lists_every_field_and_method() {
    let asked = [
        PAGE,
        ("access-control-request-method", "PATCH"),
        ("access-control-request-headers", "tus-resumable,upload-offset,x-strange"),
    ];
    let hoist = hoist(Cors::Any);
    for path in ["/uploads", "/uploads/", "/uploads/00000000000000000000000000", "/uploads/a.txt"] {
        let got = send(&hoist, request_to(path, "OPTIONS", &asked, Content::none())).await;
        assert_eq!(
            (got.status.as_u16(), got.field("access-control-allow-origin")),
            (200, Some("*")),
            "{path}"
        );
        assert_eq!(got.field("access-control-max-age"), Some("86400"));
        assert_eq!(got.field("access-control-allow-credentials"), None);
        assert_eq!(got.field("access-control-expose-headers"), None);
        let methods = names(&got, "access-control-allow-methods");
        for method in ["post", "put", "patch", "head", "get", "delete", "options"] {
            assert!(methods.iter().any(|allowed| allowed == method), "{method}");
        }
        let allowed = names(&got, "access-control-allow-headers");
        let needed = "Authorization, Content-Type, Content-Disposition, Content-Encoding, Content-Digest, Repr-Digest, \
            Want-Repr-Digest, Incremental, X-Requested-With, X-Request-ID, X-HTTP-Method-Override, Tus-Resumable, \
            Upload-Length, Upload-Offset, Upload-Metadata, Upload-Defer-Length, Upload-Concat, Upload-Checksum, \
            Upload-Complete, Upload-Incomplete, Upload-Draft-Interop-Version, Upload-Draft-Version, Upload-Token, \
            Upload-Index, Client-Upload-Token, Upload-Resumption-Offset, Range, If-Range, If-None-Match";
        for name in needed.to_lowercase().split(", ") {
            assert!(allowed.iter().any(|allowed| allowed == name), "{name}");
        }
    }
}

#[tokio::test]
async fn a_page_may_read_every_response_and_its_fields() {
    let hoist = hoist(Cors::Any);
    for (method, path, fields, status) in REQUESTS {
        let got = send(&hoist, request_to(path, method, &[fields, &[PAGE]].concat(), Content::none())).await;
        assert_eq!(got.status.as_u16(), status, "{method} {path} {fields:?}");
        assert_eq!(got.field("access-control-allow-origin"), Some("*"), "{method} {path}");
        assert_eq!(got.field("x-content-type-options"), Some("nosniff"), "{method} {path}");
        let exposed = names(&got, "access-control-expose-headers");
        let needed = "Location, Upload-Offset, Upload-Length, Upload-Complete, Upload-Incomplete, Upload-Limit, \
            Upload-Draft-Interop-Version, Upload-Draft-Version, Upload-Resumption-Offset, Upload-Metadata, \
            Upload-Defer-Length, Upload-Concat, Upload-Expires, Tus-Resumable, Tus-Version, Tus-Extension, \
            Tus-Max-Size, Tus-Checksum-Algorithm, Repr-Digest, Content-Location, Accept-Patch, Retry-After, \
            Content-Range, Content-Disposition, ETag";
        for name in needed.to_lowercase().split(", ") {
            assert!(exposed.iter().any(|exposed| exposed == name), "{name}");
        }
        for list in ["access-control-allow-headers", "access-control-allow-methods"] {
            assert_eq!(got.field(list), None, "only for a preflight");
        }
    }
    // Without an origin there are no CORS fields; `nosniff` is on every response.
    let got = send(&hoist, request_to("/uploads", "HEAD", &[TOKEN], Content::none())).await;
    assert!(got.fields.keys().all(|name| !name.as_str().starts_with("access-control")), "{got:?}");
    assert_eq!(got.field("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn only_listed_origins_are_allowed_and_responses_vary_by_origin() {
    for (cors, credentials) in
        [(Cors::Origins(origins()), None), (Cors::Credentialed(origins()), Some("true"))]
    {
        let hoist = hoist(cors);
        for (method, path, fields, _) in REQUESTS {
            for origin in [PAGE, ("origin", "http://localhost:3000")] {
                let fields = [fields, &[origin]].concat();
                let got = send(&hoist, request_to(path, method, &fields, Content::none())).await;
                assert_eq!(got.field("access-control-allow-origin"), Some(origin.1), "{method} {path}");
                assert_eq!(got.field("access-control-allow-credentials"), credentials);
                assert_eq!(got.field("vary"), Some("Origin"));
            }
            let near =
                ["https://app.example:443", "http://app.example", "https://app.example.evil", "null", ""];
            for origin in near.map(|origin| ("origin", origin)).into_iter().chain([STRANGER]) {
                let fields = [fields, &[origin]].concat();
                let got = send(&hoist, request_to(path, method, &fields, Content::none())).await;
                let told: Vec<_> =
                    got.fields.keys().filter(|name| name.as_str().starts_with("access")).collect();
                assert!(told.is_empty(), "{origin:?}: {told:?}");
                assert_eq!(got.field("vary"), Some("Origin"));
            }
        }
        // A preflight is answered like any OPTIONS, with 200; other origins get no CORS fields.
        for (origin, allowed) in [(PAGE, Some(PAGE.1)), (STRANGER, None)] {
            let asked = [origin, ("access-control-request-method", "PATCH")];
            let got = send(&hoist, request_to("/uploads", "OPTIONS", &asked, Content::none())).await;
            assert_eq!((got.status.as_u16(), got.field("access-control-allow-origin")), (200, allowed));
            assert_eq!(
                got.field("access-control-allow-credentials"),
                credentials.filter(|_| allowed.is_some())
            );
            assert_eq!(got.field("access-control-max-age").is_some(), allowed.is_some());
        }
    }
}

#[tokio::test]
async fn additional_fields_may_be_allowed() {
    let more = ["x-csrf-token", "X-Tenant"].map(|name| name.parse().expect("a name"));
    let builder = Hoist::builder(Arc::new(MemoryStore::new()) as Arc<dyn Store>);
    let asked = [PAGE, ("access-control-request-method", "POST")];
    let hoist = builder.cors_headers(&more).build();
    let got = send(&hoist, request_to("/uploads", "OPTIONS", &asked, Content::none())).await;
    let allowed = names(&got, "access-control-allow-headers");
    for name in ["x-csrf-token", "x-tenant", "upload-offset"] {
        assert!(allowed.iter().any(|allowed| allowed == name), "{name}");
    }
}

#[tokio::test]
async fn cors_can_be_off() {
    let hoist = hoist(Cors::Off);
    for (method, path, fields, _) in REQUESTS {
        let got = send(&hoist, request_to(path, method, &[fields, &[PAGE]].concat(), Content::none())).await;
        assert!(got.fields.keys().all(|name| !name.as_str().starts_with("access-control")), "{got:?}");
        assert_eq!(got.field("vary"), None);
    }
}
