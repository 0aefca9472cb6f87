//! New settings for a running endpoint: they apply to the requests that begin later, and its state stays.

use std::sync::Arc;
use std::time::Duration;

use hoist_proto::policy::{Limits, Policy};
use hoist_proto::types::Principal;
use hoist_server::admission::Quotas;
use hoist_server::auth::Authenticator;
use hoist_server::{Builder, Hoist, Settings};
use hoist_store::memory::MemoryStore;
use hoist_store::store::{BoxFuture, Store};
use http::request::Parts;
use tower_service::Service;

use crate::harness::{Content, SOON, collect, request, request_to, send};

fn builder(store: &MemoryStore) -> Builder {
    Hoist::builder(Arc::new(store.clone()) as Arc<dyn Store>)
}

fn size_max(bytes: u64) -> Policy {
    Policy { limits: Limits { size_max: Some(bytes), ..Limits::default() }, ..Policy::default() }
}

async fn create(hoist: &Hoist, token: &str, content: &[u8]) -> u16 {
    send(hoist, request("POST", &[("upload-token", token)], Content::sized(content))).await.status.as_u16()
}

#[tokio::test]
async fn requests_that_are_running_keep_the_settings_they_began_with() {
    let store = MemoryStore::new();
    let hoist = builder(&store).policy(size_max(100)).build();
    let (content, drained) = Content::chunked(&[7; 50]).watched();
    let mut service = hoist.clone();
    let running = tokio::spawn(service.call(request("POST", &[("upload-token", "running")], content)));
    tokio::time::timeout(SOON, drained).await.expect("in time").expect("taken");
    // Another store, endpoint and key are ignored.
    let other = builder(&MemoryStore::new()).endpoint("/elsewhere").expect("a path").key([1; 32]);
    hoist.reconfigure(other.policy(size_max(10)));
    assert_eq!(hoist.endpoint(), "/uploads");
    let answer = running.await.expect("no panic").expect("infallible");
    assert_eq!(collect(answer).await.status.as_u16(), 204, "50 bytes were within its limit");
    assert_eq!(create(&hoist, "later", &[7; 50]).await, 413);
    let got = send(&hoist, request("HEAD", &[("upload-token", "running")], Content::none())).await;
    assert_eq!(got.offset(), Some(50), "the key and the store are the same");
    for clone in [hoist.clone(), service] {
        assert_eq!(create(&clone, "clone", &[7; 50]).await, 413, "clones are one endpoint");
    }
}

#[tokio::test]
async fn a_shorter_lifetime_and_sweep_interval_apply_to_uploads_created_later() {
    let store = MemoryStore::new();
    let hoist = builder(&store).build();
    let running = hoist.start(Duration::from_hours(1)).await;
    running.recovered().await;
    let lifetime = Some(Duration::from_millis(1));
    hoist.reconfigure(builder(&store).policy(Policy { lifetime, ..Policy::default() }));
    let fields = [("upload-token", "short"), ("upload-length", "9")];
    assert!(send(&hoist, request("POST", &fields, Content::none())).await.status.is_success());
    running.set_sweep_interval(Duration::from_millis(5));
    let removed = async {
        while !store.list_all().await.expect("readable").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, removed).await.expect("removed in time");
    running.stop().await;
}

struct NoOne;

impl Authenticator for NoOne {
    fn admit<'a>(
        &'a self,
        _: &'a Parts,
    ) -> BoxFuture<'a, Result<Option<Principal>, hoist_proto::refusal::Refusal>> {
        let refusal = hoist_proto::refusal::Reason::Unauthorized { challenge: "Bearer" };
        Box::pin(std::future::ready(Err(refusal.into())))
    }
}

#[tokio::test]
async fn authentication_and_options_are_replaced() {
    let store = MemoryStore::new();
    let hoist = builder(&store).build();
    assert_eq!(create(&hoist, "first", b"content").await, 204);
    let created = send(&hoist, request_to("/uploads", "POST", &[], Content::sized(b"film"))).await;
    let location = created.field("location").expect("an upload URL").to_owned();
    let path = format!("/uploads/{}", location.rsplit('/').next().expect("an id"));
    let get = || request_to(&path, "GET", &[], Content::none());
    assert_ne!(send(&hoist, get()).await.status.as_u16(), 200);
    hoist.reconfigure(builder(&store).settings(Settings { downloads: true, ..Settings::default() }));
    assert_eq!(send(&hoist, get()).await.status.as_u16(), 200);
    hoist.reconfigure(builder(&store).auth(Arc::new(NoOne)));
    assert_eq!(create(&hoist, "second", b"content").await, 401);
}

#[tokio::test]
async fn quotas_count_what_was_stored_before() {
    let store = MemoryStore::new();
    let counting = Quotas { bytes_max: Some(1 << 20), ..Quotas::default() };
    let hoist = builder(&store).quotas(counting).build();
    hoist.recover().await.expect("readable");
    assert_eq!(create(&hoist, "first", &[7; 900]).await, 204);
    hoist.reconfigure(builder(&store).quotas(Quotas { bytes_max: Some(1000), ..counting }));
    assert_eq!(create(&hoist, "second", &[7; 900]).await, 507);
    hoist.reconfigure(builder(&store).quotas(Quotas { bytes_max: None, ..counting }));
    assert_eq!(create(&hoist, "third", &[7; 900]).await, 204);
    hoist.reconfigure(builder(&store).quotas(Quotas { bytes_max: Some(1000), ..counting }));
    assert_eq!(create(&hoist, "fourth", &[7; 1]).await, 507, "the third was counted meanwhile");

    let store = MemoryStore::new();
    let hoist = builder(&store).build();
    hoist.reconfigure(builder(&store).quotas(Quotas { bytes_max: Some(1), ..Quotas::default() }));
    assert_eq!(create(&hoist, "first", &[7; 900]).await, 204, "nothing has counted bytes from the start");
}
