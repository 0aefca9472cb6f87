//! Downloads of complete uploads: authorization, ranges and conditions, and protection of browsers.

use std::fs;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{
    Server, ServerDir, TRANSPORTS, TestRequest, TestResponse, Transport, bytes, poll_until, within_timeout,
};

const HELLO: &str = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";

fn v8(request: TestRequest) -> TestRequest {
    request.field("upload-draft-interop-version", 8)
}

/// Creates a complete upload and returns its path.
fn path(got: &TestResponse) -> String {
    let location = got.field("location").unwrap_or_else(|| panic!("no Location: {got:?}"));
    format!("/uploads/{}", location.rsplit_once('/').expect("a path").1)
}

async fn uploaded(server: &Server, transport: Transport, request: TestRequest) -> String {
    let got = server.request(transport, request).await;
    assert_eq!(got.status, 201, "{got:?}");
    path(&got)
}

async fn get(server: &Server, transport: Transport, path: &str, fields: &[(&str, &str)]) -> TestResponse {
    server
        .request(
            transport,
            fields.iter().fold(TestRequest::to("GET", path), |request, field| request.with(*field)),
        )
        .await
}

#[tokio::test]
async fn downloads_are_off_by_default() {
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    for transport in TRANSPORTS {
        let plain =
            uploaded(&server, transport, TestRequest::to("PUT", "/uploads/a.txt").sized("hello")).await;
        let got = get(&server, transport, &plain, &[]).await;
        assert!(
            got.status == 403 && got.field("content-type") == Some("application/problem+json"),
            "{got:?}"
        );
        let request = v8(TestRequest::to("POST", "/uploads")).field("upload-complete", "?1").sized("hello");
        let draft = uploaded(&server, transport, request).await;
        let got = get(&server, transport, &draft, &[]).await;
        assert_eq!((got.status, got.offset(), got.content.len()), (204, Some(5), 0), "{got:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn downloads_have_the_uploaded_content_and_are_not_executed_by_browsers() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--downloads"]);
    for transport in TRANSPORTS {
        let content = bytes(7, 700_000);
        let request = TestRequest::to("PUT", "/uploads").field("content-type", "text/html; charset=utf-8");
        let request =
            request.field("content-disposition", "inline; filename=\"../na\u{ef}ve \u{20ac}.html\"");
        let request = request.field("content-language", "de").field("content-language", "en");
        let upload = uploaded(&server, transport, request.sized(&content)).await;
        let got = get(&server, transport, &upload, &[]).await;
        assert!(got.status == 200 && got.content == content, "{} bytes", got.content.len());
        let id = upload.rsplit_once('/').expect("a path").1;
        let tag = format!("\"{id}-700000\"");
        let expected = [
            ("content-type", "text/html; charset=utf-8"),
            ("content-language", "de"),
            ("content-length", "700000"),
            (
                "content-disposition",
                "attachment; filename=\"na_ve _.html\"; filename*=UTF-8''na%C3%AFve%20%E2%82%AC.html",
            ),
            ("content-security-policy", "sandbox"),
            ("x-content-type-options", "nosniff"),
            ("cache-control", "private, no-cache"),
            ("accept-ranges", "bytes"),
            ("etag", &tag),
        ];
        for (name, value) in expected {
            assert_eq!(got.field(name), Some(value), "{name}");
        }
        let languages: Vec<_> = got.fields.get_all("content-language").iter().collect();
        assert_eq!(languages, ["de", "en"]);
        // Content without a type is served as octets, to be saved.
        let bare = uploaded(&server, transport, TestRequest::to("POST", "/uploads").sized("")).await;
        let got = get(&server, transport, &bare, &[]).await;
        assert_eq!((got.status, got.content.len(), got.field("content-length")), (200, 0, Some("0")));
        assert_eq!(got.field("content-type"), Some("application/octet-stream"));
        assert_eq!(got.field("content-disposition"), Some("attachment"));
    }
    server.stop().await;
}

