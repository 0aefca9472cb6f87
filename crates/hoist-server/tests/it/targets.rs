//! What a target is given of an upload in several requests, what becomes of its answer, and who waits for it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hoist_proto::types::Offset;
use hoist_proto::upload::TargetResponse;
use hoist_server::Hoist;
use hoist_server::targets::{Representation, Target};
use hoist_store::memory::MemoryStore;
use hoist_store::store::{BoxFuture, Error, Store};
use http::{HeaderValue, StatusCode, header};
use tokio::sync::Semaphore;

use crate::harness::{Content, Ends, Got, request_to, send};

const V8: (&str, &str) = ("upload-draft-interop-version", "8");
const WHOLE: (&str, &str) = ("upload-complete", "?1");
const PART: (&str, &str) = ("upload-complete", "?0");

/// What a target was given.
#[derive(Debug, PartialEq)]
struct Given {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
    content: Vec<u8>,
}

/// Notes what it is given, and answers when it may.
#[derive(Clone)]
struct Noting {
    given: Arc<Mutex<Vec<Given>>>,
    answer: TargetResponse,
    /// Each delivery adds a permit here, and takes one there.
    begun: Arc<Semaphore>,
    may_answer: Arc<Semaphore>,
}

impl Noting {
    /// One that answers at once.
    fn answering(answer: TargetResponse) -> Self {
        let (begun, may_answer) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(1000)));
        Self { given: Arc::default(), answer, begun, may_answer }
    }

    fn over(&self, store: &MemoryStore) -> Hoist {
        Hoist::builder(Arc::new(store.clone()) as Arc<dyn Store>).target(self.clone()).build()
    }

    /// The same after the machine was started again.
    fn again_over(&self, store: &MemoryStore) -> Hoist {
        store.crash();
        self.over(store)
    }

    fn given(&self) -> std::sync::MutexGuard<'_, Vec<Given>> {
        self.given.lock().expect("not poisoned")
    }
}

impl Target for Noting {
    fn deliver<'a>(
        &'a self,
        representation: Representation<'a>,
    ) -> BoxFuture<'a, Result<TargetResponse, Error>> {
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
            self.given().push(Given { method, target, fields: fields.collect(), content });
            self.begun.add_permits(1);
            self.may_answer.acquire().await.expect("never closed").forget();
            Ok(self.answer.clone())
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

fn place(got: &Got) -> String {
    let url: http::Uri = got.field("location").expect("where it is").parse().expect("a URL");
    url.path().to_owned()
}

// proves: IETF-CRE-14, IETF-RES-01, IETF-COD-02, IETF-APP-17
#[tokio::test]
async fn the_target_sees_the_request_that_created_whoever_completes_the_upload() {
    for lives in [1, 2] {
        let (store, target) = (MemoryStore::new(), Noting::answering(TargetResponse::of(StatusCode::OK)));
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
        let upload = place(&got);
        let hoist = if lives == 2 { target.again_over(&store) } else { hoist };
        assert_eq!(head(&hoist, &upload).await.offset(), Some(5));
        let got = append(&hoist, &upload, 5, WHOLE, Content::chunked(b"ture")).await;
        assert_eq!((got.status.as_u16(), got.field("upload-complete")), (200, Some("?1")), "{got:?}");
        let fields = [("content-encoding", "gzip"), ("content-type", "image/png"), ("x-album", "summer")];
        let mut given = std::mem::take(&mut *target.given());
        for given in &mut given {
            given.fields.sort();
        }
        let expected = Given {
            method: "PUT".into(),
            target: "/uploads/pic.png?album=3".into(),
            fields: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            content: b"a picture".to_vec(),
        };
        assert_eq!(given, [expected]);
    }
}

// proves: IETF-APP-11, IETF-APP-12, IETF-APP-14, IETF-APP-17, IETF-CMP-01, IETF-CMP-02
#[tokio::test]
async fn the_answer_of_the_target_is_the_answer_of_the_upload_also_when_it_is_an_error() {
    for status in [StatusCode::OK, StatusCode::UNPROCESSABLE_ENTITY, StatusCode::INTERNAL_SERVER_ERROR] {
        let mut answer = TargetResponse::of(status);
        answer.fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        answer.fields.insert("x-verdict", HeaderValue::from_static("seen"));
        answer.fields.insert("upload-offset", HeaderValue::from_static("7777"));
        answer.content = b"this is what I say".to_vec();
        let (store, target) = (MemoryStore::new(), Noting::answering(answer.clone()));
        let hoist = target.over(&store);
        let fields = [V8, PART, ("host", "example.org")];
        let upload =
            place(&send(&hoist, request_to("/uploads", "POST", &fields, Content::sized(b"hello"))).await);
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
        assert_eq!(target.given().len(), 1, "{status}");
    }
}

/// An upload whose target is at work, and the request that is owed its answer.
async fn at_work(target: &Noting, hoist: &Hoist) -> (String, tokio::task::JoinHandle<Got>) {
    let fields = [V8, PART, ("host", "example.org")];
    let upload = place(&send(hoist, request_to("/uploads", "POST", &fields, Content::sized(b"hello"))).await);
    let completing = tokio::spawn({
        let (hoist, upload) = (hoist.clone(), upload.clone());
        async move { append(&hoist, &upload, 5, WHOLE, Content::sized(b" world")).await }
    });
    target.begun.acquire().await.expect("never closed").forget();
    (upload, completing)
}

