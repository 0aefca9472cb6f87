//! The server process: ready line, requests, reload and shutdown.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::child_process::{ExitReport, Server, TestDir, run, spin_until};

fn json(ended: &ExitReport) -> Value {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).expect("one JSON value")
}

/// Returns the stored lengths of all unfinished uploads.
fn stored(data: &Path) -> Vec<u64> {
    let uploads = fs::read_dir(data.join("open")).expect("a shelf");
    uploads.filter_map(|upload| Some(fs::metadata(upload.ok()?.path().join("content")).ok()?.len())).collect()
}

#[test]
fn a_file_is_uploaded_queried_and_cancelled() {
    let place = TestDir::new();
    let data = place.path("data");
    let server = Server::start(&data, &[]);
    let address = server.address();
    assert_eq!(server.line, format!("hoist listening on http://{address}/uploads"));
    assert!(server.request("GET /healthz HTTP/1.1").starts_with("HTTP/1.1 200 "));

    let file = place.file("film.mkv", vec![7; 300_000]);
    let words = ["put", &file, &server.url, "--json", "--type", "video/x-matroska"];
    let put = run(&[&words[..], &["--dialect", "token", "--no-resume"]].concat()).event("done");
    assert_eq!((&put["bytes"], &put["retries"]), (&300_000.into(), &0.into()), "{put}");
    let token = put["token"].as_str().expect("a token");
    let status = json(&run(&["status", &server.url, "--token", token, "--json"]));
    assert_eq!(
        (&status["offset"], &status["length"], &status["complete"]),
        (&300_000.into(), &300_000.into(), &true.into())
    );
    let status = run(&["status", &server.url, "--token", token]);
    assert_eq!(status.stdout, "300000 of 300000 bytes, complete\n");
    assert_eq!(run(&["cancel", &server.url, "--token", token]).stdout, "cancelled\n");
    let gone = run(&["status", &server.url, "--token", token]);
    assert_eq!((gone.code, gone.stdout.as_str()), (Some(6), ""), "{}", gone.stderr);

    let line = format!("{}\n", server.line);
    let ended = server.stop();
    assert_eq!(ended.stdout, line, "one line and no more");
    // With the log level `trace`, the token is still not logged in any form.
    let core = token.trim_matches(':').trim_end_matches('=');
    assert!(!ended.stderr.contains(core), "{}", ended.stderr);
}

// proves: TOK-TOKEN-05
#[test]
fn a_warning_is_logged_once() {
    let place = TestDir::new();
    let warned = Server::start(&place.path("data"), &[]).stop().stderr;
    assert_eq!(warned.matches("not authenticated").count(), 1, "{warned}");
    let quiet = Server::start(&place.path("data"), &["--min-token-length", "16"]).stop().stderr;
    assert!(!quiet.contains("WARN"), "{quiet}");
}

#[test]
fn a_signal_ends_transfers_and_keeps_their_bytes() {
    for signal in [Signal::TERM, Signal::INT] {
        let place = TestDir::new();
        let data = place.path("data");
        let server = Server::start(&data, &[]);
        let head = "POST /uploads HTTP/1.1\r\nHost: h\r\nUpload-Token: abcdef\r\nContent-Length: 200\r\n\r\n";
        let mut transfer = server.send(&[head.as_bytes(), &[b'x'; 100]].concat());
        spin_until(Instant::now(), || stored(&data) == [100]);
        server.signal(signal);
        let ended = server.ended();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let _ = transfer.read_to_end(&mut Vec::new());

        let server = Server::start(&data, &[]);
        let status = json(&run(&["status", &server.url, "--token", "abcdef", "--json"]));
        assert_eq!(
            (&status["offset"], &status["length"], &status["complete"]),
            (&100.into(), &200.into(), &false.into())
        );
        let file = place.file("rest", [b'x'; 200]);
        let put = run(&["put", &file, &server.url, "--token", "abcdef", "--json"]).event("done");
        assert_eq!(put["resumed_bytes"], 100, "{put}");
        server.stop();
    }
}

#[test]
fn a_second_signal_stops_the_server_at_once() {
    let place = TestDir::new();
    let asked = place.text("asked");
    let hook = format!("sh -c 'echo $$ > {asked}.new; mv {asked}.new {asked}; exec sleep 1000'");
    let more = ["--hook-command", &hook, "--hook-timeout", "1h", "--drain-timeout", "1h"];
    let server = Server::start(&place.path("data"), &more);
    let head = "POST /uploads HTTP/1.1\r\nHost: h\r\nUpload-Token: abcdef\r\nContent-Length: 1\r\n\r\nx";
    let _stuck = server.send(head.as_bytes());
    spin_until(Instant::now(), || place.path("asked").exists());
    server.signal(Signal::TERM);
    // Connections are no longer accepted, so the first signal was handled and the next is a second one.
    spin_until(Instant::now(), || std::net::TcpStream::connect(server.address()).is_err());
    server.signal(Signal::TERM);
    let ended = server.ended();
    // The server did not wait for the hook, which would run for long.
    let hook = fs::read_to_string(asked).expect("asked").trim().parse().ok().and_then(Pid::from_raw);
    kill_process(hook.expect("a process"), Signal::KILL).expect("killed");
    assert_eq!(ended.code, Some(9), "{}", ended.stderr);
}

