//! Floods of lines, and a standard error that takes none.

use std::io::Read as _;
use std::process::Stdio;

use super::{lines, with_message};
use crate::harness::{Server, ServerDir, TRANSPORTS, TestRequest, poll_until};

#[tokio::test]
async fn a_flood_of_refused_requests_is_bounded_and_counted() {
    const FLOOD: usize = 500;
    let home = ServerDir::new();
    std::fs::write(home.path("tokens"), "secret alice\n").expect("written");
    let server = Server::start(&home, &["--log-format", "json", "--bearer-file", &home.text("tokens")]);
    for _ in 0..FLOOD {
        assert_eq!(server.request(TRANSPORTS[0], TestRequest::new("HEAD", "token")).await.status, 401);
    }
    let suppressed = |log: &str| {
        let notices = with_message(log, "log lines were suppressed, because there were too many");
        notices.iter().map(|line| line["suppressed"].as_u64().expect("a number")).sum::<u64>()
    };
    poll_until("the number of suppressed lines", || (suppressed(&server.log()) > 0).then_some(())).await;
    // Another line of the operator's is not hidden by the flood.
    server.stop().await;
    let log = home.log();
    let written = with_message(&log, "request refused").len() as u64;
    assert_eq!(written + suppressed(&log), FLOOD as u64, "each request is written or counted: {log}");
    assert!(suppressed(&log) > 0 && !with_message(&log, "stopped").is_empty(), "{log}");
    assert!(lines(&log).iter().all(|line| line["level"] != "ERROR"), "{log}");
}

#[tokio::test]
async fn a_standard_error_that_takes_nothing_delays_no_request() {
    let home = ServerDir::new();
    let mut command = crate::harness::command(&home.data(), &["--log-requests"]);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("a process");
    let mut stderr = child.stderr.take().expect("a pipe");
    let server = Server::adopt(&home, child);
    // More than a pipe holds.
    let path = format!("/{}", "a".repeat(500));
    for _ in 0..400 {
        assert_eq!(server.request(TRANSPORTS[0], TestRequest::to("GET", &path)).await.status, 404);
    }
    let mut begun = [0; 4096];
    stderr.read_exact(&mut begun).expect("lines");
    assert!(String::from_utf8_lossy(&begun).contains("INFO"));
    // Nor does a closed one.
    drop(stderr);
    for _ in 0..50 {
        assert_eq!(server.request(TRANSPORTS[0], TestRequest::to("GET", &path)).await.status, 404);
    }
    server.stop().await;
}
