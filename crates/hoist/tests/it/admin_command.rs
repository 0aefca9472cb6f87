//! `hoist admin` against a server: over a unix socket and TCP, its verbs, and its errors of one line.

use std::fs;
use std::io::Write as _;

use crate::child_process::{ChildProcess, ExitReport, Server, TestDir, hoist};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A server with an admin listener on a unix socket.
struct Site {
    _place: TestDir,
    admin: String,
    server: Server,
}

impl Site {
    fn start(more: &[&str]) -> Self {
        let place = TestDir::new();
        let admin = format!("unix:{}", place.text("admin"));
        let server = Server::start(&place.path("data"), &[&["--admin", &admin], more].concat());
        Self { _place: place, admin, server }
    }

    fn admin(&self, words: &[&str]) -> ExitReport {
        hoist([&["admin"], words].concat()).env("HOIST_ADMIN", &self.admin).output().expect("it runs").into()
    }

    /// Runs a verb that must succeed, and returns its output.
    fn done(&self, words: &[&str]) -> String {
        let ended = self.admin(words);
        assert_eq!(ended.code, Some(0), "{words:?}: {ended:?}");
        ended.stdout
    }

    /// Begins an upload of 20,000 bytes, of which 5,000 arrive. The returned connection stays open.
    fn begin(&self, token: &str) -> std::net::TcpStream {
        let head = format!(
            "POST /uploads HTTP/1.1\r\nHost: a\r\nUpload-Token: {token}\r\nContent-Length: 20000\r\n\r\n"
        );
        let mut stream = self.server.send(head.as_bytes());
        stream.write_all(&[b'x'; 5000]).expect("sent");
        stream
    }

    /// Waits until a transfer is running that has stored its first bytes, and returns the id of its upload.
    fn transferring(&self) -> String {
        for _ in 0..1000 {
            let listed = self.admin(&["ls", "--state", "transferring", "--json"]);
            let events = listed.events();
            if let Some(upload) = events.iter().find(|event| event["offset"] == 5000) {
                return upload["id"].as_str().expect("text").to_owned();
            }
        }
        panic!("no transfer begins");
    }
}

#[test]
fn a_transfer_is_listed_shown_and_ended_and_its_upload_deleted() {
    let site = Site::start(&[]);
    assert!(site.admin(&["ls"]).stderr.contains("no such uploads"));
    let stream = site.begin("abcdef");
    let id = site.transferring();
    let listed = site.done(&["ls"]);
    assert!(listed.starts_with("ID ") && listed.contains("transferring"), "{listed}");
    assert!(listed.contains("4.8 KiB of 19.5 KiB"), "{listed}");
    let shown = site.done(&["show", &id]);
    assert!(shown.contains("from 127.0.0.1 for"), "{shown}");
    assert!(site.done(&["end", &id]).contains("ended, 4.8 KiB of 19.5 KiB stored"));
    let again = site.admin(&["end", &id]);
    assert_eq!(
        (again.code, again.stderr.trim()),
        (Some(5), "hoist: no transfer is running on this upload (exit 5)")
    );
    drop(stream);
    let asked = site
        .server
        .request("HEAD /uploads HTTP/1.1\r\nHost: a\r\nUpload-Token: abcdef\r\nConnection: close\r\n\r\n");
    assert!(asked.to_lowercase().contains("upload-offset: 5000"), "{asked}");
    assert_eq!(site.done(&["delete", &id]), format!("{id}: deleted\n"));
    // The one that is gone does not keep the other from its deletion.
    let _stream = site.begin("second");
    let second = site.transferring();
    let ended = site.admin(&["expire", &id, &second]);
    assert_eq!((ended.code, ended.stdout), (Some(6), format!("{second}: expired\n")));
    assert!(site.done(&["ls", "--json"]).is_empty());
    site.server.stop();
}

#[test]
fn a_server_takes_no_new_uploads_before_an_update() {
    let site = Site::start(&[]);
    let post = |token: &str| {
        let fields = format!("Upload-Token: {token}\r\nContent-Length: 0\r\nConnection: close");
        site.server.request(&format!("POST /uploads HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"))
    };
    assert_eq!(site.done(&["admission"]), "open\n");
    assert_eq!(site.done(&["admission", "resume-only"]), "resume-only (it was open)\n");
    let refused = post("abcdef");
    assert!(
        refused.starts_with("HTTP/1.1 503") && refused.to_lowercase().contains("retry-after: 10"),
        "{refused}"
    );
    site.done(&["admission", "open"]);
    assert!(post("abcdef").starts_with("HTTP/1.1 204"));
    assert_eq!(site.admin(&["admission", "shut"]).code, Some(2));
    assert_eq!(site.done(&["sweep", "--dry-run"]), "1 looked at, 0 would be removed, 0 would be delivered\n");
    site.server.stop();
}

