//! The JSON of all commands, compared with the schema in `docs/schema/output.json`.

use std::collections::BTreeSet;
use std::net::TcpListener;

use rustix::process::Signal;
use serde_json::Value;

use crate::child_process::{ChildProcess, ExitReport, Server, TestDir, hoist};

const SCHEMA: &str = include_str!("../../../../docs/schema/output.json");

/// The schema, and the kinds of events that were compared with it.
struct OutputSchema {
    schemas: boon::Schemas,
    index: boon::SchemaIndex,
    kinds: BTreeSet<String>,
    seen: BTreeSet<String>,
}

impl OutputSchema {
    /// Loads the schema. Unlike a reader, it allows no key that is not described.
    fn load() -> Self {
        const PLACE: &str = "http://localhost/output.json";
        let mut schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
        let mut kinds = BTreeSet::new();
        for (name, kind) in schema["$defs"].as_object_mut().expect("an object") {
            if kind["properties"]["event"]["const"] == **name {
                kind["additionalProperties"] = false.into();
                kinds.insert(name.clone());
            }
        }
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.add_resource(PLACE, schema).expect("a resource");
        let index = compiler.compile(PLACE, &mut schemas).expect("a schema");
        Self { schemas, index, kinds, seen: BTreeSet::new() }
    }

    /// Compares the output of a command and returns the kinds of its events.
    fn check(&mut self, ended: &ExitReport) -> Vec<String> {
        let mut kinds = Vec::new();
        for event in ended.events() {
            if let Err(error) = self.schemas.validate(&event, self.index) {
                panic!("{event}: {error:#}");
            }
            let kind = event["event"].as_str().expect("a kind").to_owned();
            self.seen.insert(kind.clone());
            kinds.push(kind);
        }
        for line in ended.stderr.lines() {
            assert!(serde_json::from_str::<Value>(line).is_err(), "JSON on standard error: {line}");
        }
        kinds
    }
}

/// Runs the command with a journal of its own.
fn run(place: &TestDir, words: &[&str]) -> ExitReport {
    hoist(words).env("XDG_STATE_HOME", place.path("state")).output().expect("it runs").into()
}

