//! Failures of `hoist put` that a retry does not help, or that end a run over several files, and what it leaves behind.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use crate::child_process::{ChildProcess, ExitReport, TestDir, hoist, run};
use crate::faulty_proxy::{Direction, Fault, Proxy};
use crate::harness::{Server, ServerDir, bytes, poll_until};
use crate::tls_and_auth::certify;

/// Returns a URL at which connections are refused.
fn refused_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}/uploads", listener.local_addr().expect("bound"))
}

async fn put(home: &ServerDir, words: &[&str]) -> ExitReport {
    let mut command = hoist(["put"].iter().chain(words));
    command.env("XDG_STATE_HOME", home.path("state")).env("TZ", "UTC");
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    output.expect("it runs").into()
}

#[test]
fn each_try_is_reported_with_its_cause_and_the_times() {
    let place = TestDir::new();
    let (film, url) = (place.file("film", "bytes"), refused_url());
    let words = ["put", &film, &url, "--retry-for", "2s", "--no-resume"];
    let ended = run(&words);
    assert_eq!(ended.code, Some(7), "{ended:?}");
    let address = url.trim_start_matches("http://").trim_end_matches("/uploads");
    let beginning = format!("hoist: {film}: cannot connect to {address}: connection refused; retrying in ");
    let tries = ended.stderr.lines().filter(|line| line.starts_with(&beginning)).count();
    assert!(tries > 0 && ended.stderr.contains(" s, giving up at "), "{ended:?}");
    let last = ended.stderr.lines().last().expect("a line");
    let cause =
        format!("cannot connect to {address}: connection refused; run the command again later (exit 7)");
    assert!(last.starts_with("hoist: no progress after ") && last.ends_with(&cause), "{last}");

    let ended = run(&[&words[..], &["--json"]].concat());
    let retry = ended.event("retry");
    assert_eq!(retry["cause"], format!("cannot connect to {address}: connection refused"));
    assert_eq!(retry["attempt"], 1);
    assert!(retry["wait"].as_f64() <= retry["give_up"].as_f64(), "{retry}");
}

/// Without the shared budget, 20 files would take 10 s, four at a time.
#[test]
fn a_run_stops_when_the_server_is_gone() {
    let place = TestDir::new();
    fs::create_dir(place.path("films")).expect("created");
    for number in 0..20 {
        place.file(&format!("films/{number}"), "bytes");
    }
    let words = ["put", &place.text("films"), &refused_url(), "--retry-for", "2s", "--json", "--no-resume"];
    let ended = run(&words);
    assert_eq!(ended.code, Some(7), "{ended:?}");
    let begun = ended.events().iter().filter(|event| event["event"] == "begin").count();
    assert_eq!(begun, 4, "only as many as run in parallel: {ended:?}");
    let end = ended.event("end");
    let failed = end["failed"].as_u64().expect("a number");
    assert_eq!(end["unfinished"], 20 - failed, "{end}");
}

#[test]
fn an_unknown_host_fails_at_once() {
    let place = TestDir::new();
    let film = place.file("film", "bytes");
    // No label of a host name has so many characters, so this needs no resolver.
    let host = format!("{}.invalid", "x".repeat(64));
    let ended = run(&["put", &film, &format!("http://{host}/uploads"), "--no-resume"]);
    let expected = format!("hoist: there is no host named {host}; check the host name in the URL (exit 5)\n");
    assert_eq!((ended.code, ended.stderr), (Some(5), expected));
}

