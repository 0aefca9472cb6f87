//! tus-js-client with tus 1.0, its default: all ways to upload, and uploads through a faulty proxy.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::javascript::{Client, run};
use super::{Bench, Dialect, Done, MIB, installed, with};
use crate::faulty_proxy::{Direction, Fault, Proxy};
use crate::harness::{SeededRng, Server, bytes, poll_until_async, print_note, seeds};

const CLIENTS: [Client; 2] = [
    Client { release: 4, protocol: "tus-v1", interop: None },
    Client { release: 5, protocol: "tus-v1", interop: None },
];

pub(super) fn bench(content: Vec<u8>) -> Option<Bench> {
    installed::tus_js_client().map(|_| Bench::new(Dialect::Tus, content, &[]))
}

/// Ways to upload almost four chunks, with the numbers of POST and PATCH requests.
fn ways() -> [(Value, (usize, usize)); 10] {
    [
        (json!({}), (1, 1)),
        (json!({ "during": true }), (1, 0)),
        (json!({ "source": "file" }), (1, 1)),
        (json!({ "chunk": MIB }), (1, 4)),
        (json!({ "chunk": MIB, "source": "file", "during": true }), (1, 3)),
        (json!({ "chunk": MIB, "source": "stream", "deferred": true }), (1, 4)),
        (json!({ "override": true }), (2, 0)),
        (json!({ "chunk": MIB, "override": true }), (5, 0)),
        (json!({ "parallel": 3 }), (4, 3)),
        (json!({ "parallel": 2, "chunk": MIB, "source": "file" }), (3, 4)),
    ]
}

// proves: TUS1-DF-01, TUS1-DF-02, TUS1-DF-03, TUS1-DF-07, TUS1-DF-08, TUS1-DF-09, TUS1-DF-10
#[tokio::test]
async fn tus_js_client_uploads_in_every_mode() {
    let Some(bench) = bench(bytes(51, 3 * MIB + 12_345)) else { return };
    let proxy = Proxy::start(&bench.server, []).await;
    for client in CLIENTS {
        for (job, (posts, patches)) in ways() {
            let before = proxy.up();
            let done = run(&bench, client, &proxy, job.clone()).await.succeeded();
            let what = format!("{client:?} {job} {:#}", done.0);
            bench.holds(&done).await;
            assert_eq!((done.count("POST"), done.count("PATCH")), (posts, patches), "{what}");
            assert_eq!(done.requests().len(), posts + patches, "{what}");
            for request in done.requests() {
                let is_append =
                    request["method"] == "PATCH" || !request["sent"]["X-HTTP-Method-Override"].is_null();
                assert_eq!(request["status"], if is_append { 204 } else { 201 }, "{what}");
                assert_eq!(request["got"]["Tus-Resumable"], "1.0.0", "{what}");
            }
            let sent = proxy.up() - before;
            assert!(sent < bench.content.len() as u64 + 8000, "{sent} bytes: {what}");
            bench.clear(&done).await;
        }
    }
    assert_eq!(proxy.faults(), 0);
}

/// An empty file is complete once it is created.
// proves: TUS1-DF-02, TUS1-CRE-05
#[tokio::test]
async fn tus_js_client_uploads_an_empty_file_with_one_request() {
    let Some(bench) = bench(Vec::new()) else { return };
    let proxy = Proxy::start(&bench.server, []).await;
    for client in CLIENTS {
        for during in [false, true] {
            let done = run(&bench, client, &proxy, json!({ "during": during })).await.succeeded();
            assert_eq!(done.requests().len(), 1, "{:#}", done.0);
            assert!(bench.home.only_complete().is_empty());
            bench.holds(&done).await;
            bench.clear(&done).await;
        }
    }
}