#[test]
fn the_configuration_is_shown_without_secrets_and_read_again() {
    let place = TestDir::new();
    let file = place.file("hoist.toml", "max-size = \"1MiB\"\nhook-command = \"/bin/true --key s3cret\"\n");
    let site = Site::start(&["--config", &file]);
    let config = site.done(&["config"]);
    assert!(config.contains("max-size = 1MiB") && config.contains("/bin/true ..."), "{config}");
    assert!(!config.contains("s3cret"), "{config}");
    fs::write(&file, "max-size = \"2MiB\"\nworkers = 7\n").expect("written");
    let reloaded = site.done(&["reload"]);
    assert!(reloaded.contains("max-size 1MiB -> 2MiB"), "{reloaded}");
    assert!(reloaded.contains("needs a restart: workers"), "{reloaded}");
    assert!(site.done(&["config"]).contains("max-size = 2MiB"));
    fs::write(&file, "max-size = \"big\"\n").expect("written");
    let failed = site.admin(&["reload"]);
    assert_eq!(failed.code, Some(5), "{failed:?}");
    assert!(
        failed.stderr.contains("previous settings stay in use; ") && failed.stderr.contains("max-size"),
        "{failed:?}"
    );
    assert_eq!(failed.stderr.lines().count(), 1, "{failed:?}");
    site.server.stop();
}

#[test]
fn live_prints_events_until_the_server_stops() {
    let site = Site::start(&[]);
    let mut command = hoist(["admin", "live"]);
    command.env("HOIST_ADMIN", &site.admin);
    let live = ChildProcess::start(command);
    assert_eq!(live.line(), "transfers    0 running, 0 B/s");
    drop(site.begin("abcdef"));
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|kind| kind != "interrupted") {
        kinds.push(live.line().split_whitespace().next().expect("a kind").to_owned());
    }
    assert!(kinds.contains(&"created".to_owned()), "{kinds:?}");
    site.server.stop();
    let ended = live.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn over_tcp_a_token_is_needed() {
    let place = TestDir::new();
    let tokens = place.file("tokens", format!("# of ops\n{TOKEN}\n"));
    let free =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("an address");
    let admin = free.to_string();
    let flags = ["--admin", &admin, "--admin-token-file", &tokens];
    let server = Server::start(&place.path("data"), &flags);
    let url = format!("http://{admin}/");
    let run = |words: &[&str]| -> ExitReport { hoist(words).output().expect("it runs").into() };
    for place in [&admin, &url] {
        let ended = run(&["admin", "ls", "--admin", place, "--admin-token-file", &tokens]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    let wrong = place.file("wrong", "fedcba9876543210");
    for (flags, next) in [
        (&["--admin", &admin][..], "give the file of a token with --admin-token-file"),
        (&["--admin", &admin, "--admin-token-file", &wrong], "a file with a valid token"),
    ] {
        let ended = run(&[&["admin", "ls"], flags].concat());
        assert_eq!((ended.code, ended.stderr.lines().count()), (Some(5), 1), "{ended:?}");
        assert!(ended.stderr.contains(next), "{ended:?}");
    }
    server.stop();
}

#[test]
fn an_error_is_one_line_with_the_next_step() {
    let place = TestDir::new();
    let socket = format!("unix:{}", place.text("none"));
    let empty = place.file("empty", "# none\n");
    let cases: [(&[&str], i32, &str); 6] = [
        (&["ls"], 2, "give its admin listener with --admin"),
        (&["ls", "--admin", &socket], 7, "does the server run with this --admin?"),
        (&["ls", "--admin", "https://localhost:1"], 2, "no TLS"),
        (&["ls", "--admin", "localhost"], 2, "is not an address"),
        (&["ls", "--admin", &socket, "--admin-token-file", &empty], 8, "it has no token"),
        (&["ls", "--admin", &socket, "--admin-token-file", &place.text("none")], 8, "No such file"),
    ];
    for (words, code, expected) in cases {
        let ended: ExitReport = hoist([&["admin"], words].concat()).output().expect("it runs").into();
        assert_eq!((ended.code, ended.stderr.lines().count()), (Some(code), 1), "{words:?}: {ended:?}");
        assert!(ended.stderr.contains(expected), "{words:?}: {ended:?}");
    }
    // A server of something else.
    let site = Site::start(&[]);
    let uploads = site.server.address().to_string();
    let ended: ExitReport = hoist(["admin", "ls", "--admin", &uploads]).output().expect("it runs").into();
    assert!(ended.stderr.contains("no admin listener of hoist"), "{ended:?}");
    let unknown = site.admin(&["show", "nothing"]);
    assert_eq!(
        (unknown.code, unknown.stderr.contains("26 digits and lower-case letters")),
        (Some(6), true),
        "{unknown:?}"
    );
    site.server.stop();
}
