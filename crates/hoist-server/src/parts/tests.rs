//! An indexed upload whose claim is held while its last part becomes complete.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hoist_proto::types::Token;
use hoist_store::memory::MemoryStore;
use hoist_store::store::Store;
use http::Request;
use http_body::{Body, Frame};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;

use crate::shared::Hoist;

/// Content that waits until the test releases it.
struct Held {
    content: Option<Bytes>,
    polled: Option<oneshot::Sender<()>>,
    go: oneshot::Receiver<()>,
}

impl Held {
    fn new(content: &'static [u8]) -> (Self, oneshot::Receiver<()>, oneshot::Sender<()>) {
        let ((polled, is_polled), (let_go, go)) = (oneshot::channel(), oneshot::channel());
        (Self { content: Some(Bytes::from_static(content)), polled: Some(polled), go }, is_polled, let_go)
    }
}

impl Body for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(polled) = self.polled.take() {
            polled.send(()).expect("the test waits for it");
        }
        if self.content.is_some() {
            std::task::ready!(Pin::new(&mut self.go).poll(cx)).expect("the test lets it go");
        }
        Poll::Ready(self.content.take().map(|content| Ok(Frame::data(content))))
    }
}

fn part(index: &str, content: Held) -> Request<Held> {
    let request = Request::post("/uploads").header("upload-token", "abcdef").header("upload-index", index);
    request.body(content).expect("a request")
}

// proves: TOK-IDX-04
#[tokio::test(start_paused = true)]
async fn an_indexed_upload_whose_claim_was_held_is_joined_once_it_is_free() {
    let store = MemoryStore::new();
    let hoist = Hoist::builder(Arc::new(store.clone()) as Arc<dyn Store>).build();
    let token = Token::new(*b"abcdef").expect("in range");
    let parent = hoist.shared().ids.of_token(None, &token);

    let (first, _polled, go) = Held::new(b"hello ");
    go.send(()).expect("the content waits");
    let answer = hoist.clone().call(part("0", first)).await.expect("infallible");
    assert!(answer.status().is_success(), "{}", answer.status());

    let (last, is_polled, go) = Held::new(b"world");
    let sending = TaskTracker::new().spawn(hoist.clone().call(part("1;last", last)));
    is_polled.await.expect("the part is received");
    let claim =
        hoist.shared().claims.take_unwanted(parent).expect("the parent is free while a part is received");
    go.send(()).expect("the content waits");
    let answer = sending.await.expect("no panic").expect("infallible");
    assert!(answer.status().is_success(), "the part is complete: {}", answer.status());
    let is_complete = async || {
        let parent = store.peek(parent).await.expect("a store in memory").expect("it is there");
        parent.is_complete()
    };
    assert!(!is_complete().await, "the claim of the parent is held");

    drop(claim);
    let stop = CancellationToken::new();
    let (sweeping, ending) = (hoist.sweep_every(Duration::from_hours(1), stop.clone()), async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        stop.cancel();
    });
    tokio::join!(sweeping, ending);
    assert!(is_complete().await, "the sweep joins it without a request");
}
