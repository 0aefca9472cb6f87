//! Failures to start, in the format of the log.

use serde_json::json;

use super::{assert_has, lines};
use crate::harness::{Server, ServerDir};

#[tokio::test]
async fn a_failure_to_start_is_a_line_of_the_log() {
    let home = ServerDir::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let json = ["--log-format", "json"];
    let failed = Server::fail(&home, &home.data(), &[&json[..], &["--listen", &address]].concat()).await;
    assert_eq!(failed.code, Some(4));
    let log = lines(&failed.stderr);
    let last = log.last().expect("a line");
    assert_has(last, &json!({ "level": "ERROR", "exit": 4, "kind": "start" }));
    let message = last["message"].as_str().expect("text");
    assert!(message.starts_with(&format!("cannot listen on {address}: ")), "{message}");

    let wrong = ["--max-age", "soon", "--workers", "0", "--log", "json"];
    let failed = Server::fail(&home, &home.data(), &wrong).await;
    assert_eq!(failed.code, Some(3));
    let log = lines(&failed.stderr);
    assert_eq!(log.len(), 2, "all errors: {log:?}");
    for line in &log {
        assert_has(line, &json!({ "level": "ERROR", "exit": 3, "kind": "config" }));
    }
    let text = Server::fail(&home, &home.data(), &["--max-age", "soon"]).await.stderr;
    assert!(text.starts_with("hoist: --max-age: ") && text.ends_with("(exit 3)\n"), "{text}");
}
