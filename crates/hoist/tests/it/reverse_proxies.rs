//! Reverse proxies: which of their fields are trusted, and the URLs of uploads behind them.

use crate::harness::{Server, ServerDir, TRANSPORTS, TestRequest, Transport, bytes, poll_until};

/// Returns a creation that gets a 104, with fields of a proxy.
fn creation(path: &str, fields: &[(&str, &str)]) -> TestRequest {
    let request =
        TestRequest::to("POST", path).field("upload-draft-interop-version", 8).field("upload-complete", "?0");
    fields.iter().fold(request.sized(bytes(1, 1000)), |request, field| request.with(*field))
}

/// Returns the `Location` of a creation, equal in 104 and 201.
async fn located(server: &Server, transport: Transport, request: TestRequest) -> String {
    let got = server.request(transport, request).await;
    assert_eq!(got.status, 201, "{got:?}");
    let location = got.field("location").expect("a Location").to_owned();
    let (_, announced) = got.interims.first().expect("an announcement");
    assert_eq!(announced.get("location").expect("a Location"), location.as_str());
    location
}

/// Returns the part of a `Location` before the id.
fn base(location: &str) -> &str {
    let (base, id) = location.rsplit_once('/').expect("a path");
    assert_eq!(id.len(), 26, "{location}");
    base
}

const STANDARD: &[(&str, &str)] = &[
    ("forwarded", "for=6.6.6.6;host=evil.example;proto=ftp"),
    ("forwarded", "for=192.0.2.9;proto=https;host=\"up.example:8443\""),
];
const OLDER: &[(&str, &str)] = &[
    ("x-forwarded-for", "6.6.6.6, 192.0.2.9"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "up.example:8443"),
];

#[tokio::test]
async fn fields_of_a_trusted_proxy_determine_urls_and_client_address() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--trusted-proxy", "::1", "--trusted-proxy", "127.0.0.0/8"]);
    for (number, transport) in TRANSPORTS.into_iter().enumerate() {
        for fields in [STANDARD, OLDER] {
            let location = located(&server, transport, creation("/uploads", fields)).await;
            assert_eq!(base(&location), "https://up.example:8443/uploads", "{fields:?}");
        }
        let lies = [
            ("forwarded", "host=\"evil.example/x\";proto=\"https://evil\""),
            ("forwarded", "host=\"a@evil.example\""),
            ("forwarded", "for=192.0.2.9;host=\"open"),
            ("forwarded", "host=\"\\\"><script>\""),
            ("x-forwarded-host", "evil.example/x"),
            ("x-forwarded-host", "evil.example, "),
            ("x-forwarded-proto", "javascript"),
        ];
        for lie in lies {
            let location = located(&server, transport, creation("/uploads", &[lie])).await;
            assert_eq!(base(&location), "http://localhost/uploads", "{lie:?}");
        }
        // Ordinary uploads too. The log has the client's address, not the proxy's.
        let request = OLDER
            .iter()
            .fold(TestRequest::to("PUT", "/uploads/a.txt").sized("a"), |request, field| request.with(*field));
        let got = server.request(transport, request).await;
        assert_eq!(base(got.field("location").expect("a Location")), "https://up.example:8443/uploads");
        let done = |log: String| log.lines().filter(|line| line.contains("complete")).count() > number;
        poll_until("the line in the log", || done(server.log()).then_some(())).await;
        let log = server.log();
        for line in log.lines().filter(|line| line.contains("complete")) {
            assert!(line.contains("client=192.0.2.9"), "{line}");
        }
        assert!(!log.contains("6.6.6.6"), "{log}");
    }
    server.stop().await;
}

#[tokio::test]
async fn forwarding_fields_of_other_clients_are_ignored() {
    let home = ServerDir::new();
    let flags: [&[&str]; 2] = [&[], &["--trusted-proxy", "192.0.2.0/24", "--trusted-proxy", "::1"]];
    for flags in flags {
        let server = Server::start(&home, flags);
        for transport in TRANSPORTS {
            for fields in [STANDARD, OLDER] {
                let location = located(&server, transport, creation("/uploads", fields)).await;
                assert_eq!(base(&location), "http://localhost/uploads", "{flags:?}");
            }
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn the_public_url_overrides_forwarding_fields() {
    let home = ServerDir::new();
    let server =
        Server::start(&home, &["--trusted-proxy", "127.0.0.1", "--public-url", "https://known.example"]);
    for transport in TRANSPORTS {
        for fields in [&[], STANDARD, OLDER] {
            let location = located(&server, transport, creation("/uploads", fields)).await;
            assert_eq!(base(&location), "https://known.example/uploads");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_relative_location_is_a_path_to_the_upload() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--location", "relative", "--trusted-proxy", "127.0.0.1"]);
    for transport in TRANSPORTS {
        for fields in [&[], STANDARD] {
            let location = located(&server, transport, creation("/uploads", fields)).await;
            assert_eq!(base(&location), "/uploads");
            let rest = TestRequest::to("PATCH", &location).field("upload-draft-interop-version", 8);
            let rest = rest.field("content-type", "application/partial-upload").field("upload-offset", 1000);
            let got = server.request(transport, rest.field("upload-complete", "?1").sized("the rest")).await;
            assert!(got.is_complete(), "{got:?}");
        }
        let got = server.request(transport, TestRequest::to("PUT", "/uploads/a.txt").sized("a")).await;
        assert_eq!(base(got.field("location").expect("a Location")), "/uploads");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_trailing_slash_of_the_endpoint_is_ignored() {
    for endpoint in ["/files", "/files/"] {
        let home = ServerDir::new();
        let server = Server::start(&home, &["--endpoint", endpoint]);
        assert!(server.url.ends_with("/files"), "{}", server.url);
        for transport in TRANSPORTS {
            for path in ["/files", "/files/"] {
                let location = located(&server, transport, creation(path, &[])).await;
                assert_eq!(base(&location), "http://localhost/files", "{path}");
                let token = TestRequest::to("POST", path)
                    .field("upload-token", format!("{transport:?}{}", path.len()));
                assert_eq!(server.request(transport, token.sized("x")).await.status, 204);
                assert_eq!(server.request(transport, TestRequest::to("OPTIONS", path)).await.status, 200);
            }
        }
        server.stop().await;
    }
}
