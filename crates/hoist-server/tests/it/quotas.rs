//! Quotas under attack and failure: they are never exceeded, and failed requests do not count.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hoist_http::Peer;
use hoist_proto::refusal::Reason;
use hoist_server::admission::Quotas;
use hoist_server::hook::{Answer, Call, Failure, Hooks, Point, Points, Receiver};
use hoist_server::{Builder, Hoist};
use hoist_store::memory::{Faults, MemoryStore};
use hoist_store::store::{BoxFuture, Store};
use http::{Request, StatusCode};

use crate::harness::{Content, Ends, Got, request, request_to, send};

const MIB: usize = 1 << 20;
const V8: (&str, &str) = ("upload-draft-interop-version", "8");

fn builder(store: &MemoryStore, quotas: Quotas) -> Builder {
    Hoist::builder(Arc::new(store.clone()) as Arc<dyn Store>).quotas(quotas)
}

fn bytes_max(bytes: usize) -> Quotas {
    Quotas { bytes_max: Some(bytes as u64), ..Quotas::default() }
}

fn open_max(uploads: usize) -> Quotas {
    Quotas { open_max: Some(uploads), ..Quotas::default() }
}

async fn stored(store: &MemoryStore) -> u64 {
    store.list_all().await.expect("readable").iter().map(|summary| summary.stored.get()).sum()
}

/// Sends the first part of a new token.
async fn first_part(hoist: &Hoist, token: &str) -> Got {
    let fields = [("upload-token", token), ("upload-index", "0"), ("upload-length", "9")];
    send(hoist, request("POST", &fields, Content::none())).await
}

// proves: TOK-SEC-04
#[tokio::test]
async fn content_of_unknown_length_ends_at_the_quota() {
    let content = vec![7; 64 * MIB];
    let token = ("upload-token", "unknown");
    for (method, path, fields) in [
        ("POST", "/uploads", &[][..]),
        ("PUT", "/uploads/file", &[]),
        ("POST", "/uploads", &[token]),
        ("POST", "/uploads", &[V8, ("upload-complete", "?1")]),
    ] {
        let store = MemoryStore::new();
        let hoist = builder(&store, bytes_max(MIB)).build();
        let got = send(&hoist, request_to(path, method, fields, Content::chunked(&content))).await;
        assert_eq!(got.status, StatusCode::INSUFFICIENT_STORAGE, "{method} {fields:?}");
        assert!(stored(&store).await <= MIB as u64, "{method} {fields:?}");
    }
}

#[tokio::test]
async fn concurrent_requests_share_the_quota() {
    let store = MemoryStore::new();
    let hoist = builder(&store, bytes_max(MIB)).build();
    let half = vec![7; 3 * MIB / 4];
    let requests = (0..8).map(|number| {
        let token = format!("at-once-{number}");
        let content = if number % 2 == 0 { Content::chunked(&half) } else { Content::sized(&half) };
        let request = request("POST", &[("upload-token", token.as_str())], content);
        let hoist = hoist.clone();
        tokio::spawn(async move { send(&hoist, request).await.status })
    });
    let mut whole = 0;
    for answer in requests.collect::<Vec<_>>() {
        let status = answer.await.expect("no panic");
        assert!(status.is_success() || status == StatusCode::INSUFFICIENT_STORAGE, "{status}");
        whole += usize::from(status.is_success());
    }
    assert!(whole <= 1, "{whole} fit");
    assert!(stored(&store).await <= MIB as u64);
}

#[tokio::test]
async fn the_reservation_of_a_cut_request_is_released() {
    let store = MemoryStore::new();
    let hoist = builder(&store, bytes_max(MIB)).build();
    let cut = Content::new(&[7; 1000], 100, Ends::Cut, None);
    send(&hoist, request("POST", &[("upload-token", "cut")], cut)).await;
    let rest = (MIB - 1000).to_string();
    let fields = [("upload-token", "other"), ("upload-length", rest.as_str())];
    assert_eq!(send(&hoist, request("POST", &fields, Content::none())).await.status.as_u16(), 204);
}

/// Refuses until it is set to accept.
#[derive(Clone, Default)]
struct Refusing(Arc<AtomicBool>);

impl Receiver for Refusing {
    fn name(&self) -> &'static str {
        "refusing"
    }

    fn points(&self) -> Points {
        Points::of(Point::PreCreate)
    }

    fn call<'a>(&'a self, _: &'a Call) -> BoxFuture<'a, Result<Answer, Failure>> {
        let admits = self.0.load(Ordering::SeqCst);
        let detail = "not today".to_owned();
        let refusal = Reason::Rejected { status: StatusCode::FORBIDDEN, detail }.into();
        let answer = if admits { Answer::default() } else { Answer::refusing(refusal) };
        Box::pin(std::future::ready(Ok(answer)))
    }
}

// proves: TOK-SEC-04, TOK-IDX-01
#[tokio::test]
async fn a_part_refused_by_a_hook_leaves_nothing() {
    let store = MemoryStore::new();
    let hook = Refusing::default();
    let hoist = builder(&store, open_max(2)).hooks(Hooks::new(vec![Arc::new(hook.clone())])).build();
    for number in 0..10 {
        assert_eq!(first_part(&hoist, &format!("refused-{number}")).await.status.as_u16(), 403);
    }
    assert!(store.list_all().await.expect("readable").is_empty());
    hook.0.store(true, Ordering::SeqCst);
    assert_eq!(first_part(&hoist, "taken").await.status.as_u16(), 204);
    assert_eq!(store.list_all().await.expect("readable").len(), 2, "the whole and its part");
}

