//! Discovery, quotas, token lengths, expiry, recovery, targets, shutdown.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hoist_proto::policy::{Limits, Policy};
use hoist_proto::types::{Durable, Fence, Length, Timestamp, UploadId};
use hoist_proto::upload::{TargetResponse, Upload};
use hoist_server::admission::Quotas;
use hoist_server::auth::Authenticator;
use hoist_server::targets::{Delivery, Files, Representation, Target};
use hoist_server::{Builder, Hoist};
use hoist_store::memory::{Faults, MemoryStore};
use hoist_store::store::{BoxFuture, Error, Store};
use tower_service::Service;

use crate::harness::{Content, Ends, SOON, collect, hoist, request, request_to, send};
use crate::schedules::read;

const T: (&str, &str) = ("upload-token", "abcdef");

fn builder(store: &MemoryStore) -> Builder {
    Hoist::builder(Arc::new(store.clone()) as Arc<dyn Store>)
}

// proves: TOK-DISC-03
#[tokio::test]
async fn discovery_lists_limits_dialects_and_transports() {
    let limits = Limits { size_max: Some(1000), append_min: 5, append_max: Some(100), size_min: 0 };
    let policy = Policy { limits, lifetime: Some(Duration::from_mins(1)), ..Policy::default() };
    let limited = builder(&MemoryStore::new()).policy(policy).build();
    let expected = "max-size=1000, min-size=0, max-append-size=100, min-append-size=5, max-age=60";
    for path in ["/uploads", "/uploads/00000000000000000000000000", "*"] {
        let got =
            send(&limited, request_to(path, "OPTIONS", &[("tus-resumable", "9")], Content::none())).await;
        assert_eq!((got.status.as_u16(), got.field("upload-limit")), (200, Some(expected)), "{path}");
    }
    let got = send(&limited, request_to("/.well-known/resumable-uploads", "GET", &[], Content::none())).await;
    let document: serde_json::Value = serde_json::from_slice(&got.content).expect("JSON");
    assert_eq!(document["url"], "/uploads");
    assert_eq!(document["limits"]["max-size"], 1000);
    assert_eq!(document["dialects"][0]["name"], "upload-token");
    assert_eq!(document["transports"], serde_json::json!(["http/1.1", "h2"]));

    let unlimited =
        builder(&MemoryStore::new()).policy(Policy { lifetime: None, ..Policy::default() }).build();
    let got = send(&unlimited, request("OPTIONS", &[], Content::none())).await;
    assert_eq!(got.field("upload-limit"), Some("min-size=0"));
    for path in ["/healthz", "/readyz"] {
        assert_eq!(
            send(&unlimited, request_to(path, "GET", &[], Content::none())).await.status.as_u16(),
            200
        );
    }
}

// proves: TOK-TOKEN-05
#[tokio::test]
async fn short_tokens_can_be_refused() {
    let policy = Policy { token_octets_min: 16, ..Policy::default() };
    let strict = builder(&MemoryStore::new()).policy(policy).build();
    for (token, status) in [("abcdef", 400), ("0123456789abcdef", 204), (":MDEyMzQ1Njc4OWFiY2RlZg==:", 409)] {
        let got = send(&strict, request("POST", &[("upload-token", token)], Content::sized(b"x"))).await;
        assert_eq!(got.status.as_u16(), status, "{token}");
    }
}

/// Trusts the principal that the request names.
struct ByName;

impl Authenticator for ByName {
    fn admit<'a>(
        &'a self,
        head: &'a http::request::Parts,
    ) -> BoxFuture<'a, Result<Option<hoist_proto::types::Principal>, hoist_proto::refusal::Refusal>> {
        let name = head.headers.get("from").and_then(|name| name.to_str().ok());
        let refusal = hoist_proto::refusal::Reason::Unauthorized { challenge: "Bearer" }.into();
        let principal = name.map(hoist_proto::types::Principal::new).map(Some).ok_or(refusal);
        Box::pin(std::future::ready(principal))
    }
}