#[tokio::test]
async fn a_wrong_token_stops_a_run_at_the_first_file() {
    let home = ServerDir::new();
    fs::write(home.path("tokens"), "s3cret alice\n").expect("written");
    let server = Server::start(&home, &["--bearer-file", &home.text("tokens")]);
    fs::create_dir(home.path("films")).expect("created");
    for number in 0..20 {
        fs::write(home.path(&format!("films/{number}")), "bytes").expect("written");
    }
    let words = [&home.text("films"), &*server.url, "--bearer", "wrong", "--parallel", "1", "--json"];
    let ended = put(&home, &words).await;
    assert_eq!(ended.code, Some(5), "{ended:?}");
    let end = ended.event("end");
    assert_eq!((&end["failed"], &end["unfinished"]), (&1.into(), &19.into()), "{end}");
    let failed = ended.event("failed");
    let error = failed["error"].as_str().expect("a text");
    assert!(error.contains("401") && error.contains("give a valid token with --bearer-file"), "{error}");
    assert!(ended.stderr.contains("the other files would fail for the same reason"), "{ended:?}");

    // The same command with the right token uploads all.
    let ended = put(&home, &[&home.text("films"), &server.url, "--bearer", "s3cret", "--json"]).await;
    assert_eq!((ended.code, ended.event("end")["done"].as_u64()), (Some(0), Some(20)), "{ended:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_wrong_path_is_named() {
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    fs::write(home.path("film"), "bytes").expect("written");
    let url = server.url.replace("/uploads", "/wrong");
    for words in [&[][..], &["--dialect", "tus1"], &["--dialect", "token"]] {
        let ended = put(&home, &[&[&*home.text("film"), &url][..], words].concat()).await;
        assert_eq!(ended.code, Some(5), "{ended:?}");
        let expected =
            format!("nothing takes uploads at {url}: the server answered 404 Not Found; check the path");
        assert!(ended.stderr.contains(&expected), "{ended:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_check_of_a_tls_port_in_cleartext_says_so() {
    let home = ServerDir::new();
    certify(&home);
    let (cert, key) = (home.text("cert.pem"), home.text("key.pem"));
    let server = Server::start(&home, &["--tls-cert", &cert, "--tls-key", &key]);
    let url = server.url.replace("https://", "http://");
    let mut command = hoist(["check", &url]);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    let ended: ExitReport = output.expect("it runs").into();
    assert!(ended.code == Some(14) && ended.stderr.contains("requires TLS"), "{ended:?}");
    server.stop().await;
}

#[test]
fn a_busy_server_is_no_refusal_of_a_status_query() {
    for status in ["503 Service Unavailable", "429 Too Many Requests"] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/uploads/7", listener.local_addr().expect("bound"));
        let served = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().expect("accepted");
            let mut head = [0; 4096];
            let read = peer.read(&mut head).expect("a request");
            assert!(head[..read].starts_with(b"HEAD "));
            let response = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
            peer.write_all(response.as_bytes()).expect("sent");
        });
        let ended = run(&["status", &url]);
        served.join().expect("no panic");
        assert!(ended.code == Some(7) && ended.stderr.contains("run the command again later"), "{ended:?}");
    }
}

#[tokio::test]
async fn an_interrupted_standard_input_starts_over_and_leaves_nothing() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--interim", "always"]);
    let mut command = hoist(["put", "-", &server.url, "--json"]);
    command.env("XDG_STATE_HOME", home.path("state")).stdin(Stdio::piped());
    let (running, mut stdin) = ChildProcess::with_stdin(command);
    stdin.write_all(&bytes(1, 100_000)).expect("taken");
    home.holds(100_000).await;
    running.signal(Signal::INT);
    let ended = tokio::task::spawn_blocking(move || running.ended()).await.expect("it ends");
    drop(stdin);
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert!(ended.stderr.contains("standard input cannot be read again"), "{ended:?}");
    assert_eq!(ended.event("interrupted")["starts_over"], serde_json::json!(["-"]));
    assert_eq!(home.uploads("open"), 0, "the upload is cancelled");
    server.stop().await;
}

#[tokio::test]
async fn the_upload_of_a_changed_file_is_cancelled() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--interim", "always"]);
    // More than the buffers of the sockets hold, which reaches the server after the command is killed.
    fs::write(home.path("film"), bytes(2, 24 << 20)).expect("written");
    let slow = Fault::Slow { way: Direction::Up, piece: 16 << 10, late: Duration::from_millis(2) };
    let proxy = Proxy::start(&server, vec![Some(slow); 4]).await;
    let (film, url) = (home.text("film"), proxy.url("/uploads"));
    let mut command = hoist(["put", &film, &url]);
    command.env("XDG_STATE_HOME", home.path("state"));
    let running = ChildProcess::start(command);
    home.holds(1 << 20).await;
    running.signal(Signal::KILL);
    tokio::task::spawn_blocking(move || running.ended()).await.expect("it ends");
    poll_until("the end of the transfer", || proxy.is_idle().then_some(())).await;
    assert_eq!(home.uploads("open"), 1, "it can be resumed");
    fs::write(home.path("film"), "another film").expect("written");
    let ended = put(&home, &[&film, &url, "--json"]).await;
    assert_eq!((ended.code, ended.event("done")["start"].as_str()), (Some(0), Some("changed")), "{ended:?}");
    assert_eq!(home.uploads("open"), 0, "nothing is left of the upload of the earlier file");
    assert!(home.only_complete() == b"another film");
    server.stop().await;
}