#[tokio::test]
async fn ranges_and_conditional_requests_are_served() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--downloads"]);
    for transport in TRANSPORTS {
        let content = bytes(8, 600_000);
        let upload = uploaded(&server, transport, TestRequest::to("PUT", "/uploads/b").sized(&content)).await;
        let tag = get(&server, transport, &upload, &[]).await.field("etag").expect("a tag").to_owned();
        let cases = [
            ("bytes=0-0", 0, 1),
            ("bytes=262143-262144", 262_143, 2),
            ("bytes=100-", 100, 599_900),
            ("bytes=0-", 0, 600_000),
            ("bytes=-1000", 599_000, 1000),
            ("bytes=599999-700000", 599_999, 1),
        ];
        for (range, first, count) in cases {
            let got = get(&server, transport, &upload, &[("range", range), ("if-range", &tag)]).await;
            let said = format!("bytes {first}-{}/600000", first + count - 1);
            assert_eq!((got.status, got.field("content-range")), (206, Some(&*said)), "{range}");
            assert!(got.content == content[first..first + count], "{range}: {} bytes", got.content.len());
            assert_eq!(got.field("etag"), Some(&*tag));
        }
        for fields in [
            &[("range", "bytes=0-1,5-6")][..],
            &[("range", "bytes=0-1"), ("if-range", "\"other\"")],
            &[("if-none-match", "\"other\"")],
            &[("if-match", &tag)],
        ] {
            let got = get(&server, transport, &upload, fields).await;
            assert!(got.status == 200 && got.content == content, "{fields:?}: {}", got.status);
        }
        let got = get(&server, transport, &upload, &[("range", "bytes=600000-")]).await;
        assert_eq!((got.status, got.field("content-range")), (416, Some("bytes */600000")), "{got:?}");
        assert_eq!(got.field("content-type"), Some("application/problem+json"));
        let weak = format!("\"x\", W/{tag}");
        let got = get(&server, transport, &upload, &[("if-none-match", &weak), ("range", "bytes=0-1")]).await;
        assert_eq!((got.status, got.content.len(), got.field("etag")), (304, 0, Some(&*tag)), "{got:?}");
        let got = get(&server, transport, &upload, &[("if-match", "\"other\"")]).await;
        assert_eq!(got.status, 412, "{got:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn head_and_delete_keep_their_protocol_meaning() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--downloads"]);
    for transport in TRANSPORTS {
        // The digest is known, so content with any name has the same ETag.
        for _ in 0..2 {
            let request = v8(TestRequest::to("POST", "/uploads"))
                .field("repr-digest", HELLO)
                .field("upload-complete", "?1");
            let upload = uploaded(&server, transport, request.sized("hello")).await;
            let got = get(&server, transport, &upload, &[]).await;
            assert_eq!((got.status, &got.content[..]), (200, &b"hello"[..]), "{got:?}");
            assert_eq!(got.field("etag"), Some(&*format!("\"{HELLO}\"")));
            assert_eq!(got.field("repr-digest"), Some(HELLO));
            for request in [
                TestRequest::to("HEAD", &upload),
                v8(TestRequest::to("HEAD", &upload)),
                v8(TestRequest::to("GET", &upload)),
            ] {
                let got = server.request(transport, request).await;
                assert_eq!((got.status, got.offset(), got.content.len()), (204, Some(5), 0), "{got:?}");
            }
            assert_eq!(server.request(transport, TestRequest::to("DELETE", &upload)).await.status, 204);
            assert_eq!(get(&server, transport, &upload, &[("if-none-match", "*")]).await.status, 404);
        }
        // Incomplete uploads cannot be downloaded.
        let request = v8(TestRequest::to("POST", "/uploads")).field("upload-complete", "?0").sized("hel");
        let open = uploaded(&server, transport, request).await;
        let got = get(&server, transport, &open, &[]).await;
        assert_eq!((got.status, got.offset(), got.content.len()), (204, Some(3), 0), "{got:?}");
        assert_eq!(server.request(transport, v8(TestRequest::to("DELETE", &open))).await.status, 204);
        // A token cannot be used as a URL, and ids of token uploads cannot be guessed from the data directory.
        assert_eq!(
            server.request(transport, TestRequest::new("POST", "a-token").sized("hello")).await.status,
            204
        );
        let ids = fs::read_dir(home.data().join("done")).expect("the shelf");
        let ids: Vec<_> = ids.map(|entry| entry.expect("an entry").file_name()).collect();
        assert_eq!(ids.len(), 1);
        let path = format!("/uploads/{}", ids[0].to_str().expect("an id"));
        assert_eq!(get(&server, transport, &path, &[]).await.status, 404);
        assert_eq!(server.request(transport, TestRequest::new("DELETE", "a-token")).await.status, 204);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_tus_download_is_named_by_its_metadata() {
    for (flags, status) in [(&["--downloads"][..], 200), (&[], 405)] {
        let home = ServerDir::new();
        let server = Server::start(&home, flags);
        for transport in TRANSPORTS {
            let tus = ("tus-resumable", "1.0.0");
            let request = TestRequest::to("POST", "/uploads").with(tus).field("upload-length", 5);
            let request = request.field("upload-metadata", "filename aMOkLnR4dA==,filetype dGV4dC9wbGFpbg==");
            let request = request.field("content-type", "application/offset+octet-stream").sized("hello");
            let upload = uploaded(&server, transport, request).await;
            let got = get(&server, transport, &upload, &[]).await;
            assert_eq!(got.status, status, "{got:?}");
            if status == 200 {
                assert_eq!(got.content, "hello");
                assert_eq!(got.field("content-type"), Some("text/plain"));
                let name = "attachment; filename=\"h_.txt\"; filename*=UTF-8''h%C3%A4.txt";
                assert_eq!(got.field("content-disposition"), Some(name));
            }
            let got = server.request(transport, TestRequest::to("HEAD", &upload).with(tus)).await;
            assert_eq!((got.status, got.offset()), (200, Some(5)), "{got:?}");
            let got = get(&server, transport, &upload, &[tus]).await;
            assert_eq!(got.status, 405, "{got:?}");
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn other_users_cannot_download() {
    let home = ServerDir::new();
    fs::write(home.path("tokens"), "secret-of-alice alice\nsecret-of-bob bob\n").expect("written");
    let server = Server::start(&home, &["--downloads", "--bearer-file", &home.text("tokens")]);
    let (alice, bob) =
        (("authorization", "Bearer secret-of-alice"), ("authorization", "Bearer secret-of-bob"));
    for transport in TRANSPORTS {
        let upload =
            uploaded(&server, transport, TestRequest::to("PUT", "/uploads/a").with(alice).sized("hers"))
                .await;
        let got = get(&server, transport, &upload, &[bob]).await;
        assert!(got.status == 404 && got.field("etag").is_none(), "{got:?}");
        let nobody = get(&server, transport, &upload, &[]).await;
        assert!(nobody.status == 401 && nobody.field("www-authenticate").is_some(), "{nobody:?}");
        assert_eq!(get(&server, transport, &upload, &[alice]).await.content, "hers");
    }
    server.stop().await;
}

#[tokio::test]
async fn an_upload_moved_by_a_target_cannot_be_downloaded() {
    let home = ServerDir::new();
    let kept = Server::start(&home, &["--downloads"]);
    let before = uploaded(&kept, Transport::H1, TestRequest::to("PUT", "/uploads/a").sized("kept")).await;
    kept.stop().await;
    let flags = ["--downloads", "--target", "files", "--files-dir", &home.text("files")];
    let server = Server::start(&home, &flags);
    for transport in TRANSPORTS {
        let upload = uploaded(&server, transport, TestRequest::to("PUT", "/uploads/a").sized("taken")).await;
        let got = get(&server, transport, &upload, &[]).await;
        assert!(
            got.status == 410 && got.field("content-type") == Some("application/problem+json"),
            "{got:?}"
        );
        // An upload stored before the target was configured can still be downloaded.
        assert_eq!(get(&server, transport, &before, &[]).await.content, "kept");
    }
    server.stop().await;
}

/// Begins a download, and returns the connection after the head.
async fn begun(server: &Server, path: &str) -> TcpStream {
    let mut socket = TcpStream::connect(server.addr).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within_timeout("a head", socket.read_u8()).await.expect("a byte"));
    }
    socket
}

#[tokio::test]
async fn stalled_downloads_delay_nothing_and_aborted_ones_free_their_descriptors() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--downloads"]);
    let content = bytes(9, 20 << 20);
    let request = v8(TestRequest::to("POST", "/uploads")).field("upload-complete", "?1").sized(&content);
    let upload = uploaded(&server, Transport::H1, request).await;
    let open = format!("/proc/{}/fd", server.pid());
    let descriptors = || fs::read_dir(&open).map_or(0, Iterator::count);
    let before = descriptors();
    let mut stalled = Vec::new();
    for _ in 0..50 {
        stalled.push(begun(&server, &upload).await);
    }
    assert!(descriptors() >= before + 50);
    for transport in TRANSPORTS {
        let got = server.request(transport, v8(TestRequest::to("HEAD", &upload))).await;
        assert_eq!((got.status, got.offset()), (204, Some(20 << 20)), "{got:?}");
        assert!(get(&server, transport, &upload, &[]).await.content == content);
    }
    for (number, socket) in stalled.into_iter().enumerate() {
        // Some end in order, some with a reset.
        if number % 2 == 0 {
            socket.set_zero_linger().expect("a socket");
        }
        drop(socket);
    }
    poll_until("the descriptors of aborted downloads to be closed", || {
        (descriptors() <= before + TRANSPORTS.len()).then_some(())
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn content_that_shrinks_during_a_download_ends_it_early() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--downloads"]);
    let content = bytes(10, 20 << 20);
    let upload =
        uploaded(&server, Transport::H1, TestRequest::to("PUT", "/uploads/big").sized(&content)).await;
    let mut socket = begun(&server, &upload).await;
    let id = upload.rsplit_once('/').expect("a path").1;
    let file = home.data().join("done").join(id).join("content");
    let file = fs::OpenOptions::new().write(true).open(file).expect("is there");
    file.set_len(1 << 20).expect("shrinks");
    let mut got = Vec::new();
    // The end may be a reset.
    let _ = within_timeout("the end", socket.read_to_end(&mut got)).await;
    assert!(got.len() < content.len(), "{} bytes", got.len());
    server.stop().await;
}

#[tokio::test]
async fn a_stalled_download_holds_one_buffer() {
    const BYTES: usize = 48 << 20;
    let home = ServerDir::new();
    let server = Server::start(&home, &["--downloads"]);
    let content: Vec<u8> = (0..BYTES).map(|at| (at >> 8 ^ at).to_le_bytes()[0]).collect();
    let upload =
        uploaded(&server, Transport::H1, TestRequest::to("PUT", "/uploads/big").sized(&content)).await;
    let before = server.rss();
    let mut readers = Vec::new();
    for _ in 0..4 {
        readers.push(begun(&server, &upload).await);
    }
    // The stalled readers read nothing, while another client downloads everything repeatedly.
    for transport in TRANSPORTS {
        assert!(get(&server, transport, &upload, &[]).await.content == content);
    }
    let grown = server.rss().saturating_sub(before);
    assert!(grown < 24 << 20, "four stalled readers hold {} KiB", grown >> 10);
    for mut socket in readers {
        let mut got = Vec::with_capacity(BYTES);
        within_timeout("the content", socket.read_to_end(&mut got)).await.expect("read");
        assert!(got == content, "{} bytes", got.len());
    }
    server.stop().await;
}
