//! Metrics while things happen: bytes of a running transfer, endings that a black-box test cannot see, and the time of a
//! scrape with many uploads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hoist_proto::types::{Fence, UploadId};
use hoist_proto::upload::TargetResponse;
use hoist_server::Hoist;
use hoist_server::admin::Admin;
use hoist_server::observe::Metrics;
use hoist_server::targets::{Delivery, Representation, Target};
use hoist_store::memory::MemoryStore;
use hoist_store::store::{BoxFuture, Error, Store};
use http::StatusCode;
use tokio::time::timeout;
use tower_service::Service as _;

use crate::harness::{Content, Ends, SOON, collect, request, request_to, send};

/// An endpoint whose metrics are counted, and its admin service.
fn counted(store: &MemoryStore, target: impl Target) -> (Hoist, Admin) {
    let metrics = Metrics::new("1");
    let builder = Hoist::builder(Arc::new(store.clone()) as Arc<dyn Store>);
    let hoist = builder.target(target).observers(vec![Arc::new(metrics.clone())]).build();
    (hoist.clone(), Admin::new(hoist, metrics))
}

/// Returns the value of a sample.
async fn sample(admin: &Admin, series: &str) -> f64 {
    let answer = admin.clone().call(request_to("/metrics", "GET", &[], Content::none())).await;
    let got = collect(answer.unwrap_or_else(|never| match never {})).await;
    assert_eq!(got.status, StatusCode::OK, "{got:?}");
    let text = String::from_utf8(got.content.to_vec()).expect("text");
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {series}: {text}")).parse().expect("a number")
}

async fn assert_samples(admin: &Admin, expected: &[(&str, f64)]) {
    for (series, value) in expected {
        let seen = sample(admin, series).await;
        assert!((seen - value).abs() < 0.5, "{series}: {seen} instead of {value}");
    }
}

#[tokio::test]
async fn bytes_count_while_their_transfer_runs_and_a_shutdown_ends_it() {
    let store = MemoryStore::new();
    let (hoist, admin) = counted(&store, hoist_server::targets::Keep);
    let (content, drained) = Content::new(&vec![7; 30_000], 1000, Ends::Never, Some(50_000)).watched();
    let sent = send(&hoist, request("POST", &[("upload-token", "a")], content));
    let watched = async {
        timeout(SOON, drained).await.expect("it reads on").expect("it reads all");
        assert_samples(
            &admin,
            &[
                ("hoist_bytes_stored_total", 30_000.0),
                ("hoist_transfers_active{transport=\"http/1.1\"}", 1.0),
                ("hoist_transfers_ended_total{ending=\"shutdown\"}", 0.0),
                ("hoist_uploads_open", 1.0),
            ],
        )
        .await;
        hoist.drain().await;
    };
    let (got, ()) = tokio::join!(sent, watched);
    assert_eq!(got.status, StatusCode::SERVICE_UNAVAILABLE, "{got:?}");
    assert_samples(
        &admin,
        &[
            ("hoist_bytes_stored_total", 30_000.0),
            ("hoist_transfers_active{transport=\"http/1.1\"}", 0.0),
            ("hoist_transfers_ended_total{ending=\"shutdown\"}", 1.0),
            ("hoist_uploads_open", 1.0),
        ],
    )
    .await;
}

/// A target that answers the same, or that cannot be reached.
struct Answering(Option<StatusCode>);

impl Target for Answering {
    fn deliver<'a>(&'a self, _: Representation<'a>) -> BoxFuture<'a, Result<Delivery, Error>> {
        let answer = self.0.map(|status| TargetResponse::of(status).into()).ok_or(Error::Full);
        Box::pin(std::future::ready(answer))
    }

    fn leaves_content(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn the_outcomes_of_targets_are_told_apart() {
    let cases = [
        (Some(StatusCode::CREATED), "accepted", "delivered"),
        (Some(StatusCode::UNPROCESSABLE_ENTITY), "rejected", "failed"),
        (None, "failed", ""),
    ];
    for (answer, outcome, ended) in cases {
        let store = MemoryStore::new();
        let (hoist, admin) = counted(&store, Answering(answer));
        let upload = request("POST", &[("upload-token", "a")], Content::sized(b"0123456789"));
        send(&hoist, upload).await;
        for other in ["accepted", "rejected", "failed"] {
            let expected = if other == outcome { 1.0 } else { 0.0 };
            let series = format!("hoist_target_seconds_count{{outcome=\"{other}\"}}");
            assert_samples(&admin, &[(&series, expected)]).await;
        }
        for other in ["delivered", "failed"] {
            let expected = if other == ended { 1.0 } else { 0.0 };
            let series = format!("hoist_uploads_ended_total{{dialect=\"upload-token\",outcome=\"{other}\"}}");
            assert_samples(&admin, &[(&series, expected)]).await;
        }
    }
}

#[tokio::test]
async fn a_scrape_with_many_open_uploads_takes_no_time() {
    const UPLOADS: u32 = 100_000;
    let store = MemoryStore::new();
    for number in 0..UPLOADS {
        let mut bits = [0; 16];
        bits[..4].copy_from_slice(&number.to_be_bytes());
        let upload = hoist_proto::testing::upload(UploadId::from_bits(bits));
        drop(store.create(&upload, Fence::new(1)).await.expect("created"));
    }
    let (hoist, admin) = counted(&store, hoist_server::targets::Keep);
    let running = hoist.start(Duration::from_hours(1)).await;
    timeout(SOON, running.recovered()).await.expect("all are counted");
    assert_samples(&admin, &[("hoist_uploads_open", f64::from(UPLOADS))]).await;
    // The best of several, because other tests run beside this one.
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let begun = Instant::now();
        let request = request_to("/metrics", "GET", &[], Content::none());
        let answer = admin.clone().call(request).await.unwrap_or_else(|never| match never {});
        best = best.min(begun.elapsed());
        assert_eq!(answer.status(), StatusCode::OK);
    }
    assert!(best < Duration::from_millis(50), "{best:?}");
    running.stop().await;
}
