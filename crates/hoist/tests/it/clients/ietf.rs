//! tus-js-client with the two draft versions it supports, through a faulty proxy.
//!
//! The releases are locked in `tests/node/package-lock.json` and installed once, below the target directory.

use serde_json::{Value, json};

use super::javascript::{Client, run};
use super::{Bench, Dialect, MIB, installed, with};
use crate::faulty_proxy::{Fault, Proxy};
use crate::harness::{SeededRng, bytes, print_note, seeds};

/// The setting for clients that send all content and never state completeness.
const AT_LENGTH: [&str; 2] = ["--ietf-complete-at-length", "v5-v6"];

const CLIENTS: [Client; 4] = [
    Client { release: 4, protocol: "ietf-draft-03", interop: Some("5") },
    Client { release: 4, protocol: "ietf-draft-05", interop: Some("6") },
    Client { release: 5, protocol: "ietf-draft-03", interop: Some("5") },
    Client { release: 5, protocol: "ietf-draft-05", interop: Some("6") },
];

fn bench(content: Vec<u8>, flags: &[&str]) -> Option<Bench> {
    installed::tus_js_client().map(|_| Bench::new(Dialect::Draft, content, flags))
}

/// Ways to upload, with the number of appends of each.
fn ways() -> [(Value, usize); 6] {
    [
        (json!({}), 1),
        (json!({ "during": true }), 0),
        (json!({ "source": "file" }), 1),
        (json!({ "chunk": MIB }), 4),
        (json!({ "chunk": MIB, "source": "file", "during": true }), 3),
        (json!({ "chunk": MIB, "source": "stream", "deferred": true }), 4),
    ]
}

// proves: IETF-CRE-16, IETF-VER-01, IETF-VER-03
#[tokio::test]
async fn tus_js_client_uploads_at_once_in_chunks_and_with_deferred_length() {
    let Some(bench) = bench(bytes(41, 3 * MIB + 12_345), &AT_LENGTH) else { return };
    let proxy = Proxy::start(&bench.server, []).await;
    for client in CLIENTS {
        for (job, appends) in ways() {
            let done = run(&bench, client, &proxy, job.clone()).await.succeeded();
            bench.holds(&done).await;
            assert!(bench.home.only_complete() == bench.content, "{client:?} {job}");
            assert_eq!((done.count("POST"), done.count("PATCH")), (1, appends), "{client:?} {job}");
            for request in done.requests() {
                assert_eq!(request["status"], 201, "{client:?} {job}: {request}");
                assert_eq!(
                    request["got"]["Upload-Draft-Interop-Version"],
                    json!(client.interop),
                    "{request}"
                );
            }
            bench.clear(&done).await;
        }
    }
    assert_eq!(proxy.faults(), 0);
    assert!(proxy.up() > 24 * 3 * MIB as u64 && proxy.down() > 0 && proxy.connections() >= 24);
}

/// In the draft, an upload is complete only if the client says so. Release 4 never does for files that it reads from
/// disk in chunks, but reports success.
// proves: IETF-CMP-03
#[tokio::test]
async fn tus_js_client_4_reports_success_for_incomplete_uploads() {
    let Some(bench) = bench(bytes(45, 3 * MIB + 12_345), &[]) else { return };
    let proxy = Proxy::start(&bench.server, []).await;
    for client in CLIENTS {
        for (job, _) in ways().into_iter().skip(3) {
            let done = run(&bench, client, &proxy, job.clone()).await.succeeded();
            let state = bench.state(&done.path()).await;
            let is_explicit = client.release != 4 || job["source"] != "file";
            assert_eq!(
                (state.offset(), state.is_complete()),
                (Some(bench.content.len()), is_explicit),
                "{client:?} {job}"
            );
            bench.clear(&done).await;
        }
    }
}

/// Releases 4 and 5 create an empty file with `?0` and send nothing more, unless they are set to send data with the
/// creation.
// proves: IETF-CMP-03
#[tokio::test]
async fn tus_js_client_creates_but_does_not_complete_an_empty_file() {
    for flags in [&[][..], &AT_LENGTH] {
        let Some(bench) = bench(Vec::new(), flags) else { return };
        let proxy = Proxy::start(&bench.server, []).await;
        for client in CLIENTS {
            for during in [false, true] {
                let done = run(&bench, client, &proxy, json!({ "during": during })).await.succeeded();
                assert_eq!(done.requests().len(), 1, "{:#}", done.0);
                let state = bench.state(&done.path()).await;
                assert_eq!(state.is_complete(), during || !flags.is_empty(), "{client:?} {during} {flags:?}");
                assert_eq!((state.status, state.offset()), (204, Some(0)));
                bench.clear(&done).await;
            }
        }
    }
}

