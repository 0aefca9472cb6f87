//! Hooks against receivers that know nothing of hoist but the contract of tusd: a web service, and programs in a directory.

mod bad_answers;
mod names;
mod programs;
mod receiver;
mod stages;

use serde_json::{Value, json};

use crate::harness::{Server, ServerDir, TRANSPORTS, TestRequest, TestResponse, Transport, poll_until};

pub(crate) use receiver::{Receiver, Reply};

pub(crate) const ALL: &str =
    "pre-create,post-create,post-receive,pre-finish,post-finish,pre-terminate,post-terminate";
pub(crate) const V8: (&str, &str) = ("upload-draft-interop-version", "8");
pub(crate) const OCTETS: (&str, &str) = ("content-type", "application/offset+octet-stream");
pub(crate) const PARTIAL: (&str, &str) = ("content-type", "application/partial-upload");

/// Starts a server whose hooks are all sent to a receiver.
pub(crate) fn server(home: &ServerDir, receiver: &Receiver, flags: &[&str]) -> Server {
    let hooks = ["--hooks-http", &receiver.url, "--hooks-events", ALL, "--hooks-http-backoff", "10ms"];
    Server::start(home, &[&hooks[..], flags].concat())
}

pub(crate) fn tus(method: &'static str, path: &str) -> TestRequest {
    TestRequest::to(method, path).with(("tus-resumable", "1.0.0"))
}

pub(crate) fn tus_creation(bytes: usize) -> TestRequest {
    tus("POST", "/uploads").field("upload-length", bytes)
}

pub(crate) fn tus_append(path: &str, at: usize, content: &[u8]) -> TestRequest {
    tus("PATCH", path).with(OCTETS).field("upload-offset", at).sized(content)
}

/// Returns the path of the `Location` of a response.
pub(crate) fn location(got: &TestResponse) -> String {
    let url = got.field("location").unwrap_or_else(|| panic!("a URL: {got:?}"));
    url[url.find("/uploads").expect("ours")..].to_owned()
}

/// The ways to upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Tus,
    Ietf,
    Token,
    Ordinary,
}

pub(crate) const EACH: [How; 4] = [How::Tus, How::Ietf, How::Token, How::Ordinary];

impl How {
    /// Returns a request that creates an upload with all its content.
    pub(crate) fn whole(self, content: &[u8], name: &str) -> TestRequest {
        let disposition = format!("attachment; filename=\"{name}\"");
        match self {
            Self::Tus => tus_creation(content.len())
                .with(OCTETS)
                .field("upload-metadata", "filename YQ==")
                .sized(content),
            Self::Ietf => TestRequest::to("POST", "/uploads")
                .with(V8)
                .field("upload-complete", "?1")
                .field("content-disposition", disposition)
                .sized(content),
            Self::Token => {
                TestRequest::new("POST", name).field("content-disposition", disposition).sized(content)
            }
            Self::Ordinary => {
                TestRequest::to("POST", "/uploads").field("content-disposition", disposition).sized(content)
            }
        }
    }
}