#[test]
fn the_data_directory_is_locked_by_one_server() {
    let place = TestDir::new();
    let data = place.path("data");
    let server = Server::start(&data, &[]);
    let words = ["serve", "--listen", "127.0.0.1:0", "--log-level", "error", "--data", &place.text("data")];
    let second = run(&words);
    assert_eq!((second.code, second.stdout.as_str()), (Some(4), ""));
    assert!(second.stderr.starts_with("hoist: cannot use data directory "), "{}", second.stderr);
    assert_eq!(second.stderr.lines().count(), 1, "{}", second.stderr);
    server.stop();
}

// proves: TOK-SEC-02
#[test]
fn an_upload_is_visible_only_to_its_creator() {
    let place = TestDir::new();
    let tokens = place.file("tokens", "s3cret-a alice\ns3cret-b bob\n");
    let server = Server::start(&place.path("data"), &["--bearer-file", &tokens]);
    let file = place.file("film", "bytes");
    let alice = place.file("alice", "s3cret-a");
    let nobody = run(&["put", &file, &server.url]);
    assert_eq!(nobody.code, Some(5), "{}", nobody.stderr);
    let answer = server.request("POST /uploads HTTP/1.1\r\nUpload-Token: abcdef\r\nContent-Length: 0");
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(answer.to_lowercase().contains("www-authenticate: bearer\r\n"), "{answer}");
    // The health check needs no credentials.
    for path in ["/healthz", "/readyz", "/.well-known/resumable-uploads"] {
        assert!(server.request(&format!("GET {path} HTTP/1.1")).starts_with("HTTP/1.1 200 "), "{path}");
    }

    let put = run(&["put", &file, &server.url, "--bearer-file", &alice, "--json"]).event("done");
    let own = put["url"].as_str().expect("its URL");
    let request = |bearer: &str| run(&["status", own, "--bearer", bearer]).code;
    assert_eq!((request("s3cret-a"), request("s3cret-b"), request("s3cret-c")), (Some(0), Some(6), Some(5)));
    let log = server.stop().stderr;
    assert!(!log.contains("s3cret"), "{log}");
}

// proves: TOK-SEC-02
#[test]
fn a_hook_can_reject_an_upload() {
    let place = TestDir::new();
    let hook = "sh -c 'grep -q film && exit 0; echo only films are taken >&2; exit 1'";
    let server = Server::start(&place.path("data"), &["--hook-command", hook]);
    let (film, song) = (place.file("film", "bytes"), place.file("song", "bytes"));
    assert_eq!(run(&["put", &film, &server.url]).code, Some(0));
    let refused = run(&["put", &song, &server.url]);
    assert_eq!(refused.code, Some(5));
    assert!(refused.stderr.contains("only films are taken"), "{}", refused.stderr);
    server.stop();
}

#[test]
fn complete_uploads_become_files() {
    let place = TestDir::new();
    let files = place.text("files");
    let more = ["--target", "files", "--files-dir", &files, "--files-name", "in-{name}"];
    let server = Server::start(&place.path("data"), &more);
    let film = place.file("film.mkv", "bytes");
    assert_eq!(run(&["put", &film, &server.url]).code, Some(0));
    assert_eq!(fs::read(place.path("files/in-film.mkv")).expect("there"), b"bytes");
    server.stop();
}

#[test]
fn log_lines_can_be_json() {
    let place = TestDir::new();
    let log = Server::start(&place.path("data"), &["--log", "json"]).stop().stderr;
    assert!(log.lines().count() > 1);
    for line in log.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok_and(|line| line["level"].is_string()), "{line}");
    }
}

/// Writes a certificate for `localhost` and 127.0.0.1 that is its own authority.
pub(crate) fn certify(place: &TestDir) {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("made");
    // Renamed into place, as tools that renew certificates do.
    for (name, content) in [("cert.pem", made.cert.pem()), ("key.pem", made.signing_key.serialize_pem())] {
        let mut file = fs::File::create(place.path("new")).expect("created");
        file.write_all(content.as_bytes()).expect("written");
        fs::rename(place.path("new"), place.path(name)).expect("renamed");
    }
}

// proves: TOK-SEC-01
#[test]
fn a_renewed_certificate_is_used_after_sighup() {
    let place = TestDir::new();
    certify(&place);
    let (cert, key) = (place.text("cert.pem"), place.text("key.pem"));
    let server = Server::start(&place.path("data"), &["--tls-cert", &cert, "--tls-key", &key]);
    assert!(server.url.starts_with("https://127.0.0.1:"), "{}", server.line);
    let film = place.file("film", "bytes");
    let put = |server: &Server| run(&["put", &film, &server.url, "--ca", &cert, "--retry-for", "1ms"]);
    let first = put(&server);
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    certify(&place);
    assert_eq!(put(&server).code, Some(14), "the old certificate is not the one that is trusted now");
    server.signal(Signal::HUP);
    spin_until(Instant::now(), || put(&server).code == Some(0));
    assert!(server.stop().stderr.contains("certificate reloaded"));
}
