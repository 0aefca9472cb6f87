//! Uppy in Chromium, on a page of another origin, driven by its buttons: uploads, pauses, resumption after a reload,
//! and cancellation.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;

use super::{Bench, Dialect, Done, installed, with};
use crate::faulty_proxy::{Direction, Fault, Proxy};
use crate::harness::{SeededRng, ServerDir, TIMEOUT, bytes, print_note, seeds};
use crate::tls_and_auth::{certify, trusting};

const CHUNK: usize = 100_000;

pub(super) fn bench(content: Vec<u8>) -> Option<Bench> {
    bench_with(content, &[])
}

pub(super) fn bench_with(content: Vec<u8>, flags: &[&str]) -> Option<Bench> {
    installed::chromium()?;
    installed::uppy().map(|_| Bench::new(Dialect::Tus, content, flags))
}

pub(super) async fn run(bench: &Bench, proxy: &Proxy, job: Value) -> Done {
    // A new browser profile.
    let profile = tempfile::tempdir_in(bench.home.path("")).expect("a directory");
    let scheme = if bench.server.tls.is_some() { "https" } else { "http" };
    let common = json!({
        "endpoint": format!("{scheme}://{}/uploads", proxy.addr),
        "chromium": installed::chromium(),
        "profile": profile.path(),
        "files": [bench.file],
        "chunk": CHUNK,
        "patience": u64::try_from(TIMEOUT.as_millis()).expect("a number"),
    });
    let mut node = Command::new("node");
    node.arg(installed::uppy().expect("a bench is only made where there is a client").join("drive.js"));
    bench.drive(node, &with(&common, job)).await
}

/// The same over TLS, where browsers use HTTP/2.
fn secure_bench(content: Vec<u8>) -> Option<Bench> {
    installed::chromium()?;
    installed::uppy()?;
    let home = ServerDir::new();
    let certificate = certify(&home);
    let (cert, key) = (home.text("cert.pem"), home.text("key.pem"));
    let mut bench = Bench::at(home, Dialect::Tus, content, &["--tls-cert", &cert, "--tls-key", &key]);
    bench.server.tls = Some(trusting(&[certificate]));
    Some(bench)
}

/// Returns a proxy that is slow enough to act during an upload.
async fn slowly(bench: &Bench) -> Proxy {
    let slow = Fault::Slow { way: Direction::Up, piece: 8 << 10, late: Duration::from_millis(2) };
    Proxy::start(&bench.server, std::iter::repeat_n(Some(slow), 100)).await
}

/// Asserts that the upload was resumed after one offset query instead of started again.
fn went_on(done: &Done, after: &str) {
    let rest = done.requests().iter().skip_while(|entry| entry["step"] != after);
    let rest: Vec<_> = rest.filter(|entry| entry["step"].is_null()).collect();
    let [asked, append, ..] = rest[..] else { panic!("nothing happened: {:#}", done.0) };
    assert_eq!((&asked["method"], &append["method"]), (&json!("HEAD"), &json!("PATCH")), "{:#}", done.0);
    let at = &asked["got"]["upload-offset"];
    assert_eq!(&append["sent"]["upload-offset"], at, "{:#}", done.0);
    assert!(at.as_str().is_some_and(|at| at.parse().is_ok_and(|at: usize| at >= CHUNK)), "{:#}", done.0);
    assert_eq!((done.count("POST"), done.count("HEAD")), (1, 1), "{:#}", done.0);
}

// proves: TUS1-DF-11, TUS1-DF-19
#[tokio::test]
async fn uppy_uploads_files_from_another_origin() {
    let Some(bench) = bench(bytes(81, 700_000)) else { return };
    let (other, another) = (bytes(82, 5000), bench.home.text("another.bin"));
    fs::write(&another, &other).expect("written");
    let proxy = Proxy::start(&bench.server, []).await;
    for parallel in [1, 2] {
        let files = if parallel == 1 { vec![&bench.file, &another] } else { vec![&bench.file] };
        let job =
            json!({ "files": files, "parallel": parallel, "steps": ["open", "choose", "upload", "end"] });
        let done = run(&bench, &proxy, job).await.succeeded();
        assert_eq!(done.0["urls"].as_array().map(Vec::len), Some(files.len()), "{:#}", done.0);
        assert!(done.0["preflights"].as_u64() >= Some(1), "the browser did not even ask: {:#}", done.0);
        for request in done.requests().iter().filter(|request| request["step"].is_null()) {
            assert!(matches!(request["status"].as_u64(), Some(201 | 204)), "{:#}", done.0);
            assert!(request["got"]["access-control-allow-origin"].is_string(), "{:#}", done.0);
        }
        let stored = bench.home.done();
        assert!(stored.contains(&bench.content) && (parallel > 1 || stored.contains(&other)), "other bytes");
        done.never_went_back();
    }
}