// proves: TOK-SEC-02
#[tokio::test]
async fn the_hooks_of_every_dialect_are_those_of_tusd() {
    for transport in TRANSPORTS {
        for how in EACH {
            let (home, receiver) = (ServerDir::new(), Receiver::agreeing().await);
            let server = server(&home, &receiver, &[]);
            let got = server.request(transport, how.whole(b"hello", "a")).await;
            assert!((200..300).contains(&got.status), "{how:?} {got:?}");
            receiver.first("post-finish").await;
            let hooks = receiver.hooks();
            let place = |hook: &str| hooks.iter().position(|name| name == hook).expect(hook);
            let told = ["post-create", "post-receive", "post-finish"].map(place);
            assert!(told.is_sorted() && place("pre-create") == 0, "{how:?} {hooks:?}");
            assert!(place("pre-finish") < place("post-finish") && hooks.len() == 5, "{how:?} {hooks:?}");

            let asked = receiver.first("pre-create").await;
            let expected = json!({
                "ID": "", "Size": 5, "SizeIsDeferred": false, "Offset": 0, "MetaData": {"filename": "a"},
                "IsPartial": false, "IsFinal": false, "PartialUploads": null, "Storage": null,
            });
            assert_eq!(*asked.upload(), expected, "{how:?}");
            assert_eq!(asked.request()["Method"], "POST");
            assert_eq!(asked.request()["URI"], "/uploads");
            assert_eq!(asked.request()["Header"]["Host"], json!(["localhost"]));
            let peer = asked.request()["RemoteAddr"].as_str().expect("text");
            assert!(peer.starts_with("127.0.0.1:"), "{peer}");
            assert!(asked.head.starts_with("post /hook http/1.1\r\n"), "{}", asked.head);
            assert!(asked.head.contains("\r\ncontent-type: application/json\r\n"), "{}", asked.head);

            let finished = receiver.first("post-finish").await;
            let id = finished.upload()["ID"].as_str().expect("text");
            if how != How::Token {
                assert!(location(&got).ends_with(id), "{how:?} {id}");
            }
            assert_eq!(finished.upload()["Offset"], 5);
            let storage = &finished.upload()["Storage"];
            assert_eq!(storage["Type"], "filestore");
            let path = |name: &str| std::path::Path::new(storage[name].as_str().expect("text")).to_owned();
            assert_eq!(std::fs::read(path("Path")).expect("content"), b"hello", "{how:?}");
            assert!(path("InfoPath").is_file());
            let created = receiver.first("post-create").await;
            assert_eq!((&created.upload()["ID"], &created.upload()["Offset"]), (&json!(id), &json!(0)));
        }
    }
}

#[tokio::test]
async fn the_default_has_no_pre_finish_and_no_pre_terminate() {
    let (home, receiver) = (ServerDir::new(), Receiver::agreeing().await);
    let server = Server::start(&home, &["--hooks-http", &receiver.url]);
    let upload = location(&server.request(Transport::H1, tus_creation(5)).await);
    server.request(Transport::H1, tus_append(&upload, 0, b"hello")).await;
    server.request(Transport::H1, tus("DELETE", &upload)).await;
    receiver.first("post-terminate").await;
    assert_eq!(
        receiver.hooks(),
        ["pre-create", "post-create", "post-receive", "post-finish", "post-terminate"]
    );
}

#[tokio::test]
async fn the_events_are_chosen_by_the_name_of_tusd_too() {
    let (home, receiver) = (ServerDir::new(), Receiver::agreeing().await);
    let flags = ["--hooks-http", &receiver.url, "--hooks-enabled-events", "post-create,post-finish"];
    let server = Server::start(&home, &flags);
    server.request(Transport::H1, How::Tus.whole(b"hello", "a")).await;
    receiver.first("post-finish").await;
    assert_eq!(receiver.hooks(), ["post-create", "post-finish"]);
}

#[tokio::test]
async fn an_empty_upload_and_one_of_unknown_length_are_told_as_such() {
    let (home, receiver) = (ServerDir::new(), Receiver::agreeing().await);
    let server = server(&home, &receiver, &[]);
    server.request(Transport::H1, tus_creation(0)).await;
    let finished = receiver.first("post-finish").await;
    assert_eq!((&finished.upload()["Size"], &finished.upload()["Offset"]), (&json!(0), &json!(0)));
    assert!(!receiver.hooks().contains(&"post-receive".to_owned()), "{:?}", receiver.hooks());

    let (home, receiver) = (ServerDir::new(), Receiver::agreeing().await);
    let server = self::server(&home, &receiver, &[]);
    server.request(Transport::H1, tus("POST", "/uploads").field("upload-defer-length", 1)).await;
    let asked = receiver.first("pre-create").await;
    assert_eq!((&asked.upload()["Size"], &asked.upload()["SizeIsDeferred"]), (&json!(0), &json!(true)));
}