#[test]
fn the_output_of_every_command_matches_the_schema() {
    let place = TestDir::new();
    let admin = format!("unix:{}", place.text("admin"));
    let server = Server::start(&place.path("data"), &["--admin", &admin]);
    let mut schema = OutputSchema::load();
    let (film, other) = (place.file("film", vec![7; 1 << 20]), place.file("other", "bytes"));
    let missing = place.text("missing");

    let ended = run(&place, &["put", &film, &server.url, "--json", "--verify"]);
    let kinds = schema.check(&ended);
    assert_eq!(
        (&kinds[..2], &kinds[kinds.len() - 2..]),
        (&["begin", "send"].map(String::from)[..], &["done", "end"].map(String::from)[..])
    );
    let (begin, done) = (ended.event("begin"), ended.event("done"));
    assert_eq!((&begin["endpoint"], begin.get("url")), (&server.url.as_str().into(), None));
    let own = done["url"].as_str().expect("its URL").to_owned();
    assert!(own.starts_with(&format!("{}/", server.url)), "{own}");
    let ended = run(&place, &["put", &film, &other, &missing, &server.url, "-j", "--dialect", "tus1"]);
    assert!(schema.check(&ended).contains(&"failed".to_owned()));
    let ended = run(&place, &["put", &film, &other, &missing, &server.url, "-j"]);
    assert_eq!(schema.check(&ended).iter().filter(|kind| *kind == "skipped").count(), 2);
    schema.check(&run(&place, &["put", &film, &server.url, "-j", "--dry-run"]));
    schema.check(&run(&place, &["put", &film, &server.url, "-j", "--dialect", "token", "--no-resume"]));

    let silent = TcpListener::bind("127.0.0.1:0").expect("bound");
    let url = format!("http://{}/uploads", silent.local_addr().expect("an address"));
    let mut command = hoist(["put", &film, &url, "-j", "--dialect", "token"]);
    command.env("XDG_STATE_HOME", place.path("state"));
    let put = ChildProcess::start(command);
    let (_connection, _) = silent.accept().expect("it connects");
    while !put.line().contains("\"progress\"") {}
    put.signal(Signal::INT);
    let ended = put.ended();
    assert_eq!(schema.check(&ended).last().map(String::as_str), Some("end"));
    let end = ended.event("end");
    assert_eq!((&end["unfinished"], &end["exit"]), (&1.into(), &130.into()));
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);

    let ended = run(&place, &["ls", "-j"]);
    assert_eq!(schema.check(&ended), ["unfinished"]);
    assert_eq!(
        (&ended.events()[0]["endpoint"], &ended.events()[0]["file"]),
        (&url.into(), &film.as_str().into())
    );
    assert_eq!(schema.check(&run(&place, &["status", &own, "-j"])), ["status"]);
    assert_eq!(schema.check(&run(&place, &["cancel", &own, "-j"])), ["cancelled"]);
    assert_eq!(schema.check(&run(&place, &["status", &own, "-j"])), ["error"]);
    assert_eq!(schema.check(&run(&place, &["check", &server.url, "-j", "--only", "append"])), ["report"]);
    assert!(schema.check(&run(&place, &["check", &server.url, "-j", "--list"])).len() > 100);
    assert_eq!(schema.check(&run(&place, &["config", "check", "--json", "--log-level", "loud"])), ["config"]);

    let run_admin = |words: &[&str]| run(&place, &[&["admin", "--admin", &admin, "-j"], words].concat());
    let listed = run_admin(&["ls"]);
    assert!(schema.check(&listed).contains(&"upload".to_owned()), "{listed:?}");
    let id = listed.event("upload")["id"].as_str().expect("text").to_owned();
    assert_eq!(schema.check(&run_admin(&["show", &id])), ["upload"]);
    assert_eq!(schema.check(&run_admin(&["end", &id])), ["error"]);
    assert_eq!(schema.check(&run_admin(&["delete", &id])), ["applied"]);
    assert_eq!(schema.check(&run_admin(&["show", &id])), ["error"]);
    assert_eq!(schema.check(&run_admin(&["admission", "closed"])), ["admission"]);
    assert_eq!(schema.check(&run_admin(&["admission"])), ["admission"]);
    assert_eq!(schema.check(&run_admin(&["sweep", "--dry-run"])), ["swept"]);
    assert_eq!(schema.check(&run_admin(&["reload"])), ["reloaded"]);
    assert!(schema.check(&run_admin(&["config"])).len() > 50);
    let live = ChildProcess::start(hoist(["admin", "live", "--admin", &admin, "-j"]));
    assert!(live.line().contains("\"live\""));
    live.signal(Signal::TERM);
    assert_eq!(schema.check(&live.ended())[0], "live");

    let unused = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("an address");
    let url = format!("http://{unused}/uploads");
    let ended = run(&place, &["put", &film, &url, "-j", "--retry-for", "1s"]);
    assert!(schema.check(&ended).contains(&"retry".to_owned()), "{ended:?}");
    let cause = ended.event("retry")["cause"].as_str().map(ToOwned::to_owned);
    assert!(cause.is_some_and(|cause| cause.contains("connection refused")), "{ended:?}");
    assert_eq!(schema.seen, schema.kinds, "a kind is described and was not seen");
    server.stop();
}

#[test]
fn end_is_the_last_event_of_a_run_that_fails_early() {
    let place = TestDir::new();
    let mut schema = OutputSchema::load();
    let film = place.file("film", "bytes");
    std::fs::create_dir(place.path("empty")).expect("made");
    let url = "http://127.0.0.1:1/uploads";
    let cases: [(&[&str], i32); 4] = [
        (&["put", &place.text("empty"), url, "-j"], 8),
        (&["put", &place.text("none*"), url, "-j"], 8),
        (&["put", &film, url, "-j", "--bearer-file", "/nonexistent"], 8),
        (&["put", &film, url, "-j", "--proxy", "ftp://proxy"], 2),
    ];
    for (words, exit) in cases {
        let ended = run(&place, words);
        assert_eq!(schema.check(&ended), ["error", "end"], "{words:?}");
        assert_eq!((ended.code, &ended.event("end")["exit"]), (Some(exit), &exit.into()), "{words:?}");
        assert_eq!(ended.event("error")["exit"], exit, "{words:?}");
        assert!(ended.stderr.starts_with("hoist: ") && ended.stderr.lines().count() == 1, "{}", ended.stderr);
    }
}
