//! 104 (Upload Resumption Supported) on the wire: when it is sent, to which clients, and what it guarantees.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use http::HeaderMap;
use socket2::SockRef;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{
    Exchange, H2, Raw, Server, ServerDir, TRANSPORTS, TestRequest, TestResponse, Transport, bytes, h2_send,
    poll_until, within_timeout,
};

mod superseded;

const NUMBER: &str = "upload-draft-interop-version";
const OS: [&str; 2] = ["--durability", "os"];
const MIB: usize = 1 << 20;

fn create(complete: &str) -> TestRequest {
    TestRequest::to("POST", "/uploads").field("upload-complete", complete)
}

fn append(path: &str, at: usize, complete: &str) -> TestRequest {
    let request =
        TestRequest::to("PATCH", path).field("upload-offset", at).field("upload-complete", complete);
    request.field("content-type", "application/partial-upload").field(NUMBER, 8)
}

fn head(path: &str) -> TestRequest {
    TestRequest::to("HEAD", path).field(NUMBER, 8)
}

fn text<'a>(fields: &'a HeaderMap, name: &str) -> Option<&'a str> {
    fields.get(name).map(|value| value.to_str().expect("visible ASCII"))
}

/// Returns the path of a `Location`, which must be absolute.
fn path(fields: &HeaderMap) -> String {
    let location = text(fields, "location").expect("a Location");
    let uri: http::Uri = location.parse().expect("a URI");
    assert!(uri.scheme().is_some() && uri.authority().is_some(), "{location} is not absolute");
    uri.path().to_owned()
}

/// Checks that a creation has one interim response, and returns its fields.
fn announcement(got: &TestResponse) -> &HeaderMap {
    let [(104, fields)] = &got.interims[..] else { panic!("one announcement: {got:?}") };
    fields
}

/// A connection that can send content while a response is awaited.
fn writer(raw: &Raw) -> TcpStream {
    let socket = SockRef::from(&raw.tcp).try_clone().expect("a socket");
    TcpStream::from_std(socket.into()).expect("a socket")
}

/// Starts a creation over HTTP/1.1 and reads its 104.
async fn announced(server: &Server, request: TestRequest) -> (Raw, HeaderMap) {
    let mut raw = Raw::connect(server).await;
    raw.send(request.field(NUMBER, 8).h1()).await;
    let (status, fields) = raw.head().await.expect("an announcement");
    assert_eq!(status, 104);
    (raw, fields)
}

// proves: IETF-CRE-07, IETF-INT-01, IETF-INT-05, IETF-INT-12
#[tokio::test]
async fn an_upload_is_announced_before_any_content_is_sent() {
    let home = ServerDir::new();
    let server = Server::start(&home, &OS);
    for complete in ["?0", "?1"] {
        let (mut raw, fields) = announced(&server, create(complete).stalls(Some(5))).await;
        assert!(
            text(&fields, "upload-limit").is_some_and(|limits| limits.contains("max-age=")),
            "{fields:?}"
        );
        assert_eq!(text(&fields, NUMBER), Some("8"));
        for name in ["content-length", "upload-offset", "transfer-encoding"] {
            assert!(!fields.contains_key(name), "{name}");
        }
        raw.send("hello").await;
        let got = raw.answer(false).await.expect("an answer");
        assert_eq!((got.status, got.interims.len()), (201, 0));
        assert_eq!(got.field("location"), text(&fields, "location"), "it is the same in 104 and 201");
        assert_eq!(got.field("upload-complete"), Some(complete));

        let h2 = H2::connect(&server).await;
        let mut streams = h2.streams.clone().ready().await.expect("room for a stream");
        let request = create(complete).field(NUMBER, 8);
        let (mut response, mut stream) = streams.send_request(request.h2(), false).expect("sent");
        let interim = within_timeout("the announcement", poll_fn(|cx| response.poll_informational(cx))).await;
        let interim = interim.expect("a 104").expect("no error");
        assert_eq!((interim.status().as_u16(), text(interim.headers(), NUMBER)), (104, Some("8")));
        h2_send(&mut stream, "hello".into(), true).await.expect("sent");
        let last = within_timeout("the answer", response).await.expect("an answer");
        assert_eq!(last.status().as_u16(), 201);
        assert_eq!(last.headers().get("location"), interim.headers().get("location"));
        assert!(path(last.headers()).starts_with("/uploads/"));
    }
    assert_eq!((home.uploads("open"), home.uploads("done")), (2, 2));
}

