//! Commands that need no server: exit codes, messages and generated output.

use std::net::TcpListener;

use rustix::process::Signal;
use serde_json::Value;

use crate::child_process::{ChildProcess, TestDir, hoist, run};

#[test]
fn an_invalid_command_line_has_its_own_exit_code() {
    for words in [
        &["sarve"][..],
        &["put", "x"],
        &["put", "-", "-", "http://h/u"],
        &["status", "f", "--token", "t"],
        // Invalid ports.
        &["put", "x", "http://127.0.0.1:65616/uploads", "--bearer", "s3cret"],
        &["put", "x", "http://127.0.0.1:0/uploads"],
        &["status", "http://127.0.0.1:65616/uploads/1", "--bearer", "s3cret"],
        &["cancel", "http://127.0.0.1:65616/uploads", "--token", "t"],
        &["status", "f", "--to", "http://127.0.0.1:65616/uploads"],
        &[],
    ] {
        let ended = run(words);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{words:?}: {}", ended.stderr);
    }
    for words in [&["--version"], &["version"]] {
        let ended = run(words);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        assert!(ended.stdout.starts_with("hoist ") && ended.stdout.ends_with('\n'), "{}", ended.stdout);
    }
    let help = run(&["--help"]);
    assert!(help.code == Some(0) && help.stdout.contains("Exit codes:"), "{}", help.stdout);
}

#[test]
fn a_configuration_is_checked_and_printed() {
    let place = TestDir::new();
    let file =
        place.file("hoist.toml", "max-size = \"64MiB\"\nbearer-file = \"none\"\nlisten = \"127.0.0.1:0\"\n");
    let checked = run(&["config", "check", "--config", &file]);
    assert_eq!(checked.code, Some(3));
    assert!(
        checked.stdout.starts_with(&format!("{file}:2: bearer-file: none: No such file")),
        "{}",
        checked.stdout
    );

    let json = run(&["config", "check", "--json", "--config", &file, "--max-age", "soon", "--log", "loud"]);
    let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json["ok"], false);
    assert_eq!(json["problems"].as_array().map(Vec::len), Some(2), "{json}");

    let tokens = place.file("tokens", "s3cret alice\n");
    let printed = hoist(["config", "print", "--config", &file, "--bearer-file", &tokens])
        .env("HOIST_WORKERS", "3")
        .output();
    let printed = printed.expect("it runs").stdout;
    let again = place.file("again.toml", &printed);
    let checked = run(&["config", "check", "--config", &again]);
    assert_eq!((checked.code, checked.stdout.as_str()), (Some(0), "no problems\n"), "{}", checked.stderr);
    let words = ["config", "print", "--config", &again];
    let values = |text: &str| {
        text.lines()
            .filter_map(|line| line.rsplit_once(" # "))
            .map(|(value, _)| value.trim().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(values(&run(&words).stdout), values(&String::from_utf8(printed).expect("text")));
}

#[test]
fn a_failed_start_is_explained_in_one_line() {
    let place = TestDir::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = taken.local_addr().expect("an address").to_string();
    let data = place.text("data");
    let file = place.file("file", "");
    let cases: [(&[&str], i32, String); 5] = [
        (
            &["--listen", &address],
            4,
            format!("cannot listen on {address}: address in use; choose another with --listen"),
        ),
        (&["--data", &file], 3, format!("--data: {file} is not a directory")),
        (&["--data", "/proc/hoist"], 4, "cannot use data directory /proc/hoist: ".into()),
        (&["--max-sise", "3"], 2, "unexpected argument".into()),
        (&["--config", "/nonexistent"], 3, "--config: cannot read /nonexistent: No such file".into()),
    ];
    for (more, code, expected) in cases {
        let words = ["serve", "--listen", "127.0.0.1:0", "--log-level", "error"];
        // The case's own flags come last, and `listen` may be repeated.
        let given: Vec<&str> = if more[0] == "--listen" {
            vec!["serve", "--data", &data, "--log-level", "error"]
        } else {
            words.to_vec()
        };
        let ended: crate::child_process::ExitReport =
            hoist(given.iter().chain(more)).output().expect("it runs").into();
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{more:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(&expected), "{more:?}: {}", ended.stderr);
        assert!(code == 2 || ended.stderr.lines().count() == 1, "{}", ended.stderr);
    }
}

// proves: TOK-DISC-02
#[test]
fn the_dns_record_is_one_line_of_a_zone_file() {
    let words =
        ["dns-record", "--host", "upload.example.org", "--endpoint", "/up", "--listen", "0.0.0.0:8443"];
    let tls = ["--tls-cert", "c", "--tls-key", "k", "--ttl", "5m"];
    let ended: crate::child_process::ExitReport =
        hoist(words.iter().chain(&tls)).output().expect("it runs").into();
    let record = "upload.example.org. 300 IN HTTPS 1 . alpn=\"h2,http/1.1\" port=\"8443\" key65400=\"/up\"\n";
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), record, ""));
}

