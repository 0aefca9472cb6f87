//! The log of the server: one line for each ended upload and each refused request, as text and as JSON.

use std::fs;
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::harness::{Cut, Exchange, Server, ServerDir, TRANSPORTS, TestRequest, bytes, poll_until};

mod flood;
mod requests;
mod startup;

/// The schema in `docs/schema/log.json`.
static SCHEMA: LazyLock<(boon::Schemas, boon::SchemaIndex)> = LazyLock::new(|| {
    const PLACE: &str = "http://localhost/log.json";
    let schema = include_str!("../../../../docs/schema/log.json");
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler.add_resource(PLACE, serde_json::from_str(schema).expect("JSON")).expect("a resource");
    let index = compiler.compile(PLACE, &mut schemas).expect("a schema");
    (schemas, index)
});

/// Returns the lines of a JSON log, each of which matches the schema.
fn lines(log: &str) -> Vec<Value> {
    let (schemas, index) = &*SCHEMA;
    let line = |line: &str| {
        let value = serde_json::from_str(line).unwrap_or_else(|_| panic!("JSON: {line}"));
        schemas.validate(&value, *index).unwrap_or_else(|error| panic!("{line}: {error:#}"));
        value
    };
    log.lines().map(line).collect()
}

/// Returns the lines with this message.
fn with_message(log: &str, message: &str) -> Vec<Value> {
    lines(log).into_iter().filter(|line| line["message"] == message).collect()
}

/// Waits for this number of lines with this message, and returns them.
async fn wait_for(server: &Server, message: &str, count: usize) -> Vec<Value> {
    poll_until(&format!("{count} lines `{message}`"), || {
        Some(with_message(&server.log(), message)).filter(|found| found.len() >= count)
    })
    .await
}

/// Asserts the values of members of a line.
fn assert_has(line: &Value, members: &Value) {
    for (name, value) in members.as_object().expect("an object") {
        assert_eq!(&line[name], value, "{name} of {line}");
    }
}

fn is_id(line: &Value) -> bool {
    line["upload"].as_str().is_some_and(|id| id.len() == 8)
}

#[tokio::test]
async fn each_upload_that_ends_has_one_line() {
    for transport in TRANSPORTS {
        let home = ServerDir::new();
        fs::write(home.path("tokens"), "secret-of-alice alice\n").expect("written");
        let flags = ["--log-format", "json", "--bearer-file", &home.text("tokens")];
        let server = Server::start(&home, &flags);
        let alice = |request: TestRequest| request.field("authorization", "Bearer secret-of-alice");
        let named = |request| alice(request).field("content-disposition", "attachment; filename=film.mkv");
        let content = bytes(3, 20_000);

        let request =
            named(TestRequest::new("POST", "first-token").sized(&content[..5000]).stalls(Some(20_000)));
        let running = Exchange::begin(&server, transport, request, u64::MAX).await.expect("a connection");
        home.holds(5000).await;
        let _ = running.cut(Cut::Rst).await;
        let cut = wait_for(&server, "transfer interrupted", 1).await.remove(0);
        let expected = json!({ "level": "INFO", "client": "127.0.0.1", "reason": "disconnected",
            "dialect": "upload-token", "offset": 5000, "length": 20_000, "principal": "alice" });
        assert_has(&cut, &expected);
        let append = alice(TestRequest::append("first-token", 5000).sized(&content[5000..]));
        assert!(server.request(transport, append).await.is_complete());

        let request = named(TestRequest::new("POST", "other-token").sized(&content).stalls(Some(30_000)));
        let running = Exchange::begin(&server, transport, request, u64::MAX).await.expect("a connection");
        home.holds(20_000).await;
        let cancel = alice(TestRequest::new("DELETE", "other-token"));
        assert_eq!(server.request(transport, cancel).await.status, 204);
        drop(running);
        let ended = wait_for(&server, "upload ended", 2).await;
        let taken_over = with_message(&server.log(), "transfer interrupted").remove(1);
        assert_has(&taken_over, &json!({ "reason": "superseded", "offset": 20_000 }));

        // A complete upload that its user removes has ended before.
        let remove = alice(TestRequest::new("DELETE", "first-token"));
        assert_eq!(server.request(transport, remove).await.status, 204);
        let removed = wait_for(&server, "complete upload removed", 1).await.remove(0);
        assert_has(&removed, &json!({ "upload": ended[0]["upload"], "reason": "cancelled" }));

        let shared = json!({ "level": "INFO", "client": "127.0.0.1", "dialect": "upload-token",
            "offset": 20_000, "name": "film.mkv", "principal": "alice" });
        for (line, expected) in ended.iter().zip([
            json!({ "outcome": "complete", "length": 20_000, "resumes": 1 }),
            json!({ "outcome": "cancelled", "length": 30_000, "resumes": 0 }),
        ]) {
            assert_has(line, &shared);
            assert_has(line, &expected);
            assert!(is_id(line) && line["duration_ms"].is_u64() && line["target"].is_null(), "{line}");
        }
        server.stop().await;
        let log = home.log();
        assert_eq!(with_message(&log, "upload ended").len(), 2, "{log}");
        for secret in ["secret-of-alice", "first-token", "other-token"] {
            assert!(!log.contains(secret), "a secret is in the log: {log}");
        }
    }
}

