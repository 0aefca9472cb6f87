//! Standard output that cannot be written: closed pipes and full devices.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use crate::child_process::{ExitReport, TestDir, hoist};
use crate::harness::{Server, ServerDir, TestRequest, Transport};

/// Returns a pipe without a reader.
fn closed() -> Stdio {
    let (_, writer) = std::io::pipe().expect("a pipe");
    writer.into()
}

/// Returns a device on which all writes fail with ENOSPC.
fn full() -> Stdio {
    File::options().write(true).open("/dev/full").expect("a device").into()
}

async fn ended(mut command: Command, stdout: Stdio) -> ExitReport {
    command.stdout(stdout).stderr(Stdio::piped());
    let child = command.spawn().expect("it runs");
    let output = tokio::task::spawn_blocking(move || child.wait_with_output());
    output.await.expect("no panic").expect("it ends").into()
}

#[tokio::test]
async fn printing_commands_ignore_a_closed_pipe_and_report_a_full_device() {
    let place = TestDir::new();
    let film = place.file("film", "content");
    let verbs: [&[&str]; 8] = [
        &["--help"],
        &["--version"],
        &["version"],
        &["config", "print"],
        &["completions", "bash"],
        &["man"],
        &["dns-record", "--host", "upload.example.org"],
        &["demo", &film, "--cuts", "1", "--quiet"],
    ];
    for words in verbs {
        let unheard = ended(hoist(words), closed()).await;
        assert!(unheard.code == Some(0) && !unheard.stderr.contains("output"), "{words:?}: {unheard:?}");
        let unwritten = ended(hoist(words), full()).await;
        assert_eq!(unwritten.code, Some(1), "{words:?}: {}", unwritten.stderr);
        let why = "cannot write to standard output: No space left on device";
        assert!(unwritten.stderr.contains(why), "{words:?}: {}", unwritten.stderr);
    }
}

#[tokio::test]
async fn unwritable_output_does_not_change_the_exit_code_of_completed_work() {
    let place = TestDir::new();
    let wrong = place.file("hoist.toml", "max-size = \"soon\"\n");
    let pages = place.text("man");
    let verbs: [(&[&str], i32); 3] = [
        (&["config", "check", "--config", &wrong], 3),
        (&["config", "check", "--listen", "127.0.0.1:0"], 0),
        (&["man", &pages], 0),
    ];
    for (words, code) in verbs {
        let unheard = ended(hoist(words), closed()).await;
        assert!(unheard.code == Some(code) && !unheard.stderr.contains("output"), "{words:?}: {unheard:?}");
        let unwritten = ended(hoist(words), full()).await;
        assert_eq!(unwritten.code, Some(code), "{words:?}: {}", unwritten.stderr);
        assert_eq!(unwritten.stderr.matches("cannot write to standard output").count(), 1, "{unwritten:?}");
    }
}

#[tokio::test]
async fn files_are_uploaded_and_recorded_although_their_results_cannot_be_printed() {
    const FILES: usize = 20;
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    fs::create_dir(home.path("films")).expect("made");
    for number in 0..FILES {
        fs::write(home.path("films").join(format!("{number}.mkv")), number.to_string()).expect("written");
    }
    // One file that fails, so that the batch record is kept.
    std::os::unix::fs::symlink("nowhere", home.path("films/dangling")).expect("linked");
    let put = || {
        let mut command = hoist(["put", &home.text("films"), &server.url]);
        command.env("XDG_STATE_HOME", home.path("state"));
        command
    };
    for (round, stdout) in [closed(), full(), closed()].into_iter().enumerate() {
        let ended = ended(put(), stdout).await;
        assert_eq!(ended.code, Some(10), "{round}: {ended:?}");
        let earlier = if round == 0 { String::new() } else { format!(" ({FILES} by earlier runs)") };
        let summary = format!("{FILES} of 21 files uploaded{earlier}, 1 failed");
        assert!(ended.stderr.contains(&summary), "{ended:?}");
        assert_eq!(home.done().len(), FILES, "{round}: no file is uploaded twice");
    }
    fs::remove_file(home.path("films/dangling")).expect("removed");
    for stdout in [full(), closed()] {
        let ended = ended(put(), stdout).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    server.stop().await;
}

/// Creates an empty upload and returns its URL.
async fn begun(server: &Server) -> String {
    let create =
        TestRequest::to("POST", "/uploads").field("tus-resumable", "1.0.0").field("upload-length", 10);
    let created = server.request(Transport::H1, create).await;
    let location: http::Uri = created.field("location").expect("a URL").parse().expect("a URL");
    format!("http://{}{}", server.addr, location.path())
}

#[tokio::test]
async fn queries_fail_if_their_output_cannot_be_printed() {
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    let url = begun(&server).await;
    fs::create_dir_all(home.path("state/hoist/uploads")).expect("made");
    // In the format of an older version.
    let entry = r#"{"version":1,"file":"/film","target":"http://h/u","length":1,"modified":"0","fingerprint":"",
        "began":0,"dialect":"tus1","url":"http://h/u/1"}"#;
    fs::write(home.path("state/hoist/uploads/0.json"), entry).expect("written");
    for words in [&["status", &url][..], &["ls"], &["ls", "--json"]] {
        let asked = || {
            let mut command = hoist(words);
            command.env("XDG_STATE_HOME", home.path("state"));
            command
        };
        let unheard = ended(asked(), closed()).await;
        assert!(unheard.code == Some(0) && !unheard.stderr.contains("output"), "{words:?}: {unheard:?}");
        let unwritten = ended(asked(), full()).await;
        assert!(unwritten.code == Some(1) && unwritten.stderr.contains("No space left"), "{unwritten:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn cancel_succeeds_although_nothing_can_be_printed() {
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    for (stdout, warnings) in [(closed(), 0), (full(), 1)] {
        let url = begun(&server).await;
        let cancelled = ended(hoist(["cancel", &url]), stdout).await;
        assert_eq!(cancelled.code, Some(0), "{cancelled:?}");
        assert_eq!(cancelled.stderr.matches("cannot write to standard output").count(), warnings);
        assert_eq!(home.uploads("open"), 0, "it is gone");
    }
    server.stop().await;
}
