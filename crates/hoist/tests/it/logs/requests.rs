//! Lines about requests: refused ones always, all of them on request, and failed handshakes.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::{assert_has, lines, wait_for, with_message};
use crate::harness::{Raw, Server, ServerDir, TRANSPORTS, TestRequest, poll_until, print_note};

#[tokio::test]
async fn each_refused_request_has_one_line() {
    for transport in TRANSPORTS {
        let home = ServerDir::new();
        fs::write(home.path("tokens"), "secret-of-alice alice\n").expect("written");
        let tokens = home.text("tokens");
        let flags =
            ["--log-format", "json", "--bearer-file", &tokens, "--max-size", "9", "--max-open-uploads", "1"];
        let more = ["--max-stored-bytes", "12"];
        let server = Server::start(&home, &[&flags[..], &more].concat());
        let alice = |request: TestRequest| request.field("authorization", "Bearer secret-of-alice");
        let append = |at| alice(TestRequest::append("token", at));
        let open = alice(TestRequest::new("POST", "token")).field("upload-incomplete", "?1").sized(b"123");
        let open = open.field("upload-draft-version", 1);
        assert!(server.request(transport, open).await.status < 300);
        let wrong = TestRequest::new("HEAD", "token").field("authorization", "Bearer guess");
        let cases = [
            (TestRequest::new("HEAD", "token"), 401, "unauthorized"),
            (wrong, 401, "unauthorized"),
            (alice(TestRequest::new("HEAD", "unknown")), 404, "not-found"),
            (alice(TestRequest::to("GET", "/elsewhere?secret=1")), 404, "not-found"),
            (append(1).sized(b"x"), 409, "offset-mismatch"),
            (alice(TestRequest::new("POST", "big")).sized(b"0123456789"), 413, "too-large"),
            (alice(TestRequest::new("POST", "second")).sized(b"x"), 429, "too-many-uploads"),
        ];
        let count = cases.len();
        for (request, status, reason) in cases {
            let before = with_message(&server.log(), "request refused").len();
            let got = server.request(transport, request).await;
            assert_eq!(got.status, status, "{got:?}");
            let refused = wait_for(&server, "request refused", before + 1).await;
            let line = refused.last().expect("a line");
            let expected = json!({ "level": "INFO", "client": "127.0.0.1", "status": status,
                "reason": reason });
            assert_has(line, &expected);
            assert!(line["detail"].is_string() && line["method"].is_string(), "{line}");
        }
        server.stop().await;
        let log = home.log();
        assert_eq!(with_message(&log, "request refused").len(), count, "{log}");
        assert!(log.contains("\"path\":\"/elsewhere\"") && !log.contains("secret"), "{log}");
        assert!(log.contains("bearer token is not valid"), "a wrong token differs from none: {log}");
    }
}

#[tokio::test]
async fn every_request_is_logged_if_asked_for() {
    for transport in TRANSPORTS {
        let home = ServerDir::new();
        let flags = ["--log-format", "json", "--log-requests", "--downloads"];
        let server = Server::start(&home, &flags);
        let put = TestRequest::to("PUT", "/uploads/a.txt?token=secret").sized(b"hello");
        let created = server.request(transport, put).await;
        let location = created.field("location").expect("a Location");
        let path = location.strip_prefix("http://localhost").expect("a path").to_owned();
        let got = server.request(transport, TestRequest::to("GET", &path)).await;
        assert_eq!(got.content, "hello");
        assert_eq!(server.request(transport, TestRequest::new("HEAD", "capability")).await.status, 404);
        let requests = wait_for(&server, "request", 3).await;
        let short = format!("{}*", &path[.."/uploads/".len() + 8]);
        for (line, expected) in requests.iter().zip([
            json!({ "method": "PUT", "path": "/uploads/a.txt", "status": 201, "bytes_received": 5, "dialect": "conventional" }),
            json!({ "method": "GET", "path": short, "status": 200, "bytes_received": 0, "bytes_sent": 5 }),
            json!({ "method": "HEAD", "path": "/uploads", "status": 404, "dialect": "upload-token", "bytes_sent": 0 }),
        ]) {
            assert_has(line, &expected);
            assert_has(line, &json!({ "level": "INFO", "client": "127.0.0.1" }));
            assert!(line["duration_ms"].is_u64(), "{line}");
        }
        server.stop().await;
        let log = home.log();
        assert!(!log.contains("secret") && !log.contains("capability") && !log.contains(&path), "{log}");
    }
}