/// As many in parallel as the browser has connections, with the names of the user's files.
// proves: TUS1-MET-06
#[tokio::test]
async fn uppy_uploads_many_files_at_once() {
    let (Some(_), Some(_)) = (installed::chromium(), installed::uppy()) else { return };
    let home = ServerDir::new();
    let shelf = home.text("shelf");
    let flags = ["--target", "files", "--files-dir", &shelf];
    let bench = Bench::at(home, Dialect::Tus, Vec::new(), &flags);
    let proxy = Proxy::start(&bench.server, []).await;
    let mut files = Vec::new();
    for number in 0..25 {
        let name = format!("Straße {number}, 5 €.bin");
        let content = bytes(100 + number, 2000 + usize::try_from(number).expect("small") * 7);
        fs::write(bench.home.path(&name), &content).expect("written");
        files.push((name, content));
    }
    let paths: Vec<_> = files.iter().map(|(name, _)| bench.home.path(name)).collect();
    let job = json!({ "files": paths, "steps": ["open", "choose", "upload", "end"] });
    let done = run(&bench, &proxy, job).await.succeeded();
    assert_eq!((done.count("POST"), done.count("PATCH")), (25, 25), "{:#}", done.0);
    for (name, content) in &files {
        let stored = fs::read(Path::new(&shelf).join(name));
        assert!(stored.is_ok_and(|stored| stored == *content), "{name} is not there as it was");
    }
    assert_eq!(fs::read_dir(&shelf).expect("a shelf").count(), files.len());
}

// proves: TUS1-DF-11
#[tokio::test]
async fn uppy_pauses_and_resumes() {
    let Some(bench) = bench(bytes(83, 2_500_000)) else { return };
    let proxy = slowly(&bench).await;
    let steps = ["open", "choose", "upload", "at 20", "pause", "resume", "end"];
    let done = run(&bench, &proxy, json!({ "steps": steps })).await.succeeded();
    went_on(&done, "resume");
    bench.holds(&done).await;
}

/// The page is reloaded during the upload, and the file chosen again.
#[tokio::test]
async fn uppy_resumes_after_a_reload_with_the_file_chosen_again() {
    let Some(bench) = bench(bytes(84, 2_500_000)) else { return };
    let proxy = slowly(&bench).await;
    let steps = ["open", "choose", "upload", "at 20", "reload", "choose", "upload again", "end"];
    let done = run(&bench, &proxy, json!({ "steps": steps })).await.succeeded();
    went_on(&done, "upload again");
    bench.holds(&done).await;
}

/// The same with the plugin that stores the file, so that it need not be chosen again.
#[tokio::test]
async fn uppy_resumes_after_a_reload_with_the_file_stored_by_the_browser() {
    let Some(bench) = bench(bytes(85, 2_500_000)) else { return };
    let proxy = slowly(&bench).await;
    let steps = ["open", "choose", "upload", "at 20", "reload", "restored", "upload again", "end"];
    let done = run(&bench, &proxy, json!({ "retriever": true, "steps": steps })).await.succeeded();
    went_on(&done, "upload again");
    bench.holds(&done).await;
}

// proves: TUS1-TRM-01
#[tokio::test]
async fn uppy_cancels_an_upload() {
    let Some(bench) = bench(bytes(86, 2_500_000)) else { return };
    let proxy = slowly(&bench).await;
    for steps in [
        &["open", "choose", "upload", "at 20", "cancel", "end"][..],
        &["open", "choose", "upload", "at 20", "pause", "cancel", "end"],
    ] {
        let done = run(&bench, &proxy, json!({ "steps": steps })).await;
        assert_eq!((done.outcome(), done.count("DELETE")), ("cancelled", 1), "{:#}", done.0);
        let deletion = done.requests().iter().find(|request| request["method"] == "DELETE").expect("one");
        assert_eq!(deletion["status"], 204, "{:#}", done.0);
        bench.is_empty();
    }
}

