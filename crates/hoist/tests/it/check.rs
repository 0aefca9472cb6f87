//! `hoist check` against hoist itself and against servers with faults.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::child_process::{ChildProcess, ExitReport, Server, TestDir, hoist, run, spin_until};
use crate::serve::certify;

/// A test server: answers one request per connection with what `answer` returns for its first line and fields.
struct Wrong {
    url: String,
    address: std::net::SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Wrong {
    fn start(answer: impl Fn(&str, &str) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.expect("a connection");
                let mut head = String::new();
                let mut lines = BufReader::new(connection.try_clone().expect("a clone"));
                while lines.read_line(&mut head).is_ok_and(|read| read > 2) {}
                if head.starts_with("END") {
                    return;
                }
                let (first, fields) = head.split_once("\r\n").unwrap_or((&head, ""));
                let _ = connection.write_all(answer(first, fields).as_bytes());
            }
        });
        Self { url: format!("http://{address}/uploads"), address, thread: Some(thread) }
    }
}

impl Drop for Wrong {
    fn drop(&mut self) {
        if let Ok(mut connection) = TcpStream::connect(self.address) {
            let _ = connection.write_all(b"END\r\n\r\n");
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn check(url: &str, more: &[&str]) -> ExitReport {
    run(&[&["check", url], more].concat())
}

fn json(ended: &ExitReport) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

#[test]
fn hoist_passes_its_own_check_over_tls_and_keeps_no_upload() {
    let place = TestDir::new();
    certify(&place);
    let (cert, key) = (place.text("cert.pem"), place.text("key.pem"));
    let tokens = place.file("tokens", "s3cret alice\n");
    let data = place.path("data");
    let flags = ["--tls-cert", &cert, "--tls-key", &key, "--bearer-file", &tokens];
    let server = Server::start(&data, &flags);
    let url = server.url.replace("127.0.0.1", "localhost");
    let more = ["--ca", &cert, "--bearer-file", &tokens, "--only", "tells", "--level", "own", "--json"];
    let ended = check(&url, &more);
    let report = json(&ended);
    assert_eq!((ended.code, &report["failed"]), (Some(0), &Value::from(0)), "{ended:?}");
    assert_eq!(report["server"]["transports"], serde_json::json!(["h1", "h2"]));
    for dialect in ["ietf", "token", "tus1"] {
        let versions = report["server"]["dialects"][dialect].as_array().map_or(0, Vec::len);
        assert!(versions > 0, "{dialect}: {report}");
    }
    let outcomes = report["outcomes"].as_array().expect("outcomes");
    let passed = |transport: &str| {
        outcomes.iter().any(|outcome| outcome["transport"] == transport && outcome["verdict"] == "passed")
    };
    assert!(passed("h1") && passed("h2"), "{report}");
    assert!(!ended.stdout.contains("s3cret") && !ended.stderr.contains("s3cret"));
    for shelf in ["open", "done"] {
        let left = std::fs::read_dir(data.join(shelf)).expect("a shelf").count();
        assert_eq!(left, 0, "{shelf}: an upload of the check stayed");
    }
    server.stop();
}

#[test]
fn the_newest_accepted_version_is_checked_and_failures_are_in_every_report_format() {
    // Accepts only version 6, and stores nothing.
    let server = Wrong::start(|first, fields| {
        let is_creation = first.starts_with("POST") && fields.contains("Interop-Version: 6\r\n");
        let head = match first {
            _ if is_creation => {
                "HTTP/1.1 201 Created\r\nLocation: /uploads/1\r\nUpload-Complete: ?0\r\nUpload-Draft-Interop-Version: 6"
            }
            _ if first.starts_with("HEAD") => "HTTP/1.1 204 No Content\r\nUpload-Offset: 0",
            _ if first.starts_with("OPTIONS") => "HTTP/1.1 200 OK",
            _ => "HTTP/1.1 400 Bad Request",
        };
        format!("{head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    });
    let place = TestDir::new();
    let junit = place.text("junit.xml");
    let more = ["--only", "HEAD", "--bearer", "s3cret", "--junit", &junit];
    let ended = check(&server.url, &[&more[..], &["--json"]].concat());
    let report = json(&ended);
    assert_eq!(ended.code, Some(13), "{ended:?}");
    assert_eq!(report["server"]["dialects"]["ietf"], serde_json::json!(["6"]), "{report}");
    assert_eq!(report["server"]["transports"], serde_json::json!(["h1"]));
    assert!(report["failed"].as_u64().is_some_and(|failed| failed > 0), "{report}");
    assert!(!ended.stdout.contains("s3cret"), "{}", ended.stdout);

    let xml = std::fs::read_to_string(&junit).expect("written");
    assert!(xml.contains("<testsuite name=\"ietf 6 over h1\"") && xml.contains("<failure message="), "{xml}");
    assert!(!xml.contains("s3cret") && !xml.contains("> POST"), "{xml}");

    let ended = check(&server.url, &more);
    assert_eq!(ended.code, Some(13));
    assert!(ended.stdout.contains("FAILED ") && ended.stdout.contains("MUST"), "{}", ended.stdout);
    assert!(!ended.stdout.contains('\x1b'), "colors in a pipe");
}

#[test]
fn a_server_without_protocol_and_an_unreachable_one_have_different_exit_codes() {
    let server = Wrong::start(|_, _| {
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello".to_owned()
    });
    let ended = check(&server.url, &[]);
    assert_eq!(ended.code, Some(13));
    assert!(ended.stderr.contains("creates no resumable upload in any dialect"), "{}", ended.stderr);

    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let ended = check(&format!("http://{port}/uploads"), &[]);
    assert_eq!(ended.code, Some(7));
    assert!(ended.stderr.contains("no response from"), "{}", ended.stderr);
}

#[test]
fn a_tls_failure_has_its_own_exit_code() {
    let place = TestDir::new();
    certify(&place);
    let (cert, key) = (place.text("cert.pem"), place.text("key.pem"));
    let server = Server::start(&place.path("data"), &["--tls-cert", &cert, "--tls-key", &key]);
    let url = server.url.replace("127.0.0.1", "localhost");
    let ended = check(&url, &[]);
    assert_eq!(ended.code, Some(14), "{ended:?}");
    assert!(ended.stderr.contains("TLS with localhost"), "{}", ended.stderr);
    let ended = check(&url, &["--ca", &place.text("none.pem")]);
    assert_eq!(ended.code, Some(8), "{ended:?}");
    assert!(ended.stderr.contains("none.pem"), "{}", ended.stderr);
    server.stop();

    let server = Server::start(&place.path("plain"), &[]);
    let ended = check(&server.url.replace("http://", "https://"), &["--ca", &cert]);
    assert_eq!(ended.code, Some(14), "{ended:?}");
    assert!(
        ended.stderr.contains("does not speak TLS") && ended.stderr.contains("http://"),
        "{}",
        ended.stderr
    );
    server.stop();
}

#[test]
fn an_interrupted_check_deletes_its_uploads() {
    let place = TestDir::new();
    let data = place.path("data");
    let server = Server::start(&data, &[]);
    let count = |shelf: &str| std::fs::read_dir(data.join(shelf)).map_or(0, Iterator::count);
    let running = ChildProcess::start(hoist(["check", &server.url, "--level", "own", "--json"]));
    // The probe creates one upload at a time.
    spin_until(Instant::now(), || count("open") > 1);
    running.signal(Signal::INT);
    let ended = running.ended();
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert!(ended.stderr.contains("interrupted"), "{}", ended.stderr);
    let report = json(&ended);
    let outcomes = report["outcomes"].as_array().expect("outcomes");
    assert!(outcomes.iter().any(|outcome| outcome["why"] == "the check was interrupted"), "{report}");
    assert_eq!((count("open"), count("done")), (0, 0), "uploads of the check stayed");
    server.stop();
}

#[test]
fn a_second_signal_ends_a_check_at_once() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/uploads", silent.local_addr().expect("an address"));
    let mut running = ChildProcess::start(hoist(["check", &url, "--timeout", "1h"]));
    let (_connection, _) = silent.accept().expect("it connects");
    spin_until(Instant::now(), || {
        running.signal(Signal::TERM);
        running.has_ended()
    });
    let ended = running.ended();
    assert_eq!(ended.code, Some(143), "{ended:?}");
    assert!(ended.stderr.contains("may still be on the server"), "{}", ended.stderr);
}

#[test]
fn cases_are_listed_without_a_server_and_invalid_flags_are_refused() {
    let ended =
        check("http://127.0.0.1:1/", &["--list", "--level", "must", "--dialect", "tus1", "--only", "HEAD"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.lines().count() > 0, "no case");
    assert!(ended.stdout.lines().all(|line| line.starts_with("tus1   MUST   ")), "{}", ended.stdout);
    for more in [&["--interop", "2"][..], &["--level", "most"], &["--http", "h9"], &["--parallel", "0"]] {
        assert_eq!(check("http://127.0.0.1:1/", more).code, Some(2), "{more:?}");
    }
    assert_eq!(check("ftp://127.0.0.1/", &[]).code, Some(2));
}