// proves: TOK-SEC-02, TOK-TOKEN-03, TDR-HDR-06
#[tokio::test]
async fn principals_do_not_see_each_others_uploads() {
    let store = MemoryStore::new();
    let hoist = builder(&store).auth(Arc::new(ByName)).build();
    let (anna, ben) = (("from", "anna"), ("from", "ben"));
    let got = send(&hoist, request("POST", &[T], Content::sized(b"x"))).await;
    assert_eq!((got.status.as_u16(), got.field("www-authenticate")), (401, Some("Bearer")));
    let got =
        send(&hoist, request("POST", &[T, anna, ("upload-length", "9")], Content::sized(b"anna"))).await;
    assert_eq!(got.status.as_u16(), 204);
    for (method, fields) in
        [("HEAD", vec![T, ben]), ("PATCH", vec![T, ben, ("upload-offset", "4")]), ("DELETE", vec![T, ben])]
    {
        assert_eq!(
            send(&hoist, request(method, &fields, Content::none())).await.status.as_u16(),
            404,
            "{method}"
        );
    }
    let got = send(&hoist, request("POST", &[T, ben], Content::sized(b"ben"))).await;
    assert_eq!((got.status.as_u16(), got.offset()), (204, Some(3)));
    let got = send(&hoist, request("HEAD", &[T, anna], Content::none())).await;
    assert_eq!((got.status.as_u16(), got.offset()), (204, Some(4)));

    // Knowing the URL of an ordinary upload is not enough.
    let got = send(&hoist, request("POST", &[anna], Content::sized(b"x"))).await;
    let location = got.field("location").expect("where it is").to_owned();
    assert_eq!(
        send(&hoist, request_to(&location, "DELETE", &[ben], Content::none())).await.status.as_u16(),
        404
    );
    assert_eq!(
        send(&hoist, request_to(&location, "GET", &[ben], Content::none())).await.status.as_u16(),
        404
    );
    assert_eq!(
        send(&hoist, request_to(&location, "DELETE", &[anna], Content::none())).await.status.as_u16(),
        204
    );
}

// proves: TOK-SEC-04, IETF-SEC-07
#[tokio::test]
async fn quotas_apply_to_each_principal_and_to_all_together() {
    let quotas =
        Quotas { open_max: Some(3), open_max_each: Some(2), bytes_max_each: Some(100), ..Quotas::default() };
    let store = MemoryStore::new();
    let hoist = builder(&store).auth(Arc::new(ByName)).quotas(quotas).build();
    let open = async |who: &str, token: &str, length: &str| {
        let fields = [("from", who), ("upload-token", token), ("upload-length", length)];
        send(&hoist, request("POST", &fields, Content::none())).await.status.as_u16()
    };
    assert_eq!(open("anna", "a1", "10").await, 204);
    assert_eq!(open("anna", "a2", "91").await, 507);
    assert_eq!(open("anna", "a2", "90").await, 204);
    assert_eq!(open("anna", "a3", "0").await, 429);
    assert_eq!(open("ben", "b1", "1").await, 204);
    assert_eq!(open("ben", "b2", "1").await, 429);
    let gone =
        send(&hoist, request("DELETE", &[("from", "anna"), ("upload-token", "a2")], Content::none())).await;
    assert_eq!(gone.status.as_u16(), 204);
    assert_eq!(open("ben", "b2", "1").await, 204);

    // A restart counts the stored uploads.
    let hoist = builder(&store).auth(Arc::new(ByName)).quotas(quotas).build();
    assert_eq!(hoist.recover().await.expect("readable").seen, 3);
    let fields = [("from", "anna"), ("upload-token", "a9"), ("upload-length", "1")];
    assert_eq!(send(&hoist, request("POST", &fields, Content::none())).await.status.as_u16(), 429);
}

