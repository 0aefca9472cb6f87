//! The client library against the server: all dialects over HTTP/1.1 and HTTP/2, all kinds of sources, through a proxy
//! that cuts connections.

use std::io::Cursor;
use std::time::Duration;

use hoist_client::{Client, ClientBuilder, Dialect, Error, Failure, Http2, Interop, Journal, Source, Start};

use crate::faulty_proxy::{Direction, Fault, Proxy};
use crate::harness::{Cut, SeededRng, Server, ServerDir, poll_until, seeds};

const DIALECTS: [&str; 15] = [
    "auto", "ietf-3", "ietf-4", "ietf-5", "ietf-6", "ietf-7", "ietf-8", "ietf-9", "ietf-10", "ietf-rfc",
    "token", "token-0", "token-1", "token-2", "tus1",
];
/// The number of cuts during one upload.
const FAULTS: usize = 30;

fn quick(dialect: &str) -> ClientBuilder {
    Client::builder()
        .dialect(dialect.parse().expect("a dialect"))
        .retry_pauses(Duration::from_millis(2), Duration::from_millis(20))
        .expect_timeout(Duration::from_millis(200))
        .idle_timeout(Duration::from_secs(10))
}

/// Returns a fault that cuts a connection after a small part of the content.
fn fault(rng: &mut SeededRng, length: usize) -> Fault {
    let (how, after) = ([Cut::Fin, Cut::Rst][rng.below(2)], rng.below(length / 40) as u64);
    match rng.below(6) {
        0 => Fault::Cut { way: Direction::Down, after: rng.below(120) as u64, how },
        _ => Fault::Cut { way: Direction::Up, after, how },
    }
}

