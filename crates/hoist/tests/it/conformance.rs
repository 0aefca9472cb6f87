//! Runs the whole corpus of `conformance/` against the server, in all versions over all transports.

use std::fs;
use std::io::Read as _;

use hoist::check::{Corpus, Endpoint, Report, RunOptions, Selection};

use crate::child_process::{Server, TestDir};

#[tokio::test]
async fn the_server_passes_the_whole_corpus() {
    let corpus = Corpus::built_in().unwrap_or_else(|bad| panic!("{bad}"));
    let only = std::env::var("HOIST_CASE").ok();
    let mut report = Report::default();
    for set in corpus.servers() {
        let place = TestDir::new();
        let limits = set.limits.iter().flat_map(|(key, number)| [format!("--{key}"), number.to_string()]);
        let lacks = set.lacks.iter().flat_map(|name| ["--tus-disable".to_owned(), name.clone()]);
        let offers = set.offers.iter().flat_map(|name| match name.as_str() {
            "downloads" => vec!["--downloads".to_owned()],
            "proxies" => vec!["--trusted-proxy".to_owned(), "127.0.0.0/8".to_owned()],
            other => panic!("no flag is known for {other}"),
        });
        let flags: Vec<String> = limits.chain(lacks).chain(offers).collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let server = Server::start(&place.path("data"), &flags);
        let endpoint = Endpoint::new(&server.url.parse().expect("a URL"), None).expect("a URL of ours");
        let mut selection = Selection::exactly(set);
        selection.only.clone_from(&only);
        let found = hoist::check::run(&endpoint, &corpus, &selection, RunOptions::default()).await;
        report.merge(found);
        server.stop();
    }
    println!("{report}");
    let (passed, failed, skipped) = report.counts();
    assert_eq!((failed, skipped), (0, 0), "{report}");
    assert!(passed > 0, "nothing was run");
}

/// Needs a file system with extended attributes.
// proves: IETF-OFF-02, IETF-OFF-01
#[test]
fn an_upload_that_lost_bytes_is_gone_instead_of_smaller() {
    let place = TestDir::new();
    let data = place.path("data");
    let server = Server::start(&data, &[]);
    let head = "POST /uploads HTTP/1.1\r\nUpload-Draft-Interop-Version: 8\r\nUpload-Complete: ?0\r\nContent-Length: 10";
    let mut creation =
        server.send(format!("{head}\r\nHost: h\r\nConnection: close\r\n\r\n0123456789").as_bytes());
    let mut answer = String::new();
    creation.read_to_string(&mut answer).expect("an answer");
    let location = answer.lines().find_map(|line| line.strip_prefix("Location: ")).expect("an upload");
    let (_, path) = location.rsplit_once("/uploads/").expect("an upload of ours");
    let question = format!("HEAD /uploads/{path} HTTP/1.1\r\nUpload-Draft-Interop-Version: 8");
    assert!(server.request(&question).contains("\r\nUpload-Offset: 10\r\n"));
    server.stop();
    for upload in fs::read_dir(data.join("open")).expect("a shelf") {
        let content = upload.expect("an upload").path().join("content");
        fs::File::options().write(true).open(content).and_then(|file| file.set_len(5)).expect("cut");
    }
    let server = Server::start(&data, &[]);
    let answer = server.request(&question);
    assert!(answer.starts_with("HTTP/1.1 404 ") && !answer.contains("Upload-Offset"), "{answer}");
    server.stop();
}
