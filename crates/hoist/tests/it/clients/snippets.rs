//! Runs the snippets of `docs/clients.md`, with only the address and the library releases replaced.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use serde_json::json;
use tokio::process::Command;

use super::{Bench, installed, tus1, tuspy, uppy};
use crate::faulty_proxy::{Direction, Fault, Proxy};
use crate::harness::{Cut, bytes, within_timeout};

const DOCUMENT: &str = include_str!("../../../../../docs/clients.md");

/// Returns the first snippet in a language below a heading, with the address of the bench's server.
fn snippet(heading: &str, language: &str, bench: &Bench) -> String {
    let section = DOCUMENT.split_once(&format!("\n### {heading}\n")).expect("a section").1;
    let after = section.split_once(&format!("```{language}\n")).expect("a snippet").1;
    let snippet = after.split_once("```").expect("its end").0;
    let url = format!("http://{}/uploads", bench.server.addr);
    assert!(snippet.contains("https://example.org/uploads"), "{snippet}");
    fs::write(bench.home.path("film.mp4"), &bench.content).expect("written");
    snippet.replace("https://example.org/uploads", &url)
}

/// Runs a snippet next to the film, and compares its output with the upload's URL.
async fn uploads(bench: &Bench, mut command: Command) {
    command.current_dir(bench.home.path("")).stdin(Stdio::null()).kill_on_drop(true);
    let output = within_timeout("a snippet", command.output()).await.expect("it runs");
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said} {wrong}");
    let state = bench.state(&super::path(said.trim())).await;
    assert_eq!(state.offset(), Some(bench.content.len()), "{said} {wrong}");
    assert!(bench.home.only_complete() == bench.content, "other bytes");
}

#[tokio::test]
async fn the_snippet_in_javascript_uploads() {
    let Some(bench) = tus1::bench(bytes(91, 300_000)) else { return };
    let place = installed::tus_js_client().expect("it is installed");
    let script = snippet("tus-js-client", "js", &bench).replace("'tus-js-client'", "'tus-js-client-4'");
    let mut file = tempfile::Builder::new().suffix(".mjs").tempfile_in(place).expect("a file");
    file.write_all(script.as_bytes()).expect("written");
    let mut node = Command::new("node");
    node.arg(file.path());
    uploads(&bench, node).await;
}

#[tokio::test]
async fn the_snippet_in_python_uploads() {
    let Some(bench) = tuspy::bench(bytes(92, 300_000)) else { return };
    let mut python = Command::new(installed::tuspy().expect("it is installed"));
    python.args(["-c", &snippet("tuspy", "python", &bench)]);
    uploads(&bench, python).await;
}

#[tokio::test]
async fn the_snippet_in_html_uploads() {
    let Some(bench) = uppy::bench(bytes(93, 300_000)) else { return };
    let page = bench.home.path("page.html");
    fs::write(&page, snippet("Uppy", "html", &bench)).expect("written");
    let proxy = Proxy::start(&bench.server, []).await;
    let steps = ["open", "choose", "upload", "complete"];
    uppy::run(&bench, &proxy, json!({ "page": page, "steps": steps })).await.succeeded();
    assert!(bench.home.only_complete() == bench.content, "other bytes");
}

/// Opens the page below a heading, picks a file, presses the button, and performs the last step.
async fn uploads_from_a_page(heading: &str, bench: &Bench, proxy: &Proxy, last: &str) {
    let page = bench.home.path("page.html");
    let address = bench.server.addr.to_string();
    fs::write(&page, snippet(heading, "html", bench).replace(&address, &proxy.addr.to_string()))
        .expect("written");
    let steps = ["open", "pick", "press", last];
    let done = uppy::run(bench, proxy, json!({ "page": page, "steps": steps })).await;
    assert_eq!(done.outcome(), "success", "{:#}", done.0);
    assert!(bench.home.only_complete() == bench.content, "other bytes");
}

#[tokio::test]
async fn the_page_with_fetch_uploads() {
    let Some(bench) = uppy::bench(bytes(94, 700_000)) else { return };
    let proxy = Proxy::start(&bench.server, []).await;
    uploads_from_a_page("fetch, with resumption", &bench, &proxy, "result").await;
}

#[tokio::test]
async fn the_page_with_fetch_resumes_after_a_cut() {
    let Some(bench) = uppy::bench(bytes(97, 700_000)) else { return };
    let cut = Fault::Cut { way: Direction::Up, after: 200_000, how: Cut::Rst };
    let proxy = Proxy::start(&bench.server, [None, Some(cut)]).await;
    uploads_from_a_page("fetch, with resumption", &bench, &proxy, "result").await;
}

#[tokio::test]
async fn the_page_with_xmlhttprequest_uploads() {
    let Some(bench) = uppy::bench(bytes(95, 300_000)) else { return };
    let proxy = Proxy::start(&bench.server, []).await;
    uploads_from_a_page("XMLHttpRequest, with progress", &bench, &proxy, "result").await;
}

#[tokio::test]
async fn the_page_with_a_form_uploads() {
    let Some(bench) = uppy::bench_with(bytes(96, 300_000), &["--accept-forms"]) else { return };
    let proxy = Proxy::start(&bench.server, []).await;
    uploads_from_a_page("A form, without a script", &bench, &proxy, "answered").await;
}
