//! `hoist ls` and `hoist status` for uploads that are running or interrupted.

use std::fs;
use std::process::Command;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::child_process::{ChildProcess, ExitReport, Server, TestDir, hoist, spin_until};

/// Runs the command with a journal of its own, five and a half hours east of Greenwich.
fn run(place: &TestDir, words: &[&str]) -> ExitReport {
    let mut command = hoist(words);
    command.env("XDG_STATE_HOME", place.path("state")).env("TZ", "XYZ-5:30");
    command.output().expect("it runs").into()
}

/// Returns the upload in the journal, which has one.
fn listed(place: &TestDir) -> Value {
    let ended = run(place, &["ls", "--json"]);
    let [entry] = &ended.events()[..] else { panic!("{ended:?}") };
    entry.clone()
}

#[test]
fn a_running_upload_is_shown_and_not_disturbed() {
    let place = TestDir::new();
    let server = Server::start(&place.path("data"), &[]);
    let film = place.file("a film", vec![7; 8 << 20]);
    for dialect in ["ietf", "tus1", "token"] {
        let mut command = hoist(["put", &film, &server.url, "--json", "--rate", "1M", "--chunk", "200K"]);
        command.args(["--dialect", dialect]).env("XDG_STATE_HOME", place.path("state"));
        let put = ChildProcess::start(command);
        spin_until(Instant::now(), || {
            let entries = run(&place, &["ls", "--json"]).events();
            entries.first().is_some_and(|entry| entry["offset"].as_u64() > Some(0))
        });
        let entry = listed(&place);
        assert_eq!(entry["state"], "running", "{dialect}: {entry}");
        let own = entry["url"].as_str().map(ToOwned::to_owned);
        let token = entry["token"].as_str().map(ToOwned::to_owned);
        let named = match (&own, &token) {
            (Some(own), _) => vec!["status", own, "--json"],
            (None, Some(token)) => vec!["status", &server.url, "--token", token, "--json"],
            (None, None) => panic!("{entry}"),
        };
        for words in [&["status", &film, "--json"][..], &named] {
            let status = run(&place, words).event("status");
            assert_eq!(
                (&status["state"], &status["complete"]),
                (&"running".into(), &false.into()),
                "{status}"
            );
            assert!(status["offset"].as_u64() > Some(0), "{status}");
        }
        let text = run(&place, &["status", &film]).stdout;
        assert!(text.ends_with(" of 8388608 bytes, running: another process is sending it\n"), "{text}");

        put.signal(Signal::INT);
        let ended = put.ended();
        assert_eq!(ended.code, Some(130), "{dialect}: {}", ended.stderr);
        assert!(
            !ended.stdout.contains("\"retry\""),
            "{dialect}: the transfer was disturbed: {}",
            ended.stdout
        );
        assert_eq!(listed(&place)["state"], "interrupted");
        let status = run(&place, &["status", &film, "--json"]).event("status");
        assert_eq!(status["state"], "interrupted", "{status}");
        assert!(status["offset"].as_u64() >= listed(&place)["offset"].as_u64(), "{status}");
        assert_eq!(run(&place, &["cancel", &film]).code, Some(0), "{dialect}");
    }
    server.stop();
}

#[test]
fn an_interrupted_upload_is_listed_with_local_time_and_the_command_to_resume() {
    let place = TestDir::new();
    let server = Server::start(&place.path("data"), &[]);
    let film = place.file("a film", vec![7; 8 << 20]);
    let mut command = hoist(["put", &film, &server.url, "--rate", "1M", "--chunk", "200K"]);
    command.env("XDG_STATE_HOME", place.path("state"));
    let put = ChildProcess::start(command);
    spin_until(Instant::now(), || {
        let entries = run(&place, &["ls", "--json"]).events();
        entries.first().is_some_and(|entry| entry["offset"].as_u64() > Some(0))
    });
    put.signal(Signal::TERM);
    assert_eq!(put.ended().code, Some(143));

    let entry = listed(&place);
    let (offset, began) = (entry["offset"].as_u64().expect("known"), entry["began"].as_u64().expect("known"));
    let local = began + 5 * 3600 + 1800;
    let minute = format!("{:02}:{:02}", local / 3600 % 24, local / 60 % 60);
    let at = entry["began_at"].as_str().expect("a time");
    assert!(at.ends_with("+05:30") && at.contains(&format!("T{minute}:")), "{entry}");
    let resume = entry["resume"].as_str().expect("a command").to_owned();
    let words = format!(" put '{film}' {} --rate 1M --chunk 200K", server.url);
    assert!(resume.ends_with(&words) && !resume.starts_with("cd "), "{resume}");

    let text = run(&place, &["ls"]).stdout;
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("FILE ") && lines[0].ends_with("  TO"), "{text}");
    let done = format!("'{film}'  {} % of 8.0 MiB  interrupted  ", offset * 100 / (8 << 20));
    assert!(lines[1].starts_with(&done), "{done}: {text}");
    assert!(lines[1].ends_with(&format!(" {minute}  {}", server.url)), "{text}");
    assert_eq!(lines[2].trim_start(), resume);

    let again = run_line(&place, &format!("{} --json", resume.replace("--rate 1M", "--rate 1G")));
    assert_eq!(again.event("done")["start"], "resumed");
    assert!(again.event("done")["resumed_bytes"].as_u64() >= Some(offset), "{again:?}");
    assert_eq!(run(&place, &["ls"]).stdout, "");
    server.stop();
}