// proves: IETF-INT-10
#[tokio::test]
async fn an_expectation_gets_100_in_addition_to_104() {
    let home = ServerDir::new();
    let server = Server::start(&home, &OS);
    let request = create("?1").field("expect", "100-continue").stalls(Some(5));
    let (mut raw, fields) = announced(&server, request.clone()).await;
    assert_eq!(raw.head().await.expect("permission").0, 100, "not left out because of the 104");
    raw.send("hello").await;
    let got = raw.answer(false).await.expect("an answer");
    assert_eq!((got.status, got.field("location")), (201, text(&fields, "location")));
    // An append gets no 104, but 100 if it is expected.
    let got = server.request(Transport::H1, create("?0").field(NUMBER, 8).sized("hello")).await;
    let mut raw = Raw::connect(&server).await;
    let request = append(&path(&got.fields), 5, "?1").field("expect", "100-continue").stalls(Some(1));
    raw.send(request.h1()).await;
    assert_eq!(raw.head().await.expect("permission").0, 100);
    raw.send("!").await;
    let got = raw.answer(false).await.expect("an answer");
    assert!(got.interims.is_empty() && got.is_complete(), "{got:?}");
}

// proves: IETF-INT-07, IETF-INT-12, IETF-VER-02, IETF-VER-03, IETF-VER-06, IETF-VER-07
#[tokio::test]
async fn only_clients_that_name_a_known_version_get_interim_responses() {
    let home = ServerDir::new();
    let server = Server::start(&home, &OS);
    for transport in TRANSPORTS {
        for number in 3..=10 {
            let field = if number == 3 { ("upload-incomplete", "?0") } else { ("upload-complete", "?1") };
            let request =
                TestRequest::to("POST", "/uploads").with(field).field(NUMBER, number).sized("hello");
            let got = server.request(transport, request).await;
            assert_eq!(got.status, 201, "{number}");
            assert_eq!(text(announcement(&got), NUMBER), Some(&*number.to_string()));
            assert_eq!(text(announcement(&got), "location"), got.field("location"), "{number}");
        }
        for number in ["11", "99", "1", "2", "x", "8.0", "\"8\"", "-8", ""] {
            for complete in ["?0", "?1"] {
                let got =
                    server.request(transport, create(complete).field(NUMBER, number).sized("hello")).await;
                assert!(got.status < 400 && got.interims.is_empty(), "{number}: {got:?}");
            }
        }
        let got =
            server.request(transport, create("?1").field(NUMBER, 8).field(NUMBER, 8).sized("hello")).await;
        assert!(got.status == 201 && got.interims.is_empty(), "two lines are no number: {got:?}");
        for request in [
            create("?0"),
            create("?1"),
            TestRequest::to("POST", "/uploads"),
            TestRequest::to("PUT", "/uploads"),
        ] {
            let got = server.request(transport, request.sized("hello")).await;
            assert!(got.status == 201 && got.interims.is_empty(), "{got:?}");
        }
        // Refused by its header section, so there is no upload to announce.
        let request = create("?1").field(NUMBER, 8).field("upload-length", 9).sized("hello");
        let got = server.request(transport, request).await;
        assert!(got.status == 400 && got.interims.is_empty(), "{got:?}");
    }
    let mut raw = Raw::connect(&server).await;
    raw.send("POST /uploads HTTP/1.0\r\nUpload-Complete: ?1\r\nUpload-Draft-Interop-Version: 8\r\n").await;
    raw.send("Content-Length: 5\r\n\r\nhello").await;
    let got = raw.answer(false).await.expect("an answer");
    assert!(got.status == 201 && got.interims.is_empty(), "HTTP/1.0 has no interim responses: {got:?}");
}

