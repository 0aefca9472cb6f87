//! tus-uploader, a Rust client for all of tus 1.0: checksums before and after the content, parts, termination.

use serde_json::{Value, json};
use tokio::process::Command;

use super::{Bench, Dialect, Done, MIB, installed, with};
use crate::faulty_proxy::Proxy;
use crate::harness::{SeededRng, bytes, print_note, seeds};

fn bench(content: Vec<u8>) -> Option<Bench> {
    installed::tus_uploader().map(|_| Bench::new(Dialect::Tus, content, &[]))
}

async fn run(bench: &Bench, proxy: &Proxy, job: Value) -> Done {
    let common = json!({ "endpoint": proxy.url("/uploads"), "file": bench.file });
    let client = installed::tus_uploader().expect("a bench is only made where there is a client");
    bench.drive(Command::new(client), &with(&common, job)).await
}

// proves: TUS1-CWU-03, TUS1-CAT-04
#[tokio::test]
async fn tus_uploader_uploads_in_every_mode() {
    let Some(bench) = bench(bytes(71, 3 * MIB + 12_345)) else { return };
    let proxy = Proxy::start(&bench.server, []).await;
    for transport in ["h1", "h2"] {
        for (job, (posts, patches)) in [
            (json!({}), (1, 2)), // the file is read in pieces of 2 MiB
            (json!({ "chunk": MIB, "checksum": "header" }), (1, 4)),
            (json!({ "initial": 4 * MIB }), (1, 0)),
            (json!({ "initial": 4 * MIB, "checksum": "header" }), (1, 0)),
            (json!({ "part": MIB }), (5, 3)), // the last part is short and comes with its creation
            (json!({ "part": MIB, "chunk": MIB / 2, "checksum": "header" }), (5, 6)),
        ] {
            let done = run(&bench, &proxy, with(&job, json!({ "wire": transport }))).await.succeeded();
            bench.holds(&done).await;
            assert_eq!(
                (done.count("POST"), done.count("PATCH")),
                (posts, patches),
                "{transport} {job} {:#}",
                done.0
            );
            bench.clear(&done).await;
        }
    }
}

/// Over HTTP/2, checksums are sent as trailers. Over HTTP/1.1 the library declares the trailer but sends content with a
/// length, which cannot have trailers, so that content is rejected.
// proves: TUS1-CHK-07, TUS1-CHK-08
#[tokio::test]
async fn tus_uploader_sends_trailing_checksums_only_over_h2() {
    let Some(bench) = bench(bytes(73, MIB + 12_345)) else { return };
    let proxy = Proxy::start(&bench.server, []).await;
    for (more, patches) in [(json!({ "chunk": MIB / 2 }), 3), (json!({ "part": MIB }), 1)] {
        let job = with(&json!({ "checksum": "trailer", "wire": "h2" }), more);
        let done = run(&bench, &proxy, job).await.succeeded();
        assert_eq!(done.count("PATCH"), patches, "{:#}", done.0);
        bench.holds(&done).await;
        bench.clear(&done).await;
    }
    let done = run(&bench, &proxy, json!({ "checksum": "trailer" })).await;
    assert_eq!(done.outcome(), "error", "{:#}", done.0);
    let last = done.requests().last().expect("requests");
    assert_eq!((&last["method"], &last["status"]), (&json!("PATCH"), &json!(400)), "{:#}", done.0);
    let path = last["url"].as_str().expect("a path");
    assert_eq!(bench.state(path).await.offset(), Some(0));
}

// proves: TUS1-TRM-01
#[tokio::test]
async fn tus_uploader_terminates_an_upload() {
    let Some(bench) = bench(bytes(72, 10_000)) else { return };
    let proxy = Proxy::start(&bench.server, []).await;
    let done = run(&bench, &proxy, json!({ "steps": true, "terminate": true })).await.succeeded();
    assert_eq!((done.count("POST"), done.count("DELETE")), (1, 1), "{:#}", done.0);
    bench.is_empty();
}

async fn interrupted(seed: u64) {
    let mut rng = SeededRng(seed);
    let length = [100_000, MIB, 3 * MIB][rng.below(3)] + rng.below(5000);
    let Some(bench) = bench(rng.bytes(length)) else { return };
    let proxy = Proxy::by_seed(&bench.server, seed, length, 12).await;
    let mut job = json!({ "retries": 100, "steps": true, "chunk": length / (1 + rng.below(5)) + 1 });
    match rng.below(5) {
        0 => job["checksum"] = "header".into(),
        1 => job = with(&job, json!({ "checksum": "trailer", "wire": "h2" })),
        2 => job["wire"] = "h2".into(),
        3 => job["part"] = (length / (1 + rng.below(4)) + 1).into(),
        _ => {}
    }
    let done = run(&bench, &proxy, job.clone()).await;
    let (requests, faults) = (done.requests().len(), proxy.faults());
    print_note(format_args!("seed {seed} {job} {length} bytes: {requests} requests, {faults} faults"));
    bench.holds(&done.succeeded()).await;
}

#[tokio::test]
async fn tus_uploader_survives_random_faults() {
    for seed in seeds(150..162) {
        interrupted(seed).await;
    }
}