#[tokio::test]
async fn a_part_refused_by_a_quota_leaves_nothing() {
    let store = MemoryStore::new();
    let hoist = builder(&store, open_max(1)).build();
    for number in 0..3 {
        assert_eq!(first_part(&hoist, &format!("refused-{number}")).await.status.as_u16(), 429);
    }
    assert!(store.list_all().await.expect("readable").is_empty());
    let fields = [("upload-token", "plain"), ("upload-length", "9")];
    assert_eq!(send(&hoist, request("POST", &fields, Content::none())).await.status.as_u16(), 204);
}

#[tokio::test]
async fn failures_of_the_store_leave_no_open_upload_in_the_ledger() {
    for seed in 0..40 {
        let store = MemoryStore::new();
        let hoist = builder(&store, open_max(4)).build();
        store.set_faults(Faults { error: 0.5, ..Faults::NONE });
        for number in 0..10 {
            first_part(&hoist, &format!("{seed}-part-{number}")).await;
            let token = format!("{seed}-plain-{number}");
            let fields = [("upload-token", token.as_str()), ("upload-length", "9")];
            send(&hoist, request("POST", &fields, Content::none())).await;
        }
        store.set_faults(Faults::NONE);
        let open = store.list_all().await.expect("readable").iter().filter(|summary| summary.is_open).count();
        // The remaining quota can be used up.
        for number in open..4 {
            let token = format!("{seed}-more-{number}");
            let fields = [("upload-token", token.as_str()), ("upload-length", "9")];
            let got = send(&hoist, request("POST", &fields, Content::none())).await;
            assert_eq!(got.status.as_u16(), 204, "seed {seed}: {open} are open");
        }
        let fields = [("upload-token", "one-more"), ("upload-length", "9")];
        let got = send(&hoist, request("POST", &fields, Content::none())).await;
        assert_eq!(got.status.as_u16(), 429, "seed {seed}: {open} were open");
    }
}

#[tokio::test]
async fn complete_uploads_have_their_own_quota() {
    let store = MemoryStore::new();
    let quotas = Quotas { complete_max: Some(3), ..Quotas::default() };
    let hoist = builder(&store, quotas).build();
    let empty = || request("POST", &[V8, ("upload-complete", "?1")], Content::none());
    let mut last = None;
    for _ in 0..3 {
        let got = send(&hoist, empty()).await;
        assert_eq!(got.status.as_u16(), 201);
        last = got.field("location").map(str::to_owned);
    }
    assert_eq!(send(&hoist, empty()).await.status.as_u16(), 507);
    // The same after a restart; removing one makes room for another.
    store.crash();
    let hoist = builder(&store, quotas).build();
    hoist.recover().await.expect("readable");
    assert_eq!(send(&hoist, empty()).await.status.as_u16(), 507);
    let gone = request_to(&last.expect("a place"), "DELETE", &[V8], Content::none());
    assert_eq!(send(&hoist, gone).await.status.as_u16(), 204);
    assert_eq!(send(&hoist, empty()).await.status.as_u16(), 201);
    assert_eq!(send(&hoist, empty()).await.status.as_u16(), 507);
}

// proves: IETF-CRE-14
#[tokio::test]
async fn stored_fields_are_limited_and_count_towards_the_quota() {
    let store = MemoryStore::new();
    let hoist = builder(&store, bytes_max(20_000)).build();
    let (long, too_long) = ("x".repeat(4000), "x".repeat(5000));
    let with = |name: &'static str, value: &str, count: usize| {
        let fields = [vec![V8, ("upload-complete", "?1")], vec![(name, value); count]].concat();
        request("POST", &fields, Content::none())
    };
    // Two lines exceed the limit for stored fields; other fields are not stored.
    assert_eq!(send(&hoist, with("x-own", &too_long, 2)).await.status.as_u16(), 431);
    assert_eq!(send(&hoist, with("accept-something", &too_long, 10)).await.status.as_u16(), 201);
    assert_eq!(send(&hoist, with("content-type", &long, 15)).await.status.as_u16(), 201);
    let mut kept = 0;
    while send(&hoist, with("x-own", &long, 2)).await.status.as_u16() == 201 {
        kept += 1;
        assert!(kept < 10, "stored fields count");
    }
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn open_uploads_of_one_address_are_limited() {
    let quotas = Quotas { open_max_address: Some(2), ..Quotas::default() };
    let proxy = "10.0.0.1".parse().expect("a network");
    let hoist = builder(&MemoryStore::new(), quotas).trusted_proxies(vec![proxy]).build();
    let mut number = 0;
    let mut open = async |peer: &str, forwarded: &str| {
        number += 1;
        let token = format!("address-{number}");
        let fields =
            [("upload-token", token.as_str()), ("upload-length", "9"), ("x-forwarded-for", forwarded)];
        let mut request: Request<Content> = request("POST", &fields, Content::none());
        let addr: SocketAddr = peer.parse().expect("an address");
        request.extensions_mut().insert(Peer { addr, tls: false });
        send(&hoist, request).await.status.as_u16()
    };
    for (peer, forwarded, expected) in [
        ("192.0.2.1:1", "192.0.2.77", 204),
        ("192.0.2.1:2", "192.0.2.78", 204),
        ("192.0.2.1:3", "192.0.2.79", 429),
        ("192.0.2.2:1", "", 204),
        ("[2001:db8::1]:1", "", 204),
        ("[2001:db8::ffff:1]:1", "", 204),
        ("[2001:db8::2]:1", "", 429),
        ("[2001:db8:0:1::2]:1", "", 204),
        ("10.0.0.1:1", "198.51.100.1", 204),
        ("10.0.0.1:1", "198.51.100.1", 204),
        ("10.0.0.1:1", "198.51.100.1", 429),
        ("10.0.0.1:1", "198.51.100.2", 204),
    ] {
        assert_eq!(open(peer, forwarded).await, expected, "{peer} {forwarded}");
    }
}