// proves: IETF-VER-07, IETF-INT-14
#[tokio::test]
async fn the_interim_setting_changes_which_clients_get_104() {
    let home = ServerDir::new();
    let public = ["--public-url", "https://upload.example.org/", "--interim", "always"];
    let server = Server::start(&home, &[&OS[..], &public].concat());
    for transport in TRANSPORTS {
        let got = server.request(transport, create("?0").sized("hello")).await;
        let fields = announcement(&got);
        assert!(!fields.contains_key(NUMBER), "a number nobody named: {fields:?}");
        assert!(
            text(fields, "location")
                .is_some_and(|url| url.starts_with("https://upload.example.org/uploads/"))
        );
        assert_eq!(got.field("location"), text(fields, "location"));
        for number in ["11", "x"] {
            let got = server.request(transport, create("?0").field(NUMBER, number).sized("hello")).await;
            assert!(got.interims.is_empty(), "{got:?}");
        }
        let got = server.request(transport, TestRequest::to("PUT", "/uploads").sized("hello")).await;
        assert!(got.status == 201 && got.interims.is_empty(), "{got:?}");
    }
    server.stop().await;
    let server = Server::start(&home, &["--interim", "never"]);
    for transport in TRANSPORTS {
        let got = server.request(transport, create("?0").field(NUMBER, 8).sized("hello")).await;
        assert!(got.interims.is_empty() && got.field("location").is_some(), "{got:?}");
    }
}

/// Reads interim responses until the final one, and checks their guarantees.
fn held_to(progress: &[(u16, HeaderMap)], length: usize, took: Duration) -> usize {
    let mut last = 0;
    for (status, fields) in progress {
        assert_eq!((*status, text(fields, NUMBER)), (104, Some("8")), "{fields:?}");
        assert!(!fields.contains_key("location"), "it has been told: {fields:?}");
        let offset: usize = text(fields, "upload-offset").expect("an offset").parse().expect("an integer");
        assert!(offset > last && offset <= length, "{offset} after {last}");
        last = offset;
    }
    assert!(progress.len() as u64 <= took.as_secs() + 1, "{} in {took:?}", progress.len());
    progress.len()
}

// proves: IETF-INT-02, IETF-INT-03, IETF-INT-04, IETF-INT-13, IETF-OFF-01
#[tokio::test]
async fn progress_is_reported_at_most_once_a_second() {
    const PIECES: usize = 16;
    const PAUSE: Duration = Duration::from_millis(150);
    let home = ServerDir::new();
    let server = Server::start(&home, &OS);
    let content = bytes(11, PIECES * MIB / 2);
    let pieces = || content.chunks(MIB / 2).map(bytes::Bytes::copy_from_slice);
    let created = server.request(Transport::H1, create("?0").field(NUMBER, 8)).await;
    let asks = [(create("?1").field(NUMBER, 8), true), (append(&path(&created.fields), 0, "?1"), false)];
    for (request, is_announced) in asks {
        let mut raw = Raw::connect(&server).await;
        let began = Instant::now();
        raw.send(request.clone().stalls(Some(content.len())).h1()).await;
        let mut write = writer(&raw);
        let sending = async {
            for piece in pieces() {
                write.write_all(&piece).await.expect("sent");
                // time itself is tested: content comes slowly
                tokio::time::sleep(PAUSE).await;
            }
        };
        let ((), got) = tokio::join!(sending, raw.answer(false));
        let got = got.expect("an answer");
        assert!(got.status == 201 && got.is_complete(), "{got:?}");
        let progress = &got.interims[usize::from(is_announced)..];
        assert!(held_to(progress, content.len(), began.elapsed()) >= 1, "no progress was told");
        // Only the next response follows the final one.
        raw.send(TestRequest::to("OPTIONS", "/uploads").h1()).await;
        let got = raw.answer(false).await.expect("an answer");
        assert_eq!((got.status, got.interims.len()), (200, 0));
    }
    let h2 = H2::connect(&server).await;
    let mut streams = h2.streams.clone().ready().await.expect("room for a stream");
    let began = Instant::now();
    let (mut response, mut stream) =
        streams.send_request(create("?1").field(NUMBER, 8).h2(), false).expect("sent");
    let sending = async {
        for (number, piece) in pieces().enumerate() {
            h2_send(&mut stream, piece, number + 1 == PIECES).await.expect("sent");
            // time itself is tested: content comes slowly
            tokio::time::sleep(PAUSE).await;
        }
    };
    let reading = async {
        let mut interims = Vec::new();
        while let Some(interim) = poll_fn(|cx| response.poll_informational(cx)).await {
            let (head, ()) = interim.expect("no error").into_parts();
            interims.push((head.status.as_u16(), head.headers));
        }
        (interims, response.await.expect("an answer"))
    };
    let ((), (interims, last)) = within_timeout("the answer", async { tokio::join!(sending, reading) }).await;
    assert_eq!(last.status().as_u16(), 201);
    assert!(held_to(&interims[1..], content.len(), began.elapsed()) >= 1, "no progress was told");
}