#[tokio::test]
async fn expired_uploads_are_hidden_and_then_swept() {
    let store = MemoryStore::new();
    let short = Policy {
        lifetime: Some(Duration::from_millis(1)),
        retention: Some(Duration::from_millis(1)),
        ..Policy::default()
    };
    let hoist = builder(&store).policy(short).build();
    for (token, content) in
        [("open", Content::new(b"abc", 1, Ends::Cut, Some(9))), ("whole", Content::sized(b"abc"))]
    {
        send(&hoist, request("POST", &[("upload-token", token)], content)).await;
    }
    assert_eq!(store.list_all().await.expect("readable").len(), 2);
    // Tests the wall clock, which only has to advance.
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_millis(5) {
        tokio::task::yield_now().await;
    }
    for token in ["open", "whole"] {
        let got = send(&hoist, request("HEAD", &[("upload-token", token)], Content::none())).await;
        assert_eq!(got.status.as_u16(), 404, "{token}");
    }
    let again =
        send(&hoist, request("POST", &[("upload-token", "open"), ("upload-length", "9")], Content::none()))
            .await;
    assert_eq!((again.status.as_u16(), again.offset()), (204, Some(0)));
    while hoist.sweep().await.expect("readable").removed == 0 {
        tokio::task::yield_now().await;
    }
    let ids = store.list_all().await.expect("readable").len();
    assert!(ids <= 1, "{ids} are left");
}

// proves: TOK-APP-05a, TOK-CRE-04
#[tokio::test]
async fn a_crash_between_the_last_byte_and_its_answer_is_finished_once() {
    for ask in [false, true] {
        let store = MemoryStore::new();
        let directory = Path::new("/inbox");
        let files = || Files::new(directory, "{name}").expect("a template");
        // The state after a crash: every byte is stored, and the record says that the upload is open.
        let first = builder(&store).target(files()).build();
        let fields =
            [T, ("upload-length", "5"), ("content-disposition", "attachment; filename=\"report.txt\"")];
        send(&first, request("POST", &fields, Content::none())).await;
        let id = store.list_all().await.expect("readable")[0].id;
        let fence = Fence::new(1000);
        let upload = store.load(id, fence).await.expect("readable").expect("there");
        let mut writer = store.append(id, upload.offset.offset(), fence).await.expect("open");
        writer.write("hello".into()).await.expect("room");
        assert_eq!(writer.sync().await.expect("synced").offset().get(), 5);
        drop((writer, first));
        store.crash();

        let second = builder(&store).target(files()).build();
        if !ask {
            let swept = second.recover().await.expect("readable");
            assert_eq!(swept.delivered, 1);
        }
        let got = send(&second, request("HEAD", &[T], Content::none())).await;
        assert_eq!((got.offset(), got.field("upload-complete")), (Some(5), Some("?1")));
        assert_eq!(store.exported(directory, "report.txt").as_deref(), Some(b"hello".as_slice()));
        assert_eq!(second.recover().await.expect("readable").delivered, 0);
    }
}

/// Fails until it is set to accept.
#[derive(Clone, Default)]
struct Shut(Arc<std::sync::atomic::AtomicBool>);

impl Target for Shut {
    fn deliver<'a>(&'a self, _: Representation<'a>) -> BoxFuture<'a, Result<Delivery, Error>> {
        let open = self.0.load(std::sync::atomic::Ordering::SeqCst);
        let answer =
            if open { Ok(TargetResponse::of(http::StatusCode::CREATED).into()) } else { Err(Error::Full) };
        Box::pin(std::future::ready(answer))
    }

