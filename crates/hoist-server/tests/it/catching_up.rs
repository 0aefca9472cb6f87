//! Recovery beside requests, and retries of failed deliveries without a client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hoist_proto::upload::TargetResponse;
use hoist_server::Hoist;
use hoist_server::admission::Quotas;
use hoist_server::targets::{Delivery, Representation, Target};
use hoist_store::memory::MemoryStore;
use hoist_store::store::{BoxFuture, Error, Store};
use http::StatusCode;
use tokio_util::sync::CancellationToken;

use crate::harness::{Content, Ends, SOON, request, request_to, send};

const T: (&str, &str) = ("upload-token", "abcdef");

/// Fails until it is mended, and counts its calls.
#[derive(Clone, Default)]
struct Failing {
    is_mended: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Target for Failing {
    fn deliver<'a>(&'a self, _: Representation<'a>) -> BoxFuture<'a, Result<Delivery, Error>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let is_mended = self.is_mended.load(Ordering::SeqCst);
        let answer =
            if is_mended { Ok(TargetResponse::of(StatusCode::CREATED).into()) } else { Err(Error::Full) };
        Box::pin(std::future::ready(answer))
    }

    fn leaves_content(&self) -> bool {
        true
    }
}

fn over(store: &MemoryStore, target: &Failing) -> Hoist {
    let quotas = Quotas { open_max: Some(2), ..Quotas::default() };
    Hoist::builder(Arc::new(store.clone()) as Arc<dyn Store>).target(target.clone()).quotas(quotas).build()
}

#[tokio::test(start_paused = true)]
async fn requests_do_not_each_retry_a_failing_target() {
    let target = Failing::default();
    let hoist = over(&MemoryStore::new(), &target);
    assert_eq!(send(&hoist, request("POST", &[T], Content::sized(b"hello"))).await.status.as_u16(), 507);
    for _ in 0..50 {
        let got = send(&hoist, request("HEAD", &[T], Content::none())).await;
        assert_eq!((got.status.as_u16(), got.offset()), (204, Some(5)));
        let last = request("PATCH", &[T, ("upload-offset", "5")], Content::none());
        assert!(send(&hoist, last).await.field("retry-after").is_some());
    }
    let asked = target.asked.load(Ordering::SeqCst);
    assert!((2..8).contains(&asked), "{asked} deliveries for 100 requests");

    // It is delivered later, without a request.
    target.is_mended.store(true, Ordering::SeqCst);
    let stop = CancellationToken::new();
    let sweeping = hoist.sweep_every(Duration::from_hours(1), stop.clone());
    let waiting = async {
        tokio::time::sleep(Duration::from_mins(11)).await;
        stop.cancel();
    };
    tokio::join!(sweeping, waiting);
    assert_eq!(target.asked.load(Ordering::SeqCst), asked + 1);
    let got = send(&hoist, request("HEAD", &[T], Content::none())).await;
    assert_eq!(got.field("upload-complete"), Some("?1"));
}

#[tokio::test]
async fn requests_are_answered_during_recovery() {
    let store = MemoryStore::new();
    let (failing, mended) = (Failing::default(), Failing::default());
    mended.is_mended.store(true, Ordering::SeqCst);
    let first = over(&store, &failing);
    send(&first, request("POST", &[T], Content::sized(b"hello"))).await;
    let open = [("upload-token", "open"), ("upload-length", "9")];
    send(&first, request("POST", &open, Content::new(b"abc", 1, Ends::Cut, Some(9)))).await;
    drop(first);
    store.crash();

    let second = over(&store, &mended);
    second.prepare().await;
    let ready =
        async || send(&second, request_to("/readyz", "GET", &[], Content::none())).await.status.as_u16();
    assert_eq!(ready().await, 503);
    let healthy = send(&second, request_to("/healthz", "GET", &[], Content::none())).await;
    assert_eq!(healthy.status.as_u16(), 200);
    // A due upload is delivered on request, and an open one continues.
    let got = send(&second, request("HEAD", &[T], Content::none())).await;
    assert_eq!((got.offset(), got.field("upload-complete")), (Some(5), Some("?1")));
    let rest = request("PATCH", &[open[0], ("upload-offset", "3")], Content::sized(b"def"));
    assert_eq!(send(&second, rest).await.status.as_u16(), 204);

    // A creation waits until the open uploads are counted, and then counts itself.
    let create = |token: &'static str| {
        request("POST", &[("upload-token", token), ("upload-length", "9")], Content::none())
    };
    let creating = tokio::spawn({
        let (second, request) = (second.clone(), create("new"));
        async move { send(&second, request).await.status.as_u16() }
    });
    tokio::time::timeout(SOON, second.catch_up(CancellationToken::new())).await.expect("in time");
    assert_eq!(creating.await.expect("no panic"), 204);
    assert_eq!(ready().await, 200);
    assert_eq!(send(&second, create("third")).await.status.as_u16(), 429, "two are open");
    assert_eq!(mended.asked.load(Ordering::SeqCst), 1);
}