#[tokio::test]
async fn a_hook_that_is_asked_sees_credentials_but_no_token() {
    let (home, receiver) = (ServerDir::new(), Receiver::agreeing().await);
    let server = server(&home, &receiver, &["--hooks-http-forward-headers", "X-Trace,Cookie,Upload-Token"]);
    let request = How::Token
        .whole(b"hello", "s3cret-token")
        .field("authorization", "Bearer b")
        .field("cookie", "c=d")
        .field("x-trace", "7");
    server.request(Transport::H1, request).await;
    receiver.first("post-finish").await;
    let asked = receiver.first("pre-create").await;
    let fields = &asked.request()["Header"];
    assert_eq!((&fields["Authorization"], &fields["Cookie"]), (&json!(["Bearer b"]), &json!(["c=d"])));
    for line in ["\r\nx-trace: 7", "\r\ncookie: c=d"] {
        assert!(asked.head.contains(line), "{}", asked.head);
    }
    for received in receiver.all() {
        // The name in Content-Disposition is the client's to show.
        let text = received.request()["Header"]["Upload-Token"].to_string();
        assert!(text == "null" && !received.head.contains("upload-token"), "{}", received.head);
    }
}

#[tokio::test]
async fn parts_and_wholes_of_tus_have_hooks_of_their_own() {
    let (home, receiver) = (ServerDir::new(), Receiver::agreeing().await);
    let server = server(&home, &receiver, &[]);
    let mut parts = Vec::new();
    for content in [b"hello ", b"world!"] {
        let creation = tus_creation(6).field("upload-concat", "partial");
        let part = location(&server.request(Transport::H1, creation).await);
        assert_eq!(server.request(Transport::H1, tus_append(&part, 0, content)).await.status, 204);
        parts.push(part);
    }
    let whole = tus("POST", "/uploads").field("upload-concat", format!("final;{} {}", parts[0], parts[1]));
    let got = server.request(Transport::H1, whole).await;
    assert_eq!(got.status, 201, "{got:?}");
    receiver.count("post-finish", 3).await;
    let all = receiver.all();
    let of = |hook: &str, key: &str| -> Vec<bool> {
        let seen = all.iter().filter(|received| received.hook() == hook);
        seen.map(|received| received.upload()[key].as_bool().expect("a flag")).collect()
    };
    assert_eq!(of("pre-create", "IsPartial"), [true, true, false]);
    assert_eq!(of("pre-create", "IsFinal"), [false, false, true]);
    assert_eq!(of("pre-finish", "IsFinal"), [false, false, true]);
    let ids: Vec<_> = parts.iter().map(|part| part.trim_start_matches("/uploads/")).collect();
    let whole = all.iter().rfind(|received| received.hook() == "pre-create").expect("asked");
    assert_eq!((&whole.upload()["PartialUploads"], &whole.upload()["Size"]), (&json!(ids), &json!(12)));
    let finished = all.iter().rfind(|received| received.hook() == "post-finish").expect("told");
    let path = finished.upload()["Storage"]["Path"].as_str().expect("a path");
    assert_eq!(std::fs::read(path).expect("content"), b"hello world!");
}

#[tokio::test]
async fn numbered_parts_of_a_token_have_no_hooks_but_their_whole() {
    let (home, receiver) = (ServerDir::new(), Receiver::agreeing().await);
    let server = server(&home, &receiver, &[]);
    for (number, content) in [("0", "hello "), ("1;last", "world!")] {
        let request = TestRequest::new("POST", "a-token").field("upload-index", number).sized(content);
        let got = server.request(Transport::H1, request).await;
        assert!((200..300).contains(&got.status), "{got:?}");
    }
    receiver.first("post-finish").await;
    assert_eq!(receiver.hooks(), ["pre-create", "post-create", "pre-finish", "post-finish"]);
    assert_eq!(receiver.first("post-finish").await.upload()["Size"], 12);
}

/// Waits until the log of a server has a text.
pub(crate) async fn logged(server: &Server, text: &str) {
    let has = || server.log().contains(text).then_some(());
    poll_until(&format!("{text:?} in the log"), has).await;
}

/// Returns the number of uploads in a data directory.
pub(crate) fn stored(home: &ServerDir) -> usize {
    home.uploads("open") + home.uploads("done")
}

/// Returns the value of a member of an upload, as text.
pub(crate) fn text<'a>(upload: &'a Value, key: &str) -> &'a str {
    upload[key].as_str().unwrap_or_else(|| panic!("{key} in {upload}"))
}
