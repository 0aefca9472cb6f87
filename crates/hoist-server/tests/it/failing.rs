//! Temporary failures of the store: 503 with a retry time in every dialect, and the upload continues afterwards.

use hoist_server::Hoist;
use hoist_store::memory::{Faults, MemoryStore};

use crate::harness::{Content, Got, hoist, request, request_to, send};

/// The fields of a dialect for a creation and for an append at offset 5.
struct Dialect {
    creation: &'static [(&'static str, &'static str)],
    append: &'static [(&'static str, &'static str)],
    question: &'static [(&'static str, &'static str)],
}

const TOKEN: Dialect = Dialect {
    creation: &[("upload-token", "token-of-a-client"), ("upload-length", "10")],
    append: &[("upload-token", "token-of-a-client"), ("upload-offset", "5")],
    question: &[("upload-token", "token-of-a-client")],
};
const IETF: Dialect = Dialect {
    creation: &[("upload-draft-interop-version", "8"), ("upload-complete", "?0")],
    append: &[
        ("upload-draft-interop-version", "8"),
        ("upload-complete", "?1"),
        ("upload-offset", "5"),
        ("content-type", "application/partial-upload"),
    ],
    question: &[("upload-draft-interop-version", "8")],
};
const TUS: Dialect = Dialect {
    creation: &[
        ("tus-resumable", "1.0.0"),
        ("upload-length", "10"),
        ("content-type", "application/offset+octet-stream"),
    ],
    append: &[
        ("tus-resumable", "1.0.0"),
        ("upload-offset", "5"),
        ("content-type", "application/offset+octet-stream"),
    ],
    question: &[("tus-resumable", "1.0.0")],
};

async fn asked(hoist: &Hoist, path: &str, method: &str, dialect: &Dialect) -> Got {
    let (fields, content) = match method {
        "PATCH" => (dialect.append, Content::sized(b"world")),
        _ => (dialect.question, Content::none()),
    };
    send(hoist, request_to(path, method, fields, content)).await
}

fn is_retryable(got: &Got) -> bool {
    got.status.as_u16() == 503 && got.field("retry-after") == Some("5")
}

#[tokio::test]
async fn a_failing_store_is_503_with_a_retry_time_in_every_dialect() {
    for (name, dialect) in [("token", TOKEN), ("ietf", IETF), ("tus", TUS)] {
        let store = MemoryStore::new();
        let hoist = hoist(&store);
        let created = send(&hoist, request("POST", dialect.creation, Content::sized(b"hello"))).await;
        assert!(created.status.is_success(), "{name}: {created:?}");
        // A token upload is retrieved at the URL of its creation.
        let path = created.field("location").unwrap_or("/uploads").to_owned();

        store.set_faults(Faults { error: 1.0, ..Faults::NONE });
        for method in ["HEAD", "PATCH", "DELETE"] {
            let got = asked(&hoist, &path, method, &dialect).await;
            assert!(is_retryable(&got), "{name} {method}: {got:?}");
        }
        let refused = send(&hoist, request("POST", dialect.creation, Content::sized(b"hello"))).await;
        assert!(is_retryable(&refused), "{name} POST: {refused:?}");

        store.set_faults(Faults::NONE);
        let found = asked(&hoist, &path, "HEAD", &dialect).await;
        assert_eq!(found.offset(), Some(5), "{name}: {found:?}");
        let appended = asked(&hoist, &path, "PATCH", &dialect).await;
        assert!(appended.status.is_success(), "{name}: {appended:?}");
    }
}

#[tokio::test]
async fn an_ordinary_upload_to_a_failing_store_is_503_with_a_retry_time() {
    let store = MemoryStore::new();
    let hoist = hoist(&store);
    store.set_faults(Faults { error: 1.0, ..Faults::NONE });
    let got = send(&hoist, request("POST", &[], Content::sized(b"hello"))).await;
    assert!(is_retryable(&got), "{got:?}");
}
