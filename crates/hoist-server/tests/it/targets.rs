//! The delivery of an upload to its target: the request that the target sees, its answer, and requests that wait for it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hoist_proto::types::Offset;
use hoist_proto::upload::TargetResponse;
use hoist_server::Hoist;
use hoist_server::targets::{self, Representation, Target};
use hoist_store::memory::MemoryStore;
use hoist_store::store::{BoxFuture, Error, Store};
use http::{HeaderValue, StatusCode, header};
use tokio::sync::Semaphore;

use crate::harness::{Content, Ends, Got, request_to, send};

const V8: (&str, &str) = ("upload-draft-interop-version", "8");
const WHOLE: (&str, &str) = ("upload-complete", "?1");
const PART: (&str, &str) = ("upload-complete", "?0");

/// A delivery to the target.
#[derive(Debug, PartialEq)]
struct Delivery {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
    content: Vec<u8>,
}

/// A target that records its deliveries, and answers each once a permit allows it.
#[derive(Clone)]
struct Recording {
    deliveries: Arc<Mutex<Vec<Delivery>>>,
    answer: TargetResponse,
    /// Each delivery adds a permit to `started`, and takes one from `may_answer`.
    started: Arc<Semaphore>,
    may_answer: Arc<Semaphore>,
}

impl Recording {
    /// Returns a target that answers at once.
    fn answering(answer: TargetResponse) -> Self {
        let (started, may_answer) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(1000)));
        Self { deliveries: Arc::default(), answer, started, may_answer }
    }

    fn over(&self, store: &MemoryStore) -> Hoist {
        Hoist::builder(Arc::new(store.clone()) as Arc<dyn Store>).target(self.clone()).build()
    }

    /// Returns an endpoint over the same store after a crash.
    fn again_over(&self, store: &MemoryStore) -> Hoist {
        store.crash();
        self.over(store)
    }

    fn deliveries(&self) -> std::sync::MutexGuard<'_, Vec<Delivery>> {
        self.deliveries.lock().expect("not poisoned")
    }
}

impl Target for Recording {
    fn deliver<'a>(
        &'a self,
        representation: Representation<'a>,
    ) -> BoxFuture<'a, Result<targets::Delivery, Error>> {
        Box::pin(async move {
            let Representation { upload, store, .. } = representation;
            let mut content = Vec::new();
            let mut reader = store.read(upload.id, Offset::ZERO).await?;
            while let Some(bytes) = reader.next().await? {
                content.extend_from_slice(&bytes);
            }
            let text = |value: &HeaderValue| value.to_str().expect("visible ASCII").to_owned();
            let fields = upload.origin.fields.iter().map(|(name, value)| (name.to_string(), text(value)));
            let (method, target) = (upload.origin.method.to_string(), upload.origin.target.clone());
            self.deliveries().push(Delivery { method, target, fields: fields.collect(), content });
            self.started.add_permits(1);
            self.may_answer.acquire().await.expect("never closed").forget();
            Ok(self.answer.clone().into())
        })
    }

    fn leaves_content(&self) -> bool {
        false
    }
}

/// A target that never accepts anything, and counts its deliveries.
#[derive(Clone, Default)]
struct Unavailable(Arc<AtomicUsize>);

impl Target for Unavailable {
    fn deliver<'a>(&'a self, _: Representation<'a>) -> BoxFuture<'a, Result<targets::Delivery, Error>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async {
            Err(Error::Io { doing: "ask the target".into(), source: std::io::Error::other("away") })
        })
    }

    fn leaves_content(&self) -> bool {
        false
    }
}

async fn append(hoist: &Hoist, url: &str, at: usize, complete: (&str, &str), content: Content) -> Got {
    let at = at.to_string();
    let of_type = ("content-type", "application/partial-upload");
    let fields = [V8, of_type, ("content-encoding", "br"), ("upload-offset", &at), complete];
    send(hoist, request_to(url, "PATCH", &fields, content)).await
}

