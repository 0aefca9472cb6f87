//! The flags of the client commands: verbosity, credentials, certificates, and the choice of files.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use crate::child_process::{ExitReport, Server, TestDir, hoist};

/// Runs the command with a journal of its own and these environment variables.
fn run(place: &TestDir, variables: &[(&str, &str)], words: &[&str]) -> ExitReport {
    let mut command = hoist(words);
    command.env("XDG_STATE_HOME", place.path("state")).envs(variables.iter().copied());
    command.output().expect("it runs").into()
}

#[test]
fn verbose_output_has_requests_and_responses_without_secrets() {
    let place = TestDir::new();
    let tokens = place.file("tokens", "s3cret alice\n");
    let server = Server::start(&place.path("data"), &["--bearer-file", &tokens]);
    let film = place.file("film", vec![7; 3 << 20]);
    let words = ["put", &film, &server.url, "-v", "-H", "X-Api-Key: hush", "-q"];
    let ended = run(&place, &[("HOIST_BEARER", "s3cret")], &words);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for line in [
        "> POST /uploads HTTP/1.1\n",
        "> authorization: ...\n",
        "> x-api-key: ...\n",
        "> upload-complete: ?1\n",
        "< HTTP/1.1 104 Upload Resumption Supported\n",
        "< HTTP/1.1 201 Created\n",
        "< upload-complete: ?1\n",
    ] {
        assert!(ended.stderr.contains(line), "{line}: {}", ended.stderr);
    }
    assert!(ended.stderr.lines().all(|line| line.starts_with(['>', '<', '*'])), "{}", ended.stderr);
    assert!(ended.stderr.contains("* connected to="), "{}", ended.stderr);

    let words = ["put", &film, &server.url, "-vvj", "--dialect", "token", "-H", "X-Api-Key: hush"];
    let more = run(&place, &[("HOIST_BEARER", "s3cret")], &words[..]);
    let token = more.event("done")["token"].as_str().map(ToOwned::to_owned);
    assert!(more.stderr.contains("> upload-token: ...\n"), "{}", more.stderr);
    let decisions = run(&place, &[("HOIST_BEARER", "s3cret")], &["put", &film, &server.url, "-vv"]);
    assert!(decisions.stderr.contains("* creating an upload "), "{}", decisions.stderr);
    for text in [&ended.stderr, &more.stderr, &decisions.stderr] {
        for secret in ["s3cret", "hush"].into_iter().chain(token.as_deref()) {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
    server.stop();
}

#[test]
fn the_lines_of_parallel_requests_are_numbered() {
    let place = TestDir::new();
    let server = Server::start(&place.path("data"), &[]);
    let (a, b) = (place.file("a", "one"), place.file("b", "two"));
    let ended = run(&place, &[], &["put", &a, &b, &server.url, "-v"]);
    let posts: Vec<_> = ended.stderr.lines().filter(|line| line.contains("] > POST ")).collect();
    assert_eq!(posts.len(), 2, "{}", ended.stderr);
    assert!(posts.iter().all(|line| line.starts_with('[')) && posts[0] != posts[1], "{posts:?}");
    server.stop();
}

#[test]
fn the_bearer_token_comes_from_the_environment_unless_a_flag_gives_one() {
    let place = TestDir::new();
    let tokens = place.file("tokens", "s3cret alice\n");
    let server = Server::start(&place.path("data"), &["--bearer-file", &tokens]);
    let film = place.file("film", "bytes");
    let wrong = place.file("wrong", "other");
    let put = |variable: &str, more: &[&str]| {
        let words: Vec<_> = ["put", &film, &server.url].into_iter().chain(more.iter().copied()).collect();
        run(&place, &[("HOIST_BEARER", variable)], &words)
    };
    assert_eq!(put("s3cret", &[]).code, Some(0));
    assert_eq!(put("", &[]).code, Some(5), "an empty one is none");
    assert_eq!(put("other", &["--bearer", "s3cret"]).code, Some(0));
    let refused = put("s3cret", &["--bearer-file", &wrong]);
    assert_eq!(refused.code, Some(5), "{}", refused.stderr);
    assert!(!refused.stderr.contains("s3cret"), "{}", refused.stderr);
    server.stop();
}

#[test]
fn any_certificate_is_accepted_only_if_asked_and_with_a_warning() {
    let place = TestDir::new();
    let made = rcgen::generate_simple_self_signed(["elsewhere.example".to_owned()]).expect("made");
    let cert = place.file("cert.pem", made.cert.pem());
    let key = place.file("key.pem", made.signing_key.serialize_pem());
    let server = Server::start(&place.path("data"), &["--tls-cert", &cert, "--tls-key", &key]);
    let film = place.file("film", "bytes");
    for words in [&["-q"][..], &["-q", "--ca", &cert]] {
        let words: Vec<_> = ["put", &film, &server.url].into_iter().chain(words.iter().copied()).collect();
        let ended = run(&place, &[], &words);
        assert!(matches!(ended.code, Some(5 | 14)), "{ended:?}");
    }
    for words in
        [&["put", &film, &server.url, "-qk"][..], &["check", &server.url, "-qk", "--only", "OPTIONS"]]
    {
        let ended = run(&place, &[], words);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let warning = "hoist: warning: --insecure: the server's certificate is not checked";
        assert!(ended.stderr.starts_with(warning), "{}", ended.stderr);
    }
    assert_eq!(run(&place, &[], &["put", &film, &server.url, "-k", "--ca", &cert]).code, Some(2));
    server.stop();
}

/// Makes a directory with files and a directory in it.
fn tree(place: &TestDir) -> String {
    fs::create_dir_all(place.path("films/cache")).expect("made");
    for (name, bytes) in [("films/a.mkv", 2048), ("films/b.tmp", 10), ("films/cache/c.mkv", 3)] {
        fs::write(place.path(name), vec![1; bytes]).expect("written");
    }
    place.text("films")
}

#[test]
fn a_dry_run_lists_files_with_their_sizes_and_asks_no_server() {
    let place = TestDir::new();
    let films = tree(&place);
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let url = format!("http://{}/uploads", listener.local_addr().expect("an address"));
    let words = ["put", &films, &url, "--dry-run", "--exclude", "*.tmp", "--exclude", "cache/"];
    let ended = run(&place, &[], &words);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout, format!("     2.0 KiB  {films}/a.mkv\n"));
    assert_eq!(ended.stderr, "hoist: would upload 1 file, 2.0 KiB\n");

    let json = run(&place, &[], &["put", &films, "/nonexistent", &url, "--dry-run", "-j"]);
    assert_eq!(json.code, Some(10), "{}", json.stderr);
    let lengths: Vec<_> = json.events().iter().filter_map(|event| event["length"].as_u64()).collect();
    assert_eq!(lengths, [2048, 10, 3]);
    assert_eq!((&json.event("failed")["kind"], &json.event("end")["failed"]), (&"file".into(), &1.into()));

    let none = run(&place, &[], &["put", &films, &url, "--exclude", "films"]);
    assert!(none.code == Some(8) && none.stderr.contains("--exclude leaves none"), "{none:?}");
    listener.set_nonblocking(true).expect("set");
    assert!(listener.accept().is_err(), "the server was contacted");
}

#[test]
fn files_of_an_earlier_run_are_skipped_until_they_change() {
    let place = TestDir::new();
    let films = tree(&place);
    let server = Server::start(&place.path("data"), &[]);
    let skipped = |words: &[&str]| {
        let ended = run(&place, &[], words);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let end = ended.event("end");
        (end["done"].clone(), end["skipped"].clone())
    };
    let all = ["put", &films, &server.url, "--skip-done", "-j"];
    assert_eq!(skipped(&all), (3.into(), 0.into()));
    assert_eq!(skipped(&all), (0.into(), 3.into()));
    let one = format!("{films}/a.mkv");
    assert_eq!(skipped(&["put", &one, &server.url, "--skip-done", "-j"]), (0.into(), 1.into()));
    fs::write(Path::new(&one), "other bytes").expect("written");
    assert_eq!(skipped(&all), (1.into(), 2.into()));
    assert_eq!(skipped(&["put", &films, &server.url, "-j"]), (3.into(), 0.into()));
    server.stop();
}

#[test]
fn a_file_name_cannot_control_the_terminal() {
    let place = TestDir::new();
    let server = Server::start(&place.path("data"), &[]);
    let name = "two\nlines \x1bcred";
    let film = place.file(name, "bytes");
    let shown = format!("$'{}/two\\nlines \\033cred'", place.text("").trim_end_matches('/'));
    let ended = run(&place, &[], &["put", &film, &server.url]);
    assert!(ended.stdout.starts_with(&format!("{shown}: uploaded 5 bytes")), "{}", ended.stdout);
    let json = run(&place, &[], &["put", &film, &server.url, "-j"]);
    assert_eq!(json.event("done")["file"], film.as_str(), "JSON has the name as it is");
    server.stop();
    for words in [&["put", &film, "http://127.0.0.1:1/u", "--retry-for", "1ms"][..], &["status", &film]] {
        let ended = run(&place, &[], words);
        assert!(!ended.stderr.contains('\x1b') && ended.stderr.lines().count() == 1, "{}", ended.stderr);
    }
    fs::remove_file(&film).expect("removed");
    let missing = run(&place, &[], &["put", &film, "http://127.0.0.1:1/u"]);
    assert!(missing.stderr.contains(&format!("cannot read {shown}: ")), "{}", missing.stderr);
}
