//! Many concurrent uploads: they do not disturb each other, and memory use stays bounded.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;

use crate::harness::{
    Exchange, H2, Server, ServerDir, TRANSPORTS, TestRequest, Transport, bytes, print_note, within_timeout,
};

/// Raises the limit on open files. This process holds one end of each connection, and the server, which inherits the
/// limit, the other.
fn may_open(files: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= files) {
        return true;
    }
    let raised = Rlimit { current: Some(files), maximum: limit.maximum };
    let done = setrlimit(Resource::Nofile, raised);
    if let Err(error) = &done {
        print_note(format_args!("not tested: {files} open files are not permitted: {error}"));
    }
    done.is_ok()
}

/// Returns the best time of an upload of a few megabytes.
async fn fresh(server: &Server, content: &Bytes, round: &str) -> Duration {
    let mut best = Duration::MAX;
    for attempt in 0..3 {
        for transport in TRANSPORTS {
            let request = TestRequest::new("POST", &format!("fresh-{round}-{attempt}-{transport:?}"))
                .shared(content.clone());
            let began = Instant::now();
            let got = server.request(transport, request).await;
            best = best.min(began.elapsed());
            assert!(got.status == 204 && got.is_complete(), "{got:?}");
        }
    }
    best
}

#[tokio::test]
async fn a_thousand_uploads_and_two_hundred_stalled_ones_do_not_disturb_each_other() {
    if !may_open(4096) {
        return;
    }
    let home = ServerDir::new();
    let server = Arc::new(Server::start(&home, &["--max-open-uploads-per-address", "2000"]));
    let large = Bytes::from(bytes(1, 4 << 20));
    let alone = fresh(&server, &large, "alone").await;

    let mut stalled = Vec::new();
    for number in 0..200 {
        let transport = TRANSPORTS[number % 2];
        let request =
            TestRequest::new("POST", &format!("stalled-{number}")).sized(vec![9; 100]).stalls(Some(1 << 20));
        stalled.push(Exchange::begin(&server, transport, request, u64::MAX).await.expect("a connection"));
    }
    home.holds(200 * 100).await;

    let content = |number: usize| bytes(number as u64 + 1000, 16 << 10);
    let mut all = JoinSet::new();
    for number in 0..800 {
        let server = Arc::clone(&server);
        all.spawn(async move {
            let request = TestRequest::new("POST", &format!("small-{number}")).sized(content(number));
            server.request(Transport::H1, request).await
        });
    }
    for connection in 0..4 {
        let h2 = Arc::new(H2::connect(&server).await);
        for stream in 0..50 {
            let number = 800 + connection * 50 + stream;
            let h2 = Arc::clone(&h2);
            all.spawn(async move {
                let request = TestRequest::new("POST", &format!("small-{number}")).sized(content(number));
                h2.request(request).await.expect("an answer")
            });
        }
    }
    for got in within_timeout("a thousand answers", all.join_all()).await {
        assert!(got.status == 204 && got.offset() == Some(16 << 10) && got.is_complete(), "{got:?}");
    }
    let among = fresh(&server, &large, "among").await;
    print_note(format_args!("4 MiB alone: {alone:?}, among 200 stalled: {among:?}"));
    assert!(among < alone + Duration::from_secs(2), "{alone:?} alone, {among:?} among the stalled");

    let mut stored: HashMap<Vec<u8>, usize> = HashMap::new();
    home.done().into_iter().for_each(|content| *stored.entry(content).or_default() += 1);
    for number in 0..1000 {
        assert_eq!(stored.remove(&content(number)), Some(1), "upload {number}");
    }
    assert_eq!(stored.remove(&large[..]), Some(12));
    assert!(stored.is_empty());
    for (number, exchange) in stalled.iter_mut().enumerate().step_by(20) {
        assert_eq!(server.offset(Transport::H1, &format!("stalled-{number}")).await, Ok(100));
        assert!(within_timeout("the end of the stalled", exchange.answer()).await.is_err());
    }
    assert_eq!(home.uploads("open"), 200);
}

/// A smaller version of the memory benchmark that runs with every test run.
#[tokio::test]
async fn memory_does_not_grow_with_received_content() {
    let home = ServerDir::new();
    let server = Arc::new(Server::start(&home, &["--durability", "os"]));
    let content = Bytes::from(bytes(1, 8 << 20));
    for transport in TRANSPORTS {
        server
            .request(
                transport,
                TestRequest::new("POST", &format!("first-{transport:?}")).shared(content.clone()),
            )
            .await;
    }
    let idle = server.rss();
    let mut all = JoinSet::new();
    for number in 0..50 {
        let (server, content) = (Arc::clone(&server), content.clone());
        all.spawn(async move {
            let request = TestRequest::new("POST", &format!("parallel-{number}")).shared(content);
            server.request(TRANSPORTS[number % 2], request).await
        });
    }
    for got in within_timeout("fifty answers", all.join_all()).await {
        assert!(got.is_complete(), "{got:?}");
    }
    let grown = server.peak_rss().saturating_sub(idle);
    print_note(format_args!(
        "{} MiB idle, {} MiB more at most with 50 uploads of 8 MiB",
        idle >> 20,
        grown >> 20
    ));
    assert!(grown < 150 << 20, "{} MiB", grown >> 20);
}
