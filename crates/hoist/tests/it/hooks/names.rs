//! Names that a hook chooses: the path of an upload's URL, and of its file.

use crate::harness::{ServerDir, TestRequest, Transport};

use super::{
    EACH, How, PARTIAL, Receiver, Reply, V8, location, logged, server, stored, text, tus, tus_append,
    tus_creation,
};

const H1: Transport = Transport::H1;

/// Starts a receiver that answers pre-create with this change.
async fn changing(change: &'static str) -> Receiver {
    Receiver::start(move |_, received| match received.hook() {
        "pre-create" => Reply::Json(format!(r#"{{"ChangeFileInfo": {change}}}"#)),
        _ => Reply::agrees(),
    })
    .await
}

#[tokio::test]
async fn an_upload_is_found_by_the_id_that_a_hook_chose() {
    let (home, receiver) = (ServerDir::new(), changing(r#"{"ID": "a/b%20c/d"}"#).await);
    let server = server(&home, &receiver, &[]);
    let got = server.request(H1, tus_creation(5)).await;
    assert_eq!((got.status, location(&got).as_str()), (201, "/uploads/a/b%20c/d"), "{got:?}");
    let path = "/uploads/a/b%20c/d";
    assert_eq!(server.request(H1, tus_append(path, 0, b"hel")).await.status, 204);
    assert_eq!(server.request(H1, tus("HEAD", path)).await.offset(), Some(3));
    // A request in no dialect is answered in that of the upload.
    assert_eq!(server.request(H1, TestRequest::to("HEAD", path)).await.offset(), Some(3));
    let taken = server.request(H1, tus_creation(5)).await;
    assert_eq!((taken.status, stored(&home)), (500, 1), "{taken:?}");
    logged(&server, "the ID is taken by another upload").await;
    server.stop().await;

    let server = self::server(&home, &receiver, &[]);
    assert_eq!(server.request(Transport::H2, tus("HEAD", path)).await.offset(), Some(3));
    assert_eq!(server.request(H1, tus_append(path, 3, b"lo")).await.status, 204);
    let finished = receiver.first("post-finish").await;
    assert_eq!(text(finished.upload(), "ID"), "a/b%20c/d");
    assert_eq!(server.request(H1, tus("DELETE", path)).await.status, 204);
    assert_eq!(server.request(H1, tus("HEAD", path)).await.status, 410);
    assert_eq!(server.request(H1, tus("HEAD", "/uploads/a/b%20c/e")).await.status, 404);
}

#[tokio::test]
async fn an_announced_url_has_the_id_that_a_hook_chose() {
    let (home, receiver) = (ServerDir::new(), changing(r#"{"ID": "films/7"}"#).await);
    let server = server(&home, &receiver, &[]);
    let creation = TestRequest::to("POST", "/uploads").with(V8).field("upload-complete", "?0").sized("hel");
    let got = server.request(H1, creation).await;
    assert_eq!(location(&got), "/uploads/films/7");
    for (status, fields) in &got.interims {
        if let Some(url) = fields.get("location") {
            assert!(url.as_bytes().ends_with(b"/uploads/films/7"), "{status} {fields:?}");
        }
    }
    assert!(got.interims.iter().any(|(_, fields)| fields.contains_key("location")), "{got:?}");
    let append = TestRequest::to("PATCH", "/uploads/films/7").with(V8).with(PARTIAL);
    let append = append.field("upload-offset", 3).field("upload-complete", "?1").sized("lo");
    let got = server.request(H1, append).await;
    assert_eq!((got.status, location(&got).as_str()), (201, "/uploads/films/7"), "{got:?}");
    assert_eq!(server.request(H1, TestRequest::to("HEAD", "/uploads/films/7").with(V8)).await.status, 204);
}

#[tokio::test]
async fn an_id_in_the_form_of_the_servers_own_is_one() {
    let (home, receiver) = (ServerDir::new(), changing(r#"{"ID": "01hf7s7kq0v5t9m3x2c8n4b6wz"}"#).await);
    let server = server(&home, &receiver, &[]);
    let got = server.request(H1, How::Ordinary.whole(b"hello", "a")).await;
    assert_eq!(location(&got), "/uploads/01hf7s7kq0v5t9m3x2c8n4b6wz", "{got:?}");
    assert_eq!(server.request(H1, How::Ordinary.whole(b"hello", "a")).await.status, 500);
}

#[tokio::test]
async fn parts_may_have_names_too() {
    let receiver = Receiver::start(|_, received| {
        let upload = received.upload();
        if received.hook() != "pre-create" || upload["IsFinal"] == true {
            return Reply::agrees();
        }
        Reply::Json(format!(r#"{{"ChangeFileInfo": {{"ID": "part/{}"}}}}"#, upload["Size"]))
    })
    .await;
    let home = ServerDir::new();
    let server = server(&home, &receiver, &[]);
    for content in ["hello ", "world"] {
        let creation = tus_creation(content.len()).field("upload-concat", "partial");
        let part = location(&server.request(H1, creation).await);
        assert_eq!(server.request(H1, tus_append(&part, 0, content.as_bytes())).await.status, 204);
    }
    let list = "final;/uploads/part/6 /uploads/part/5";
    let got = server.request(H1, tus("POST", "/uploads").field("upload-concat", list)).await;
    assert_eq!(got.status, 201, "{got:?}");
    receiver.count("post-finish", 3).await;
    let all = receiver.all();
    let whole = all.iter().rfind(|received| received.hook() == "post-finish").expect("told");
    assert_eq!(whole.upload()["PartialUploads"], serde_json::json!(["part/6", "part/5"]));
    let content = std::fs::read(text(&whole.upload()["Storage"], "Path")).expect("content");
    assert_eq!(content, b"hello world");
    let known = server.request(H1, tus("HEAD", &location(&got))).await;
    assert_eq!(known.field("upload-concat"), Some(list));
}

#[tokio::test]
async fn names_that_cannot_be_are_the_operators_mistake() {
    for (change, how, why) in [
        (r#"{"ID": "/a"}"#, How::Tus, "the ID is not a path"),
        (r#"{"ID": "a b"}"#, How::Ietf, "the ID is not a path"),
        (r#"{"ID": "../a"}"#, How::Ordinary, "the ID is not a path"),
        (r#"{"ID": "a"}"#, How::Token, "the ID of a token upload cannot change"),
        (r#"{"MetaData": {"a b": "c"}}"#, How::Tus, "MetaData has a key"),
        (r#"{"Storage": {"Path": "a"}}"#, How::Tus, "Storage.Path needs a target that has files"),
    ] {
        let (home, receiver) = (ServerDir::new(), changing(change).await);
        let server = server(&home, &receiver, &[]);
        let got = server.request(H1, how.whole(b"hello", "a")).await;
        assert_eq!((got.status, stored(&home)), (500, 0), "{change} {got:?}");
        logged(&server, why).await;
    }
}

#[tokio::test]
async fn a_file_has_the_path_that_a_hook_chose() {
    for how in EACH {
        let (home, receiver) = (ServerDir::new(), changing(r#"{"Storage": {"Path": "in/x/y.txt"}}"#).await);
        let files = home.text("files");
        let server = server(&home, &receiver, &["--target", "files", "--files-dir", &files]);
        let got = server.request(H1, how.whole(b"hello", "a")).await;
        assert!((200..300).contains(&got.status), "{how:?} {got:?}");
        let finished = receiver.first("post-finish").await;
        let path = home.path("files/in/x/y.txt");
        assert_eq!(text(&finished.upload()["Storage"], "Path"), path.to_str().expect("UTF-8"));
        assert_eq!(std::fs::read(&path).expect("the file"), b"hello");
        // A name that is taken is not overwritten, and the hook learns the one that it is.
        server.request(H1, how.whole(b"world", "b")).await;
        receiver.count("post-finish", 2).await;
        let all = receiver.all();
        let second = all.iter().rfind(|received| received.hook() == "post-finish").expect("told");
        let other = text(&second.upload()["Storage"], "Path");
        assert_ne!(other, path.to_str().expect("UTF-8"));
        assert_eq!(std::fs::read(other).expect("the file"), b"world");
    }
    for path in ["/etc/x", "../x", "a/../../x", "a//b"] {
        let receiver = Receiver::start(move |_, _| {
            Reply::Json(format!(r#"{{"ChangeFileInfo": {{"Storage": {{"Path": "{path}"}}}}}}"#))
        })
        .await;
        let home = ServerDir::new();
        let files = home.text("files");
        let server = server(&home, &receiver, &["--target", "files", "--files-dir", &files]);
        assert_eq!(server.request(H1, How::Tus.whole(b"hello", "a")).await.status, 500, "{path}");
        logged(&server, "Storage.Path is not a path beneath").await;
        assert_eq!(stored(&home), 0);
    }
}
