//! tus 1.0 beyond the corpus: timeouts, authorization, quotas, files, restarts.

use std::fs;

use crate::harness::{
    Exchange, Server, ServerDir, TRANSPORTS, TestRequest, Transport, bytes, poll_until_async, within_timeout,
};

const OCTETS: (&str, &str) = ("content-type", "application/offset+octet-stream");

/// Returns a tus request.
fn tus(method: &'static str, path: &str) -> TestRequest {
    TestRequest::to(method, path).with(("tus-resumable", "1.0.0"))
}

fn append(path: &str, at: usize, content: &[u8]) -> TestRequest {
    tus("PATCH", path).with(OCTETS).field("upload-offset", at).sized(content)
}

/// Creates an upload and returns its path.
async fn create(server: &Server, transport: Transport, request: TestRequest) -> String {
    let got = server.request(transport, request).await;
    assert_eq!(got.status, 201, "{got:?}");
    let location = got.field("location").expect("a URL");
    location[location.find("/uploads").expect("ours")..].to_owned()
}

/// Creates a partial upload with content and returns its path.
async fn part(server: &Server, transport: Transport, content: &[u8]) -> String {
    let request = tus("POST", "/uploads").field("upload-length", content.len());
    let path = create(server, transport, request.field("upload-concat", "partial")).await;
    assert_eq!(server.request(transport, append(&path, 0, content)).await.status, 204);
    path
}

// proves: TUS1-PATCH-10, TUS1-DF-18, TUS1-PATCH-09
#[tokio::test]
async fn idle_tus_content_times_out_and_the_client_resumes() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--idle-timeout", "1s"]);
    let content = bytes(1, 30_000);
    for transport in TRANSPORTS {
        let upload = create(&server, transport, tus("POST", "/uploads").field("upload-length", 30_000)).await;
        let request = append(&upload, 0, &content[..10_000]).stalls(Some(30_000));
        let mut exchange =
            Exchange::begin(&server, transport, request, u64::MAX).await.expect("a connection");
        let got = within_timeout("the end of a stalled append", exchange.answer()).await.expect("an answer");
        assert_eq!((got.status, got.offset()), (503, Some(10_000)), "a 4xx is not tried again: {got:?}");
        let asked = server.request(transport, tus("HEAD", &upload)).await;
        assert_eq!((asked.status, asked.offset()), (200, Some(10_000)));
        let done = server.request(transport, append(&upload, 10_000, &content[10_000..])).await;
        assert_eq!((done.status, done.offset()), (204, Some(30_000)));
        assert!(home.only_complete() == content);
        assert_eq!(server.request(transport, tus("DELETE", &upload)).await.status, 204);
    }
}

// proves: TUS1-CRE-10, TUS1-DF-06, TUS1-CAT-06
#[tokio::test]
async fn refusals_by_policy_have_status_codes_that_tus_clients_know() {
    let home = ServerDir::new();
    let known = home.text("known");
    fs::write(&known, "s3cret-of-anna anna\ns3cret-of-bert bert\n").expect("written");
    let limits = ["--bearer-file", &known, "--max-open-uploads-per-user", "1", "--max-stored-bytes", "1000"];
    let server = Server::start(&home, &limits);
    let by = |request: TestRequest, name: &str| {
        request.field("authorization", format_args!("Bearer s3cret-of-{name}"))
    };
    let one = || tus("POST", "/uploads").field("upload-length", 5);
    let stranger = server.request(Transport::H1, one()).await;
    assert_eq!(stranger.status, 401);
    assert!(stranger.field("www-authenticate").is_some());
    assert_eq!(stranger.field("tus-resumable"), Some("1.0.0"));
    let upload = create(&server, Transport::H1, by(one(), "anna")).await;
    let second = server.request(Transport::H2, by(one(), "anna")).await;
    assert_eq!(second.status, 429);
    assert!(second.field("retry-after").is_some(), "queues wait as long as that: {second:?}");
    assert_eq!(second.field("content-type"), Some("text/plain; charset=utf-8"));
    let full =
        server.request(Transport::H1, by(tus("POST", "/uploads").field("upload-length", 1001), "bert")).await;
    assert_eq!(full.status, 507, "{full:?}");
    // Uploads of other users do not exist for this user, neither as uploads nor as parts.
    assert_eq!(server.request(Transport::H1, by(tus("HEAD", &upload), "bert")).await.status, 404);
    assert_eq!(server.request(Transport::H1, by(append(&upload, 0, b"01234"), "bert")).await.status, 404);
    assert_eq!(server.request(Transport::H1, by(tus("DELETE", &upload), "bert")).await.status, 404);
    assert_eq!(server.request(Transport::H1, by(tus("DELETE", &upload), "anna")).await.status, 204);
    let partial = create(&server, Transport::H1, by(one().field("upload-concat", "partial"), "anna")).await;
    assert_eq!(server.request(Transport::H1, by(append(&partial, 0, b"01234"), "anna")).await.status, 204);
    let joined =
        |name| by(tus("POST", "/uploads").field("upload-concat", format_args!("final;{partial}")), name);
    assert_eq!(server.request(Transport::H1, joined("bert")).await.status, 400);
    assert_eq!(server.request(Transport::H1, joined("anna")).await.status, 201);
}