async fn head(hoist: &Hoist, url: &str) -> Got {
    send(hoist, request_to(url, "HEAD", &[V8], Content::none())).await
}

fn location(got: &Got) -> String {
    let url: http::Uri = got.field("location").expect("a location").parse().expect("a URL");
    url.path().to_owned()
}

// proves: IETF-CRE-14, IETF-RES-01, IETF-COD-02, IETF-APP-17
#[tokio::test]
async fn the_target_sees_the_creation_request_whichever_request_completes_the_upload() {
    for processes in [1, 2] {
        let (store, target) = (MemoryStore::new(), Recording::answering(TargetResponse::of(StatusCode::OK)));
        let hoist = target.over(&store);
        let fields = [
            V8,
            PART,
            ("host", "example.org"),
            ("content-type", "image/png"),
            ("content-encoding", "gzip"),
            ("x-album", "summer"),
            ("authorization", "Bearer secret"),
        ];
        let content = Content::sized(b"a pic");
        let got = send(&hoist, request_to("/uploads/pic.png?album=3", "PUT", &fields, content)).await;
        assert_eq!(got.status.as_u16(), 201, "{got:?}");
        let upload = location(&got);
        let hoist = if processes == 2 { target.again_over(&store) } else { hoist };
        assert_eq!(head(&hoist, &upload).await.offset(), Some(5));
        let got = append(&hoist, &upload, 5, WHOLE, Content::chunked(b"ture")).await;
        assert_eq!((got.status.as_u16(), got.field("upload-complete")), (200, Some("?1")), "{got:?}");
        let fields = [("content-encoding", "gzip"), ("content-type", "image/png"), ("x-album", "summer")];
        let mut deliveries = std::mem::take(&mut *target.deliveries());
        for deliveries in &mut deliveries {
            deliveries.fields.sort();
        }
        let expected = Delivery {
            method: "PUT".into(),
            target: "/uploads/pic.png?album=3".into(),
            fields: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            content: b"a picture".to_vec(),
        };
        assert_eq!(deliveries, [expected]);
    }
}

// proves: IETF-APP-11, IETF-APP-12, IETF-APP-14, IETF-APP-17, IETF-CMP-01, IETF-CMP-02
#[tokio::test]
async fn the_answer_of_the_target_is_replayed_even_if_it_is_an_error() {
    for status in [StatusCode::OK, StatusCode::UNPROCESSABLE_ENTITY, StatusCode::INTERNAL_SERVER_ERROR] {
        let mut answer = TargetResponse::of(status);
        answer.fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        answer.fields.insert("x-verdict", HeaderValue::from_static("seen"));
        answer.fields.insert("upload-offset", HeaderValue::from_static("7777"));
        answer.content = b"this is what I say".to_vec();
        let (store, target) = (MemoryStore::new(), Recording::answering(answer.clone()));
        let hoist = target.over(&store);
        let fields = [V8, PART, ("host", "example.org")];
        let upload =
            location(&send(&hoist, request_to("/uploads", "POST", &fields, Content::sized(b"hello"))).await);
        let first = append(&hoist, &upload, 5, WHOLE, Content::sized(b" world")).await;
        let hoist = target.again_over(&store);
        let again = append(&hoist, &upload, 11, WHOLE, Content::none()).await;
        for got in [first, again] {
            assert_eq!((got.status, got.field("upload-complete")), (status, Some("?1")), "{got:?}");
            assert_eq!(
                (got.field("x-verdict"), got.field("content-type")),
                (Some("seen"), Some("text/plain"))
            );
            assert_eq!((got.offset(), &got.content[..]), (Some(11), &answer.content[..]));
        }
        let got = head(&hoist, &upload).await;
        assert_eq!((got.status.as_u16(), got.field("upload-complete")), (204, Some("?1")), "{got:?}");
        let got = append(&hoist, &upload, 11, WHOLE, Content::sized(b"!")).await;
        assert_eq!((got.status.as_u16(), got.field("upload-complete")), (400, Some("?0")), "{got:?}");
        assert_eq!(head(&hoist, &upload).await.offset(), Some(11));
        assert_eq!(target.deliveries().len(), 1, "{status}");
    }
}

