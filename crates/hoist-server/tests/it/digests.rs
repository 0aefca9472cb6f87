//! Digests of content and of representations: across requests and restarts, matching and mismatching.

use std::sync::Arc;

use hoist_proto::policy::{Limits, Policy};
use hoist_server::Hoist;
use hoist_store::memory::MemoryStore;
use hoist_store::store::Store;
use http_body::Body;
use sha2::{Digest, Sha256};

use crate::harness::{Content, Ends, Got, hoist, request, request_to, send};
use crate::schedules::read;

const V8: (&str, &str) = ("upload-draft-interop-version", "8");
const WHOLE: (&str, &str) = ("upload-complete", "?1");
const PART: (&str, &str) = ("upload-complete", "?0");
const APPEND: (&str, &str) = ("content-type", "application/partial-upload");

fn sha_256(bytes: &[u8]) -> String {
    let octets: [u8; 32] = Sha256::digest(bytes).into();
    let token = hoist_proto::types::Token::new(octets).expect("in range");
    let spelled = hoist_proto::field::token_value(&token);
    format!("sha-256={}", spelled.to_str().expect("base64"))
}

async fn create(hoist: &Hoist, fields: &[(&str, &str)], content: Content) -> Got {
    let fields = [&[V8, ("host", "example.org")], fields].concat();
    send(hoist, request("POST", &fields, content)).await
}

async fn append(hoist: &Hoist, url: &str, at: usize, fields: &[(&str, &str)], content: Content) -> Got {
    let at = at.to_string();
    let fields = [&[V8, APPEND, ("upload-offset", at.as_str())], fields].concat();
    send(hoist, request_to(url, "PATCH", &fields, content)).await
}

async fn head(hoist: &Hoist, url: &str) -> Got {
    send(hoist, request_to(url, "HEAD", &[V8], Content::none())).await
}

// proves: IETF-DIG-01, IETF-DIG-02, IETF-DIG-03, IETF-DIG-04
#[tokio::test]
async fn a_representation_is_checked_against_the_digest_of_its_creation() {
    let bytes = b"what was meant, in two requests and two lives of the server";
    for (said, status) in [(sha_256(bytes), 201), (sha_256(b"something else"), 400)] {
        for restart in [false, true] {
            let store = MemoryStore::new();
            let first = hoist(&store);
            let fields = [PART, ("repr-digest", said.as_str()), ("want-repr-digest", "sha-256=3, sha-512=1")];
            let got = create(&first, &fields, Content::sized(&bytes[..20])).await;
            assert_eq!((got.status.as_u16(), got.offset()), (201, Some(20)), "{got:?}");
            let url = got.field("location").expect("where it is").to_owned();
            let second = if restart { hoist(&store) } else { first };
            let got = append(&second, &url, 20, &[WHOLE], Content::sized(&bytes[20..])).await;
            assert_eq!((got.status.as_u16(), got.field("upload-complete")), (status, Some("?1")), "{got:?}");
            let told = (status == 201).then(|| sha_256(bytes));
            assert_eq!(got.field("repr-digest"), told.as_deref());
            // The response is replayed unchanged.
            let again = append(&second, &url, bytes.len(), &[WHOLE], Content::none()).await;
            assert_eq!((again.status, again.content), (got.status, got.content));
            let id = store.list_all().await.expect("readable")[0].id;
            let kept = store.read(id, hoist_proto::types::Offset::ZERO).await.is_ok();
            assert_eq!(kept, status == 201, "wrong content is not kept");
        }
    }
}