// proves: TUS1-CRE-10
#[tokio::test]
async fn a_hook_can_reject_an_upload() {
    let home = ServerDir::new();
    let hook = "sh -c 'grep -q film && exit 0; echo only films are taken >&2; exit 1'";
    let server = Server::start(&home, &["--hook-command", hook]);
    // "film" and "song".
    for (name, status) in [("ZmlsbQ==", 201), ("c29uZw==", 403)] {
        let request = tus("POST", "/uploads").field("upload-length", 5);
        let got = server
            .request(Transport::H1, request.field("upload-metadata", format_args!("filename {name}")))
            .await;
        assert_eq!(got.status, status, "{got:?}");
        assert_eq!(got.field("tus-resumable"), Some("1.0.0"));
    }
}

// proves: TUS1-CAT-04, TUS1-CAT-09, TUS1-MET-05, TUS1-MET-06, TUS1-PATCH-15
#[tokio::test]
async fn a_final_upload_is_delivered_as_one_file_without_its_parts() {
    let home = ServerDir::new();
    let files = home.path("files");
    let server = Server::start(&home, &["--target", "files", "--files-dir", &home.text("files")]);
    let content = bytes(2, 3 << 20);
    let (first, rest) = content.split_at(1 << 20);
    let (second, third) = rest.split_at((1 << 20) + 7);
    for (transport, folder) in TRANSPORTS.into_iter().zip(["a", "b"]) {
        let mut urls = String::new();
        for content in [first, second, third] {
            urls = format!("{urls} {}", part(&server, transport, content).await);
        }
        let seen = || fs::read_dir(&files).map_or(0, Iterator::count);
        let before = seen();
        // "../a\r\nX: b", a hostile name.
        let name = if folder == "a" { "filename Li4vYQ0KWDogYg==" } else { "fileName Yi5kYXQ=" };
        let request =
            tus("POST", "/uploads").field("upload-concat", format_args!("final;{}", urls.trim_start()));
        let joined = create(&server, transport, request.field("upload-metadata", name)).await;
        let state = server.request(transport, tus("HEAD", &joined)).await;
        assert_eq!((state.offset(), state.field("upload-length")), (Some(3 << 20), Some("3145728")));
        assert_eq!(seen(), before + 1, "one file for the whole, and none for its parts");
    }
    for file in fs::read_dir(&files).expect("there") {
        let file = file.expect("a file").path();
        assert!(fs::read(&file).expect("read") == content, "{}", file.display());
        assert_eq!(file.parent(), Some(&*files));
    }
    assert!(files.join("b.dat").exists(), "the name is that of the metadata");
}

#[tokio::test]
async fn the_relative_path_of_the_metadata_names_directories() {
    let home = ServerDir::new();
    let flags = ["--target", "files", "--files-dir", &home.text("files"), "--files-name", "{path}"];
    let server = Server::start(&home, &flags);
    let cases = [
        // "a", "/films/a" as Uppy sends it.
        ("filename YQ==,relativePath L2ZpbG1zL2E=", "films/a"),
        // "b", "null".
        ("filename Yg==,relativePath bnVsbA==", "b"),
        // "c", "../../c".
        ("filename Yw==,relativePath Li4vLi4vYw==", "c"),
        // "films/d" without a relative path.
        ("filename ZmlsbXMvZA==", "films/d"),
    ];
    for (metadata, path) in cases {
        let request = tus("POST", "/uploads").field("upload-length", 0).field("upload-metadata", metadata);
        create(&server, Transport::H1, request).await;
        assert!(home.path("files").join(path).is_file(), "{metadata}");
    }
}

// proves: TUS1-CAT-13, TUS1-HEAD-07, TUS1-HEAD-08, TUS1-CHK-03
#[tokio::test]
async fn a_final_upload_waits_for_its_parts_across_restarts() {
    let home = ServerDir::new();
    let content = bytes(3, 200_000);
    let server = Server::start(&home, &[]);
    let first = part(&server, Transport::H1, &content[..70_000]).await;
    let request = tus("POST", "/uploads").field("upload-length", 130_000).field("upload-concat", "partial");
    let second = create(&server, Transport::H2, request).await;
    let said = format!("final;{first} {second}");
    let request =
        tus("POST", "/uploads").field("upload-concat", &said).field("upload-metadata", "b YQ==,a Yg==");
    let joined = create(&server, Transport::H1, request).await;
    let mistaken =
        append(&second, 0, b"hello worle").field("upload-checksum", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=");
    assert_eq!(server.request(Transport::H1, mistaken).await.status, 460);
    server.kill();
    let server = Server::start(&home, &[]);
    let waits = server.request(Transport::H1, tus("HEAD", &joined)).await;
    assert_eq!((waits.status, waits.offset()), (200, None));
    assert_eq!(waits.field("upload-length"), Some("200000"));
    assert_eq!(waits.field("upload-concat"), Some(&*said));
    assert_eq!(waits.field("upload-metadata"), Some("b YQ==,a Yg=="));
    assert_eq!(server.request(Transport::H1, tus("HEAD", &second)).await.offset(), Some(0));
    assert_eq!(server.request(Transport::H2, append(&second, 0, &content[70_000..])).await.status, 204);
    poll_until_async("it is joined", async || {
        let got = server.request(Transport::H2, tus("HEAD", &joined)).await;
        got.offset().filter(|offset| *offset == 200_000)
    })
    .await;
    assert!(home.done().contains(&content));
}