/// A second process finds the stored URLs, queries each part once and sends the rest. Afterwards no URL is stored.
async fn goes_on_from_what_is_stored(client: Client, parallel: usize) {
    const CHUNK: usize = 256 << 10;
    let Some(bench) = bench(bytes(52, 4 * MIB)) else { return };
    let proxy = Proxy::start(&bench.server, []).await;
    let storage = bench.home.text("storage");
    let common = json!({ "source": "file", "chunk": CHUNK, "storage": storage, "parallel": parallel });
    let first = run(&bench, client, &proxy, with(&common, json!({ "abortAfter": 2_500_000 }))).await;
    assert_eq!(first.outcome(), "aborted", "{:#}", first.0);
    first.never_went_back();
    let sent = proxy.up();
    let second = run(&bench, client, &proxy, with(&common, json!({ "resume": true }))).await.succeeded();
    let joins = usize::from(parallel > 1);
    assert_eq!((second.count("POST"), second.count("HEAD")), (joins, parallel), "{:#}", second.0);
    let (again, chunks) = (proxy.up() - sent, (parallel * CHUNK) as u64);
    assert!(again < 4 * MIB as u64 - 2_500_000 + chunks + 15_000, "{again} bytes: sent again what was there");
    bench.holds(&second).await;
    let both: Vec<_> = first.requests().iter().chain(second.requests()).cloned().collect();
    Done(json!({ "requests": both })).never_went_back();
    let third = run(&bench, client, &proxy, with(&common, json!({ "resume": true }))).await;
    assert_eq!((third.outcome(), third.requests().len()), ("error", 0), "{:#}", third.0);
}

// proves: TUS1-DF-04
#[tokio::test]
async fn tus_js_client_resumes_from_a_stored_url() {
    for client in CLIENTS {
        goes_on_from_what_is_stored(client, 1).await;
    }
}

// proves: TUS1-DF-04, TUS1-DF-09
#[tokio::test]
async fn tus_js_client_resumes_parts_from_stored_urls() {
    for client in CLIENTS {
        goes_on_from_what_is_stored(client, 3).await;
    }
}

// proves: TUS1-DF-01, TUS1-TRM-01, TUS1-TRM-03
#[tokio::test]
async fn tus_js_client_terminates_an_upload() {
    let Some(bench) = bench(bytes(53, 2 * MIB)) else { return };
    let proxy = Proxy::start(&bench.server, []).await;
    for client in CLIENTS {
        for parallel in [1, 3] {
            let job =
                json!({ "chunk": 128 << 10, "abortAfter": 600_000, "terminate": true, "parallel": parallel });
            let done = run(&bench, client, &proxy, job).await;
            let what = format!("{client:?} {parallel} {:#}", done.0);
            assert_eq!((done.outcome(), done.count("DELETE")), ("aborted", parallel), "{what}");
            for request in done.requests().iter().filter(|request| request["method"] == "DELETE") {
                assert_eq!(request["status"], 204, "{what}");
                let status = bench.state(request["url"].as_str().expect("a path")).await.status;
                assert!(matches!(status, 404 | 410), "{status}");
            }
            bench.is_empty();
        }
    }
}

/// Loses either the last response after all bytes arrived, or the connection before the end of the last request.
// proves: TUS1-DF-05, TUS1-DF-18
#[tokio::test]
async fn tus_js_client_reports_success_if_the_last_response_is_lost() {
    const LENGTH: usize = 300_000;
    let Some(bench) = bench(bytes(54, LENGTH)) else { return };
    for client in CLIENTS {
        for job in [json!({}), json!({ "source": "file", "override": true })] {
            let after = LENGTH as u64;
            for fault in [Fault::Swallow { after }, Fault::BeforeEnd { after }] {
                let proxy = Proxy::start(&bench.server, [Some(fault)]).await;
                let done = run(&bench, client, &proxy, with(&job, json!({ "retries": 3 }))).await.succeeded();
                bench.holds(&done).await;
                assert!(bench.home.only_complete() == bench.content, "{client:?} {job} {fault:?}");
                bench.clear(&done).await;
            }
        }
    }
}

