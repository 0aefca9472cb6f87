//! The output of `hoist put`: JSON events, messages, and progress bars.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::child_process::{ExitReport, Server, TestDir, hoist};

#[test]
fn json_output_has_one_event_per_line() {
    let place = TestDir::new();
    let server = Server::start(&place.path("data"), &[]);
    let film = place.file("film", vec![7; 1 << 20]);
    let ended: ExitReport =
        hoist(["put", &film, &server.url, "--json", "--verify"]).output().expect("it runs").into();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let kinds: Vec<_> = ended.events().iter().map(|event| event["event"].clone()).collect();
    assert_eq!(
        (&kinds[..2], &kinds[kinds.len() - 2..]),
        (&["begin".into(), "send".into()][..], &["done".into(), "end".into()][..])
    );
    let send = ended.event("send");
    assert_eq!(
        (&send["start"], &send["offset"], &send["length"]),
        (&"fresh".into(), &0.into(), &(1 << 20).into())
    );
    let done = ended.event("done");
    assert_eq!(
        (&done["bytes"], &done["status"], &done["verified"]),
        (&(1 << 20).into(), &201.into(), &true.into())
    );
    assert_eq!(done["sha256"].as_str().map(str::len), Some(64));
    assert!(done["dialect"].as_str().is_some_and(|dialect| dialect.starts_with("ietf-")), "{done}");
    let failed: ExitReport =
        hoist(["put", "/nonexistent", &server.url, "--json"]).output().expect("it runs").into();
    assert_eq!(failed.code, Some(8));
    assert_eq!((&failed.event("failed")["kind"], &failed.event("end")["exit"]), (&"file".into(), &8.into()));
    server.stop();
}

#[test]
fn messages_without_a_terminal_are_few() {
    let place = TestDir::new();
    let server = Server::start(&place.path("data"), &[]);
    let film = place.file("film", "bytes");
    let ended: ExitReport = hoist(["put", &film, &server.url]).output().expect("it runs").into();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "nothing to say");
    assert!(ended.stdout.starts_with(&format!("{film}: uploaded 5 bytes, http://")), "{}", ended.stdout);
    assert_eq!(ended.stdout.lines().count(), 1);
    let ended: ExitReport =
        hoist(["put", &film, &server.url, "--parts", "2"]).output().expect("it runs").into();
    assert!(ended.code == Some(0) && ended.stderr.contains("ietf-10 does not support parts"), "{ended:?}");
    server.stop();
}

#[test]
fn an_unverified_upload_causes_a_warning() {
    let place = TestDir::new();
    let server = Server::start(&place.path("data"), &[]);
    let film = place.file("film", "bytes");
    let words = ["put", &film, &server.url, "--verify", "--no-resume", "--dialect", "tus1"];
    let ended: ExitReport = hoist(words).output().expect("it runs").into();
    let warning = format!("hoist: {film}: warning: not verified: tus1 has no digests of whole uploads\n");
    assert_eq!((ended.code, ended.stderr), (Some(0), warning));
    server.stop();
}

/// Returns what a terminal shows of an upload, with these environment variables.
fn seen(variables: &[(&str, &str)], words: &[&str]) -> String {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("ours");
    let name = ptsname(&terminal, Vec::new()).expect("a name").into_string().expect("UTF-8");
    let side = OpenOptions::new().read(true).write(true).open(name).expect("its other side");
    let place = TestDir::new();
    let server = Server::start(&place.path("data"), &[]);
    let film = place.file("film", vec![7; 3 << 20]);
    let mut command = hoist(["put", &film, &server.url, "--rate", "6MB"].iter().chain(words));
    command.env("TERM", "xterm-256color").env_remove("NO_COLOR").envs(variables.iter().copied());
    let mut child =
        command.stderr(Stdio::from(OwnedFd::from(side))).stdout(Stdio::null()).spawn().expect("it runs");
    // The terminal is read until the command, the last writer, closes it.
    drop(command);
    let reader = std::thread::spawn(move || {
        let (mut shown, mut terminal) = (Vec::new(), File::from(terminal));
        // Linux returns EIO once the other side is closed.
        let _ = terminal.read_to_end(&mut shown);
        String::from_utf8_lossy(&shown).into_owned()
    });
    assert!(child.wait().expect("a child").success());
    server.stop();
    reader.join().expect("no panic")
}

#[test]
fn a_terminal_shows_a_bar_unless_quiet_and_without_color_if_asked() {
    let color = "\x1b[3";
    let colored = seen(&[], &[]);
    assert!(colored.contains("/3.0M") && colored.contains(color), "{colored:?}");
    let plain = seen(&[("NO_COLOR", "1")], &[]);
    assert!(plain.contains("/3.0M") && !plain.contains(color), "{plain:?}");
    for words in [["--quiet"], ["--json"]] {
        assert_eq!(seen(&[], &words), "", "{words:?}");
    }
}