/// Runs a command line of the shell with the journal of this test.
fn run_line(place: &TestDir, line: &str) -> ExitReport {
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).env("XDG_STATE_HOME", place.path("state"));
    shell.output().expect("it runs").into()
}

/// Runs `hoist put` slowly in the directory of the test until part of a file is on the server, and interrupts it.
fn interrupt_put(place: &TestDir, words: &[&str]) {
    let put = start_slow_put(place, words);
    put.signal(Signal::INT);
    let ended = put.ended();
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
}

/// Starts `hoist put` in the directory of the test, and waits until part of a file is on the server.
fn start_slow_put(place: &TestDir, words: &[&str]) -> ChildProcess {
    let mut command = hoist(words);
    command.args(["--rate", "1M", "--chunk", "200K", "--json"]);
    command.current_dir(place.path("")).env("XDG_STATE_HOME", place.path("state"));
    let put = ChildProcess::start(command);
    spin_until(Instant::now(), || {
        let entries = run(place, &["ls", "--json"]).events();
        entries.iter().any(|entry| entry["state"] == "running" && entry["offset"].as_u64() > Some(0))
    });
    put
}

#[test]
fn a_running_upload_is_not_cancelled() {
    let place = TestDir::new();
    let server = Server::start(&place.path("data"), &[]);
    let film = place.file("film", vec![7; 8 << 20]);
    for dialect in ["ietf", "tus1", "token"] {
        let put = start_slow_put(&place, &["put", &film, &server.url, "--dialect", dialect]);
        let entry = listed(&place);
        let by_name = match (entry["url"].as_str(), entry["token"].as_str()) {
            (Some(own), _) => vec!["cancel", own],
            (None, Some(token)) => vec!["cancel", &server.url, "--token", token],
            (None, None) => panic!("{entry}"),
        };
        for words in [&["cancel", &film][..], &by_name] {
            let ended = run(&place, words);
            assert_eq!(ended.code, Some(11), "{dialect}: {words:?}: {ended:?}");
            assert_eq!(ended.stdout, "");
        }
        put.signal(Signal::INT);
        let ended = put.ended();
        assert!(
            !ended.stdout.contains("\"retry\""),
            "{dialect}: the transfer was disturbed: {}",
            ended.stdout
        );
        let status = run(&place, &["status", &film, "--json"]).event("status");
        assert!(status["offset"].as_u64() > Some(0), "{dialect}: the server still has it: {status}");
        let cancelled = run(&place, &by_name);
        assert_eq!(cancelled.stdout, "cancelled\n", "{dialect}: {cancelled:?}");
        assert_eq!(run(&place, &["ls"]).stdout, "", "{dialect}: it is not in the journal any more");
    }
    server.stop();
}