fn slow() -> Noting {
    let target = Noting::answering(TargetResponse::of(StatusCode::CREATED));
    target.may_answer.forget_permits(1000);
    target
}

// proves: IETF-CON-07, IETF-APP-14, IETF-APP-17
#[tokio::test(start_paused = true)]
async fn whoever_comes_while_the_target_is_at_work_waits_for_its_answer() {
    let target = slow();
    let hoist = target.over(&MemoryStore::new());
    let (upload, completing) = at_work(&target, &hoist).await;
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
    // Virtual time passes only when nobody can do anything.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(others.iter().all(|other| !other.is_finished()) && !completing.is_finished());
    target.may_answer.add_permits(1);
    let got = completing.await.expect("no panic");
    assert_eq!((got.status.as_u16(), got.field("upload-complete")), (201, Some("?1")), "{got:?}");
    for (other, status) in others.into_iter().zip([204, 201, 204, 201]) {
        let got = other.await.expect("no panic");
        assert_eq!((got.status.as_u16(), got.field("upload-complete")), (status, Some("?1")), "{got:?}");
    }
    assert_eq!(target.given().len(), 1);
}

// proves: IETF-CON-05, IETF-CON-07
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_target_for_longer_than_five_seconds() {
    let target = slow();
    let hoist = target.over(&MemoryStore::new());
    let (upload, completing) = at_work(&target, &hoist).await;
    for empty in [true, false] {
        let began = tokio::time::Instant::now();
        let content = if empty { Content::none() } else { Content::new(b"", 1, Ends::Never, Some(5)) };
        let got = append(&hoist, &upload, 11, WHOLE, content).await;
        assert_eq!((got.status.as_u16(), got.field("retry-after")), (503, Some("1")), "{got:?}");
        assert_eq!((got.field("upload-complete"), began.elapsed().as_secs()), (Some("?0"), 5));
    }
    // Who asks is told that all of it is there, and that nobody has answered.
    let got = head(&hoist, &upload).await;
    assert_eq!((got.status.as_u16(), got.field("upload-complete")), (204, Some("?0")), "{got:?}");
    assert_eq!((got.offset(), got.field("upload-length")), (Some(11), Some("11")), "{got:?}");
    target.may_answer.add_permits(1);
    assert_eq!(completing.await.expect("no panic").status.as_u16(), 201);
    let got = append(&hoist, &upload, 11, WHOLE, Content::none()).await;
    assert_eq!((got.status.as_u16(), target.given().len()), (201, 1), "{got:?}");
}

/// Wants no programs.
struct Picky;

impl Target for Picky {
    fn deliver<'a>(&'a self, _: Representation<'a>) -> BoxFuture<'a, Result<TargetResponse, Error>> {
        Box::pin(std::future::ready(Ok(TargetResponse::of(StatusCode::CREATED))))
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
async fn a_target_that_has_seen_enough_ends_the_upload() {
    let store = MemoryStore::new();
    let hoist = Hoist::builder(Arc::new(store.clone()) as Arc<dyn Store>).target(Picky).build();
    let begin = async |first: &[u8]| {
        let got = send(&hoist, request_to("/uploads", "POST", &[V8, PART], Content::sized(first))).await;
        (got.field("location").map(ToOwned::to_owned), got)
    };
    let append = async |url: &str, offset: &str, complete, content: &[u8]| {
        let kind = ("content-type", "application/partial-upload");
        let fields = [V8, complete, kind, ("upload-offset", offset)];
        send(&hoist, request_to(url, "PATCH", &fields, Content::sized(content))).await
    };
    let (_, got) = begin(b"MZ program").await;
    assert_eq!((got.status.as_u16(), got.field("upload-complete")), (422, Some("?1")), "{got:?}");
    assert_eq!(got.content, "no programs");
    let (url, got) = begin(b"M").await;
    assert_eq!((got.status.as_u16(), got.field("upload-complete")), (201, Some("?0")), "{got:?}");
    let url = url.expect("where it is");
    let got = append(&url, "1", PART, b"Z").await;
    assert_eq!((got.status.as_u16(), got.field("upload-complete")), (422, Some("?1")), "{got:?}");
    let state = send(&hoist, request_to(&url, "HEAD", &[V8], Content::none())).await;
    assert_eq!((state.offset(), state.field("upload-complete")), (Some(2), Some("?1")));
    // Nothing more is taken; who lost the answer is given it again.
    assert_eq!(append(&url, "2", WHOLE, b"more").await.status, StatusCode::BAD_REQUEST);
    let again = append(&url, "2", WHOLE, b"").await;
    assert_eq!((again.status.as_u16(), &again.content[..]), (422, &b"no programs"[..]));
    let (url, _) = begin(b"harmless").await;
    let got = append(&url.expect("where it is"), "8", WHOLE, b" text").await;
    assert_eq!((got.status.as_u16(), got.field("upload-complete")), (201, Some("?1")));
}