/// Uploads through a faulty proxy and returns the number of faults.
async fn survives(seed: u64, dialect: &str, http2: Http2, streams: bool) -> u64 {
    let mut rng = SeededRng(seed);
    let home = ServerDir::new();
    let server = Server::start(&home, &["--interim", "always"]);
    let length = 100_000 + rng.below(1_500_000);
    let content = rng.bytes(length);
    let mut script: Vec<_> = (0..FAULTS).map(|_| Some(fault(&mut rng, length))).collect();
    script.push(Some(Fault::Swallow { after: rng.below(length / 2) as u64 }));
    let proxy = Proxy::start(&server, script).await;
    let client = quick(dialect).http2(http2).rewind_bytes_max(400_000).build().expect("a client");
    let source = if streams {
        Source::stream(Cursor::new(content.clone()))
    } else {
        let file = home.path("source");
        std::fs::write(&file, &content).expect("written");
        Source::file(file)
    };
    // PUT may be repeated if the response is lost before the upload's URL is known.
    let method = if dialect.starts_with("token") { http::Method::POST } else { http::Method::PUT };
    let put = client.put(proxy.url("/uploads").parse().expect("a URL"), source).method(method);
    let outcome = tokio::time::timeout(Duration::from_mins(1), put.send()).await;
    let what = format!("seed {seed} in {dialect}, {http2:?}, streams: {streams}");
    let outcome = outcome.unwrap_or_else(|_| panic!("{what}: it never ends"));
    let outcome = outcome.unwrap_or_else(|error| panic!("{what}: {error:?}\n{}", home.log()));
    assert_eq!(outcome.bytes, length as u64, "{what}");
    let done = home.done();
    assert!(!done.is_empty() && done.iter().all(|done| *done == content), "{what}: the bytes are the bytes");
    proxy.faults()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_survive_thirty_cuts_in_every_dialect() {
    let (seeds, mut faults) = (seeds(0..DIALECTS.len() as u64 * 2), 0);
    for &seed in &seeds {
        let dialect = DIALECTS[usize::try_from(seed).expect("small") % DIALECTS.len()];
        faults += survives(seed, dialect, Http2::Never, false).await;
    }
    assert!(seeds.len() == 1 || faults >= seeds.len() as u64 * 20, "the link was too good: {faults} faults");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_survive_thirty_cuts_in_every_dialect() {
    let (seeds, mut faults) = (seeds(0..DIALECTS.len() as u64), 0);
    for &seed in &seeds {
        let dialect = DIALECTS[usize::try_from(seed).expect("small") % DIALECTS.len()];
        faults += survives(1000 + seed, dialect, Http2::Never, true).await;
    }
    assert!(seeds.len() == 1 || faults >= seeds.len() as u64 * 20, "the link was too good: {faults} faults");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_survives_thirty_cuts() {
    let (seeds, mut faults) = (seeds(0..8), 0);
    for &seed in &seeds {
        let dialect = DIALECTS[usize::try_from(seed * 3).expect("small") % DIALECTS.len()];
        faults += survives(2000 + seed, dialect, Http2::PriorKnowledge, seed % 2 == 1).await;
    }
    assert!(seeds.len() == 1 || faults >= seeds.len() as u64 * 20, "the link was too good: {faults} faults");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aborted_run_is_resumed_without_sending_content_twice() {
    for dialect in ["auto", "ietf-6", "token", "tus1"] {
        let home = ServerDir::new();
        let server = Server::start(&home, &[]);
        let content = SeededRng(7).bytes(20_000_000);
        std::fs::write(home.path("source"), &content).expect("written");
        let stall = Fault::Stall {
            way: Direction::Up,
            after: 9_000_000,
            time: Duration::from_secs(30),
            how: Cut::Fin,
        };
        // The probe of the server uses a separate connection or shares that of the upload.
        let proxy = Proxy::start(&server, [Some(stall)]).await;
        let put = || {
            let client = quick(dialect).build().expect("a client");
            let put =
                client.put(proxy.url("/uploads").parse().expect("a URL"), Source::file(home.path("source")));
            put.journal(Journal::at(home.path("journal")))
        };
        let first = put();
        // The run is aborted when the server holds what the proxy has passed on.
        let dies = async {
            tokio::select! {
                ended = first.send() => panic!("{dialect}: {ended:?}"),
                // The proxy counts the bytes it has passed on, and passes on no more.
                () = poll_until("the link stands still", || (proxy.up() >= 9_000_000).then_some(())) => {
                    home.holds(8_500_000).await;
                }
            }
        };
        dies.await;
        let entries = Journal::at(home.path("journal")).entries().expect("read");
        assert_eq!(entries.len(), 1, "{dialect}");
        let before = proxy.up();
        let outcome = put().send().await.unwrap_or_else(|error| panic!("{dialect}: {error:?}"));
        assert!(outcome.resumed_bytes >= 8_500_000, "{dialect}: {outcome:?}");
        assert!(home.only_complete() == content, "{dialect}");
        // Acknowledged content is not sent again; only some heads are.
        let sent = proxy.up() - before;
        assert!(sent <= 20_000_000 - outcome.resumed_bytes + 4000, "{dialect}: {sent} bytes again");
        assert_eq!(Journal::at(home.path("journal")).entries().expect("read"), []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_survive_cuts_and_an_aborted_run() {
    for (seed, dialect) in [(1, "tus1"), (2, "token"), (3, "tus1"), (4, "token")] {
        let home = ServerDir::new();
        let server = Server::start(&home, &[]);
        let mut rng = SeededRng(seed);
        let length = 6_000_000 + rng.below(1_000_000);
        let content = rng.bytes(length);
        std::fs::write(home.path("source"), &content).expect("written");
        let script: Vec<_> = (0..FAULTS).map(|_| Some(fault(&mut rng, length))).collect();
        let proxy = Proxy::start(&server, script).await;
        let put = || {
            let client = quick(dialect).parts(4).build().expect("a client");
            let put =
                client.put(proxy.url("/uploads").parse().expect("a URL"), Source::file(home.path("source")));
            put.journal(Journal::at(home.path("journal")))
        };
        let first = put();
        tokio::select! {
            ended = first.send() => panic!("{dialect}: {ended:?}"),
            () = home.holds(1_000_000) => {}
        }
        let outcome =
            put().send().await.unwrap_or_else(|error| panic!("{dialect}: {error:?}\n{}", home.log()));
        assert_eq!((outcome.bytes, outcome.start), (length as u64, Start::Resumed), "{dialect}");
        assert!(outcome.resumed_bytes > 0, "{dialect}: {outcome:?}");
        assert!(home.done().contains(&content), "{dialect}: the bytes are the bytes");
        assert!(Journal::at(home.path("journal")).entries().expect("read").is_empty());
    }
}

#[tokio::test]
async fn over_tls_the_server_chooses_http2() {
    let home = ServerDir::new();
    crate::tls_and_auth::certify(&home);
    let (cert, key) = (home.text("cert.pem"), home.text("key.pem"));
    let server = Server::start(&home, &["--tls-cert", &cert, "--tls-key", &key]);
    let content = SeededRng(3).bytes(3_000_000);
    let url: http::Uri = format!("https://localhost:{}/uploads", server.addr.port()).parse().expect("a URL");
    let table = [
        (Http2::Auto, http::Version::HTTP_2),
        (Http2::Never, http::Version::HTTP_11),
        (Http2::PriorKnowledge, http::Version::HTTP_2),
    ];
    for (number, (http2, version)) in table.into_iter().enumerate() {
        let client = quick("auto").http2(http2).ca_file(home.path("cert.pem")).build().expect("a client");
        let outcome =
            client.put(url.clone(), Source::bytes(content.clone())).send().await.expect("an upload");
        assert_eq!((outcome.version, outcome.retries), (version, 0), "{http2:?}");
        let done = home.done();
        assert!(done.len() == number + 1 && done.iter().all(|done| *done == content), "{http2:?}");
    }
}

#[tokio::test]
async fn a_limit_ends_an_upload_that_is_too_large() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--max-size", "1000"]);
    for dialect in DIALECTS {
        let proxy = Proxy::start(&server, []).await;
        let client = quick(dialect).build().expect("a client");
        let put = client.put(proxy.url("/uploads").parse().expect("a URL"), Source::bytes(vec![7; 300_000]));
        let error = put.send().await.expect_err(dialect);
        let is_told = match &error {
            Error::Refused { status, .. } => *status == 413,
            Error::Upload(Failure::TooLarge { max, .. }) => *max == 1000,
            _ => false,
        };
        assert!(is_told, "{dialect}: {error:?}");
        assert!(proxy.connections() <= 20 && proxy.up() < 700_000, "{dialect}: {} bytes", proxy.up());
    }
    assert_eq!((home.uploads("open"), home.uploads("done")), (0, 0));
}

#[tokio::test]
async fn the_dialect_is_detected_and_the_digest_verified() {
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    let client = quick("auto").build().expect("a client");
    let put = client.put(server.url.parse().expect("a URL"), Source::bytes("hello")).verify();
    let outcome = put.send().await.expect("an upload");
    assert_eq!(outcome.dialect, Dialect::Ietf(Interop::V10));
    assert!(outcome.verified, "{outcome:?}");
    let put = client.put(server.url.parse().expect("a URL"), Source::stream(&b"hello"[..])).verify();
    let outcome = put.send().await.expect("an upload");
    assert!(outcome.verified, "{outcome:?}");
}

#[test]
fn the_documented_table_matches_the_code() {
    use hoist_proto::dialect::status::StatusClass;
    let text = include_str!("../../../../docs/client.md");
    let table = text.split("## What a status does").nth(1).expect("the table");
    let rows = table.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let mut documented = 0;
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let meaning = match cells[2] {
            "success" => StatusClass::Success,
            "conflict" => StatusClass::Conflict,
            "not found" => StatusClass::NotFound,
            "retry" => StatusClass::Retry,
            "rejected" => StatusClass::Rejected,
            other => panic!("no such meaning: {other}"),
        };
        for status in
            cells[1].split(", ").map(|text| text.replace("xx", "00").parse::<u16>().expect("a status"))
        {
            let status = http::StatusCode::from_u16(status).expect("in range");
            assert_eq!(StatusClass::of(status), meaning, "{status}");
            documented += 1;
        }
    }
    assert_eq!(documented, 25);
}