#[test]
fn a_missing_file_and_an_unreachable_server_have_their_exit_codes() {
    let place = TestDir::new();
    let file = place.file("film", "bytes");
    // An unused port.
    let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("an address");
    let url = format!("http://{address}/uploads");
    let cases: [(&[&str], i32); 8] = [
        (&["put", "/nonexistent", &url], 8),
        (&["put", &file, &url, "--retry-for", "1ms"], 7),
        (&["put", "-", &url, "--retry-for", "1ms"], 7),
        (&["put", "/nonexistent*", &url], 8),
        (&["status", &file], 6),
        (&["status", &url], 7),
        (&["status", &url, "--token", "abc"], 7),
        (&["cancel", &url, "--token", "abc", "--bearer-file", "/nonexistent"], 8),
    ];
    for (words, code) in cases {
        let ended = run(words);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{words:?}: {}", ended.stderr);
        assert!(ended.stderr.ends_with(&format!("(exit {code})\n")), "{}", ended.stderr);
    }
    let json = run(&["status", &url, "--token", "abc", "--json"]);
    let error = json.event("error");
    assert_eq!((&error["exit"], &error["kind"]), (&7.into(), &"unreachable".into()));
    assert!(json.stderr.starts_with("hoist: cannot connect to "), "{}", json.stderr);
}

#[test]
fn a_signal_keeps_the_upload_and_prints_the_resume_command() {
    let place = TestDir::new();
    let file = place.file("a film", vec![0; 1 << 20]);
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let silent = TcpListener::bind("127.0.0.1:0").expect("bound");
        let url = format!("http://{}/uploads", silent.local_addr().expect("an address"));
        let words = ["put", &file, &url, "--bearer", "s3cret", "--header", "X-Team: films"];
        let put = ChildProcess::start(hoist(words));
        let (_connection, _) = silent.accept().expect("it connects");
        put.signal(signal);
        let ended = put.ended();
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""));
        let again = format!("put '{file}' {url} --bearer ... --header 'X-Team: ...' (exit {code})\n");
        assert!(ended.stderr.ends_with(&again), "{}", ended.stderr);
    }
}

#[test]
fn completions_and_manual_pages_are_generated() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let made = run(&["completions", shell]);
        assert!(made.code == Some(0) && made.stdout.contains("retry-for"), "{shell}: {}", made.stderr);
    }
    assert_eq!(run(&["completions", "tcsh"]).code, Some(2));
    let page = run(&["man"]);
    assert!(page.code == Some(0) && page.stdout.contains(".TH \"HOIST\" \"1\""), "{}", page.stdout);
    let place = TestDir::new();
    let pages = place.text("man");
    assert_eq!(run(&["man", &pages]).stdout, format!("manual pages written to {pages}\n"));
    let put = std::fs::read_to_string(place.path("man/hoist-put.1")).expect("a page of its own");
    assert!(put.contains("\\-\\-retry\\-for"), "{put}");
    let file = place.file("file", "");
    assert_eq!(run(&["man", &file]).code, Some(8));
}