#[test]
fn the_command_to_resume_has_the_flags_and_all_files_of_the_run() {
    let place = TestDir::new();
    place.file("secrets", "s3cret alice\n");
    fs::create_dir_all(place.path("a tree")).expect("made");
    for name in ["one", "two", "three"] {
        place.file(&format!("a tree/{name}"), vec![7; 2 << 20]);
    }
    let secrets = place.text("secrets");
    let (data, files) = (place.path("data"), place.text("files"));
    let server =
        Server::start(&data, &["--bearer-file", &secrets, "--target", "files", "--files-dir", &files]);
    let words = ["put", "a tree", &server.url, "--bearer-file", "secrets", "-H", "X-Key: hidden"];
    interrupt_put(&place, &[&words[..], &["--dialect", "tus1", "--parallel", "1"]].concat());

    let entry = listed(&place);
    let resume = entry["resume"].as_str().expect("a command");
    let directory = fs::canonicalize(place.path("")).expect("a directory");
    assert!(resume.starts_with(&format!("cd {} && ", directory.display())), "{resume}");
    let flags =
        "--bearer-file secrets -H 'X-Key: ...' --dialect tus1 --parallel 1 --rate 1M --chunk 200K --json";
    assert!(resume.ends_with(&format!(" put 'a tree' {} {flags}", server.url)), "{resume}");
    let mut beside = hoist(["ls"]);
    beside.current_dir(place.path("")).env("XDG_STATE_HOME", place.path("state"));
    let beside: ExitReport = beside.output().expect("it runs").into();
    assert!(beside.stdout.contains(" put 'a tree' ") && !beside.stdout.contains("cd "), "{}", beside.stdout);

    let again = run_line(&place, &resume.replace("--rate 1M", "--rate 1G"));
    assert_eq!(again.code, Some(0), "{again:?}");
    let stored = fs::read_dir(place.path("files")).expect("listed").count();
    assert_eq!(stored, 3, "no file is uploaded twice: {again:?}");
    assert_eq!(run(&place, &["ls"]).stdout, "");
    server.stop();
}

#[test]
fn the_latest_run_is_the_one_to_repeat_and_older_entries_name_the_file_alone() {
    let place = TestDir::new();
    let server = Server::start(&place.path("data"), &[]);
    let film = place.file("film", vec![7; 8 << 20]);
    for dialect in ["ietf", "tus1", "token"] {
        for retry in ["7m", "8m"] {
            let words = ["put", &film, &server.url, "--dialect", dialect, "--retry-for", retry];
            let put = start_slow_put(&place, &words);
            let is_latest = || listed(&place)["resume"].as_str().is_some_and(|text| text.contains(retry));
            // The offset of the run before is listed until this run has noted its own.
            spin_until(Instant::now(), is_latest);
            put.signal(Signal::INT);
            assert_eq!(put.ended().code, Some(130), "{dialect}");
            assert!(is_latest(), "{dialect}: {}", listed(&place));
        }
        let uploads = fs::read_dir(place.path("state/hoist/uploads")).expect("listed");
        let paths: Vec<_> = uploads.map(|entry| entry.expect("an entry").path()).collect();
        let path =
            paths.iter().find(|path| path.extension().is_some_and(|end| end == "json")).expect("an entry");
        let mut written: Value = serde_json::from_slice(&fs::read(path).expect("read")).expect("JSON");
        written.as_object_mut().expect("an object").remove("note").expect("a note");
        fs::write(path, written.to_string()).expect("written");
        assert_eq!(listed(&place)["resume"], format!("hoist put {film} {}", server.url));
        assert_eq!(run(&place, &["cancel", &film]).code, Some(0), "{dialect}");
    }
    server.stop();
}

#[test]
fn the_offset_that_status_learns_is_listed() {
    let place = TestDir::new();
    let server = Server::start(&place.path("data"), &[]);
    let film = place.file("film", vec![7; 8 << 20]);
    interrupt_put(&place, &["put", &film, &server.url]);
    let own = listed(&place)["url"].as_str().expect("its URL").to_owned();
    for words in [["status", &film, "--json"], ["status", &own, "--json"]] {
        // As after a run that was killed before it noted an offset.
        for entry in fs::read_dir(place.path("state/hoist/uploads")).expect("listed") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|end| end == "lock") {
                fs::write(path, "").expect("written");
            }
        }
        assert_eq!(listed(&place)["offset"], Value::Null);
        let status = run(&place, &words).event("status");
        assert!(status["offset"].as_u64() > Some(0), "{status}");
        assert_eq!(listed(&place)["offset"], status["offset"], "{words:?}");
    }
    server.stop();
}

#[test]
fn the_command_to_resume_several_uploads_is_listed_once() {
    let place = TestDir::new();
    let server = Server::start(&place.path("data"), &[]);
    fs::create_dir_all(place.path("tree")).expect("made");
    for name in ["one", "two"] {
        place.file(&format!("tree/{name}"), vec![7; 8 << 20]);
    }
    let put = start_slow_put(&place, &["put", "tree", &server.url, "--dialect", "token"]);
    spin_until(Instant::now(), || run(&place, &["ls", "--json"]).events().len() == 2);
    put.signal(Signal::INT);
    assert_eq!(put.ended().code, Some(130));
    let text = run(&place, &["ls"]).stdout;
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4, "a heading, two uploads and one command: {text}");
    assert!(lines[3].contains(" put tree "), "{text}");
    server.stop();
}
