//! Programs in a directory, as tusd runs them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::harness::{Server, ServerDir, TestRequest, Transport, poll_until};

use super::{EACH, logged, stored, tus, tus_append, tus_creation};

const H1: Transport = Transport::H1;

/// Writes a program into the directory of hooks.
fn program(home: &ServerDir, hook: &str, script: &str) {
    fs::create_dir_all(home.path("hooks")).expect("a directory");
    let path = home.path("hooks").join(hook);
    fs::write(&path, script).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
}

fn server(home: &ServerDir, flags: &[&str]) -> Server {
    let directory = home.text("hooks");
    Server::start(home, &[&["--hooks-dir", &directory, "--hooks-events", super::ALL], flags].concat())
}

#[tokio::test]
async fn programs_get_json_and_variables_in_their_directory() {
    // Written with the directory as the working one, under another name until it is whole.
    let script = "#!/bin/sh\ncat > \"$(basename $0).new\"\n\
        echo \"$TUS_ID $TUS_SIZE $TUS_OFFSET\" > \"$(basename $0).vars\"\nmv \"$(basename $0).new\" \"$(basename $0).json\"\n";
    for how in EACH {
        let home = ServerDir::new();
        // There is no program for the others.
        for hook in ["pre-create", "post-create", "post-finish"] {
            program(&home, hook, script);
        }
        let server = server(&home, &[]);
        let got = server.request(H1, how.whole(b"hello", "a")).await;
        assert!((200..300).contains(&got.status), "{how:?} {got:?}");
        let read = |hook: &str| {
            let text = fs::read_to_string(home.path("hooks").join(format!("{hook}.json"))).ok()?;
            serde_json::from_str::<Value>(&text).ok()
        };
        let finished = poll_until("post-finish", || read("post-finish")).await;
        let id = finished["Event"]["Upload"]["ID"].as_str().expect("text");
        assert_eq!(finished["Type"], "post-finish");
        let vars = |hook: &str| fs::read_to_string(home.path("hooks").join(format!("{hook}.vars")));
        assert_eq!(vars("post-finish").expect("written"), format!("{id} 5 5\n"), "{how:?}");
        assert_eq!(vars("post-create").expect("written"), format!("{id} 5 0\n"), "{how:?}");
        assert_eq!(vars("pre-create").expect("written"), " 5 0\n", "{how:?}");
    }
}

#[tokio::test]
async fn the_output_of_a_program_is_its_answer() {
    let home = ServerDir::new();
    program(
        &home,
        "pre-create",
        "#!/bin/sh\necho '{\"ChangeFileInfo\": {\"ID\": \"x/y\"}}'\necho words >&2\n",
    );
    program(&home, "pre-terminate", "#!/bin/sh\necho '{\"RejectTermination\": true}'\n");
    let server = server(&home, &[]);
    let got = server.request(H1, tus_creation(5)).await;
    assert_eq!(super::location(&got), "/uploads/x/y");
    logged(&server, "words").await;
    assert_eq!(server.request(H1, tus("DELETE", "/uploads/x/y")).await.status, 400);
}

#[tokio::test]
async fn a_program_that_fails_or_hangs_refuses_the_request() {
    for (script, why) in [
        ("#!/bin/sh\nexit 3\n", "exited with status 3"),
        ("#!/bin/sh\nsleep 1000\n", "took longer than 1s"),
        ("#!/bin/sh\nkill -9 $$\n", "ended by a signal"),
        ("#!/bin/sh\necho hello\n", "not valid JSON"),
        ("#!/bin/sh\nhead -c 10000000 /dev/zero\n", "wrote more than 65536 bytes"),
        ("#!/no/such/interpreter\n", "the interpreter of"),
    ] {
        let home = ServerDir::new();
        program(&home, "pre-create", script);
        let server = server(&home, &["--hook-timeout", "1s"]);
        let got = server.request(H1, tus_creation(5)).await;
        assert_eq!((got.status, stored(&home)), (500, 0), "{why}: {got:?}");
        logged(&server, why).await;
    }
    let home = ServerDir::new();
    program(&home, "pre-create", "#!/bin/sh\n");
    let server = server(&home, &[]);
    fs::set_permissions(home.path("hooks/pre-create"), fs::Permissions::from_mode(0o644)).expect("changed");
    // Root may execute nothing without the mode either.
    assert_eq!(server.request(H1, tus_creation(5)).await.status, 500, "{}", server.log());
    fs::remove_file(home.path("hooks/pre-create")).expect("removed");
    assert_eq!(server.request(H1, tus_creation(5)).await.status, 201);
    fs::remove_dir_all(home.path("hooks")).expect("removed");
    assert_eq!(server.request(H1, tus_creation(5)).await.status, 500, "nothing agrees: {}", server.log());
}

#[tokio::test]
async fn a_command_a_directory_and_a_url_are_all_asked() {
    let receiver = super::Receiver::agreeing().await;
    let home = ServerDir::new();
    program(&home, "pre-create", "#!/bin/sh\necho asked >> asked\n");
    program(&home, "approve", "#!/bin/sh\ncat > \"$0.question\"\n");
    let (approve, url) = (home.text("hooks/approve"), receiver.url.clone());
    let server = server(&home, &["--hook-command", &approve, "--hooks-http", &url]);
    let path = super::location(&server.request(H1, tus_creation(5)).await);
    assert_eq!(server.request(H1, tus_append(&path, 0, b"hello")).await.status, 204);
    receiver.first("post-finish").await;
    assert_eq!(fs::read_to_string(home.path("hooks/asked")).expect("asked"), "asked\n");
    let question = fs::read_to_string(home.path("hooks/approve.question")).expect("asked");
    assert!(question.contains("\"event\":\"pre-create\""), "{question}");
    program(&home, "approve", "#!/bin/sh\necho 'not today' >&2; exit 1\n");
    let got = server.request(H1, TestRequest::to("POST", "/uploads").sized("x")).await;
    assert_eq!(got.status, 403, "{got:?}");
    assert_eq!(fs::read_to_string(home.path("hooks/asked")).expect("asked"), "asked\n", "the first ended it");
}

#[tokio::test]
async fn a_server_without_its_directory_or_url_does_not_start() {
    let home = ServerDir::new();
    let missing = home.text("none");
    for (flags, why) in [
        (["--hooks-dir", missing.as_str()], "is not a directory"),
        (["--hooks-http", "localhost:80"], "begins with http:// or https://"),
        (["--hooks-events", "post-end"], "is not a hook"),
    ] {
        let report = Server::fail(&home, &home.data(), &flags).await;
        assert!(report.code != Some(0) && report.stderr.contains(why), "{flags:?}: {report:?}");
    }
}
