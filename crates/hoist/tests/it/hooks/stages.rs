//! The answers of hooks at each stage of an upload.

use crate::harness::{Exchange, Server, ServerDir, TestRequest, Transport, poll_until, within_timeout};

use super::{
    EACH, How, PARTIAL, Receiver, Reply, V8, location, logged, server, stored, text, tus, tus_append,
    tus_creation,
};

const H1: Transport = Transport::H1;

/// Starts a receiver that answers one hook, and agrees with the others.
async fn answering(hook: &'static str, json: &'static str) -> Receiver {
    Receiver::start(
        move |_, received| {
            if received.hook() == hook { Reply::json(json) } else { Reply::agrees() }
        },
    )
    .await
}

#[tokio::test]
async fn a_rejected_upload_is_not_stored() {
    for how in EACH {
        let (home, receiver) = (ServerDir::new(), answering("pre-create", r#"{"RejectUpload": true}"#).await);
        let server = server(&home, &receiver, &[]);
        let got = server.request(H1, how.whole(b"hello", "a")).await;
        assert_eq!(got.status, 400, "{how:?} {got:?}");
        let content = String::from_utf8_lossy(&got.content).into_owned();
        assert!(content.contains("ERR_UPLOAD_REJECTED: upload has been rejected by server"), "{content}");
        if how == How::Tus {
            assert_eq!(got.field("content-type"), Some("text/plain; charset=utf-8"));
        }
        assert_eq!((stored(&home), receiver.hooks()), (0, vec!["pre-create".to_owned()]), "{how:?}");
    }
}

#[tokio::test]
async fn a_rejection_may_have_an_answer_of_its_own() {
    let json = r#"{"rejectupload": true, "httpresponse": {"statuscode": 422, "body": "{\"why\":\"size\"}",
        "header": {"Content-Type": "application/json", "X-Why": "size", "Content-Length": "1", "Upload-Offset": "9"}}}"#;
    for how in EACH {
        let (home, receiver) = (ServerDir::new(), answering("pre-create", json).await);
        let server = server(&home, &receiver, &[]);
        let got = server.request(H1, how.whole(b"hello", "a")).await;
        assert_eq!((got.status, &*got.content), (422, &b"{\"why\":\"size\"}"[..]), "{how:?} {got:?}");
        assert_eq!(got.field("content-type"), Some("application/json"));
        assert_eq!((got.field("x-why"), got.offset()), (Some("size"), None));
    }
}

#[tokio::test]
async fn an_accepted_creation_may_have_an_answer_of_its_own() {
    let json = r#"{"HTTPResponse": {"StatusCode": 202, "Body": "hi", "Header": {"X-A": "b"}}}"#;
    let (home, receiver) = (ServerDir::new(), answering("pre-create", json).await);
    let server = server(&home, &receiver, &[]);
    let got = server.request(H1, tus_creation(5)).await;
    assert_eq!((got.status, &*got.content, got.field("x-a")), (202, &b"hi"[..], Some("b")), "{got:?}");
    // The answer to a later request is the protocol's.
    let got = server.request(H1, tus_append(&location(&got), 0, b"hello")).await;
    assert_eq!((got.status, got.field("x-a")), (204, None), "{got:?}");
}

