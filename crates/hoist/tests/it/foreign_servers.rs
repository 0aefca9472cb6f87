//! `hoist put` against third-party servers, over a link that is cut thirty times.
//!
//! `@tus/server` is installed from `tests/tus-node-server/package-lock.json`.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::child_process::{ChildProcess, ExitReport, hoist, spin_until};
use crate::clients::installed;
use crate::faulty_proxy::{Direction, Fault, Proxy};
use crate::harness::{Cut, SeededRng, ServerDir, bytes, print_note};

const CUTS: usize = 30;

/// Starts `@tus/server` on a directory, or returns `None` if Node is not installed.
fn tus_node_server(files: &Path) -> Option<(ChildProcess, SocketAddr, String)> {
    let place = installed::tus_node_server()?;
    fs::create_dir_all(files).expect("made");
    let mut node = Command::new("node");
    node.arg(place.join("serve.js")).arg(files).current_dir(place).stdin(std::process::Stdio::null());
    let server = ChildProcess::start(node);
    let line = server.line();
    let url: http::Uri = line.parse().expect("a URL");
    let addr = url.authority().expect("a host").as_str().parse().expect("an address");
    Some((server, addr, url.path().to_owned()))
}

/// Returns the content of all complete uploads. The server keeps a JSON file next to each.
fn stored(files: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(files).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.filter(|path| path.extension().is_none()).collect()
}

fn put(home: &ServerDir, words: &[&str]) -> ExitReport {
    let mut command = hoist(["put"].iter().chain(words).chain(&["--json", "--retry-for", "30s"]));
    command.env("XDG_STATE_HOME", home.path("state")).output().expect("it runs").into()
}

/// Starts `rustus` if the variable names its binary. Building it takes ten minutes, too long for every run.
fn rustus(home: &ServerDir) -> Option<(ChildProcess, SocketAddr)> {
    let Some(program) = std::env::var_os("HOIST_TEST_RUSTUS") else {
        print_note(format_args!("not tested: HOIST_TEST_RUSTUS names no rustus"));
        return None;
    };
    // It does not report its port, so a free one is chosen.
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let addr = free.expect("a port");
    let mut rustus = Command::new(program);
    rustus.args(["--host", "127.0.0.1", "--port", &addr.port().to_string(), "--log-level", "ERROR"]);
    rustus.arg("--data-dir").arg(home.path("files")).arg("--info-dir").arg(home.path("info"));
    let server = ChildProcess::start(rustus);
    spin_until(Instant::now(), || TcpStream::connect(addr).is_ok());
    Some((server, addr))
}

/// Returns faults that cut connections after part of this many bytes.
fn cuts(rng: &mut SeededRng, bytes: usize) -> Vec<Option<Fault>> {
    let cut = |rng: &mut SeededRng| {
        let (how, after) = ([Cut::Fin, Cut::Rst][rng.below(2)], rng.below(bytes) as u64);
        Some(Fault::Cut { way: Direction::Up, after, how })
    };
    (0..CUTS).map(|_| cut(rng)).collect()
}

/// Uploads through a faulty proxy and asserts that a file with the content is in the folder.
async fn takes(home: &ServerDir, addr: SocketAddr, path: &str, seed: u64, more: &[&str]) {
    let mut rng = SeededRng(seed);
    let content = bytes(seed, 2_000_000 + rng.below(100_000));
    fs::write(home.path("film"), &content).expect("written");
    let proxy = Proxy::before(addr, cuts(&mut rng, content.len() / 20)).await;
    let (film, url) = (home.text("film"), proxy.url(path));
    let ended = tokio::task::block_in_place(|| put(home, &[&[&*film, &url][..], more].concat()));
    assert_eq!(ended.code, Some(0), "{more:?}: {ended:?}");
    assert!(proxy.faults() >= CUTS as u64, "{more:?}: the link was too good: {} cuts", proxy.faults());
    assert_eq!(ended.event("done")["dialect"], "tus1", "{ended:?}");
    let same = |path: &PathBuf| fs::read(path).expect("there") == content;
    assert!(stored(&home.path("files")).iter().any(same), "{more:?}: the bytes are the bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_to_tus_node_server_survive_thirty_cuts() {
    let home = ServerDir::new();
    let Some((_server, addr, path)) = tus_node_server(&home.path("files")) else { return };
    for (seed, dialect) in ["auto", "tus1"].into_iter().enumerate() {
        takes(&home, addr, &path, seed as u64, &["--dialect", dialect]).await;
    }
}

/// rustus accepts at most 256 KiB per request, reports this too late for the client to know, and stores nothing of an
/// interrupted request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_to_rustus_survive_thirty_cuts() {
    let home = ServerDir::new();
    let Some((_server, addr)) = rustus(&home) else { return };
    fs::write(home.path("song"), bytes(9, 3_000_000)).expect("written");
    let url = format!("http://{addr}/files");
    let learnt = tokio::task::block_in_place(|| put(&home, &[&home.text("song"), &url]));
    assert_eq!(learnt.code, Some(0), "{learnt:?}");
    for (seed, dialect) in ["auto", "tus1"].into_iter().enumerate() {
        let more = ["--dialect", dialect, "--chunk", "16KiB"];
        takes(&home, addr, "/files", 10 + seed as u64, &more).await;
    }
}