    fn leaves_content(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_failed_delivery_is_retried_and_the_offset_stays_available() {
    let target = Shut::default();
    let hoist = builder(&MemoryStore::new()).target(target.clone()).build();
    let got = send(&hoist, request("POST", &[T], Content::sized(b"hello"))).await;
    assert_eq!(got.status.as_u16(), 507, "{got:?}");
    let got = send(&hoist, request("HEAD", &[T], Content::none())).await;
    assert_eq!((got.status.as_u16(), got.offset(), got.field("upload-complete")), (204, Some(5), Some("?0")));
    let last = || request("PATCH", &[T, ("upload-offset", "5")], Content::none());
    assert_eq!(send(&hoist, last()).await.status.as_u16(), 507);
    target.0.store(true, std::sync::atomic::Ordering::SeqCst);
    let got = send(&hoist, last()).await;
    assert_eq!((got.status.as_u16(), got.field("upload-complete")), (204, Some("?1")));
}

#[tokio::test]
async fn files_are_complete_and_have_safe_names() {
    let store = MemoryStore::new();
    let directory = Path::new("/inbox");
    let hoist = builder(&store).target(Files::new(directory, "{name}").expect("a template")).build();
    for (disposition, expected) in [
        ("attachment; filename=\"../../etc/passwd\"", "passwd"),
        ("attachment; filename*=UTF-8''%2e%2e%2f%00evil", "evil"),
        ("attachment; filename=\"a\\\"b|c.txt\"", "abc.txt"),
    ] {
        let fields = [("content-disposition", disposition)];
        let got = send(&hoist, request("POST", &fields, Content::chunked(b"content"))).await;
        assert_eq!(got.status.as_u16(), 201, "{got:?}");
        assert_eq!(store.exported(directory, expected).as_deref(), Some(b"content".as_slice()), "{expected}");
    }
    // An existing file is not overwritten.
    let put = request_to("/uploads/passwd", "PUT", &[], Content::sized(b"another"));
    assert_eq!(send(&hoist, put).await.status.as_u16(), 201);
    assert_eq!(store.exported(directory, "passwd").as_deref(), Some(b"content".as_slice()));
}

#[tokio::test]
async fn shutting_down_ends_transfers_and_keeps_their_bytes() {
    let store = MemoryStore::new();
    let hoist = hoist(&store);
    let (content, drained) = Content::new(b"abc", 1, Ends::Never, Some(6)).watched();
    let mut service = hoist.clone();
    let stalled = tokio::spawn(async move { service.call(request("POST", &[T], content)).await });
    tokio::time::timeout(SOON, drained).await.expect("in time").expect("taken");
    tokio::time::timeout(SOON, hoist.drain()).await.expect("a drain that ends");
    let got = collect(stalled.await.expect("no panic").expect("infallible")).await;
    assert_eq!((got.status.as_u16(), got.offset()), (503, Some(3)));
    assert!(got.field("retry-after").is_some());
    let refused = send(&hoist, request("POST", &[("upload-token", "new")], Content::sized(b"x"))).await;
    assert_eq!(refused.status.as_u16(), 503);
    let asked = send(&hoist, request("HEAD", &[T], Content::none())).await;
    assert_eq!((asked.status.as_u16(), asked.offset()), (204, Some(3)));
    assert_eq!(send(&hoist, request_to("/readyz", "GET", &[], Content::none())).await.status.as_u16(), 503);
}

/// Only a replay waits to see whether its request has content.
#[tokio::test]
async fn shutting_down_does_not_wait_for_content_of_a_complete_upload() {
    let hoist = hoist(&MemoryStore::new());
    assert_eq!(send(&hoist, request("POST", &[T], Content::sized(b"abc"))).await.status.as_u16(), 204);
    let (content, drained) = Content::new(b"", 1, Ends::Never, None).watched();
    let mut service = hoist.clone();
    let append = request("PATCH", &[T, ("upload-offset", "3")], content);
    let stalled = tokio::spawn(async move { service.call(append).await });
    tokio::time::timeout(SOON, drained).await.expect("in time").expect("it is asked for content");
    tokio::time::timeout(SOON, hoist.drain()).await.expect("a drain that ends");
    let answer = tokio::time::timeout(SOON, stalled).await.expect("an answer in time");
    let got = collect(answer.expect("no panic").expect("infallible")).await;
    assert_eq!(got.status.as_u16(), 503);
    assert!(got.field("retry-after").is_some());
}

/// A disk may report that it is full after it accepted bytes, even after the last of them.
// proves: TOK-APP-05, TOK-CRE-01
#[tokio::test]
async fn content_that_does_not_fit_after_all_completes_no_upload() {
    let mut fitted = [0; 3];
    for seed in 0..60 {
        let length = 1 + usize::try_from(seed % 20).expect("small");
        let content: Vec<u8> = (0..10).collect();
        let kinds = [
            request("POST", &[T], Content::chunked(&content)),
            request("POST", &[T], Content::sized(&content)),
            request_to("/uploads/file", "PUT", &[], Content::chunked(&content)),
        ];
        for (kind, request) in kinds.into_iter().enumerate() {
            // A known length is refused at creation.
            let full_after = (kind != 1).then_some(length as u64);
            let store = MemoryStore::with_faults(seed, Faults { full_after, ..Faults::NONE });
            let hoist = hoist(&store);
            let got = send(&hoist, request).await;
            if full_after.is_none_or(|room| room >= 10) {
                assert!(got.status.is_success(), "seed {seed}: {got:?}");
                fitted[kind] += 1;
                continue;
            }
            assert_eq!(got.status.as_u16(), 507, "seed {seed}: {got:?}");
            let left = store.list_all().await.expect("readable");
            if kind == 2 {
                assert!(left.is_empty(), "seed {seed}: an ordinary upload is whole or not there");
                continue;
            }
            assert_eq!(
                (got.offset(), got.field("upload-complete")),
                (Some(length), Some("?0")),
                "seed {seed}"
            );
            // The upload continues once there is room.
            store.set_faults(Faults::NONE);
            let at = length.to_string();
            let fields = [T, ("upload-offset", at.as_str())];
            let rest = request_to("/uploads", "PATCH", &fields, Content::chunked(&content[length..]));
            assert!(send(&hoist, rest).await.status.is_success(), "seed {seed}");
            assert_eq!(read(&store, left[0].id).await, content, "seed {seed}");
        }
    }
    assert!(fitted.iter().all(|count| *count > 0), "{fitted:?}");
}

/// The record of an upload must not reveal its token.
// proves: TOK-TOKEN-04
#[tokio::test]
async fn the_token_is_not_in_the_record() {
    let store = MemoryStore::new();
    let hoist = hoist(&store);
    let token = ("upload-token", "correct-horse-battery-staple");
    send(&hoist, request("POST", &[token, ("content-type", "text/plain")], Content::sized(b"x"))).await;
    let id: UploadId = store.list_all().await.expect("readable")[0].id;
    let upload: Upload = store.load(id, Fence::new(99)).await.expect("readable").expect("there");
    let shown = format!("{upload:?} {id}");
    assert!(!shown.contains("horse"), "{shown}");
    assert_eq!((upload.length, upload.offset > Durable::ZERO), (Some(Length::new(1)), true));
    assert!(upload.created > Timestamp::from_millis(0));
}

/// An ordinary upload cannot be resumed, so the recovery removes one that a crash interrupted.
#[tokio::test]
async fn a_crash_leaves_nothing_of_ordinary_uploads() {
    let store = MemoryStore::new();
    let hoist = hoist(&store);
    for fields in [&[][..], &[T]] {
        let content = Content::new(b"half", 1, Ends::Never, Some(8));
        let (content, drained) = content.watched();
        let mut service = hoist.clone();
        tokio::spawn(service.call(request("POST", fields, content)));
        tokio::time::timeout(SOON, drained).await.expect("in time").expect("taken");
    }
    // The next process sees what this one has written.
    let second = builder(&store).build();
    let swept = second.recover().await.expect("readable");
    assert_eq!((swept.seen, swept.removed), (2, 1));
    let left = store.list_all().await.expect("readable");
    assert!(left.len() == 1 && left[0].can_resume, "{left:?}");
}