// proves: IETF-OFF-01
#[tokio::test]
async fn no_response_reports_less_than_the_running_request_was_told() {
    let home = ServerDir::new();
    let server = Server::start(&home, &OS);
    let content = bytes(16, 3 * MIB);
    let (mut raw, fields) = announced(&server, create("?1").stalls(Some(content.len()))).await;
    raw.send(&content[..2 * MIB]).await;
    let (status, told) = raw.head().await.expect("progress");
    let told = text(&told, "upload-offset").expect("an offset").parse().expect("an integer");
    assert!(status == 104 && told > 0, "{status} {told}");
    let upload = path(&fields);
    for transport in TRANSPORTS {
        // A malformed request interrupts no transfer, and its refusal has the upload's state.
        let nonsense = TestRequest::to("PATCH", &upload).field(NUMBER, 8).field("upload-complete", "?1");
        let typed = nonsense.clone().field("content-type", "application/partial-upload");
        for (request, status) in [(nonsense.field("upload-offset", told), 415), (typed, 400)] {
            let got = server.request(transport, request).await;
            assert_eq!(got.status, status, "{got:?}");
            assert!(got.offset() >= Some(told), "{told} was told before {got:?}");
        }
    }
    raw.send(&content[2 * MIB..]).await;
    let got = raw.answer(false).await.expect("the transfer was not ended");
    assert!(got.status == 201 && got.is_complete() && home.only_complete() == content, "{got:?}");
}

// proves: IETF-OFF-03
#[tokio::test]
async fn offsets_reported_by_104_survive_a_kill() {
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    let content = bytes(12, 64 * MIB);
    let (mut raw, fields) = announced(&server, create("?1").stalls(Some(content.len()))).await;
    let mut write = writer(&raw);
    let sending = async {
        for piece in content.chunks(MIB) {
            if write.write_all(piece).await.is_err() {
                break;
            }
            // time itself is tested: content comes slowly
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        std::future::pending::<()>().await;
    };
    let (status, told) = tokio::select! {
        told = raw.head() => told.expect("progress"),
        () = sending => unreachable!("it stays"),
    };
    server.kill();
    let offset: usize = text(&told, "upload-offset").expect("an offset").parse().expect("an integer");
    assert!(status == 104 && offset >= MIB && offset < content.len(), "{status} {offset}");
    let server = Server::start(&home, &[]);
    let got = server.request(Transport::H1, head(&path(&fields))).await;
    assert!(got.status == 204 && got.offset() >= Some(offset), "{offset} was told: {got:?}");
    let at = got.offset().expect("an offset");
    let done = server.request(Transport::H2, append(&path(&fields), at, "?1").sized(&content[at..])).await;
    assert!(done.is_complete() && home.only_complete() == content);
}

/// A version after this release is treated as the newest one, under its own number, if the operator allows it.
// proves: IETF-VER-10, IETF-VER-02, IETF-VER-03, IETF-VER-06
#[tokio::test]
async fn only_configured_versions_are_supported() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--ietf-versions", "6-8,11"]);
    for transport in TRANSPORTS {
        for (number, is_spoken) in
            [(5, false), (6, true), (8, true), (9, false), (10, false), (11, true), (12, false)]
        {
            let got = server.request(transport, create("?1").field(NUMBER, number).sized(bytes(1, 10))).await;
            assert_eq!(got.status, 201, "{transport:?} {number}: {got:?}");
            let own = number.to_string();
            assert_eq!(
                got.field(NUMBER),
                is_spoken.then_some(own.as_str()),
                "{transport:?} {number}: {got:?}"
            );
            assert_eq!(got.interims.len(), usize::from(is_spoken), "{transport:?} {number}: {got:?}");
        }
        let got = server.request(transport, create("?0").field(NUMBER, 12)).await;
        assert_eq!((got.status, got.field(NUMBER), got.interims.len()), (201, Some("11"), 0), "{got:?}");
    }
}