// proves: IETF-DIG-06, IETF-DIG-07
#[tokio::test]
async fn content_with_a_wrong_digest_is_not_appended() {
    let store = MemoryStore::new();
    let hoist = hoist(&store);
    let got = create(&hoist, &[PART], Content::sized(b"hello ")).await;
    let url = got.field("location").expect("where it is").to_owned();
    let wrong = sha_256(b"world");
    let got = append(&hoist, &url, 6, &[WHOLE, ("content-digest", &wrong)], Content::sized(b"w0rld")).await;
    assert_eq!((got.status.as_u16(), got.offset(), got.field("upload-complete")), (400, Some(6), Some("?0")));
    assert_eq!(head(&hoist, &url).await.offset(), Some(6));
    let got = append(&hoist, &url, 6, &[WHOLE, ("content-digest", &wrong)], Content::sized(b"world")).await;
    assert_eq!((got.status.as_u16(), got.field("upload-complete")), (201, Some("?1")));
    let id = store.list_all().await.expect("readable")[0].id;
    assert_eq!(read(&store, id).await, b"hello world");
}

// proves: IETF-DIG-10
#[tokio::test]
async fn content_cut_before_its_check_is_kept() {
    let hoist = hoist(&MemoryStore::new());
    let digest = sha_256(b"hello world");
    let cut = Content::new(b"hello", 2, Ends::Cut, Some(11));
    let got = create(&hoist, &[WHOLE, ("content-digest", &digest)], cut).await;
    assert_eq!((got.status.as_u16(), got.offset()), (400, Some(5)), "{got:?}");
}

// proves: IETF-DIG-08
#[tokio::test]
async fn a_content_digest_may_be_in_the_trailer_section() {
    let hoist = hoist(&MemoryStore::new());
    for (digest, status) in [(sha_256(b"hello"), 201), (sha_256(b"h3llo"), 400)] {
        // Announced, or unannounced and read back.
        for fields in [&[WHOLE, ("trailer", "Content-Digest")][..], &[WHOLE]] {
            let content = Content::chunked(b"hello").with_trailer("content-digest", &digest);
            assert!(content.size_hint().exact().is_none());
            let got = create(&hoist, fields, content).await;
            assert_eq!(got.status.as_u16(), status, "{got:?}");
        }
    }
}

// proves: IETF-DIG-02, IETF-DIG-08
#[tokio::test]
async fn a_representation_digest_may_be_in_the_trailer_section_of_the_creation() {
    for (digest, status) in [(sha_256(b"hello world"), 201), (sha_256(b"h3llo world"), 400)] {
        for restart in [false, true] {
            let store = MemoryStore::new();
            let first = hoist(&store);
            // The header section asks for another algorithm, which is hashed as the content arrives.
            let wants = ("want-repr-digest", "sha-512=9");
            let content = Content::chunked(b"hello world").with_trailer("repr-digest", &digest);
            let got = create(&first, &[WHOLE, wants], content).await;
            assert_eq!((got.status.as_u16(), got.field("upload-complete")), (status, Some("?1")), "{got:?}");
            let content = Content::chunked(b"hello ").with_trailer("repr-digest", &digest);
            let url = create(&first, &[PART, wants], content).await;
            let url = url.field("location").expect("where it is").to_owned();
            let second = if restart {
                store.crash();
                hoist(&store)
            } else {
                first
            };
            let got = append(&second, &url, 6, &[WHOLE], Content::sized(b"world")).await;
            assert_eq!((got.status.as_u16(), got.field("upload-complete")), (status, Some("?1")), "{got:?}");
        }
    }
}

// proves: IETF-DIG-07, IETF-LIM-07
#[tokio::test]
async fn mismatching_content_that_cannot_be_resent_leaves_no_upload() {
    let store = MemoryStore::new();
    let limits = Limits { size_min: 100, ..Limits::default() };
    let policy = Policy { limits, ..Policy::default() };
    let hoist = Hoist::builder(Arc::new(store.clone()) as Arc<dyn Store>).policy(policy).build();
    let digest = sha_256(b"h3llo");
    let got = create(&hoist, &[WHOLE, ("content-digest", &digest)], Content::sized(b"hello")).await;
    assert_eq!((got.status.as_u16(), got.field("upload-complete")), (400, Some("?0")), "{got:?}");
    assert_eq!(store.list_all().await.expect("readable"), []);
}
