//! `hoist ls` and `hoist status` for uploads that are running or interrupted.

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
    let resume = format!("hoist put '{film}' {}", server.url);
    assert_eq!(entry["resume"], resume.as_str());

    let text = run(&place, &["ls"]).stdout;
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("FILE ") && lines[0].ends_with("  TO"), "{text}");
    let done = format!("'{film}'  {} % of 8.0 MiB  interrupted  ", offset * 100 / (8 << 20));
    assert!(lines[1].starts_with(&done), "{done}: {text}");
    assert!(lines[1].ends_with(&format!(" {minute}  {}", server.url)), "{text}");
    assert_eq!(lines[2].trim_start(), resume);

    let words = resume.strip_prefix("hoist ").expect("the command").replace('\'', "");
    let words = words.replace("a film", "a\u{0}film");
    let words: Vec<_> = words.split(' ').map(|word| word.replace('\u{0}', " ")).collect();
    let again = run(&place, &words.iter().map(String::as_str).chain(["--json"]).collect::<Vec<_>>());
    assert_eq!(again.event("done")["start"], "resumed");
    assert!(again.event("done")["resumed_bytes"].as_u64() >= Some(offset), "{again:?}");
    assert_eq!(run(&place, &["ls"]).stdout, "");
    server.stop();
}