#[tokio::test]
async fn tus_js_client_resumes_from_a_stored_url() {
    let Some(bench) = bench(bytes(42, 4 << 20), &AT_LENGTH) else { return };
    for (number, client) in CLIENTS.into_iter().enumerate() {
        let proxy = Proxy::start(&bench.server, []).await;
        let storage = bench.home.text(&format!("storage-{number}"));
        let common = json!({ "source": "file", "chunk": MIB, "storage": storage });
        let job = |more: Value| with(&common, more);
        let first = run(&bench, client, &proxy, job(json!({ "abortAfter": 2_500_000 }))).await;
        assert_eq!(first.outcome(), "aborted", "{:#}", first.0);
        let state = bench.state(&first.path()).await;
        assert!(!state.is_complete() && state.offset() >= Some(2 << 20), "{state:?}");
        let sent = proxy.up();
        let second = run(&bench, client, &proxy, job(json!({ "resume": true }))).await.succeeded();
        assert_eq!(second.path(), first.path());
        assert_eq!((second.count("POST"), second.count("HEAD")), (0, 1), "{:#}", second.0);
        assert!(proxy.up() - sent < (2 << 20) + 5000, "sent again what was there");
        bench.holds(&second).await;
        bench.clear(&second).await;
    }
}

/// Resuming a complete upload succeeds without sending data, because the response to `HEAD` has the length.
// proves: IETF-RET-04
#[tokio::test]
async fn tus_js_client_resumes_a_complete_upload_without_sending_data() {
    let Some(bench) = bench(bytes(46, MIB), &[]) else { return };
    let proxy = Proxy::start(&bench.server, []).await;
    for client in CLIENTS {
        let done = run(&bench, client, &proxy, json!({ "source": "buffer" })).await.succeeded();
        bench.holds(&done).await;
        let again = json!({ "source": "buffer", "uploadUrl": proxy.url(&done.path()) });
        let again = run(&bench, client, &proxy, again).await.succeeded();
        assert_eq!((again.count("HEAD"), again.requests().len()), (1, 1), "{client:?} {:#}", again.0);
        bench.clear(&done).await;
    }
}

#[tokio::test]
async fn tus_js_client_terminates() {
    let Some(bench) = bench(bytes(43, 2 << 20), &[]) else { return };
    let proxy = Proxy::start(&bench.server, []).await;
    for client in CLIENTS {
        let job = json!({ "chunk": 256 << 10, "abortAfter": 600_000, "terminate": true });
        let done = run(&bench, client, &proxy, job).await;
        assert_eq!((done.outcome(), done.count("DELETE")), ("aborted", 1), "{:#}", done.0);
        assert_eq!(bench.state(&done.path()).await.status, 404);
        bench.is_empty();
    }
}

/// Uploads through a proxy with seeded faults.
async fn interrupted(client: Client, seed: u64) {
    let mut rng = SeededRng(seed);
    let length = [100_000, 1 << 20, 3 << 20][rng.below(3)] + rng.below(5000);
    let Some(bench) = bench(rng.bytes(length), &AT_LENGTH) else { return };
    let proxy = Proxy::by_seed(&bench.server, seed, length, 12).await;
    let source = ["buffer", "file"][rng.below(2)];
    let mut job = json!({ "source": source, "retries": 100 });
    if rng.one_in(2) {
        job["chunk"] = (length / (2 + rng.below(4)) + 1).into();
    }
    job["during"] = rng.one_in(2).into();
    let done = run(&bench, client, &proxy, job.clone()).await;
    let faults = proxy.faults();
    let requests = done.requests().len();
    print_note(format_args!(
        "seed {seed} {client:?} {job} {length} bytes: {requests} requests, {faults} faults"
    ));
    bench.holds(&done.succeeded()).await;
}

#[tokio::test]
async fn tus_js_client_4_survives_random_faults() {
    for seed in seeds(0..12) {
        interrupted(CLIENTS[usize::from(seed % 2 == 1)], seed).await;
    }
}

#[tokio::test]
async fn tus_js_client_5_survives_random_faults() {
    for seed in seeds(12..24) {
        interrupted(CLIENTS[2 + usize::from(seed % 2 == 1)], seed).await;
    }
}

/// Loses part of the last request. Returns the client's result and whether the upload is complete.
fn ending_by_the_text(client: Client, fault: Fault) -> (&'static str, bool) {
    match fault {
        // All content arrived and only the response was lost. `HEAD` reports offset and length.
        Fault::Swallow { .. } => ("success", true),
        // All bytes arrived but not the end of the content. The library takes the offset for completion.
        _ if client.release == 4 => ("success", true), // content of a declared size has no such end
        _ => ("success", false),
    }
}

// proves: IETF-CMP-04, IETF-RET-04
#[tokio::test]
async fn tus_js_client_reports_success_if_the_last_response_is_lost() {
    const LENGTH: usize = 300_000;
    for flags in [&[][..], &AT_LENGTH] {
        let Some(bench) = bench(bytes(44, LENGTH), flags) else { return };
        for client in CLIENTS {
            for source in ["buffer", "file"] {
                let after = LENGTH as u64;
                for fault in [Fault::Swallow { after }, Fault::BeforeEnd { after }] {
                    let proxy = Proxy::start(&bench.server, [Some(fault)]).await;
                    let done = run(&bench, client, &proxy, json!({ "source": source, "retries": 3 })).await;
                    let what = format!("{flags:?} {client:?} {source} {fault:?} {:#}", done.0);
                    let (outcome, is_complete) = match flags {
                        [] => ending_by_the_text(client, fault),
                        _ => ("success", true),
                    };
                    assert_eq!(done.outcome(), outcome, "{what}");
                    let state = bench.state(&done.path()).await;
                    assert_eq!((state.offset(), state.is_complete()), (Some(LENGTH), is_complete), "{what}");
                    bench.clear(&done).await;
                }
            }
        }
    }
}
