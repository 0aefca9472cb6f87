//! A transfer that is interrupted first stores the content that has arrived.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hoist_http::BodyError;
use hoist_server::{Answer, Hoist};
use hoist_store::memory::MemoryStore;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tower_service::Service as _;

use crate::harness::{Content, SOON, hoist, request_to, send};

const FRAMES_MAX: usize = 64;

/// The length of every upload here.
pub(crate) const LENGTH: usize = 5000;

/// Content that a test sends frame by frame.
struct Fed {
    frames: mpsc::Receiver<Bytes>,
    length: u64,
}

impl Body for Fed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = std::task::ready!(self.frames.poll_recv(cx));
        Poll::Ready(frame.map(|frame| Ok(Frame::data(frame))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}

type Fields = &'static [(&'static str, &'static str)];

/// The header fields of a dialect: of the creation of an upload of [`LENGTH`] bytes, of an append at its start, and of every
/// request.
pub(crate) struct Dialect {
    create: Fields,
    append: Fields,
    pub(crate) every: Fields,
}

pub(crate) const DIALECTS: [Dialect; 3] = [
    Dialect { create: &[], append: &[("upload-offset", "0")], every: &[("upload-token", "abcdef")] },
    Dialect {
        create: &[("upload-complete", "?0")],
        append: &[
            ("upload-offset", "0"),
            ("upload-complete", "?1"),
            ("content-type", "application/partial-upload"),
        ],
        every: &[("upload-draft-interop-version", "8")],
    },
    Dialect {
        create: &[],
        append: &[("upload-offset", "0"), ("content-type", "application/offset+octet-stream")],
        every: &[("tus-resumable", "1.0.0")],
    },
];

/// An append that has received its first 100 bytes, and the sender of its frames.
pub(crate) struct Running {
    pub(crate) path: String,
    pub(crate) frames: mpsc::Sender<Bytes>,
    pub(crate) answer: tokio::task::JoinHandle<Answer>,
}

impl Dialect {
    fn fields(&self, of: Fields) -> Vec<(&'static str, &'static str)> {
        [of, self.every].concat()
    }

    /// Returns the fields of an append at the start.
    pub(crate) fn append_fields(&self) -> Vec<(&'static str, &'static str)> {
        self.fields(self.append)
    }

    pub(crate) async fn append(&self, hoist: &Hoist) -> Running {
        let create = [self.fields(self.create), vec![("upload-length", "5000")]].concat();
        let created = send(hoist, request_to("/uploads", "POST", &create, Content::none())).await;
        assert!(created.status.is_success(), "{created:?}");
        let path = created.field("location").unwrap_or("/uploads").to_owned();
        let (frames, fed) = mpsc::channel(FRAMES_MAX);
        let mut append = Request::patch(&path);
        for (name, value) in self.fields(self.append) {
            append = append.header(name, value);
        }
        let append = append.body(Fed { frames: fed, length: LENGTH as u64 }).expect("a request");
        let answer = hoist.clone().call(append);
        let answer = tokio::spawn(async move { answer.await.expect("infallible") });
        frames.send(Bytes::from_static(&[b'x'; 100])).await.expect("the frame is read");
        let running = Running { path, frames, answer };
        running.all_read().await;
        running
    }

    pub(crate) async fn offset(&self, hoist: &Hoist, path: &str) -> Option<usize> {
        send(hoist, request_to(path, "HEAD", self.every, Content::none())).await.offset()
    }
}

impl Running {
    /// Sends more without letting any other task run.
    pub(crate) fn feed(&self, frames: usize) {
        for _ in 0..frames {
            self.frames.try_send(Bytes::from_static(&[b'x'; 100])).expect("room");
        }
    }

    pub(crate) async fn all_read(&self) {
        let taken = async {
            while self.frames.capacity() < FRAMES_MAX {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, taken).await.expect("the frame is read");
    }
}

// proves: TOK-CRE-01, TOK-APP-05, IETF-CON-06
#[tokio::test]
async fn a_newer_request_finds_all_bytes_that_had_arrived() {
    for dialect in &DIALECTS {
        let hoist = hoist(&MemoryStore::new());
        let running = dialect.append(&hoist).await;
        running.feed(5);
        assert_eq!(dialect.offset(&hoist, &running.path).await, Some(600));
        assert!(running.frames.is_closed(), "the transfer has ended");
    }
}

// proves: TOK-CRE-01, TOK-APP-05
#[tokio::test]
async fn draining_keeps_all_bytes_that_had_arrived() {
    for dialect in &DIALECTS {
        let hoist = hoist(&MemoryStore::new());
        let running = dialect.append(&hoist).await;
        running.feed(5);
        tokio::time::timeout(SOON, hoist.drain()).await.expect("the drain does not wait for a peer");
        assert_eq!(dialect.offset(&hoist, &running.path).await, Some(600));
        let answer = running.answer.await.expect("no panic");
        assert_eq!(answer.status().as_u16(), 503);
    }
}

#[tokio::test]
async fn content_that_had_arrived_in_full_completes_the_upload() {
    for dialect in &DIALECTS {
        let hoist = hoist(&MemoryStore::new());
        let running = dialect.append(&hoist).await;
        running.feed(49);
        let Running { path, frames, answer } = running;
        drop(frames);
        let asked = dialect.offset(&hoist, &path).await;
        let answer = answer.await.expect("no panic");
        assert!(answer.status().is_success(), "{:?}", answer.status());
        assert_eq!(asked, Some(5000));
    }
}

/// Content that never ends and is always ready, as from a peer faster than any disk.
struct Endless(usize);

impl Body for Endless {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0 += 1;
        // Yields to other tasks now and then.
        if self.0.is_multiple_of(64) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 4096])))))
    }
}

// proves: TOK-OFF-02
#[tokio::test]
async fn a_peer_that_never_stops_sending_is_interrupted() {
    let hoist = hoist(&MemoryStore::new());
    let create = Request::post("/uploads").header("upload-token", "endless");
    let create = hoist.clone().call(create.body(Endless(0)).expect("a request"));
    let answer = tokio::spawn(async move { create.await.expect("infallible") });
    tokio::task::yield_now().await;
    let head = request_to("/uploads", "HEAD", &[("upload-token", "endless")], Content::none());
    assert_eq!(send(&hoist, head).await.status.as_u16(), 204);
    let answer = tokio::time::timeout(SOON, answer).await.expect("it has ended").expect("no panic");
    assert_eq!(answer.status().as_u16(), 409);
}
