//! `hoist demo`: the result is correct, and all files are removed.

use std::fs;
use std::time::Instant;

use rustix::process::Signal;

use crate::child_process::{ChildProcess, ExitReport, TestDir, hoist, spin_until};

fn left(place: &TestDir) -> usize {
    fs::read_dir(place.path("tmp")).expect("a directory").count()
}

fn place() -> TestDir {
    let place = TestDir::new();
    fs::create_dir(place.path("tmp")).expect("made");
    place
}

#[test]
fn the_demo_uploads_a_file_despite_cuts_and_a_crash() {
    let place = place();
    for (bytes, cuts) in [(0, "2"), (5, "3"), (20 << 20, "9"), (1 << 20, "0")] {
        let film = place.file("film", vec![7; bytes]);
        let mut demo = hoist(["demo", &film, "--cuts", cuts]);
        // Settings in the environment do not apply to the demo's server.
        demo.env("HOIST_MAX_SIZE", "1").env("TMPDIR", place.path("tmp"));
        let ended: ExitReport = demo.output().expect("it runs").into();
        assert_eq!(ended.code, Some(0), "{bytes} bytes, {cuts} cuts: {ended:?}");
        assert!(ended.stdout.starts_with(&format!("identical: {bytes} bytes, SHA-256 ")), "{ended:?}");
        if bytes > 1 << 20 {
            assert_eq!(ended.stderr.matches("   cut ").count(), 9, "{}", ended.stderr);
            assert_eq!(ended.stderr.matches("the server is killed").count(), 1, "{}", ended.stderr);
        }
        assert_eq!(left(&place), 0, "nothing stays");
    }
    let none: ExitReport = hoist(["demo", "/nonexistent"]).output().expect("it runs").into();
    assert_eq!(none.code, Some(8), "{none:?}");
}

#[test]
fn an_interrupted_demo_removes_its_files() {
    let place = place();
    let film = place.file("film", vec![7; 64 << 20]);
    let mut demo = hoist(["demo", &film, "--cuts", "50"]);
    demo.env("TMPDIR", place.path("tmp"));
    let demo = ChildProcess::start(demo);
    spin_until(Instant::now(), || left(&place) > 0);
    demo.signal(Signal::TERM);
    let ended = demo.ended();
    assert_eq!(ended.code, Some(143), "{ended:?}");
    assert_eq!(left(&place), 0, "nothing stays");
}
