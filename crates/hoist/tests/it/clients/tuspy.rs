//! tuspy, which sends checksums, and a request per chunk.

use serde_json::{Value, json};
use tokio::process::Command;

use super::{Bench, Dialect, Done, MIB, installed, with};
use crate::faulty_proxy::{Fault, Proxy};
use crate::harness::{SeededRng, bytes, print_note, seeds};

pub(super) fn bench(content: Vec<u8>) -> Option<Bench> {
    installed::tuspy().map(|_| Bench::new(Dialect::Tus, content, &[]))
}

async fn run(bench: &Bench, proxy: &Proxy, job: Value) -> Done {
    let common = json!({ "endpoint": proxy.url("/uploads"), "file": bench.file });
    let mut python = Command::new(installed::tuspy().expect("a bench is only made where there is a client"));
    python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/upload.py"));
    bench.drive(python, &with(&common, job)).await
}

// proves: TUS1-CHK-01, TUS1-CHK-02, TUS1-MET-03
#[tokio::test]
async fn tuspy_uploads_at_once_in_chunks_and_with_checksums() {
    let Some(bench) = bench(bytes(61, 3 * MIB + 12_345)) else { return };
    let proxy = Proxy::start(&bench.server, []).await;
    for uploader in ["sync", "async"] {
        for (job, appends) in [
            (json!({}), 1),
            (json!({ "checksum": true }), 1),
            (json!({ "chunk": MIB, "checksum": true, "metadata": { "filename": "Zürich, 5 €.bin" } }), 4),
        ] {
            let done = run(&bench, &proxy, with(&job, json!({ "uploader": uploader }))).await.succeeded();
            bench.holds(&done).await;
            assert!(bench.home.only_complete() == bench.content, "{uploader} {job}");
            assert_eq!((done.count("POST"), done.count("PATCH")), (1, appends), "{uploader} {job}");
            let checked = |request: &&Value| !request["sent"]["Upload-Checksum"].is_null();
            let checked = done.requests().iter().filter(checked).count();
            assert_eq!(checked, if job["checksum"] == true { appends } else { 0 }, "{uploader} {job}");
            bench.clear(&done).await;
        }
    }
}

#[tokio::test]
async fn tuspy_uploads_an_empty_file() {
    let Some(bench) = bench(Vec::new()) else { return };
    let proxy = Proxy::start(&bench.server, []).await;
    let done = run(&bench, &proxy, json!({ "checksum": true })).await.succeeded();
    assert_eq!(done.requests().len(), 1, "{:#}", done.0);
    bench.holds(&done).await;
}

/// Content that does not match its checksum is rejected and not kept, and the upload continues.
// proves: TUS1-CHK-02, TUS1-CHK-03
#[tokio::test]
async fn tuspy_gets_an_error_for_a_wrong_checksum() {
    let Some(bench) = bench(bytes(62, MIB)) else { return };
    let proxy = Proxy::start(&bench.server, []).await;
    let storage = bench.home.text("storage.json");
    let common = json!({ "storage": storage, "chunk": 300_000, "checksum": true });
    let first = run(&bench, &proxy, with(&common, json!({ "stopAt": 300_000 }))).await.succeeded();
    let liar = run(&bench, &proxy, with(&common, json!({ "uploader": "liar", "retries": 2 }))).await;
    assert_eq!((liar.outcome(), &liar.0["status"]), ("error", &json!(460)), "{:#}", liar.0);
    assert_eq!((liar.count("HEAD"), liar.count("PATCH")), (3, 3), "asked at first and before each retry");
    liar.never_went_back();
    assert_eq!(bench.state(&first.path()).await.offset(), Some(300_000));
    assert!(bench.home.open() == [&bench.content[..300_000]], "bytes were kept that nobody vouches for");
    let last = run(&bench, &proxy, common).await.succeeded();
    assert_eq!((last.path(), last.count("POST"), last.count("PATCH")), (first.path(), 0, 3), "{:#}", last.0);
    bench.holds(&last).await;
}

/// If the last response is lost, tuspy sends an empty append with the checksum of nothing.
// proves: TUS1-PATCH-12
#[tokio::test]
async fn tuspy_recovers_from_the_loss_of_the_last_response() {
    let Some(bench) = bench(bytes(63, 300_000)) else { return };
    // The creation uses its own connection.
    let proxy = Proxy::start(&bench.server, [None, Some(Fault::Swallow { after: 300_000 })]).await;
    let done = run(&bench, &proxy, json!({ "checksum": true, "retries": 3 })).await.succeeded();
    assert_eq!((proxy.faults(), done.count("HEAD"), done.count("PATCH")), (1, 1, 2), "{:#}", done.0);
    bench.holds(&done).await;
}

async fn interrupted(seed: u64) {
    let mut rng = SeededRng(seed);
    let length = [100_000, MIB, 3 * MIB][rng.below(3)] + rng.below(5000);
    let Some(bench) = bench(rng.bytes(length)) else { return };
    let proxy = Proxy::by_seed(&bench.server, seed, length, 12).await;
    let uploader = ["sync", "async"][rng.below(2)];
    let mut job = json!({ "retries": 100, "uploader": uploader });
    job["checksum"] = rng.one_in(2).into();
    job["chunk"] = (length / (1 + rng.below(5)) + 1).into();
    let done = run(&bench, &proxy, job.clone()).await;
    let (requests, faults) = (done.requests().len(), proxy.faults());
    print_note(format_args!("seed {seed} {job} {length} bytes: {requests} requests, {faults} faults"));
    bench.holds(&done.succeeded()).await;
}

#[tokio::test]
async fn tuspy_survives_random_faults() {
    for seed in seeds(130..142) {
        interrupted(seed).await;
    }
}