/// Uppy deletes uploads by URL. An upload in parts gets its own URL only at the end, so its parts stay until
/// `--max-age`.
#[tokio::test]
async fn uppy_leaves_parts_behind_on_cancellation() {
    let Some(bench) = bench(bytes(89, 2_500_000)) else { return };
    let proxy = slowly(&bench).await;
    let steps = ["open", "choose", "upload", "at 20", "cancel", "end"];
    let done = run(&bench, &proxy, json!({ "parallel": 2, "steps": steps })).await;
    assert_eq!((done.outcome(), done.count("DELETE")), ("cancelled", 0), "{:#}", done.0);
    assert_eq!((bench.home.uploads("open"), bench.home.uploads("done")), (2, 0));
}

/// Pages of one origin may upload with a bearer token; pages of another origin may not.
#[tokio::test]
async fn uppy_uploads_with_credentials_from_an_allowed_origin() {
    let (Some(_), Some(_)) = (installed::chromium(), installed::uppy()) else { return };
    let home = ServerDir::new();
    let bearers = home.text("bearers");
    fs::write(&bearers, "7f3c6c1e-a-secret alice\n").expect("written");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let origin = format!("http://127.0.0.1:{port}");
    let flags = ["--cors-origin", &origin, "--cors-credentials", "--bearer-file", &bearers];
    let bench = Bench::at(home, Dialect::Tus, bytes(87, 300_000), &flags);
    let proxy = Proxy::start(&bench.server, []).await;
    let job = json!({
        "steps": ["open", "choose", "upload", "end"],
        "credentials": true,
        "headers": { "Authorization": "Bearer 7f3c6c1e-a-secret" },
    });
    let elsewhere = run(&bench, &proxy, job.clone()).await;
    assert_eq!((elsewhere.outcome(), bench.home.done().len()), ("error", 0), "{:#}", elsewhere.0);
    let stranger = run(&bench, &proxy, with(&job, json!({ "port": port, "headers": {} }))).await;
    assert_eq!((stranger.outcome(), bench.home.done().len()), ("error", 0), "{:#}", stranger.0);
    let done = run(&bench, &proxy, with(&job, json!({ "port": port }))).await.succeeded();
    assert!(done.0["preflights"].as_u64() >= Some(1), "{:#}", done.0);
    for request in done.requests().iter().filter(|request| request["step"].is_null()) {
        assert_eq!(request["got"]["access-control-allow-origin"], origin, "{:#}", done.0);
    }
    assert!(bench.home.only_complete() == bench.content, "other bytes");
}

#[tokio::test]
async fn uppy_uploads_over_http2() {
    let Some(bench) = secure_bench(bytes(88, 700_000)) else { return };
    let proxy = Proxy::start(&bench.server, []).await;
    let job = json!({ "parallel": 3, "steps": ["open", "choose", "upload", "end"] });
    let done = run(&bench, &proxy, job).await.succeeded();
    assert_eq!(done.0["protocols"], json!(["h2"]), "{:#}", done.0);
    bench.holds(&done).await;
}

async fn interrupted(seed: u64) {
    let mut rng = SeededRng(seed);
    let length = 300_000 + rng.below(5000);
    let content = rng.bytes(length);
    let made = if rng.one_in(2) { bench(content) } else { secure_bench(content) };
    let Some(bench) = made else { return };
    let proxy = Proxy::by_seed(&bench.server, seed, length, 10).await;
    let chunk = if rng.one_in(3) { length } else { CHUNK };
    let parallel = 1 + rng.below(2);
    let steps = ["open", "choose", "upload", "end"];
    let job = json!({ "chunk": chunk, "parallel": parallel, "retries": 100, "steps": steps });
    let done = run(&bench, &proxy, job).await;
    let (requests, faults) = (done.requests().len(), proxy.faults());
    print_note(format_args!(
        "seed {seed} {length} bytes in {chunk}s, {parallel} parts: {requests} requests, {faults} faults"
    ));
    bench.holds(&done.succeeded()).await;
}

#[tokio::test]
async fn uppy_survives_random_faults() {
    for seed in seeds(170..175) {
        interrupted(seed).await;
    }
}