/// Release 5 forgets that the length was deferred as soon as it has sent it, and fails if that request is lost. If the
/// content before ended exactly with a chunk, neither release notices that there is nothing left to read. The server
/// has all bytes.
#[tokio::test]
async fn tus_js_client_may_fail_if_the_response_with_the_deferred_length_is_lost() {
    const LENGTH: usize = 300_000;
    let Some(bench) = bench(bytes(55, LENGTH)) else { return };
    for (chunk, outcomes, is_complete) in
        [(200_000, ["success", "error"], true), (LENGTH / 2, ["silence", "silence"], false)]
    {
        for (client, outcome) in CLIENTS.into_iter().zip(outcomes) {
            let fault = Fault::Swallow { after: LENGTH as u64 };
            let proxy = Proxy::start(&bench.server, [Some(fault)]).await;
            let job = json!({ "source": "stream", "deferred": true, "chunk": chunk, "retries": 3 });
            let done = run(&bench, client, &proxy, job).await;
            assert_eq!(done.outcome(), outcome, "{client:?} {:#}", done.0);
            let state = bench.state(&done.path()).await;
            assert_eq!((state.offset(), state.field("upload-length").is_some()), (Some(LENGTH), is_complete));
            bench.clear(&done).await;
        }
    }
}

/// The server is killed halfway and restarted. The client resumes by itself.
// proves: TUS1-DF-04, TUS1-DF-05
#[tokio::test]
async fn tus_js_client_survives_a_server_crash() {
    for client in CLIENTS {
        let Some(bench) = bench(bytes(56, 3 * MIB)) else { return };
        let slow = Fault::Slow { way: Direction::Up, piece: 8 << 10, late: Duration::from_millis(2) };
        let proxy = Proxy::start(&bench.server, std::iter::repeat_n(Some(slow), 1000)).await;
        let address = bench.server.addr;
        let restart = async {
            bench.home.holds(MIB).await;
            bench.server.signal(Signal::KILL);
            let gone = async || TcpStream::connect(address).await.err();
            poll_until_async("the server to be gone", gone).await;
            Server::start(&bench.home, &["--durability", "os", "--listen", &address.to_string()])
        };
        let job = json!({ "chunk": 200_000, "retries": 1000 });
        let (done, _server) = tokio::join!(run(&bench, client, &proxy, job), restart);
        let done = done.succeeded();
        assert_eq!(done.count("POST"), 1, "{:#}", done.0);
        assert!(done.count("HEAD") > 0, "{:#}", done.0);
        bench.holds(&done).await;
    }
}

/// Uploads through a proxy with seeded faults.
async fn interrupted(client: Client, seed: u64) {
    let mut rng = SeededRng(seed);
    let length = [100_000, MIB, 3 * MIB][rng.below(3)] + rng.below(5000);
    let Some(bench) = bench(rng.bytes(length)) else { return };
    let proxy = Proxy::by_seed(&bench.server, seed, length, 12).await;
    let source = ["buffer", "file"][rng.below(2)];
    let mut job = json!({ "source": source, "retries": 100 });
    if rng.one_in(2) {
        job["chunk"] = (length / (2 + rng.below(4)) + 1).into();
    }
    match rng.below(5) {
        0 => job["during"] = true.into(),
        1 => job["parallel"] = (2 + rng.below(3)).into(),
        2 => job["override"] = true.into(),
        3 if client.release == 4 => {
            let chunk = length / (2 + rng.below(4)) + 1;
            job = with(&job, json!({ "source": "stream", "deferred": true, "chunk": chunk }));
        }
        _ => {}
    }
    let done = run(&bench, client, &proxy, job.clone()).await;
    let faults = proxy.faults();
    let requests = done.requests().len();
    print_note(format_args!(
        "seed {seed} {client:?} {job} {length} bytes: {requests} requests, {faults} faults"
    ));
    bench.holds(&done.succeeded()).await;
}

// proves: TUS1-DF-05, TUS1-DF-18, TUS1-PATCH-09
#[tokio::test]
async fn tus_js_client_4_survives_random_faults_in_tus() {
    for seed in seeds(100..112) {
        interrupted(CLIENTS[0], seed).await;
    }
}

// proves: TUS1-DF-05, TUS1-DF-18, TUS1-PATCH-09
#[tokio::test]
async fn tus_js_client_5_survives_random_faults_in_tus() {
    for seed in seeds(112..124) {
        interrupted(CLIENTS[1], seed).await;
    }
}