/// Returns an upload whose target has not answered yet, and the request that completes it.
async fn in_delivery(target: &Recording, hoist: &Hoist) -> (String, tokio::task::JoinHandle<Got>) {
    let fields = [V8, PART, ("host", "example.org")];
    let upload =
        location(&send(hoist, request_to("/uploads", "POST", &fields, Content::sized(b"hello"))).await);
    let completing = tokio::spawn({
        let (hoist, upload) = (hoist.clone(), upload.clone());
        async move { append(&hoist, &upload, 5, WHOLE, Content::sized(b" world")).await }
    });
    target.started.acquire().await.expect("never closed").forget();
    (upload, completing)
}

fn slow() -> Recording {
    let target = Recording::answering(TargetResponse::of(StatusCode::CREATED));
    target.may_answer.forget_permits(1000);
    target
}

// proves: IETF-CON-07, IETF-APP-14, IETF-APP-17
#[tokio::test(start_paused = true)]
async fn requests_during_a_delivery_wait_for_the_answer_of_the_target() {
    let target = slow();
    let hoist = target.over(&MemoryStore::new());
    let (upload, completing) = in_delivery(&target, &hoist).await;
    let asked = |complete| {
        let (hoist, upload) = (hoist.clone(), upload.clone());
        tokio::spawn(async move {
            if complete {
                append(&hoist, &upload, 11, WHOLE, Content::none()).await
            } else {
                head(&hoist, &upload).await
            }
        })
    };
    let others = [asked(false), asked(true), asked(false), asked(true)];
    // Virtual time passes only while every task waits.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(others.iter().all(|other| !other.is_finished()) && !completing.is_finished());
    target.may_answer.add_permits(1);
    let got = completing.await.expect("no panic");
    assert_eq!((got.status.as_u16(), got.field("upload-complete")), (201, Some("?1")), "{got:?}");
    for (other, status) in others.into_iter().zip([204, 201, 204, 201]) {
        let got = other.await.expect("no panic");
        assert_eq!((got.status.as_u16(), got.field("upload-complete")), (status, Some("?1")), "{got:?}");
    }
    assert_eq!(target.deliveries().len(), 1);
}

// proves: IETF-CON-05, IETF-CON-07
#[tokio::test(start_paused = true)]
async fn a_request_waits_for_a_target_no_longer_than_five_seconds() {
    let target = slow();
    let hoist = target.over(&MemoryStore::new());
    let (upload, completing) = in_delivery(&target, &hoist).await;
    for empty in [true, false] {
        let began = tokio::time::Instant::now();
        let content = if empty { Content::none() } else { Content::new(b"", 1, Ends::Never, Some(5)) };
        let got = append(&hoist, &upload, 11, WHOLE, content).await;
        assert_eq!((got.status.as_u16(), got.field("retry-after")), (503, Some("1")), "{got:?}");
        assert_eq!((got.field("upload-complete"), began.elapsed().as_secs()), (Some("?0"), 5));
    }
    // An offset query is answered with the full offset, and not as complete.
    let got = head(&hoist, &upload).await;
    assert_eq!((got.status.as_u16(), got.field("upload-complete")), (204, Some("?0")), "{got:?}");
    assert_eq!((got.offset(), got.field("upload-length")), (Some(11), Some("11")), "{got:?}");
    target.may_answer.add_permits(1);
    assert_eq!(completing.await.expect("no panic").status.as_u16(), 201);
    let got = append(&hoist, &upload, 11, WHOLE, Content::none()).await;
    assert_eq!((got.status.as_u16(), target.deliveries().len()), (201, 1), "{got:?}");
}

/// A target that rejects executables early.
struct RejectsPrograms;

