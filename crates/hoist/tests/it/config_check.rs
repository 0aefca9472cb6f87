//! `hoist config check` on what a start depends on besides the configuration: addresses, directories, certificates and
//! secrets; and the warnings of `serve` about the same.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use serde_json::Value;

use crate::child_process::hoist;
use crate::harness::{Server, ServerDir, poll_until};
use crate::tls_and_auth::certify;

/// Runs the check and returns the exit code, the problems and the warnings, each in one text.
fn check(home: &ServerDir, flags: &[&str]) -> (Option<i32>, String, String) {
    let mut command = hoist(["config", "check", "--json"]);
    if !flags.contains(&"--data") {
        command.args(["--data", &home.text("data")]);
    }
    if !flags.contains(&"--listen") {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    let output = command.args(flags).output().expect("it runs");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let lines = |name: &str| {
        let lines = report[name].as_array().expect("a list").iter();
        lines.map(|line| line.as_str().expect("text").to_owned()).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(report["ok"], lines("problems").is_empty());
    (output.status.code(), lines("problems"), lines("warnings"))
}

/// Checks that each of these flags causes the problem, and nothing else.
fn assert_problem(home: &ServerDir, flags: &[&str], expected: &str) {
    let (code, problems, _) = check(home, flags);
    assert!(code == Some(3) && problems.contains(expected), "{flags:?}: {code:?} {problems}");
    assert_eq!(problems.lines().count(), 1, "{flags:?}: {problems}");
}

#[test]
fn a_sound_configuration_has_no_problems_and_leaves_nothing_behind() {
    let home = ServerDir::new();
    let (code, problems, _) = check(&home, &["--listen", "localhost:0", "--listen", "127.0.0.1:0"]);
    assert_eq!((code, problems.as_str()), (Some(0), ""));
    assert!(!home.data().exists());
    fs::create_dir(home.data()).expect("made");
    assert_eq!(check(&home, &[]).0, Some(0));
    assert_eq!(fs::read_dir(home.data()).expect("readable").count(), 0);
}

#[test]
fn an_address_that_cannot_be_bound_is_a_problem() {
    let home = ServerDir::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("an address");
    let twice = taken.to_string();
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let in_use = listener.local_addr().expect("an address").to_string();
    assert_problem(&home, &["--listen", &in_use], "address in use; choose another with --listen");
    assert_problem(&home, &["--listen", &twice, "--listen", &twice], "address in use");
    assert_problem(&home, &["--listen", "192.0.2.1:0"], "this machine has no such address");
    assert_problem(
        &home,
        &["--listen", "no-such-host.invalid:80"],
        "cannot listen on no-such-host.invalid:80",
    );

    let (socket, missing) =
        (format!("unix:{}", home.text("socket")), format!("unix:{}", home.text("no/socket")));
    let listener = UnixListener::bind(home.path("socket")).expect("bound");
    assert_problem(&home, &["--listen", &socket], "another process listens on it");
    drop(listener);
    assert_eq!(check(&home, &["--listen", &socket]).0, Some(0), "a stale socket is replaced");
    assert!(home.path("socket").exists());
    assert_problem(&home, &["--listen", &missing], "its directory does not exist");
    fs::write(home.path("file"), "").expect("written");
    let file = format!("unix:{}", home.text("file"));
    assert_problem(&home, &["--listen", &file], "the file exists and is not a socket");
}

#[tokio::test]
async fn what_a_running_server_uses_is_a_warning() {
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    let (code, problems, warnings) = check(&home, &["--listen", &server.addr.to_string()]);
    assert_eq!((code, problems.as_str()), (Some(0), ""));
    assert!(warnings.contains("is in use by a running server"), "{warnings}");
    assert!(warnings.contains(&format!("{} is in use, probably by the server", server.addr)), "{warnings}");
    server.stop().await;
}

#[test]
fn a_directory_that_cannot_be_used_is_a_problem() {
    let home = ServerDir::new();
    fs::write(home.path("file"), "").expect("written");
    let (file, below) = (home.text("file"), home.text("file/data"));
    assert_problem(&home, &["--data", &file], "is not a directory");
    assert_problem(&home, &["--data", &below], "is not a directory");
    assert_problem(&home, &["--data", "/proc/hoist"], "--data: /proc/hoist cannot be used: ");
    let files = ["--target", "files", "--files-dir"];
    assert_problem(&home, &[&files[..], &[&below]].concat(), "--files-dir: ");
    assert_problem(&home, &[&files[..], &["/proc/hoist"]].concat(), "cannot be used: ");
    let (code, _, warnings) = check(&home, &[&files[..], &["/dev/shm/hoist-files"]].concat());
    assert_eq!(code, Some(0));
    let devices = ["/dev/shm".into(), home.path("")].map(|path: std::path::PathBuf| {
        std::os::unix::fs::MetadataExt::dev(&fs::metadata(path).expect("there"))
    });
    assert_eq!(warnings.contains("is on another file system"), devices[0] != devices[1], "{warnings}");
}

#[test]
fn a_hook_that_cannot_be_run_is_a_problem() {
    let home = ServerDir::new();
    assert_problem(&home, &["--hook-command", "no-such-program x"], "no-such-program not found");
    fs::write(home.path("hook"), "#!/bin/sh\n").expect("written");
    let hook = home.text("hook");
    assert_problem(
        &home,
        &["--hook-command", &hook],
        &format!("{hook} is not executable; run chmod +x {hook}"),
    );
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("set");
    assert_eq!(check(&home, &["--hook-command", &hook]).0, Some(0));
}

/// Writes a certificate for `localhost` that is valid from and until so many seconds from now.
fn certify_for(home: &ServerDir, from: i64, until: i64) {
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after the epoch");
    let at = |seconds: i64| {
        let day = rcgen::date_time_ymd(1970, 1, 1);
        let seconds = i64::try_from(now.as_secs()).expect("small") + seconds;
        day + Duration::from_secs(seconds.try_into().expect("after the epoch"))
    };
    (params.not_before, params.not_after) = (at(from), at(until));
    let key = rcgen::KeyPair::generate().expect("a key");
    fs::write(home.path("cert.pem"), params.self_signed(&key).expect("signed").pem()).expect("written");
    fs::write(home.path("key.pem"), key.serialize_pem()).expect("written");
    fs::set_permissions(home.path("key.pem"), fs::Permissions::from_mode(0o600)).expect("set");
}

const DAY: i64 = 86_400;

#[test]
fn the_dates_and_the_key_of_a_certificate_are_checked() {
    let home = ServerDir::new();
    let (cert, key) = (home.text("cert.pem"), home.text("key.pem"));
    let flags = ["--tls-cert", &cert, "--tls-key", &key];
    certify_for(&home, -9 * DAY, -DAY);
    assert_problem(&home, &flags, "the certificate expired on 20");
    certify_for(&home, DAY, 90 * DAY);
    assert_problem(&home, &flags, "the certificate is not valid before 20");
    certify_for(&home, -DAY, 5 * DAY);
    let (code, _, warnings) = check(&home, &flags);
    assert!(code == Some(0) && warnings.contains("the certificate expires in 4 days, on 20"), "{warnings}");
    certify_for(&home, -DAY, 90 * DAY);
    let (code, _, warnings) = check(&home, &flags);
    assert!(code == Some(0) && !warnings.contains("certificate"), "{warnings}");

    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("set");
    let (code, _, warnings) = check(&home, &flags);
    assert!(code == Some(0) && warnings.contains("key.pem is readable by every user"), "{warnings}");
    let other = ServerDir::new();
    certify(&other);
    let other_key = other.text("key.pem");
    let other_flags = ["--tls-cert", &cert, "--tls-key", &other_key];
    assert_problem(&home, &other_flags, "is not the key of the certificate in");
    assert_problem(&home, &["--tls-cert", &cert, "--tls-key", &cert], "give a PEM file with");
}

#[test]
fn credentials_that_admit_no_request_are_a_problem() {
    let home = ServerDir::new();
    fs::write(home.path("tokens"), "# nothing yet\n").expect("written");
    fs::set_permissions(home.path("tokens"), fs::Permissions::from_mode(0o600)).expect("set");
    assert_problem(&home, &["--bearer-file", &home.text("tokens")], "has no tokens");
    fs::write(home.path("keys"), "{\"keys\": []}").expect("written");
    assert_problem(&home, &["--jwks-file", &home.text("keys")], "it holds no key that verifies signatures");
    fs::write(home.path("tokens"), "s3cret alice\n").expect("written");
    fs::set_permissions(home.path("tokens"), fs::Permissions::from_mode(0o644)).expect("set");
    let (code, _, warnings) = check(&home, &["--bearer-file", &home.text("tokens")]);
    assert!(code == Some(0) && warnings.contains("tokens is readable by every user"), "{warnings}");
}

#[test]
fn a_public_url_that_no_client_can_use_is_a_problem() {
    let home = ServerDir::new();
    for url in ["http://0.0.0.0:8080", "https://[::]"] {
        assert_problem(&home, &["--public-url", url], "no client can reach");
    }
    certify_for(&home, -DAY, 90 * DAY);
    let (cert, key) = (home.text("cert.pem"), home.text("key.pem"));
    let flags = ["--tls-cert", &cert, "--tls-key", &key, "--public-url", "http://upload.example"];
    let (code, _, warnings) = check(&home, &flags);
    assert!(code == Some(0) && warnings.contains("write https://upload.example"), "{warnings}");
}

#[tokio::test]
async fn a_server_warns_of_what_keeps_every_client_out() {
    let home = ServerDir::new();
    certify_for(&home, -9 * DAY, -DAY);
    fs::write(home.path("tokens"), "# nothing yet\n").expect("written");
    let (cert, key, tokens) = (home.text("cert.pem"), home.text("key.pem"), home.text("tokens"));
    let server = Server::start(&home, &["--tls-cert", &cert, "--tls-key", &key, "--bearer-file", &tokens]);
    poll_until("the warning", || server.log().contains("the certificate expired on 20").then_some(())).await;
    assert!(server.log().contains("has no tokens, so every request is refused"), "{}", server.log());
    server.stop().await;
}

#[tokio::test]
async fn a_certificate_that_expires_while_the_server_runs_is_logged() {
    let home = ServerDir::new();
    certify_for(&home, -DAY, 4);
    let (cert, key) = (home.text("cert.pem"), home.text("key.pem"));
    let server = Server::start(&home, &["--tls-cert", &cert, "--tls-key", &key]);
    poll_until("the notice", || server.log().contains("expires in less than a day").then_some(())).await;
    poll_until("the end", || server.log().contains("the certificate expired on 20").then_some(())).await;
    server.stop().await;
}
