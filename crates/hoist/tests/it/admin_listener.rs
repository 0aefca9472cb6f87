//! `--admin`: its places, its tokens, its health, and what it does not answer.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::harness::{AdminAt, Server, ServerDir, TestRequest, TestResponse, Transport, poll_until_async};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Asserts that a response is a problem document, and returns its detail.
fn problem(got: &TestResponse, status: u16) -> String {
    assert_eq!(got.status, status, "{got:?}");
    assert_eq!(got.field("content-type"), Some("application/problem+json"), "{got:?}");
    let document: Value = serde_json::from_slice(&got.content).expect("JSON");
    assert_eq!(document["status"], status, "{document}");
    assert!(document["title"].is_string() && document["type"] == "about:blank", "{document}");
    document["detail"].as_str().expect("text").to_owned()
}

#[tokio::test]
async fn a_unix_socket_is_guarded_by_its_mode_and_wants_no_token() {
    let home = ServerDir::new();
    let admin = AdminAt::socket(&home);
    let server = Server::start(&home, &["--admin", &admin.flag()]);
    let AdminAt::Unix(socket) = &admin else { unreachable!("it is one") };
    assert_eq!(fs::metadata(socket).expect("there").permissions().mode() & 0o777, 0o600);
    for (path, expected) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let got = admin.request("GET", path, &[]).await;
        assert_eq!((got.status, &got.content[..]), (200, expected.as_bytes()), "{path}");
        assert_eq!(admin.request("HEAD", path, &[]).await.status, 200);
        let refused = admin.request("POST", path, &[]).await;
        problem(&refused, 405);
        assert_eq!(refused.field("allow"), Some("GET, HEAD"));
    }
    assert!(admin.scrape().await.of("hoist_uploads_open").abs() < 0.5);
    problem(&admin.request("PUT", "/metrics", &[]).await, 405);
    for path in ["/", "/uploads", "/metrics/", "/v2/uploads", "/healthz/x"] {
        problem(&admin.request("GET", path, &[]).await, 404);
    }
    // Clients of uploads reach none of it.
    let got = server.request(Transport::H1, TestRequest::to("GET", "/metrics")).await;
    assert_eq!(got.status, 404, "{got:?}");
    server.stop().await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn over_tcp_all_but_health_wants_a_token_of_the_file_as_it_is_now() {
    let home = ServerDir::new();
    let file = home.path("tokens");
    fs::write(&file, format!("{TOKEN}\n")).expect("written");
    let flags = ["--admin", "127.0.0.1:0", "--admin-token-file", &home.text("tokens")];
    let server = Server::start(&home, &flags);
    let admin = AdminAt::logged(&server).await;
    let bearer = format!("Bearer {TOKEN}");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(admin.request("GET", path, &[]).await.status, 200);
    }
    for path in ["/metrics", "/", "/v1/uploads"] {
        let missing = admin.request("GET", path, &[]).await;
        assert!(problem(&missing, 401).contains("--admin-token-file"));
        assert_eq!(missing.field("www-authenticate"), Some("Bearer"));
        let wrong = admin.request("GET", path, &[("authorization", &bearer[..20])]).await;
        assert_eq!(problem(&wrong, 401), "the bearer token is not valid");
        assert_eq!(wrong.field("www-authenticate"), Some("Bearer error=\"invalid_token\""));
    }
    assert_eq!(admin.request("GET", "/metrics", &[("authorization", &bearer)]).await.status, 200);
    problem(&admin.request("GET", "/", &[("authorization", &bearer)]).await, 404);

    let other = format!("Bearer {}", TOKEN.to_uppercase());
    fs::write(&file, format!("{}\n", TOKEN.to_uppercase())).expect("written");
    // Within a second.
    poll_until_async("the new token", async || {
        let got = admin.request("GET", "/metrics", &[("authorization", &other)]).await;
        (got.status == 200).then_some(())
    })
    .await;
    problem(&admin.request("GET", "/metrics", &[("authorization", &bearer)]).await, 401);
    assert!(!server.log().contains("0123456789"), "a token is in the log");
    server.stop().await;
}

#[tokio::test]
async fn a_server_whose_admin_address_is_open_to_anyone_or_unusable_does_not_start() {
    let home = ServerDir::new();
    fs::write(home.path("tokens"), format!("{TOKEN}\n")).expect("written");
    fs::write(home.path("empty"), "# none\n").expect("written");
    fs::write(home.path("file"), "no socket").expect("written");
    let (tokens, empty) = (home.text("tokens"), home.text("empty"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let taken = taken.local_addr().expect("an address").to_string();
    let (file, none) = (format!("unix:{}", home.text("file")), home.text("none"));
    let cases: [(&[&str], i32, &str); 6] = [
        (&["--admin", "127.0.0.1:0"], 3, "needs tokens, because others can connect to it"),
        (&["--admin", "[::1]:0", "--admin-token-file", &empty], 3, "it has no token"),
        (&["--admin", "[::1]:0", "--admin-token-file", &none], 3, "No such file"),
        (&["--admin-token-file", &tokens], 3, "has no effect without --admin"),
        (&["--admin", &taken, "--admin-token-file", &tokens], 4, "choose another with --admin"),
        (&["--admin", &file], 4, "the file exists and is not a socket"),
    ];
    for (flags, code, expected) in cases {
        let failed = Server::fail(&home, &home.data(), flags).await;
        assert_eq!(failed.code, Some(code), "{flags:?}: {failed:?}");
        assert!(failed.stderr.contains(expected), "{flags:?}: {failed:?}");
    }
}
