//! `hoist put` against servers of others, as people install them, over a link that is cut thirty times.
//!
//! `@tus/server` is that of `tests/tus-node-server/package-lock.json`.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clients::installed;
use crate::harness::{Cut, Dice, Home, bytes};
use crate::process::{Ended, Running, hoist};
use crate::proxy::{Fault, Proxy, Way};

const CUTS: usize = 30;

/// `@tus/server` with its files in a directory, or nothing where there is no Node.
fn tus_node_server(files: &Path) -> Option<(Running, SocketAddr, String)> {
    let place = installed::tus_node_server()?;
    fs::create_dir_all(files).expect("made");
    let mut node = Command::new("node");
    node.arg(place.join("serve.js")).arg(files).current_dir(place).stdin(std::process::Stdio::null());
    let server = Running::start(node);
    let line = server.line();
    let url: http::Uri = line.parse().expect("a URL");
    let addr = url.authority().expect("a host").as_str().parse().expect("an address");
    Some((server, addr, url.path().to_owned()))
}

/// What is stored of complete uploads: the server keeps facts beside each, in JSON.
fn stored(files: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(files).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.filter(|path| path.extension().is_none()).collect()
}

fn put(home: &Home, words: &[&str]) -> Ended {
    let mut command = hoist(["put"].iter().chain(words).chain(&["--json", "--retry-for", "30s"]));
    command.env("XDG_STATE_HOME", home.path("state")).output().expect("it runs").into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tus_node_server_takes_what_is_cut_thirty_times() {
    let home = Home::new();
    let files = home.path("files");
    let Some((_server, addr, path)) = tus_node_server(&files) else { return };
    for (seed, dialect) in ["auto", "tus1"].into_iter().enumerate() {
        let mut dice = Dice(seed as u64);
        let content = bytes(seed as u64, 2_000_000 + dice.below(100_000));
        fs::write(home.path("film"), &content).expect("written");
        let script: Vec<_> = (0..CUTS)
            .map(|_| {
                let how = [Cut::Fin, Cut::Rst][dice.below(2)];
                let after = dice.below(content.len() / 20) as u64;
                Some(Fault::Cut { way: Way::Up, after, how })
            })
            .collect();
        let proxy = Proxy::before(addr, script).await;
        let (film, url) = (home.text("film"), proxy.url(&path));
        let ended = tokio::task::block_in_place(|| put(&home, &[&film, &url, "--dialect", dialect]));
        assert_eq!(ended.code, Some(0), "{dialect}: {ended:?}");
        assert!(proxy.faults() >= CUTS as u64, "{dialect}: the link was too good: {} cuts", proxy.faults());
        let done = ended.event("done");
        assert_eq!(done["dialect"], "tus1", "{done}");
        let same = |path: &PathBuf| fs::read(path).expect("there") == content;
        assert!(stored(&files).iter().any(same), "{dialect}: the bytes are the bytes");
    }
}