#[tokio::test]
async fn resumptions_are_counted_across_restarts() {
    let home = ServerDir::new();
    let content = bytes(3, 9000);
    for at in [0, 3000] {
        let server = Server::start(&home, &["--log-format", "json"]);
        let request = match at {
            0 => TestRequest::new("POST", "token"),
            at => TestRequest::append("token", at),
        };
        let request = request.sized(&content[at..at + 3000]).stalls(Some(9000 - at));
        let running = Exchange::begin(&server, TRANSPORTS[0], request, u64::MAX).await.expect("a connection");
        home.holds(at + 3000).await;
        server.kill();
        drop(running);
    }
    let server = Server::start(&home, &["--log-format", "json"]);
    let append = TestRequest::append("token", 6000).sized(&content[6000..]);
    assert!(server.request(TRANSPORTS[0], append).await.is_complete());
    let ended = wait_for(&server, "upload ended", 1).await.remove(0);
    assert_has(&ended, &json!({ "outcome": "complete", "resumes": 2 }));
    server.stop().await;
}

#[tokio::test]
async fn requests_of_a_series_are_no_resumptions() {
    let home = ServerDir::new();
    let server =
        Server::start(&home, &["--log-format", "json", "--target", "files", "--files-dir", &home.text("f")]);
    let tus = |request: TestRequest| request.field("tus-resumable", "1.0.0");
    let created = server
        .request(TRANSPORTS[0], tus(TestRequest::to("POST", "/uploads")).field("upload-length", 30))
        .await;
    let location = created.field("location").expect("a Location");
    let path = location.strip_prefix("http://localhost").expect("a path");
    for at in [0, 10, 20] {
        let request = tus(TestRequest::to("PATCH", path)).field("upload-offset", at);
        let request = request.field("content-type", "application/offset+octet-stream").sized(bytes(1, 10));
        assert_eq!(server.request(TRANSPORTS[0], request).await.status, 204);
    }
    let ended = wait_for(&server, "upload ended", 1).await.remove(0);
    assert_has(&ended, &json!({ "outcome": "delivered", "dialect": "tus", "resumes": 0, "length": 30 }));
    assert!(!server.log().contains(path.rsplit('/').next().expect("an id")), "the id is a capability");
    server.stop().await;
}

#[tokio::test]
async fn expired_failed_and_discarded_uploads_have_a_line() {
    let home = ServerDir::new();
    let flags = ["--log-format", "json", "--max-age", "1s", "--sweep-interval", "1s"];
    let server = Server::start(&home, &flags);
    let request = TestRequest::new("POST", "old").sized(b"12345").stalls(Some(10));
    let running = Exchange::begin(&server, TRANSPORTS[0], request, u64::MAX).await.expect("a connection");
    home.holds(5).await;
    let _ = running.cut(Cut::Fin).await;
    let ended = wait_for(&server, "upload ended", 1).await.remove(0);
    assert_has(&ended, &json!({ "outcome": "expired", "offset": 5, "length": 10, "client": null }));

    let digest = "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:";
    let request = TestRequest::to("POST", "/uploads").field("upload-draft-interop-version", 8);
    let request = request.field("upload-complete", "?1").field("repr-digest", digest).sized(b"other");
    let refused = server.request(TRANSPORTS[0], request).await;
    assert!(refused.status >= 400, "{refused:?}");
    let request = TestRequest::to("PUT", "/uploads/a.txt").sized(b"12345").stalls(Some(10));
    let running = Exchange::begin(&server, TRANSPORTS[0], request, u64::MAX).await.expect("a connection");
    home.holds(5).await;
    let _ = running.cut(Cut::Rst).await;
    let ended = wait_for(&server, "upload ended", 3).await;
    assert_has(&ended[1], &json!({ "outcome": "failed", "level": "WARN", "offset": 5 }));
    assert_has(&ended[2], &json!({ "outcome": "discarded", "dialect": "conventional", "offset": 5 }));
    server.stop().await;
}

#[tokio::test]
async fn names_and_principals_cannot_forge_lines() {
    let home = ServerDir::new();
    fs::write(home.path("tokens"), "secret mal\u{1b}[2Jlory\n").expect("written");
    let flags = ["--bearer-file", &home.text("tokens")];
    let server = Server::start(&home, &flags);
    let name = "attachment; filename*=UTF-8''a%0AINFO%20upload%20ended%20outcome=complete%1B%5B2J%22";
    let request = TestRequest::new("POST", "token").field("authorization", "Bearer secret").sized(b"x");
    let request = request.field("content-disposition", name);
    assert!(server.request(TRANSPORTS[0], request).await.is_complete());
    let line = poll_until("the line", || {
        server.log().lines().find(|line| line.contains("upload ended")).map(str::to_owned)
    })
    .await;
    server.stop().await;
    let log = home.log();
    assert!(!log.contains('\u{1b}') && line.contains(" outcome=complete upload="), "{line}");
    assert!(line.contains("principal=\"mal\\u001b[2Jlory\""), "{line}");
    assert_eq!(log.matches(" INFO upload ended client=").count(), 1, "{log}");
    assert!(log.lines().all(|line| line.starts_with("20")), "each line begins with its time: {log}");
}