#[tokio::test]
async fn metadata_are_replaced_or_emptied() {
    let json = r#"{"ChangeFileInfo": {"MetaData": {"filename": "b.txt", "by": "me"}}}"#;
    for how in EACH {
        let (home, receiver) = (ServerDir::new(), answering("pre-create", json).await);
        let server = server(&home, &receiver, &[]);
        let got = server.request(H1, how.whole(b"hello", "a")).await;
        assert!((200..300).contains(&got.status), "{how:?} {got:?}");
        let finished = receiver.first("post-finish").await;
        let metadata = &finished.upload()["MetaData"];
        assert_eq!(*metadata, serde_json::json!({"filename": "b.txt", "by": "me"}), "{how:?}");
        if how == How::Tus {
            let known = server.request(H1, tus("HEAD", &location(&got))).await;
            assert_eq!(known.field("upload-metadata"), Some("by bWU=,filename Yi50eHQ="));
        }
    }
    for how in EACH {
        let receiver = answering("pre-create", r#"{"ChangeFileInfo": {"MetaData": {}}}"#).await;
        let home = ServerDir::new();
        let server = server(&home, &receiver, &[]);
        server.request(H1, how.whole(b"hello", "a")).await;
        let finished = receiver.first("post-finish").await;
        assert_eq!(finished.upload()["MetaData"], serde_json::json!({}), "{how:?}");
    }
}

#[tokio::test]
async fn an_upload_whose_finish_is_refused_stays_and_is_asked_about_again() {
    // Refuses two times.
    let refusing = || {
        Receiver::start(|_, received| {
            use std::sync::atomic::{AtomicUsize, Ordering};
            static ASKED: AtomicUsize = AtomicUsize::new(0);
            if received.hook() != "pre-finish" {
                return Reply::agrees();
            }
            match ASKED.fetch_add(1, Ordering::SeqCst) % 3 {
                0 | 1 => Reply::raw("HTTP/1.1 400 Bad Request|Content-Length: 0||"),
                _ => Reply::json(r#"{"HTTPResponse": {"Header": {"X-Done": "yes"}}}"#),
            }
        })
    };
    for how in [How::Tus, How::Ietf, How::Token] {
        let (home, receiver) = (ServerDir::new(), refusing().await);
        let server = server(&home, &receiver, &[]);
        let (path, again) = match how {
            How::Tus => {
                let path = location(&server.request(H1, tus_creation(5)).await);
                let got = server.request(H1, tus_append(&path, 0, b"hello")).await;
                assert_eq!(got.status, 500, "{got:?}");
                (path.clone(), tus_append(&path, 5, b""))
            }
            How::Ietf => {
                let creation =
                    TestRequest::to("POST", "/uploads").with(V8).field("upload-complete", "?0").sized("hel");
                let path = location(&server.request(H1, creation).await);
                let append = |at: usize, content: &str| {
                    let request = TestRequest::to("PATCH", &path).with(V8).with(PARTIAL).sized(content);
                    request.field("upload-offset", at).field("upload-complete", "?1")
                };
                let got = server.request(H1, append(3, "lo")).await;
                assert_eq!((got.status, got.is_complete()), (500, false), "{got:?}");
                (path.clone(), append(5, ""))
            }
            _ => {
                let got = server.request(H1, How::Token.whole(b"hello", "a-token")).await;
                assert_eq!(got.status, 500, "{got:?}");
                (String::new(), TestRequest::append("a-token", 5))
            }
        };
        assert_eq!(home.done(), [b"hello"], "{how:?}");
        let refused = server.request(H1, again.clone()).await;
        assert_eq!((refused.status, refused.is_complete()), (500, false), "{how:?} {refused:?}");
        assert!(!receiver.hooks().contains(&"post-finish".to_owned()), "{:?}", receiver.hooks());
        let done = server.request(H1, again).await;
        assert!((200..300).contains(&done.status), "{how:?} {done:?}");
        assert_eq!(done.field("x-done"), Some("yes"), "{how:?} {done:?}");
        receiver.first("post-finish").await;
        receiver.count("pre-finish", 3).await;
        assert_eq!(receiver.hooks().iter().filter(|hook| *hook == "pre-finish").count(), 3, "{how:?}");
        if how == How::Tus {
            let known = server.request(H1, tus("HEAD", &path)).await;
            assert_eq!((known.status, known.offset()), (200, Some(5)));
        }
        logged(&server, "the hook failed").await;
    }
}

#[tokio::test]
async fn the_answer_of_pre_finish_is_that_of_the_request() {
    let json = r#"{"HTTPResponse": {"StatusCode": 200, "Body": "stored", "Header": {"X-Key": "7"}}}"#;
    for how in EACH {
        let (home, receiver) = (ServerDir::new(), answering("pre-finish", json).await);
        let server = server(&home, &receiver, &[]);
        let got = server.request(H1, how.whole(b"hello", "a")).await;
        assert_eq!(
            (got.status, &*got.content, got.field("x-key")),
            (200, &b"stored"[..], Some("7")),
            "{how:?}"
        );
    }
}

#[tokio::test]
async fn a_termination_is_rejected_or_told() {
    let rejecting = answering("pre-terminate", r#"{"RejectTermination": true}"#).await;
    let home = ServerDir::new();
    let server = server(&home, &rejecting, &[]);
    let path = location(&server.request(H1, tus_creation(5)).await);
    let got = server.request(H1, tus("DELETE", &path)).await;
    assert_eq!(got.status, 400, "{got:?}");
    let content = String::from_utf8_lossy(&got.content).into_owned();
    assert!(content.contains("ERR_UPLOAD_TERMINATION_REJECTED"), "{content}");
    assert_eq!(server.request(H1, tus("HEAD", &path)).await.status, 200);

    let telling = answering("pre-terminate", r#"{"HTTPResponse": {"Header": {"X-Bye": "1"}}}"#).await;
    let home = ServerDir::new();
    let server = self::server(&home, &telling, &[]);
    let path = location(&server.request(H1, tus_creation(5)).await);
    server.request(H1, tus_append(&path, 0, b"hel")).await;
    let got = server.request(H1, tus("DELETE", &path)).await;
    assert_eq!((got.status, got.field("x-bye")), (204, Some("1")), "{got:?}");
    let told = telling.first("post-terminate").await;
    assert_eq!((&told.upload()["Offset"], &told.upload()["Size"]), (&3.into(), &5.into()));
    assert_eq!(text(told.upload(), "ID"), path.trim_start_matches("/uploads/"));
}

#[tokio::test]
async fn progress_is_reported_while_content_arrives() {
    let (home, receiver) = (ServerDir::new(), Receiver::agreeing().await);
    let server = server(&home, &receiver, &["--progress-hooks-interval", "20ms"]);
    let path = location(&server.request(H1, tus_creation(9)).await);
    let request = tus_append(&path, 0, b"hello").stalls(Some(9));
    let mut exchange = Exchange::begin(&server, H1, request, u64::MAX).await.expect("a connection");
    let told = receiver.first("post-receive").await;
    assert_eq!((&told.upload()["Offset"], &told.upload()["Size"]), (&5.into(), &9.into()));
    // A query ends the transfer, and then the rest arrives.
    assert_eq!(server.request(H1, tus("HEAD", &path)).await.offset(), Some(5));
    let _ = within_timeout("the end of the transfer", exchange.answer()).await;
    server.request(H1, tus_append(&path, 5, b"more")).await;
    receiver.first("post-finish").await;
    let hooks = receiver.hooks();
    assert_eq!(hooks.last().map(String::as_str), Some("post-finish"), "{hooks:?}");
    let offsets: Vec<_> = receiver
        .all()
        .iter()
        .filter(|received| received.hook() == "post-receive")
        .map(|received| received.upload()["Offset"].as_u64().expect("a number"))
        .collect();
    assert_eq!(offsets, [5, 9]);
}

#[tokio::test]
async fn a_stopped_upload_is_removed() {
    let json = r#"{"StopUpload": true, "HTTPResponse": {"Header": {"X-Stop": "1"}}}"#;
    for how in [How::Ietf, How::Token, How::Ordinary] {
        let (home, receiver) = (ServerDir::new(), answering("post-receive", json).await);
        let server = server(&home, &receiver, &["--progress-hooks-interval", "20ms"]);
        let request = how.whole(b"hello", "a").stalls(Some(100_000));
        let mut exchange = Exchange::begin(&server, H1, request, u64::MAX).await.expect("a connection");
        let got = within_timeout("the stop", exchange.answer()).await.expect("an answer");
        assert_eq!((got.status, got.field("x-stop")), (400, Some("1")), "{how:?} {got:?}");
        assert!(String::from_utf8_lossy(&got.content).contains("ERR_UPLOAD_STOPPED"), "{got:?}");
        receiver.first("post-terminate").await;
        poll_until("the removal", || (stored(&home) == 0).then_some(())).await;
    }
    let (home, receiver) = (ServerDir::new(), answering("post-receive", json).await);
    let server = server(&home, &receiver, &["--progress-hooks-interval", "20ms"]);
    let path = location(&server.request(H1, tus_creation(9)).await);
    let request = tus_append(&path, 0, b"hello").stalls(Some(9));
    let mut exchange = Exchange::begin(&server, H1, request, u64::MAX).await.expect("a connection");
    let got = within_timeout("the stop", exchange.answer()).await.expect("an answer");
    assert_eq!((got.status, got.field("x-stop")), (400, Some("1")), "{got:?}");
    assert_eq!(server.request(H1, tus("HEAD", &path)).await.status, 410);
    receiver.first("post-terminate").await;
}

#[tokio::test]
async fn a_slow_receiver_delays_no_upload_and_is_told_at_the_end() {
    // Answers no hook of a first upload before the second one is complete.
    let receiver = Receiver::start(|_, received| match received.hook() {
        "post-create" => Reply::Never,
        _ => Reply::agrees(),
    })
    .await;
    let home = ServerDir::new();
    let server = server(&home, &receiver, &["--hooks-http-timeout", "300ms"]);
    for how in EACH {
        let got = server.request(H1, how.whole(b"hello", "a")).await;
        assert!((200..300).contains(&got.status), "{how:?} {got:?}");
    }
    // The lost hook is followed by those that are not.
    receiver.count("post-finish", 4).await;
    logged(&server, "did not answer within 300ms").await;
}

#[tokio::test]
async fn the_content_may_be_moved_away_after_the_end() {
    let (home, receiver) = (ServerDir::new(), Receiver::agreeing().await);
    let server = server(&home, &receiver, &["--sweep-interval", "1s"]);
    let path = location(&server.request(H1, How::Ietf.whole(b"hello", "a")).await);
    let told = receiver.first("post-finish").await;
    let content = text(&told.upload()["Storage"], "Path").to_owned();
    std::fs::rename(&content, home.path("moved")).expect("the content is there");
    let check = async |server: &Server| {
        let head = server.request(H1, TestRequest::to("HEAD", &path).with(V8)).await;
        assert_eq!((head.status, head.offset(), head.is_complete()), (204, Some(5), true), "{head:?}");
        let replay = TestRequest::to("PATCH", &path).with(V8).with(PARTIAL);
        let replay = replay.field("upload-offset", 5).field("upload-complete", "?1");
        assert_eq!(server.request(H1, replay).await.status, 201);
    };
    check(&server).await;
    // A restart reads the files.
    server.stop().await;
    let server = self::server(&home, &receiver, &["--sweep-interval", "1s", "--downloads"]);
    check(&server).await;
    let got = server.request(H1, TestRequest::to("GET", &path)).await;
    assert_eq!(got.status, 410, "{got:?}");
    poll_until("the survey", || server.log().contains("counted the stored uploads").then_some(())).await;
    for word in ["damaged", "could not read an upload", "has a record and no content"] {
        assert!(!server.log().contains(word), "{word}: {}", server.log());
    }
    assert_eq!(server.request(H1, TestRequest::to("DELETE", &path).with(V8)).await.status, 204);
}