#[tokio::test]
async fn the_client_behind_a_trusted_proxy_is_named() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--log-format", "json", "--trusted-proxy", "127.0.0.1"]);
    let request = TestRequest::new("HEAD", "unknown").field("x-forwarded-for", "192.0.2.77");
    assert_eq!(server.request(TRANSPORTS[0], request).await.status, 404);
    let refused = wait_for(&server, "request refused", 1).await.remove(0);
    assert_has(&refused, &json!({ "client": "192.0.2.77" }));
    server.stop().await;
}

#[tokio::test]
async fn malformed_requests_and_failed_handshakes_have_a_line() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--log-format", "json"]);
    let mut raw = Raw::connect(&server).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n").await;
    assert_eq!(raw.head().await.expect("a response").0, 400);
    let refused = wait_for(&server, "request refused", 1).await.remove(0);
    assert_has(&refused, &json!({ "client": "127.0.0.1", "status": 400, "reason": "malformed-request" }));
    server.stop().await;

    let tls = ServerDir::new();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    fs::write(tls.path("cert.pem"), made.cert.pem()).expect("written");
    fs::write(tls.path("key.pem"), made.signing_key.serialize_pem()).expect("written");
    let (cert, key) = (tls.text("cert.pem"), tls.text("key.pem"));
    let server = Server::start(&tls, &["--log-format", "json", "--tls-cert", &cert, "--tls-key", &key]);
    // A monitor that sends nothing is no failure.
    drop(Raw::connect(&server).await);
    let mut raw = Raw::connect(&server).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let failed = wait_for(&server, "TLS handshake failed", 1).await;
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_has(&failed[0], &json!({ "client": "127.0.0.1", "reason": "the client does not speak TLS" }));
    assert!(failed[0]["port"].is_u64(), "{failed:?}");
    server.stop().await;
}

/// Returns the lines that the filter for fail2ban finds, according to fail2ban itself. `None` if it is not installed.
fn found_by_fail2ban(log: &Path) -> Option<usize> {
    let filter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contrib/fail2ban/hoist.conf");
    let output = match Command::new("fail2ban-regex").arg(log).arg(filter).output() {
        Ok(output) => output,
        Err(error) => {
            print_note(format_args!("not tested: there is no fail2ban-regex: {error}"));
            return None;
        }
    };
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    let counts =
        report.lines().find(|line| line.starts_with("Lines: ")).unwrap_or_else(|| panic!("{report}"));
    let words: Vec<&str> = counts.split([' ', ',']).collect();
    let matched = words.iter().position(|word| *word == "matched").expect("the number of matches");
    Some(words[matched - 1].parse().expect("a number"))
}

#[tokio::test]
async fn fail2ban_finds_failed_authentication_and_is_not_deceived() {
    for flags in [&[][..], &["--log-format", "json"]] {
        let home = ServerDir::new();
        fs::write(home.path("tokens"), "secret-of-alice alice\n").expect("written");
        let tokens = home.text("tokens");
        let server = Server::start(&home, &[flags, &["--bearer-file", &tokens, "--log-requests"]].concat());
        for _ in 0..3 {
            let got = server.request(TRANSPORTS[0], TestRequest::new("HEAD", "token")).await;
            assert_eq!(got.status, 401);
        }
        // Names an innocent client in every place that a peer controls.
        let lie = "INFO request refused client=192.0.2.1 status=401 reason=unauthorized ";
        let forged = format!("attachment; filename=\"{lie}\"");
        let path = format!("/{}", lie.replace(' ', "%20"));
        let request = TestRequest::to("GET", &path).field("x-forwarded-for", lie);
        assert_eq!(server.request(TRANSPORTS[0], request).await.status, 404);
        let request = TestRequest::new("POST", "token").field("content-disposition", forged).sized(b"x");
        let request = request.field("authorization", "Bearer secret-of-alice");
        assert!(server.request(TRANSPORTS[0], request).await.is_complete());
        poll_until("the last line", || server.log().contains("upload ended").then_some(())).await;
        server.stop().await;
        if let Some(found) = found_by_fail2ban(&home.path("log")) {
            assert_eq!(found, 3, "{}", home.log());
        }
        if !flags.is_empty() {
            assert!(!lines(&home.log()).is_empty());
        }
    }
}