impl Target for RejectsPrograms {
    fn deliver<'a>(&'a self, _: Representation<'a>) -> BoxFuture<'a, Result<targets::Delivery, Error>> {
        Box::pin(std::future::ready(Ok(TargetResponse::of(StatusCode::CREATED).into())))
    }

    fn answer_early<'a>(
        &'a self,
        representation: Representation<'a>,
    ) -> BoxFuture<'a, Result<Option<TargetResponse>, Error>> {
        Box::pin(async move {
            let Representation { upload, store, .. } = representation;
            let first = store.read(upload.id, Offset::ZERO).await?.next().await?.unwrap_or_default();
            let mut answer = TargetResponse::of(StatusCode::UNPROCESSABLE_ENTITY);
            answer.content = b"no programs".to_vec();
            Ok(first.starts_with(b"MZ").then_some(answer))
        })
    }

    fn leaves_content(&self) -> bool {
        true
    }
}

// proves: IETF-CMP-05, IETF-APP-11
#[tokio::test]
async fn an_early_answer_of_the_target_ends_the_upload() {
    let store = MemoryStore::new();
    let hoist = Hoist::builder(Arc::new(store.clone()) as Arc<dyn Store>).target(RejectsPrograms).build();
    let create = async |first: &[u8]| {
        let got = send(&hoist, request_to("/uploads", "POST", &[V8, PART], Content::sized(first))).await;
        (got.field("location").map(ToOwned::to_owned), got)
    };
    let append = async |url: &str, offset: &str, complete, content: &[u8]| {
        let kind = ("content-type", "application/partial-upload");
        let fields = [V8, complete, kind, ("upload-offset", offset)];
        send(&hoist, request_to(url, "PATCH", &fields, Content::sized(content))).await
    };
    let (_, got) = create(b"MZ program").await;
    assert_eq!((got.status.as_u16(), got.field("upload-complete")), (422, Some("?1")), "{got:?}");
    assert_eq!(got.content, "no programs");
    let (url, got) = create(b"M").await;
    assert_eq!((got.status.as_u16(), got.field("upload-complete")), (201, Some("?0")), "{got:?}");
    let url = url.expect("a location");
    let got = append(&url, "1", PART, b"Z").await;
    assert_eq!((got.status.as_u16(), got.field("upload-complete")), (422, Some("?1")), "{got:?}");
    let state = send(&hoist, request_to(&url, "HEAD", &[V8], Content::none())).await;
    assert_eq!((state.offset(), state.field("upload-complete")), (Some(2), Some("?1")));
    // The upload accepts no more content, and a replay gets the answer again.
    assert_eq!(append(&url, "2", WHOLE, b"more").await.status, StatusCode::BAD_REQUEST);
    let again = append(&url, "2", WHOLE, b"").await;
    assert_eq!((again.status.as_u16(), &again.content[..]), (422, &b"no programs"[..]));
    let (url, _) = create(b"harmless").await;
    let got = append(&url.expect("a location"), "8", WHOLE, b" text").await;
    assert_eq!((got.status.as_u16(), got.field("upload-complete")), (201, Some("?1")));
}

#[tokio::test(start_paused = true)]
async fn an_ordinary_upload_that_the_target_fails_to_take_is_not_delivered_later() {
    let (store, target) = (MemoryStore::new(), Unavailable::default());
    let hoist = Hoist::builder(Arc::new(store.clone()) as Arc<dyn Store>).target(target.clone()).build();
    let running = hoist.start(Duration::from_mins(1)).await;
    let fields = [("host", "example.org")];
    let got = send(&hoist, request_to("/uploads", "PUT", &fields, Content::sized(b"hello"))).await;
    assert_eq!((got.status.as_u16(), target.0.load(Ordering::Relaxed)), (503, 1), "{got:?}");
    // The client has been told to send it again.
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(target.0.load(Ordering::Relaxed), 1);
    running.stop().await;
}
